//! A record-batch encoder for tests, written from the format alone: neither the reader that is
//! tested nor the producer's encoder has a part in it. And requests that several tests make.

use bytes::Bytes;
use sordini_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use sordini_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData,
};
use sordini_protocol::{ErrorCode, Uuid};

use crate::log::batch::Header;

/// A batch of records with null keys.
#[derive(Clone, Debug)]
pub(crate) struct TestBatch {
    values: Vec<String>,
    timestamps: Vec<i64>,
    keys: Option<String>,
    producer: (i64, i16, i32),
    attributes: i16,
}

impl TestBatch {
    pub(crate) fn of(values: &[&str]) -> Self {
        Self {
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            timestamps: vec![0; values.len()],
            keys: None,
            producer: (-1, -1, -1),
            attributes: 0,
        }
    }

    pub(crate) fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = (id, epoch, sequence);
        self
    }

    pub(crate) fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamps.fill(timestamp);
        self
    }

    pub(crate) fn timestamps(mut self, timestamps: &[i64]) -> Self {
        self.timestamps = timestamps.to_vec();
        self
    }

    pub(crate) fn key(mut self, key: &str) -> Self {
        self.keys = Some(key.to_owned());
        self
    }

    pub(crate) fn attributes(mut self, attributes: i16) -> Self {
        self.attributes = attributes;
        self
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let base = self.timestamps.first().copied().unwrap_or(0);
        let mut body = Vec::new();
        for (delta, (value, timestamp)) in self.values.iter().zip(&self.timestamps).enumerate() {
            let mut record = vec![0];
            put_varint(&mut record, timestamp - base);
            put_varint(&mut record, delta as i64);
            match &self.keys {
                Some(key) => put_bytes(&mut record, key.as_bytes()),
                None => put_varint(&mut record, -1),
            }
            put_bytes(&mut record, value.as_bytes());
            put_varint(&mut record, 0);
            put_varint(&mut body, record.len() as i64);
            body.extend_from_slice(&record);
        }
        let (id, epoch, sequence) = self.producer;
        let count = self.values.len() as i32;
        let max = self.timestamps.iter().copied().max().unwrap_or(-1);
        let mut out = 0i64.to_be_bytes().to_vec();
        out.extend_from_slice(&(49 + body.len() as i32).to_be_bytes());
        out.extend_from_slice(&(-1i32).to_be_bytes());
        out.push(2);
        out.extend_from_slice(&0u32.to_be_bytes());
        out.extend_from_slice(&self.attributes.to_be_bytes());
        out.extend_from_slice(&(count - 1).to_be_bytes());
        out.extend_from_slice(&base.to_be_bytes());
        out.extend_from_slice(&max.to_be_bytes());
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&epoch.to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&body);
        reseal(&mut out);
        out
    }
}

/// A batch of the time at which the tests' clocks begin.
pub(crate) fn batch(values: &[&str]) -> TestBatch {
    TestBatch::of(values).timestamp(1_700_000_000_000)
}

/// A request for one partition.
pub(crate) fn produce_to(
    topic_id: Uuid,
    index: i32,
    batch: &TestBatch,
    acks: i16,
) -> ProduceRequest {
    let records = Some(Bytes::from(batch.encode()));
    ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            topic_id,
            partition_data: vec![PartitionProduceData { index, records }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// Asks for what `group` has committed for the first partition of a topic, by the topic's id.
pub(crate) fn offset_fetch(
    group: &str,
    topic_id: Uuid,
    require_stable: bool,
) -> OffsetFetchRequest {
    let partition_indexes = vec![0];
    let topic = OffsetFetchRequestTopics { topic_id, partition_indexes, ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: group.to_owned(),
        member_epoch: -1,
        topics: Some(vec![topic]),
        ..Default::default()
    };
    OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() }
}

/// What became of the first partition of a request.
pub(crate) fn answer(response: &ProduceResponse) -> PartitionProduceResponse {
    response.responses[0].partition_responses[0].clone()
}

pub(crate) fn code(answer: &PartitionProduceResponse) -> ErrorCode {
    ErrorCode::from_code(answer.error_code)
}

/// Puts the right CRC into a batch that was changed.
pub(crate) fn reseal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

#[test]
fn another_implementation_reads_the_test_batches() {
    use kafka_protocol::records::RecordBatchDecoder;
    let batch = TestBatch::of(&["a", "bc", ""]).producer(5, 3, 70).timestamps(&[10, 7, 300]);
    let bytes = batch.key("k").encode();
    let decoded = RecordBatchDecoder::decode(&mut bytes::Bytes::from(bytes.clone()));
    let records = decoded.expect("a sound batch").records;
    let seen: Vec<_> = records.iter().map(|r| (r.offset, r.timestamp, r.sequence)).collect();
    assert_eq!(seen, [(0, 10, 70), (1, 7, 71), (2, 300, 72)]);
    assert!(records.iter().all(|r| r.key.as_deref() == Some(b"k".as_slice())));
    assert_eq!(records[1].value.as_deref(), Some(b"bc".as_slice()));
    let header = Header::new(&bytes).expect("header");
    assert_eq!((header.max_timestamp(), header.last_sequence(), header.count()), (300, 72, 3));
    assert_eq!(header.size(), Some(bytes.len()));
}
