//! What every generated message can do.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use crate::{ApiKey, DecodeError, EncodeError, Reader};

/// A message of Kafka's protocol: a request, a response or a header.
///
/// Fields that a version lacks decode as their defaults. Tagged fields that this crate does not
/// know are skipped, and lost when the message is encoded again.
pub trait Message: Sized + Default + Clone + Debug + PartialEq {
    /// The versions that exist on the wire.
    const VERSIONS: RangeInclusive<i16>;

    /// Reads the message from where `r` stands, and leaves `r` behind it.
    ///
    /// # Errors
    /// If the bytes are not this message in this version, or the version is outside
    /// [`Message::VERSIONS`].
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If a field is set that the version lacks and that Kafka does not mark as ignorable, if a
    /// field is null or longer than the version allows, or the version is outside
    /// [`Message::VERSIONS`]. What `out` then holds behind its former end is unspecified.
    fn encode(&self, out: &mut Vec<u8>, version: i16) -> Result<(), EncodeError>;
}

/// A request, tied to its API key and its response.
pub trait Request: Message {
    /// The key that names the API on the wire.
    const KEY: ApiKey;

    /// The newest version that Kafka 4.4.0 serves without `unstable.api.versions.enable`.
    const LATEST_STABLE: i16;

    /// What the broker answers with, in the same version.
    type Response: Message;

    /// The version of the request header: 1, or 2 where the request has tagged fields.
    #[must_use]
    fn header_version(version: i16) -> i16 {
        Self::KEY.request_header_version(version)
    }

    /// The version of the response header: 0, or 1 where the response has tagged fields. Always
    /// 0 for ApiVersions (KIP-511): its answer must be readable before versions are known.
    #[must_use]
    fn response_header_version(version: i16) -> i16 {
        Self::KEY.response_header_version(version)
    }
}

/// Decodes a message that fills `bytes` entirely.
///
/// # Errors
/// As [`Message::decode`], and if bytes are left behind the message.
pub fn decode<M: Message>(bytes: bytes::Bytes, version: i16) -> Result<M, DecodeError> {
    let mut r = Reader::new(bytes);
    let message = M::decode(&mut r, version)?;
    r.finish()?;
    Ok(message)
}
