//! Frames: how requests and responses are cut out of a stream of bytes.
//!
//! A frame is a 4-byte big-endian size and that many bytes: a header, then a message.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::fmt;

use bytes::Bytes;

use crate::messages::header::{RequestHeader, ResponseHeader};
use crate::{ApiKey, DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
use crate::{Message, Reader, Request};

/// Bytes of the size that precedes each frame.
pub const SIZE_PREFIX: usize = 4;

/// A size prefix that is no size, or more than the reader of the stream accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameSizeError {
    /// The four bytes found where a size should stand.
    pub prefix: [u8; SIZE_PREFIX],
    /// The most that was allowed, bytes.
    pub max: usize,
}

impl FrameSizeError {
    /// What the bytes look like if they are not Kafka's: the start of an HTTP answer or of a
    /// TLS record, which a wrong port or a wrong security protocol yields.
    #[must_use]
    pub fn looks_like(&self) -> Option<&'static str> {
        match &self.prefix {
            b"HTTP" => Some("HTTP"),
            b"SSH-" => Some("SSH"),
            // A TLS alert (21) or handshake (22) of version 3.x.
            [21 | 22, 3, 0..=4, _] => Some("TLS"),
            _ => None,
        }
    }
}

impl fmt::Display for FrameSizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = i32::from_be_bytes(self.prefix);
        write!(f, "a frame of {size} bytes was announced, 0 to {} are allowed", self.max)?;
        match self.looks_like() {
            Some(protocol) => write!(f, "; the peer seems to speak {protocol}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FrameSizeError {}

/// The size of the frame that follows `prefix`, without the prefix itself.
///
/// # Errors
/// If the size is negative or above `max`. Check before allocating: four bytes of garbage can
/// announce 2 GiB.
pub fn size(prefix: [u8; SIZE_PREFIX], max: usize) -> Result<usize, FrameSizeError> {
    match usize::try_from(i32::from_be_bytes(prefix)) {
        Ok(size) if size <= max => Ok(size),
        _ => Err(FrameSizeError { prefix, max }),
    }
}

/// Appends a whole frame to `out`: size, header and request.
///
/// # Errors
/// As [`Message::encode`]. `out` is then as long as it was.
pub fn put_request<R: Request>(
    out: &mut Vec<u8>,
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Result<(), EncodeError> {
    let header = RequestHeader {
        request_api_key: R::KEY.code(),
        request_api_version: version,
        correlation_id,
        client_id: client_id.map(str::to_owned),
    };
    put_frame(out, |out| {
        header.encode(out, R::header_version(version))?;
        request.encode(out, version)
    })
}

/// Appends a whole frame to `out`: size, header and the response to a request of `api`.
///
/// # Errors
/// As [`Message::encode`]. `out` is then as long as it was.
pub fn put_response<M: Message>(
    out: &mut Vec<u8>,
    api: ApiKey,
    response: &M,
    version: i16,
    correlation_id: i32,
) -> Result<(), EncodeError> {
    put_frame(out, |out| {
        ResponseHeader { correlation_id }.encode(out, api.response_header_version(version))?;
        response.encode(out, version)
    })
}

fn put_frame(
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    out.extend_from_slice(&[0; SIZE_PREFIX]);
    let result = body(out).and_then(|()| {
        let length = out.len().saturating_sub(start).saturating_sub(SIZE_PREFIX);
        i32::try_from(length).map_err(|_| EncodeError {
            field: "frame",
            kind: EncodeErrorKind::TooLong { length, max: i32::MAX as usize },
        })
    });
    match result {
        Ok(size) => {
            let prefix = out.get_mut(start..).and_then(|frame| frame.first_chunk_mut());
            if let Some(prefix) = prefix {
                *prefix = size.to_be_bytes();
            }
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Reads the header of a request from a frame (without its size), and leaves the reader at the
/// request. The header's version follows from the key and version at its start; for a version
/// that this crate can't decode it is still read, so that the broker can answer with an error.
///
/// # Errors
/// If the API is unknown or the header is malformed.
pub fn request_header(frame: Bytes) -> Result<(ApiKey, RequestHeader, Reader), DecodeError> {
    let mut r = Reader::new(frame);
    let mut peek = r.clone();
    let code = peek.i16("RequestHeader.RequestApiKey")?;
    let version = peek.i16("RequestHeader.RequestApiVersion")?;
    let Some(api) = ApiKey::from_code(code) else {
        return Err(r.error("RequestHeader.RequestApiKey", DecodeErrorKind::UnknownApiKey(code)));
    };
    let header = RequestHeader::decode(&mut r, api.request_header_version(version))?;
    Ok((api, header, r))
}

/// Reads the header of the response to a request of `R` in `version`, and leaves the reader at
/// the response.
///
/// # Errors
/// If the header is malformed.
pub fn response_header<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(ResponseHeader, Reader), DecodeError> {
    let mut r = Reader::new(frame);
    let header = ResponseHeader::decode(&mut r, R::response_header_version(version))?;
    Ok((header, r))
}
