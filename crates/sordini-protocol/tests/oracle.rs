//! The crate kafka-protocol, which shares no code with ours, reads what we write and writes what
//! we read, in every version that both know.

mod support;

use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage};
use proptest::prelude::*;
use sordini_protocol::{Message, decode};
use support::{Sample, Seeded, Visitor, every_message};

/// kafka-protocol 0.18 stops at Kafka 4.1.
const NOT_IN_THEIRS: &[(&str, i16)] = &[
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("ApiVersionsRequest", 5),
    ("ApiVersionsResponse", 5),
    ("InitProducerIdRequest", 6),
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
}
