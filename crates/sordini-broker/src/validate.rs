//! Judges a batch that a client wants appended, and prepares it for the log: Kafka's
//! `LogValidator` and the checks before it, in their order, with their error codes.

use bytes::Bytes;
use sordini_protocol::ErrorCode;
use sordini_protocol::records::{Batch, BatchError, Compression, Record};

use crate::compress;
use crate::log::batch::{HEADER_LEN, Header, MAGIC, NO_PRODUCER_ID, NO_TIMESTAMP};
use crate::topic_config::{TargetCodec, TopicConfig};

/// Where all formats keep the magic.
const MAGIC_AT: usize = 16;
/// The first version of Produce that may carry zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
/// Errors of single records that an answer lists at most: enough to see what is wrong.
const RECORD_ERRORS_MAX: usize = 100;

/// What a batch is judged by.
pub(crate) struct Rules<'a> {
    pub config: &'a TopicConfig,
    /// Version of the Produce request.
    pub version: i16,
    /// The broker's clock, ms.
    pub wall_ms: i64,
    /// Most bytes that the records may decompress to.
    pub max_decompressed_bytes: usize,
}

/// A batch that may be appended, as it will be stored but for offset and leader epoch.
#[derive(Debug)]
pub(crate) struct Validated {
    pub header: Header,
    pub body: Bytes,
    /// The timestamp that the broker gave all records, -1 if they keep theirs.
    pub log_append_time: i64,
}

/// A batch that may not be appended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub code: ErrorCode,
    pub message: String,
    /// Index in the batch and reason, of the records that are to blame.
    pub record_errors: Vec<(i32, String)>,
    /// Found before the partition was looked at: Kafka then names no log start offset.
    pub early: bool,
}

impl Rejection {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), record_errors: Vec::new(), early: false }
    }

    pub(crate) fn early(self) -> Self {
        Self { early: true, ..self }
    }
}

fn invalid(message: impl Into<String>) -> Rejection {
    Rejection::new(ErrorCode::InvalidRecord, message)
}

/// Judges `records`, the batch of one partition in a Produce request.
pub(crate) fn validate(records: &Bytes, rules: &Rules<'_>) -> Result<Validated, Rejection> {
    let (header, size) = single_batch(records, rules.version).map_err(Rejection::early)?;
    let records = &records.slice(..size);
    let body = records.slice(HEADER_LEN..);
    check_header(&header, size, rules)?;
    if header.crc() != header.computed_crc(&body) {
        let message = format!("the batch is corrupt (stored CRC {:08x})", header.crc());
        return Err(Rejection::new(ErrorCode::CorruptMessage, message));
    }
    check_counts(&header)?;
    let batch = Batch::parse(records).map_err(damaged)?;
    let decompressed = batch.decompress(rules.max_decompressed_bytes).map_err(damaged)?;
    let max_timestamp = check_records(&header, decompressed.iter(), rules)?;
    let codec = target(&header, rules.config);
    if codec.code() == header.codec() {
        return Ok(stamp(header, body, max_timestamp, rules));
    }
    recompress(header, decompressed.body(), codec, max_timestamp, rules)
}

/// The header of the one batch that there must be, and its size in bytes. Kafka stops reading at
/// bytes that can't hold another batch, and so ignores a short tail.
fn single_batch(records: &[u8], version: i16) -> Result<(Header, usize), Rejection> {
    let one = || invalid("a Produce request must hold exactly one record batch per partition");
    // The magic stands in the same place in all formats, so old ones are named before all else.
    match records.get(MAGIC_AT).map(|magic| magic.cast_signed()) {
        Some(MAGIC) | None => {}
        Some(0 | 1) => {
            return Err(invalid("a Produce request may hold record batches of magic 2 only"));
        }
        Some(magic) => {
            let message = format!("there are no record batches of magic {magic}");
            return Err(Rejection::new(ErrorCode::CorruptMessage, message));
        }
    }
    let header = Header::new(records).ok_or_else(one)?;
    let Some(size) = header.size() else {
        let message = format!("a batch can't have the length {}", header.length());
        return Err(Rejection::new(ErrorCode::CorruptMessage, message));
    };
    if header.codec() == Compression::Zstd.code() && version < ZSTD_SINCE {
        let message = format!("version {version} of Produce does not allow zstd, use 7 or later");
        return Err(Rejection::new(ErrorCode::UnsupportedCompressionType, message));
    }
    let tail = records.get(size..).ok_or_else(one)?;
    if tail.len() <= MAGIC_AT {
        return Ok((header, size));
    }
    match Header::new(tail).map(|next| next.size()) {
        Some(None) => {
            let message = format!("{} bytes behind the batch are no batch", tail.len());
            Err(Rejection::new(ErrorCode::CorruptMessage, message))
        }
        Some(Some(next)) if next <= tail.len() => Err(one()),
        _ => Ok((header, size)),
    }
}

fn check_header(header: &Header, size: usize, rules: &Rules<'_>) -> Result<(), Rejection> {
    if header.base_offset() != 0 {
        let offset = header.base_offset();
        return Err(invalid(format!("the batch's base offset is {offset}, it must be 0")));
    }
    check_size(size, rules.config)
}

fn check_size(size: usize, config: &TopicConfig) -> Result<(), Rejection> {
    let max = config.max_message_bytes();
    if i64::try_from(size).is_ok_and(|size| size <= max) {
        return Ok(());
    }
    let message = format!("the batch of {size} bytes exceeds the topic's max.message.bytes {max}");
    Err(Rejection::new(ErrorCode::MessageTooLarge, message))
}

