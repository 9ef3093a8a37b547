//! Builds the batches that coordinators write: a few records with keys, not compressed.

use bytes::Bytes;

use crate::crc;

/// Bytes of a batch before the part that its checksum covers.
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const TRANSACTIONAL: i16 = 1 << 4;

/// One record; without a value it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// A batch of `records`; with a producer it is part of that one's transaction.
pub(crate) fn encode(
    records: &[KeyValue],
    timestamp_ms: i64,
    producer: Option<(i64, i16)>,
) -> Bytes {
    let mut body = Vec::new();
    for (delta, record) in (0i64..).zip(records) {
        let mut bytes = vec![0, 0];
        put_varint(&mut bytes, delta);
        put_varint(&mut bytes, len(&record.key));
        bytes.extend_from_slice(&record.key);
        match &record.value {
            Some(value) => {
                put_varint(&mut bytes, len(value));
                bytes.extend_from_slice(value);
            }
            None => put_varint(&mut bytes, -1),
        }
        put_varint(&mut bytes, 0);
        put_varint(&mut body, len(&bytes));
        body.extend_from_slice(&bytes);
    }
    let count = i32::try_from(records.len()).unwrap_or(i32::MAX);
    let length = i32::try_from(49 + body.len()).unwrap_or(i32::MAX);
    let (id, epoch) = producer.unwrap_or((-1, -1));
    let attributes = if producer.is_some() { TRANSACTIONAL } else { 0 };
    let mut out = Vec::with_capacity(61 + body.len());
    out.extend_from_slice(&0i64.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.push(2);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&attributes.to_be_bytes());
    out.extend_from_slice(&(count - 1).to_be_bytes());
    out.extend_from_slice(&timestamp_ms.to_be_bytes());
    out.extend_from_slice(&timestamp_ms.to_be_bytes());
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&(-1i32).to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&body);
    let crc = crc::of(&out[ATTRIBUTES_AT..]);
    out[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(out)
}

fn len(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::records::RecordBatchDecoder;

    #[test]
    fn another_implementation_reads_the_batches() {
        let long = vec![7u8; 300];
        let records = [
            KeyValue { key: b"a".to_vec(), value: Some(long.clone()) },
            KeyValue { key: long, value: None },
        ];
        for producer in [None, Some((9, 4))] {
            let mut bytes = encode(&records, 1_700_000_000_000, producer);
            assert!(crate::log::batch::is_sound(&bytes));
            let read = RecordBatchDecoder::decode(&mut bytes).expect("a sound batch").records;
            for (read, record) in read.iter().zip(&records) {
                assert_eq!(read.key.as_deref(), Some(record.key.as_slice()));
                assert_eq!(read.value.as_deref(), record.value.as_deref());
                assert_eq!(read.timestamp, 1_700_000_000_000);
                let (id, epoch) = producer.unwrap_or((-1, -1));
                assert_eq!((read.producer_id, read.producer_epoch), (id, epoch));
                assert_eq!((read.transactional, read.control), (producer.is_some(), false));
            }
            assert_eq!(read.len(), 2);
        }
    }
}
