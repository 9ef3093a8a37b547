//! The codecs of record batches, and decompression with a cap.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::fmt;
use std::io::Read;
use std::str::FromStr;

use super::{DecompressError, lz4, snappy, zstd};

/// How the records of a batch are compressed: bits 0 to 2 of its attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// gzip, RFC 1952.
    Gzip = 1,
    /// Snappy, in the framing of Java's snappy library ("xerial").
    Snappy = 2,
    /// An LZ4 frame (KIP-57).
    Lz4 = 3,
    /// Zstandard, RFC 8878 (KIP-110): needs Produce 7 and Fetch 10.
    Zstd = 4,
}

impl Compression {
    /// Every codec, by ascending code.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this code, if Kafka has one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.code() == code)
    }

    /// The code in a batch's attributes.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The name in `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = UnknownCompressionName;

    fn from_str(name: &str) -> Result<Self, UnknownCompressionName> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or(UnknownCompressionName)
    }
}

/// A name that is none of Kafka's codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCompressionName;

impl fmt::Display for UnknownCompressionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a compression type: expected none, gzip, snappy, lz4 or zstd")
    }
}

impl std::error::Error for UnknownCompressionName {}

/// Decompresses the records of a batch into at most `cap` bytes.
///
/// The cap is checked while the output grows; a size that the input declares is believed only
/// as far as the input's own length makes it plausible. Memory stays below `4 * cap` + 1 MiB,
/// whatever the input says.
///
/// # Errors
/// If the data is not the codec's (an empty input never is), is cut off, or takes more than
/// `cap`.
pub fn decompress(
    codec: Compression,
    input: &[u8],
    cap: usize,
) -> Result<Cow<'_, [u8]>, DecompressError> {
    if codec == Compression::None {
        if input.len() > cap {
            return Err(DecompressError::TooLarge { codec, cap });
        }
        return Ok(Cow::Borrowed(input));
    }
    if input.is_empty() {
        return Err(DecompressError::corrupt(codec, "there is none"));
    }
    match codec {
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => gunzip(input, cap),
        Compression::Snappy => snappy::decompress(input, cap),
        Compression::Lz4 => lz4::decompress(input, cap),
        Compression::Zstd => zstd::decompress(input, cap),
    }
    .map(Cow::Owned)
}

/// Members may follow one another, as RFC 1952 allows.
fn gunzip(input: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    read_capped(Compression::Gzip, flate2::bufread::MultiGzDecoder::new(input), cap)
}

/// Reads all of `decoder` into at most `cap` bytes.
pub(super) fn read_capped(
    codec: Compression,
    decoder: impl Read,
    cap: usize,
) -> Result<Vec<u8>, DecompressError> {
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    let mut out = Vec::new();
    match decoder.take(limit).read_to_end(&mut out) {
        _ if out.len() > cap => Err(DecompressError::TooLarge { codec, cap }),
        Ok(_) => Ok(out),
        Err(error) => Err(DecompressError::corrupt(codec, error)),
    }
}