fn check_counts(header: &Header) -> Result<(), Rejection> {
    let (count, delta) = (header.count(), header.last_offset_delta());
    if delta < 0 {
        return Err(invalid(format!("the batch's last offset delta is {delta}")));
    }
    if count <= 0 {
        return Err(invalid(format!("the batch states {count} records")));
    }
    if i64::from(delta) + 1 != i64::from(count) {
        let message = format!("the batch states {count} records but a last offset delta {delta}");
        return Err(invalid(message));
    }
    if header.is_control() {
        return Err(invalid("clients may not write control records"));
    }
    if header.producer_id() > NO_PRODUCER_ID && header.base_sequence() < 0 {
        let (sequence, id) = (header.base_sequence(), header.producer_id());
        return Err(invalid(format!("the batch of producer {id} has sequence {sequence}")));
    }
    if header.producer_id() < NO_PRODUCER_ID {
        return Err(invalid(format!("the batch has producer id {}", header.producer_id())));
    }
    Ok(())
}

fn damaged(error: BatchError) -> Rejection {
    let code = match error {
        // Kafka has no code for a codec that fails, or that it does not know.
        BatchError::UnknownCompression(_) | BatchError::Decompress(_) => {
            ErrorCode::UnknownServerError
        }
        _ => ErrorCode::InvalidRecord,
    };
    Rejection::new(code, error.to_string())
}

/// Reads every record; the result is the largest timestamp.
fn check_records<'r>(
    header: &Header,
    records: impl Iterator<Item = Result<Record<'r>, BatchError>>,
    rules: &Rules<'_>,
) -> Result<i64, Rejection> {
    let needs_keys = rules.config.compacts();
    let mut max_timestamp = NO_TIMESTAMP;
    let mut errors = Vec::new();
    let mut bad_timestamp = false;
    for (index, record) in (0i32..).zip(records) {
        let record = record.map_err(damaged)?;
        if record.offset_delta != index {
            let delta = record.offset_delta;
            return Err(invalid(format!("record {index} has the offset delta {delta}")));
        }
        max_timestamp = max_timestamp.max(record.timestamp);
        if needs_keys && record.key.is_none() {
            let reason = "a compacted topic does not take a record without a key";
            errors.push((index, reason.to_owned()));
        } else if let Some(reason) = timestamp_error(header, record.timestamp, rules) {
            bad_timestamp = true;
            errors.push((index, reason));
        }
    }
    if errors.is_empty() {
        return Ok(max_timestamp);
    }
    let (code, what) = if bad_timestamp {
        (ErrorCode::InvalidTimestamp, "have a timestamp that the topic does not allow")
    } else {
        (ErrorCode::InvalidRecord, "can't be taken")
    };
    let message = format!("{} of the batch's records {what}; all are rejected", errors.len());
    errors.truncate(RECORD_ERRORS_MAX);
    Err(Rejection { record_errors: errors, ..Rejection::new(code, message) })
}

fn timestamp_error(header: &Header, timestamp: i64, rules: &Rules<'_>) -> Option<String> {
    let config = rules.config;
    if !config.log_append_time() && timestamp != NO_TIMESTAMP {
        let age = i128::from(rules.wall_ms) - i128::from(timestamp);
        let (before, after) = (config.timestamp_before_max_ms(), config.timestamp_after_max_ms());
        let inside = age <= i128::from(before) && -age <= i128::from(after);
        return (!inside).then(|| {
            format!(
                "timestamp {timestamp} lies more than {before} ms before or {after} ms after \
                 the broker's clock {} (message.timestamp.before.max.ms, \
                 message.timestamp.after.max.ms)",
                rules.wall_ms
            )
        });
    }
    header
        .is_log_append_time()
        .then(|| "a producer may not set the timestamp type to LogAppendTime".to_owned())
}

fn target(header: &Header, config: &TopicConfig) -> Compression {
    let own = Compression::from_code(header.codec()).unwrap_or_default();
    match config.target_codec() {
        TargetCodec::Producer => own,
        TargetCodec::Codec(code) => Compression::from_code(code).unwrap_or(own),
    }
}

fn stamp(mut header: Header, body: Bytes, max_timestamp: i64, rules: &Rules<'_>) -> Validated {
    let by_broker = rules.config.log_append_time();
    let stamped = if by_broker { rules.wall_ms } else { max_timestamp };
    if header.max_timestamp() != stamped || header.is_log_append_time() != by_broker {
        header.set_timestamp(stamped, by_broker, &body);
    }
    let log_append_time = if by_broker { rules.wall_ms } else { NO_TIMESTAMP };
    Validated { header, body, log_append_time }
}

fn recompress(
    mut header: Header,
    records: &[u8],
    codec: Compression,
    max_timestamp: i64,
    rules: &Rules<'_>,
) -> Result<Validated, Rejection> {
    let body = compress::compress(codec, records).map_err(|error| {
        Rejection::new(ErrorCode::UnknownServerError, format!("compressing to {codec}: {error}"))
    })?;
    let body = Bytes::from(body);
    header.set_body(codec.code(), &body);
    check_size(HEADER_LEN + body.len(), rules.config)?;
    Ok(stamp(header, body, max_timestamp, rules))
}

#[cfg(test)]
mod tests;
