//! End-transaction markers: the control batches by which a coordinator ends a transaction in a
//! partition (KIP-98), as they stand in the log.

use bytes::Bytes;
use sordini_protocol::records::{BatchHeader, ControlType, RecordIter};

use super::batch::Header;

/// Bytes of a marker's only record, its length included.
const RECORD_LEN: usize = 17;
/// The only version of a marker's key and value.
const VERSION: i16 = 0;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionResult {
    /// Its records never were.
    Abort,
    /// Its records are there.
    Commit,
}

/// What a coordinator has written into a partition that a transaction touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction it ends.
    pub producer_id: i64,
    /// The epoch that holds from here on: that of the transaction in version 0 and 1, the next
    /// one in version 2.
    pub producer_epoch: i16,
    /// Leader epoch of the coordinator's partition of `__transaction_state`.
    pub coordinator_epoch: i32,
    /// How it ended.
    pub result: TransactionResult,
}

impl Marker {
    /// The control batch, but for offset and leader epoch: its header, and all behind it.
    #[must_use]
    pub fn to_batch(&self, timestamp_ms: i64) -> (Header, Bytes) {
        let kind: i16 = match self.result {
            TransactionResult::Abort => 0,
            TransactionResult::Commit => 1,
        };
        let mut body = Vec::with_capacity(RECORD_LEN);
        // Lengths and deltas are zigzag varints, all below 64: twice the value is the byte.
        body.extend_from_slice(&[2 * (RECORD_LEN as u8 - 1), 0, 0, 0, 2 * 4]);
        body.extend_from_slice(&VERSION.to_be_bytes());
        body.extend_from_slice(&kind.to_be_bytes());
        body.push(2 * 6);
        body.extend_from_slice(&VERSION.to_be_bytes());
        body.extend_from_slice(&self.coordinator_epoch.to_be_bytes());
        body.push(0);
        let header = Header::control(self.producer_id, self.producer_epoch, timestamp_ms, &body);
        (header, Bytes::from(body))
    }

    /// Reads a control batch; `None` if it holds something else than an end of a transaction, or
    /// is damaged.
    #[must_use]
    pub fn read(header: &Header, body: &[u8]) -> Option<Self> {
        if !header.is_control() || header.codec() != 0 {
            return None;
        }
        let record = RecordIter::new(&BatchHeader::parse(header.bytes()).ok()?, body).next()?;
        let record = record.ok()?;
        let result = match record.control_type()? {
            ControlType::Abort => TransactionResult::Abort,
            ControlType::Commit => TransactionResult::Commit,
        };
        let value = record.value?;
        let version = i16::from_be_bytes(*value.first_chunk()?);
        let coordinator_epoch = i32::from_be_bytes(*value.get(2..)?.first_chunk()?);
        // Later versions only add fields.
        (version >= VERSION).then_some(Self {
            producer_id: header.producer_id(),
            producer_epoch: header.producer_epoch(),
            coordinator_epoch,
            result,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch;

    #[test]
    fn another_implementation_reads_the_markers() {
        use kafka_protocol::records::RecordBatchDecoder;
        for (result, kind) in [(TransactionResult::Abort, 0), (TransactionResult::Commit, 1)] {
            let marker =
                Marker { producer_id: 77, producer_epoch: 5, coordinator_epoch: 300, result };
            let (header, body) = marker.to_batch(1_700_000_000_123);
            let bytes = [header.bytes().as_slice(), &body].concat();
            assert!(batch::is_sound(&bytes));
            assert_eq!(Marker::read(&header, &body), Some(marker));
            let set = RecordBatchDecoder::decode(&mut Bytes::from(bytes)).expect("a batch");
            let [record] = set.records.as_slice() else { panic!("one record") };
            assert!(record.transactional && record.control);
            assert_eq!((record.producer_id, record.producer_epoch), (77, 5));
            assert_eq!((record.sequence, record.timestamp), (-1, 1_700_000_000_123));
            assert_eq!(record.key.as_deref(), Some([0, 0, 0, kind].as_slice()));
            assert_eq!(record.value.as_deref(), Some([0, 0, 0, 0, 1, 44].as_slice()));
        }
    }

    #[test]
    fn what_is_no_marker_is_not_taken_for_one() {
        let result = TransactionResult::Commit;
        let marker = Marker { producer_id: 1, producer_epoch: 0, coordinator_epoch: 0, result };
        let (header, body) = marker.to_batch(0);
        for cut in 0..body.len() {
            assert_eq!(Marker::read(&header, &body[..cut]), None, "{cut} bytes");
        }
        let data = crate::test_batch::batch(&["a"]).producer(1, 0, 0).encode();
        let header = Header::new(&data).expect("header");
        assert_eq!(Marker::read(&header, &data[batch::HEADER_LEN..]), None);
    }
}
