//! The fixed header of a record batch (format v2): where its fields stand, and the few of them
//! that a broker writes.
//!
//! The log reads and stamps headers only; records are read by `sordini_protocol::records`.

use crate::crc;

/// Bytes of a batch before its first record.
pub const HEADER_LEN: usize = 61;
/// Bytes before the length field's own count begins: base offset and length.
pub const LENGTH_OVERHEAD: usize = 12;
/// The only record format that is stored.
pub const MAGIC: i8 = 2;
/// "No producer id": the batch is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// "No timestamp".
pub const NO_TIMESTAMP: i64 = -1;
/// "No sequence number": the batch is not a producer's.
pub const NO_SEQUENCE: i32 = -1;

const AT_LENGTH: usize = 8;
const AT_LEADER_EPOCH: usize = 12;
const AT_MAGIC: usize = 16;
const AT_CRC: usize = 17;
const AT_ATTRIBUTES: usize = 21;
const AT_LAST_OFFSET_DELTA: usize = 23;
const AT_BASE_TIMESTAMP: usize = 27;
const AT_MAX_TIMESTAMP: usize = 35;
const AT_PRODUCER_ID: usize = 43;
const AT_PRODUCER_EPOCH: usize = 51;
const AT_BASE_SEQUENCE: usize = 53;
const AT_COUNT: usize = 57;

const TIMESTAMP_TYPE_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;

/// A copy of a batch's header, to be read and stamped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header([u8; HEADER_LEN]);

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Header")
            .field("base_offset", &self.base_offset())
            .field("last_offset", &self.last_offset())
            .field("size", &self.size())
            .field("leader_epoch", &self.leader_epoch())
            .field("producer_id", &self.producer_id())
            .field("producer_epoch", &self.producer_epoch())
            .field("base_sequence", &self.base_sequence())
            .field("count", &self.count())
            .field("attributes", &self.attributes())
            .field("max_timestamp", &self.max_timestamp())
            .finish()
    }
}

