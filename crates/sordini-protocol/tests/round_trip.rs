//! Whatever a version can carry survives encoding and decoding, unchanged.

mod support;

use proptest::prelude::*;
use sordini_protocol::{Message, decode};
use support::{Sample, Seeded, Visitor, every_message};

struct RoundTrip {
    seed: u64,
}

impl Visitor for RoundTrip {
    fn message<M: Message + Sample>(&mut self, name: &'static str) {
        for version in M::VERSIONS {
            let message = M::sample(&mut Seeded(self.seed), version);
            let mut bytes = b"before".to_vec();
            message.encode(&mut bytes, version).unwrap_or_else(|e| panic!("{name} {version}: {e}"));
            let bytes = bytes.split_off(b"before".len());
            let back: M = decode(bytes.clone().into(), version)
                .unwrap_or_else(|e| panic!("{name} {version}: {e}"));
            assert_eq!(back, message, "{name} {version}");
            let mut again = Vec::new();
            back.encode(&mut again, version).expect("what was decoded can be encoded");
            assert_eq!(again, bytes, "{name} {version}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_survives_the_wire(seed: u64) {
        every_message(&mut RoundTrip { seed });
    }
}
