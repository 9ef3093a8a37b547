//! What can be wrong with a record batch.

use std::fmt;

use super::Compression;

/// Bytes that are not a record batch of format v2.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end inside something.
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// The batch has another format: magic 0 and 1 are message sets from before Kafka 0.11.
    UnsupportedMagic(i8),
    /// The batch's CRC-32C does not match its bytes.
    CrcMismatch {
        /// The checksum in the header.
        stated: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The attributes name a codec that Kafka does not have.
    UnknownCompression(u8),
    /// The records can't be decompressed.
    Decompress(DecompressError),
    /// A length is negative, or too small for what it should hold.
    InvalidLength {
        /// Whose length.
        what: &'static str,
        /// The length claimed.
        length: i64,
    },
    /// A count is negative, or more than the bytes left can hold.
    InvalidCount {
        /// The count of what.
        what: &'static str,
        /// The count claimed.
        count: i64,
        /// The most that fits.
        fits: usize,
    },
    /// A record's offset is not above the one before it, or above the batch's last offset.
    InvalidOffsetDelta {
        /// The record's offset delta.
        delta: i32,
        /// The smallest that was possible here.
        min: i64,
        /// The batch's last offset delta.
        max: i32,
    },
    /// A record's content is shorter or longer than the record's length says.
    RecordSize {
        /// Bytes that the length states.
        stated: usize,
        /// Bytes that the content takes; `None` if it would take more than stated.
        used: Option<usize>,
    },
    /// Bytes follow the last record of a batch.
    Trailing {
        /// How many.
        left: usize,
    },
    /// A varint is longer than 5 or 10 bytes, or overflows.
    MalformedVarint(&'static str),
    /// A base and a delta add up to more than 64 bits.
    Overflow(&'static str),
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { what, needed, left } => {
                write!(f, "{what} takes {needed} bytes, {left} are left")
            }
            Self::UnsupportedMagic(magic @ 0..=1) => write!(
                f,
                "message format v{magic} (magic {magic}) is not supported: \
                 it predates Kafka 0.11; rewrite the topic with a newer producer"
            ),
            Self::UnsupportedMagic(magic) => {
                write!(f, "record batch magic {magic} is unknown, only 2 is supported")
            }
            Self::CrcMismatch { stated, computed } => write!(
                f,
                "the batch is corrupt: its CRC-32C is {computed:08x}, its header says {stated:08x}"
            ),
            Self::UnknownCompression(code) => {
                write!(f, "compression codec {code} is unknown, Kafka has 0 to 4")
            }
            Self::Decompress(error) => error.fmt(f),
            Self::InvalidLength { what, length } => write!(f, "{what} has length {length}"),
            Self::InvalidCount { what, count, fits } => {
                write!(f, "{count} {what} are claimed, 0 to {fits} can be there")
            }
            Self::InvalidOffsetDelta { delta, min, max } => {
                write!(f, "a record has offset delta {delta}, only {min} to {max} can follow here")
            }
            Self::RecordSize { stated, used: Some(used) } => {
                write!(f, "a record states {stated} bytes but its content takes {used}")
            }
            Self::RecordSize { stated, used: None } => {
                write!(f, "a record states {stated} bytes but its content takes more")
            }
            Self::Trailing { left } => write!(f, "{left} bytes follow the batch's last record"),
            Self::MalformedVarint(what) => write!(f, "the varint of {what} is too long"),
            Self::Overflow(what) => write!(f, "{what} overflows 64 bits"),
        }
    }
}

impl std::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Decompress(error) => Some(error),
            _ => None,
        }
    }
}

impl From<DecompressError> for BatchError {
    fn from(error: DecompressError) -> Self {
        Self::Decompress(error)
    }
}

/// Bytes that can't be decompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecompressError {
    /// The output would be larger than the caller allows.
    TooLarge {
        /// The codec.
        codec: Compression,
        /// What the caller allows, bytes.
        cap: usize,
    },
    /// The input is not what the codec's compressors write.
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What is wrong.
        detail: String,
    },
}

impl DecompressError {
    pub(super) fn corrupt(codec: Compression, detail: impl fmt::Display) -> Self {
        Self::Corrupt { codec, detail: detail.to_string() }
    }
}

impl fmt::Display for DecompressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { codec, cap } => {
                write!(f, "the {codec} data decompresses to more than the {cap} bytes allowed")
            }
            Self::Corrupt { codec, detail } => write!(f, "the {codec} data is corrupt: {detail}"),
        }
    }
}

impl std::error::Error for DecompressError {}