impl Header {
    /// The header at the start of `bytes`, if they hold a whole one. Nothing in it is checked.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().map(|header| Self(*header))
    }

    /// The header of a control batch of one record, which is `body`. Offset and leader epoch are
    /// those of no log yet.
    #[must_use]
    pub fn control(id: i64, epoch: i16, timestamp_ms: i64, body: &[u8]) -> Self {
        let mut header = Self([0; HEADER_LEN]);
        let length = HEADER_LEN - LENGTH_OVERHEAD + body.len();
        header.put(AT_LENGTH, &i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
        header.put(AT_LEADER_EPOCH, &(-1i32).to_be_bytes());
        header.put(AT_MAGIC, &MAGIC.to_be_bytes());
        header.put(AT_ATTRIBUTES, &(TRANSACTIONAL_BIT | CONTROL_BIT).to_be_bytes());
        header.put(AT_BASE_TIMESTAMP, &timestamp_ms.to_be_bytes());
        header.put(AT_MAX_TIMESTAMP, &timestamp_ms.to_be_bytes());
        header.put(AT_PRODUCER_ID, &id.to_be_bytes());
        header.put(AT_PRODUCER_EPOCH, &epoch.to_be_bytes());
        header.put(AT_BASE_SEQUENCE, &NO_SEQUENCE.to_be_bytes());
        header.put(AT_COUNT, &1i32.to_be_bytes());
        header.seal(body);
        header
    }

    /// The header of a batch without records that takes so many offsets, at least 1, as compaction
    /// leaves them. Offset and leader epoch are those of no log yet.
    #[must_use]
    pub fn empty(offsets: i32) -> Self {
        let mut header = Self([0; HEADER_LEN]);
        let length = (HEADER_LEN - LENGTH_OVERHEAD) as i32;
        header.put(AT_LENGTH, &length.to_be_bytes());
        header.put(AT_LEADER_EPOCH, &(-1i32).to_be_bytes());
        header.put(AT_MAGIC, &MAGIC.to_be_bytes());
        header.put(AT_LAST_OFFSET_DELTA, &(offsets - 1).max(0).to_be_bytes());
        header.put(AT_BASE_TIMESTAMP, &NO_TIMESTAMP.to_be_bytes());
        header.put(AT_MAX_TIMESTAMP, &NO_TIMESTAMP.to_be_bytes());
        header.put(AT_PRODUCER_ID, &NO_PRODUCER_ID.to_be_bytes());
        header.put(AT_PRODUCER_EPOCH, &(-1i16).to_be_bytes());
        header.put(AT_BASE_SEQUENCE, &NO_SEQUENCE.to_be_bytes());
        header.seal(&[]);
        header
    }

    /// The header's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; HEADER_LEN] {
        &self.0
    }

    fn at<const N: usize>(&self, position: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[position..position + N]);
        field
    }

    fn put(&mut self, position: usize, field: &[u8]) {
        self.0[position..position + field.len()].copy_from_slice(field);
    }

    /// Offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(self.at(0))
    }

    /// The length field: bytes of the batch behind that field.
    #[must_use]
    pub fn length(&self) -> i32 {
        i32::from_be_bytes(self.at(AT_LENGTH))
    }

    /// Bytes of the whole batch; `None` if the length field can't be a batch's.
    #[must_use]
    pub fn size(&self) -> Option<usize> {
        let size = usize::try_from(self.length()).ok()?.checked_add(LENGTH_OVERHEAD)?;
        (size >= HEADER_LEN).then_some(size)
    }

    /// Epoch of the leader that appended the batch.
    #[must_use]
    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(self.at(AT_LEADER_EPOCH))
    }

    /// Version of the record format.
    #[must_use]
    pub fn magic(&self) -> i8 {
        i8::from_be_bytes(self.at(AT_MAGIC))
    }

    /// CRC-32C of everything from the attributes on.
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(self.at(AT_CRC))
    }

    /// The attribute bits: codec (0 to 2), timestamp type (3), transactional (4), control (5).
    #[must_use]
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(self.at(AT_ATTRIBUTES))
    }

    /// Number of the codec, 0 to 7; 0 is none.
    #[must_use]
    pub fn codec(&self) -> u8 {
        (self.attributes() & 7) as u8
    }

    /// Whether the timestamps are the log-append time.
    #[must_use]
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & TIMESTAMP_TYPE_BIT != 0
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch holds control records.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// Offset of the last record minus that of the first.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(self.at(AT_LAST_OFFSET_DELTA))
    }

    /// Offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset().saturating_add(i64::from(self.last_offset_delta()))
    }

    /// Timestamp that the records' deltas start from, ms.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.at(AT_BASE_TIMESTAMP))
    }

    /// Largest timestamp of the records, ms; the log-append time where that is used.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(self.at(AT_MAX_TIMESTAMP))
    }

    /// The producer's id, -1 for none.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.at(AT_PRODUCER_ID))
    }

    /// The producer's epoch.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.at(AT_PRODUCER_EPOCH))
    }

    /// Sequence number of the first record.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(self.at(AT_BASE_SEQUENCE))
    }

    /// Sequence number of the last record: numbers wrap from 2^31 - 1 to 0. -1 if there are none.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence() < 0 {
            return NO_SEQUENCE;
        }
        add_sequence(self.base_sequence(), self.last_offset_delta())
    }

    /// Number of records that the header states.
    #[must_use]
    pub fn count(&self) -> i32 {
        i32::from_be_bytes(self.at(AT_COUNT))
    }

    /// Places the batch in a log. Neither field is covered by the CRC.
    pub fn assign(&mut self, base_offset: i64, leader_epoch: i32) {
        self.put(0, &base_offset.to_be_bytes());
        self.put(AT_LEADER_EPOCH, &leader_epoch.to_be_bytes());
    }

    /// Sets the largest timestamp and its type, and the CRC that follows from it; `body` is
    /// everything behind the header.
    pub fn set_timestamp(&mut self, max_timestamp: i64, log_append_time: bool, body: &[u8]) {
        let bits = if log_append_time { TIMESTAMP_TYPE_BIT } else { 0 };
        let attributes = self.attributes() & !TIMESTAMP_TYPE_BIT | bits;
        self.put(AT_ATTRIBUTES, &attributes.to_be_bytes());
        self.put(AT_MAX_TIMESTAMP, &max_timestamp.to_be_bytes());
        self.seal(body);
    }

    /// Makes this the header of another body: another codec, another length.
    pub fn set_body(&mut self, codec: u8, body: &[u8]) {
        let attributes = self.attributes() & !7 | i16::from(codec & 7);
        self.put(AT_ATTRIBUTES, &attributes.to_be_bytes());
        let length = HEADER_LEN - LENGTH_OVERHEAD + body.len();
        self.put(AT_LENGTH, &i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes());
        self.seal(body);
    }

    fn seal(&mut self, body: &[u8]) {
        let crc = self.computed_crc(body);
        self.put(AT_CRC, &crc.to_be_bytes());
    }

    /// The CRC that this header and `body` should have.
    #[must_use]
    pub fn computed_crc(&self, body: &[u8]) -> u32 {
        crc::of_parts(&[&self.0[AT_ATTRIBUTES..], body])
    }
}

/// `sequence + by`, from 2^31 - 1 back to 0 as Kafka counts.
#[must_use]
pub fn add_sequence(sequence: i32, by: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(by);
    i32::try_from(sum.rem_euclid(1 << 31)).unwrap_or(0)
}

/// The offset behind the last of the whole batches in `bytes`.
#[must_use]
pub fn end_of(bytes: &[u8]) -> Option<i64> {
    let (mut rest, mut end) = (bytes, None);
    while let Some(header) = Header::new(rest) {
        let Some(behind) = header.size().and_then(|size| rest.get(size..)) else { break };
        end = Some(header.last_offset().saturating_add(1));
        rest = behind;
    }
    end
}

/// Checks a whole batch that was read from disk: magic, size, counts, CRC.
#[must_use]
pub fn is_sound(bytes: &[u8]) -> bool {
    let Some(header) = Header::new(bytes) else { return false };
    header.magic() == MAGIC
        && header.size() == Some(bytes.len())
        && header.last_offset_delta() >= 0
        && header.base_offset() >= 0
        && header.base_offset().checked_add(i64::from(header.last_offset_delta())).is_some()
        && header.crc() == header.computed_crc(&bytes[HEADER_LEN..])
}
