//! What can go wrong between bytes and messages. Hand-written, so that no proc macro stands
//! below the core.

use std::fmt;
use std::ops::RangeInclusive;

/// Bytes that are not the message they were said to be.
///
/// The connection they came from can't be trusted any further: where one message ends and the
/// next begins is known from the frame's size alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The field that was being read, as `Struct.Field` in Kafka's names.
    pub field: &'static str,
    /// Where the field began, in bytes from the start of the [`Reader`](crate::Reader)'s buffer.
    pub offset: usize,
    /// What was wrong with it.
    pub kind: DecodeErrorKind,
}

/// Why a field could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The message ends inside the field.
    Truncated {
        /// Bytes that the field takes.
        needed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// Bytes are left behind the last field.
    Trailing {
        /// How many.
        left: usize,
    },
    /// A length or count is below -1, or -1 in a place where it does not mean null.
    NegativeLength(i64),
    /// An array claims more elements than the bytes left can hold.
    ImpossibleCount {
        /// Elements claimed.
        count: u64,
        /// Elements of the smallest size that fit into what is left.
        fits: usize,
    },
    /// Decoding would allocate more than a frame of this size may cause.
    OverBudget {
        /// Bytes asked for.
        asked: u64,
        /// Bytes that may still be allocated.
        left: usize,
    },
    /// A varint is longer than 5 (32 bits) or 10 (64 bits) bytes, or overflows.
    MalformedVarint,
    /// A string is longer than the 32767 bytes that Kafka allows.
    StringTooLong {
        /// The length claimed, bytes.
        length: u64,
    },
    /// A string is not UTF-8.
    InvalidUtf8 {
        /// Bytes of the string that are valid.
        valid_up_to: usize,
    },
    /// Null where this version has no null.
    UnexpectedNull,
    /// A tagged field's value is shorter or longer than its size said.
    TagSize {
        /// The tag.
        tag: u32,
        /// The size that the message states, bytes.
        stated: usize,
        /// The size that the value took, bytes.
        used: usize,
    },
    /// A nullable struct's marker is neither -1 (null) nor 1 (present).
    InvalidStructMarker(i8),
    /// The version is not one that this crate knows.
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
        /// The versions known.
        supported: RangeInclusive<i16>,
    },
    /// The API key is not one that this crate knows.
    UnknownApiKey(i16),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot decode {} at byte {}: {}", self.field, self.offset, self.kind)
    }
}

impl fmt::Display for DecodeErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, left } => {
                write!(f, "it needs {needed} bytes, {left} are left")
            }
            Self::Trailing { left } => write!(f, "{left} bytes follow the last field"),
            Self::NegativeLength(length) => write!(f, "its length {length} is negative"),
            Self::ImpossibleCount { count, fits } => {
                write!(f, "it claims {count} elements, at most {fits} fit into the bytes left")
            }
            Self::OverBudget { asked, left } => {
                write!(
                    f,
                    "it asks for {asked} bytes of memory, {left} remain of the message's budget"
                )
            }
            Self::MalformedVarint => f.write_str("its varint is too long"),
            Self::StringTooLong { length } => {
                write!(f, "the string's length {length} exceeds 32767")
            }
            Self::InvalidUtf8 { valid_up_to } => {
                write!(f, "the string is not UTF-8 from its byte {valid_up_to} on")
            }
            Self::UnexpectedNull => f.write_str("it is null, which this version does not allow"),
            Self::TagSize { tag, stated, used } => {
                write!(f, "tag {tag} states a size of {stated} bytes but its value takes {used}")
            }
            Self::InvalidStructMarker(marker) => {
                write!(f, "its marker {marker} is neither -1 (null) nor 1")
            }
            Self::UnsupportedVersion { version, supported } => write!(
                f,
                "version {version} is not supported, only {} to {} are",
                supported.start(),
                supported.end()
            ),
            Self::UnknownApiKey(key) => write!(f, "API key {key} is unknown"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// A message that can't be put into bytes in the version asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError {
    /// The field that does not fit, as `Struct.Field` in Kafka's names.
    pub field: &'static str,
    /// Why it does not.
    pub kind: EncodeErrorKind,
}

/// Why a field could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// The field is set, but does not exist in this version, and the receiver needs it.
    NotInVersion {
        /// The version asked for.
        version: i16,
    },
    /// The field is null, which this version does not allow.
    NullNotAllowed {
        /// The version asked for.
        version: i16,
    },
    /// The value is longer than its length prefix or Kafka allows.
    TooLong {
        /// Length of the value: bytes, or elements of an array.
        length: usize,
        /// The most that fits.
        max: usize,
    },
    /// The version is not one that this crate knows.
    UnsupportedVersion {
        /// The version asked for.
        version: i16,
        /// The versions known.
        supported: RangeInclusive<i16>,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot encode {}: ", self.field)?;
        match &self.kind {
            EncodeErrorKind::NotInVersion { version } => {
                write!(f, "version {version} has no such field; leave it at its default")
            }
            EncodeErrorKind::NullNotAllowed { version } => {
                write!(f, "it is null, which version {version} does not allow; set a value")
            }
            EncodeErrorKind::TooLong { length, max } => {
                write!(f, "its length {length} exceeds {max}")
            }
            EncodeErrorKind::UnsupportedVersion { version, supported } => write!(
                f,
                "version {version} is not supported, only {} to {} are",
                supported.start(),
                supported.end()
            ),
        }
    }
}

impl std::error::Error for EncodeError {}
