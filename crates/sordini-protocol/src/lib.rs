//! Kafka's wire protocol: messages generated from the facts of kafka-clients 4.4.0, the error
//! codes, and a bounded reader of record batches with the decompressors.
//!
//! # What a hostile peer can make this crate do
//! Every byte that a [`Reader`] or the [`records`] module reads is taken as hostile: an array's
//! count never exceeds the bytes left divided by its smallest element, what decoding allocates is
//! charged to a budget in proportion to the frame ([`Reader::ALLOCATION_FACTOR`]), varints are at
//! most 5 or 10 bytes long, decompression stops at a cap. What breaks a rule is a typed error that
//! names the field and the offset; nothing panics.
//!
//! # Adding a family of messages
//! One line in `schema/families.txt`, then `cargo xtask codegen`.
#![forbid(unsafe_code)]

mod encode;
mod error;
mod error_code;
pub mod frame;
mod message;
pub mod messages;
#[doc(hidden)]
pub mod mutant;
pub mod quote;
mod reader;
pub mod records;
mod uuid;

mod api_key;

pub use api_key::ApiKey;
pub use error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
pub use error_code::ErrorCode;
pub use message::{Message, Request, decode};
pub use reader::Reader;
pub use uuid::{ParseUuidError, Uuid};
