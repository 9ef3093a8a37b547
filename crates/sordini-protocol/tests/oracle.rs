//! The crate kafka-protocol, which shares no code with ours, reads what we write and writes what
//! we read, in every version that both know.

mod support;

use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage, StrBytes};
use kafka_protocol::records;
use proptest::prelude::*;
use sordini_protocol::records::Batches;
use sordini_protocol::{Message, decode};
use support::{Sample, Seeded, Visitor, every_message};

/// kafka-protocol 0.18 stops at Kafka 4.1.
const NOT_IN_THEIRS: &[(&str, i16)] = &[
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("ApiVersionsRequest", 5),
    ("ApiVersionsResponse", 5),
    ("InitProducerIdRequest", 6),
    ("TxnOffsetCommitRequest", 6),
    ("TxnOffsetCommitResponse", 6),
    ("WriteTxnMarkersRequest", 2),
    ("WriteTxnMarkersResponse", 2),
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
];

struct Oracle {
    seed: u64,
    /// Messages and versions that their crate lacks.
    skipped: Vec<(String, i16)>,
}

impl Oracle {
    fn compare<M, T>(&mut self, name: &str)
    where
        M: Message + Sample,
        T: TheirMessage + Encodable + Decodable,
    {
        for version in M::VERSIONS {
            if version < T::VERSIONS.min || version > T::VERSIONS.max {
                self.skipped.push((name.to_owned(), version));
                continue;
            }
            let ours = M::sample(&mut Seeded(self.seed), version);
            let mut bytes = Vec::new();
            ours.encode(&mut bytes, version).unwrap_or_else(|e| panic!("{name} {version}: {e}"));
            let mut rest = bytes::Bytes::from(bytes.clone());
            let theirs =
                T::decode(&mut rest, version).unwrap_or_else(|e| panic!("{name} {version}: {e}"));
            assert!(rest.is_empty(), "{name} {version}: {} bytes left", rest.len());
            let mut again = bytes::BytesMut::new();
            theirs.encode(&mut again, version).unwrap_or_else(|e| panic!("{name} {version}: {e}"));
            assert_eq!(again.as_ref(), bytes, "{name} {version}");
            let back: M = decode(again.freeze(), version).expect("their bytes are ours");
            assert_eq!(back, ours, "{name} {version}");
        }
    }
}

macro_rules! compare_all {
    ($($message:ident)*) => {
        impl Visitor for Oracle {
            fn message<M: Message + Sample>(&mut self, name: &'static str) {
                match name {
                    $(stringify!($message) => self.compare::<M, theirs::$message>(name),)*
                    _ => panic!("{name} has no counterpart here: add it"),
                }
            }
        }
    };
}

compare_all! {
    RequestHeader ResponseHeader
    ProduceRequest ProduceResponse
    FetchRequest FetchResponse
    ListOffsetsRequest ListOffsetsResponse
    MetadataRequest MetadataResponse
    FindCoordinatorRequest FindCoordinatorResponse
    ApiVersionsRequest ApiVersionsResponse
    CreateTopicsRequest CreateTopicsResponse
    DeleteTopicsRequest DeleteTopicsResponse
    InitProducerIdRequest InitProducerIdResponse
    OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse
    DescribeConfigsRequest DescribeConfigsResponse
    CreatePartitionsRequest CreatePartitionsResponse
    DescribeClusterRequest DescribeClusterResponse
    AddPartitionsToTxnRequest AddPartitionsToTxnResponse
    AddOffsetsToTxnRequest AddOffsetsToTxnResponse
    EndTxnRequest EndTxnResponse
    TxnOffsetCommitRequest TxnOffsetCommitResponse
    WriteTxnMarkersRequest WriteTxnMarkersResponse
    OffsetCommitRequest OffsetCommitResponse
    OffsetFetchRequest OffsetFetchResponse
    DescribeTransactionsRequest DescribeTransactionsResponse
    ListTransactionsRequest ListTransactionsResponse
    DescribeProducersRequest DescribeProducersResponse
}

/// A record's timestamp, key, value and header, as the generator draws them.
type Drawn = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<(String, Option<Vec<u8>>)>);

fn their_record(base: i64, i: usize, drawn: &Drawn) -> records::Record {
    let (timestamp, key, value, header) = drawn.clone();
    let headers = header.map(|(key, value)| (StrBytes::from_string(key), value.map(Into::into)));
    records::Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 4,
        producer_id: 9,
        producer_epoch: 1,
        timestamp_type: records::TimestampType::Creation,
        offset: base + i as i64,
        sequence: 70 + i as i32,
        timestamp,
        key: key.map(Into::into),
        value: value.map(Into::into),
        headers: headers.into_iter().collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_independent_codec_agrees_on_every_byte(seed: u64) {
        let mut oracle = Oracle { seed, skipped: Vec::new() };
        every_message(&mut oracle);
        let skipped: Vec<(&str, i16)> =
            oracle.skipped.iter().map(|(name, version)| (name.as_str(), *version)).collect();
        prop_assert_eq!(skipped, NOT_IN_THEIRS);
    }

    #[test]
    fn batches_of_an_independent_encoder_are_read(
        base in 0..i64::MAX / 2,
        drawn in prop::collection::vec(any::<Drawn>(), 1..20),
    ) {
        // Kafka's deltas are 64 bits wide; a sum beyond that is no timestamp.
        let drawn: Vec<Drawn> =
            drawn.into_iter().map(|(t, k, v, h)| (t >> 1, k, v, h)).collect();
        let theirs: Vec<records::Record> =
            drawn.iter().enumerate().map(|(i, record)| their_record(base, i, record)).collect();
        let mut bytes = bytes::BytesMut::new();
        let options =
            records::RecordEncodeOptions { version: 2, compression: records::Compression::None };
        records::RecordBatchEncoder::encode(&mut bytes, &theirs, &options).expect("encodes");
        let mut read = Vec::new();
        for batch in Batches::new(&bytes) {
            let batch = batch.expect("sound");
            prop_assert_eq!(batch.verify_crc(), Ok(()));
            prop_assert!(batch.header().is_transactional());
            let records = batch.decompress(usize::MAX).expect("not compressed");
            for record in &records {
                let record = record.expect("sound");
                let header = record.headers.iter().next();
                read.push((
                    record.offset,
                    (
                        record.timestamp,
                        record.key.map(<[u8]>::to_vec),
                        record.value.map(<[u8]>::to_vec),
                        header.map(|h| (h.key_lossy().into_owned(), h.value.map(<[u8]>::to_vec))),
                    ),
                ));
            }
        }
        let expected: Vec<(i64, Drawn)> =
            drawn.into_iter().enumerate().map(|(i, d)| (base + i as i64, d)).collect();
        prop_assert_eq!(read, expected);
    }
}
