//! Requests into frames and frames into responses; which version to speak.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use sordini_core::connection::framing;
use sordini_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use sordini_protocol::{EncodeError, ErrorCode, Message, Request, frame};

/// The longest frame that is taken from a broker, in bytes. A broker may exceed what a Fetch asks
/// for by one batch, whose size is the topic's max.message.bytes.
pub(super) const FRAME_MAX: usize = 100 << 20;

/// Why a frame is not the answer that was waited for.
#[derive(Debug)]
pub(super) struct WireError(pub(super) String);

impl<E: std::error::Error> From<E> for WireError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// `request` as a frame, its length in front.
pub(super) fn encode<R: Request>(
    request: &R,
    version: i16,
    correlation: i32,
    client_id: &str,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    frame::put_request(&mut out, request, version, correlation, Some(client_id))?;
    Ok(out)
}

/// The response in `frame` (without its length), which must answer `correlation`.
pub(super) fn decode<R: Request>(
    frame: Bytes,
    version: i16,
    correlation: i32,
) -> Result<R::Response, WireError> {
    let (header, mut r) = frame::response_header::<R>(frame, version)?;
    let answered = header.correlation_id;
    if answered != correlation {
        return Err(WireError(format!(
            "the broker answered request {answered} where {correlation} was asked"
        )));
    }
    let response = R::Response::decode(&mut r, version)?;
    r.finish()?;
    Ok(response)
}

/// What an ApiVersions request looks like here. Version 0 is understood by every broker.
pub(super) fn api_versions(correlation: i32, client_id: &str) -> Result<Vec<u8>, EncodeError> {
    encode(&ApiVersionsRequest::default(), 0, correlation, client_id)
}

/// The versions that a broker offers, by API key.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(BTreeMap<i16, (i16, i16)>);

impl Versions {
    /// Reads the answer to [`api_versions`].
    pub(super) fn read(frame: Bytes, correlation: i32) -> Result<Self, WireError> {
        let response: ApiVersionsResponse = decode::<ApiVersionsRequest>(frame, 0, correlation)?;
        if response.error_code != 0 {
            let code = ErrorCode::from_code(response.error_code);
            return Err(WireError(format!("ApiVersions was answered with {}", code.name())));
        }
        let offered = response.api_keys.into_iter();
        Ok(Self(offered.map(|key| (key.api_key, (key.min_version, key.max_version))).collect()))
    }

    /// The newest version of `R` that the broker offers within `ours`.
    pub(super) fn pick<R: Request>(&self, ours: RangeInclusive<i16>) -> Option<i16> {
        let (least, most) = *self.0.get(&R::KEY.code())?;
        let version = most.min(*ours.end()).min(R::LATEST_STABLE);
        (version >= least && version >= *ours.start()).then_some(version)
    }
}

/// The length of the frame that follows; what it tells of a peer that does not speak Kafka's
/// protocol.
pub(super) fn check_length(prefix: [u8; 4]) -> Result<usize, String> {
    frame::size(prefix, FRAME_MAX).map_err(|error| framing::told(&error))
}
