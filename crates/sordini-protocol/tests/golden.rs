//! Bytes from the Java client: read, understood, and written again to the same bytes.
//!
//! `cargo xtask golden` makes the files again from `tests/java/`.

mod support;

use sordini_protocol::records::{
    Batch, BatchHeader, Batches, Compression, ControlType, Record, TimestampType,
};
use sordini_protocol::{Message, decode};
use support::{Empty, Golden, Named, Sample, Visitor, every_message, golden};

struct JavaMessages {
    lines: Vec<Golden>,
    seen: usize,
}

impl Visitor for JavaMessages {
    fn message<M: Message + Sample>(&mut self, name: &'static str) {
        for version in M::VERSIONS {
            for kind in ["default", "empty", "named"] {
                let words = [name, &version.to_string(), kind];
                let line = self.lines.iter().find(|line| line.words == words);
                let line = line.unwrap_or_else(|| panic!("no golden line {words:?}"));
                let expected = match kind {
                    "default" => M::default(),
                    "empty" => M::sample(&mut Empty, version),
                    _ => M::sample(&mut Named, version),
                };
                let read: M = decode(line.bytes.clone().into(), version)
                    .unwrap_or_else(|e| panic!("{words:?}: {e}"));
                let mut written = Vec::new();
                read.encode(&mut written, version).unwrap_or_else(|e| panic!("{words:?}: {e}"));
                assert_eq!(written, line.bytes, "{words:?}");
                // A default that a version can't carry comes back as another value, so for the
                // defaults the bytes decide.
                if kind == "default" {
                    let mut bytes = Vec::new();
                    expected
                        .encode(&mut bytes, version)
                        .unwrap_or_else(|e| panic!("{words:?}: {e}"));
                    assert_eq!(bytes, line.bytes, "{words:?}");
                } else {
                    assert_eq!(read, expected, "{words:?}");
                }
                self.seen += 1;
            }
        }
    }
}

#[test]
fn java_and_we_agree_on_every_field_of_every_version() {
    let lines = golden("messages.txt");
    let count = lines.len();
    let mut java = JavaMessages { lines, seen: 0 };
    every_message(&mut java);
    assert_eq!(java.seen, count, "each golden line belongs to a message that we have");
    assert!(count > 500);
}

/// What Batches.java puts into a small batch: timestamp, key, value, headers.
type Expected<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>, Vec<(&'a [u8], Option<&'a [u8]>)>);

fn small() -> Vec<Expected<'static>> {
    vec![
        (
            1_700_000_000_500,
            Some(b"key"),
            Some(b"value"),
            vec![(b"trace", Some("äbc".as_bytes())), (b"trace", None), (b"", Some(b""))],
        ),
        (1_700_000_000_000, None, Some(b""), vec![]),
        (1_700_000_009_999, Some(b""), None, vec![]),
    ]
}

fn shown<'a>(record: &Record<'a>) -> Expected<'a> {
    let headers = record.headers.iter().map(|h| (h.key, h.value)).collect();
    (record.timestamp, record.key, record.value, headers)
}

fn check_header(header: &BatchHeader, codec: Compression, kind: &str) {
    let attributes = codec.code().into();
    let expected = BatchHeader {
        base_offset: 77,
        batch_length: header.batch_length,
        partition_leader_epoch: 9,
        magic: 2,
        crc: header.crc,
        attributes: match kind {
            "append-time" => attributes | 0x08,
            "transactional" => attributes | 0x10,
            "commit" | "abort" => attributes | 0x30,
            _ => attributes,
        },
        last_offset_delta: header.records_count - 1,
        base_timestamp: match kind {
            "small" | "transactional" | "append-time" => 1_700_000_000_500,
            _ => 1_700_000_000_000,
        },
        max_timestamp: match kind {
            "append-time" => 1_800_000_000_123,
            "large" => 1_700_000_000_999,
            "commit" | "abort" => 1_700_000_000_000,
            _ => 1_700_000_009_999,
        },
        producer_id: 4711,
        producer_epoch: 3,
        base_sequence: if matches!(kind, "commit" | "abort") { -1 } else { 42 },
        records_count: match kind {
            "large" => 1000,
            "commit" | "abort" => 1,
            _ => 3,
        },
    };
    assert_eq!(*header, expected);
}

fn check_records(kind: &str, batch: &Batch<'_>) {
    let records = batch.decompress(1 << 20).unwrap();
    let records: Vec<Record<'_>> = records.iter().map(Result::unwrap).collect();
    for (i, record) in records.iter().enumerate() {
        assert_eq!(record.offset, 77 + i as i64);
    }
    match kind {
        "large" => {
            for (i, record) in records.iter().enumerate() {
                let value = format!(
                    r#"{{"event":"view","page":{},"user":"someone-{}","agent":"a browser of the usual kind"}}"#,
                    i % 17,
                    i * 7919 % 101
                );
                let key = format!("k{}", i % 10);
                assert_eq!(record.timestamp, 1_700_000_000_000 + i as i64);
                assert_eq!(record.key, Some(key.as_bytes()));
                assert_eq!(record.value, Some(value.as_bytes()));
            }
        }
        "commit" => assert_eq!(records[0].control_type(), Some(ControlType::Commit)),
        "abort" => assert_eq!(records[0].control_type(), Some(ControlType::Abort)),
        "append-time" => {
            let mut expected = small();
            expected.iter_mut().for_each(|record| record.0 = 1_800_000_000_123);
            assert_eq!(records.iter().map(shown).collect::<Vec<_>>(), expected);
            assert_eq!(batch.header().timestamp_type(), TimestampType::LogAppendTime);
        }
        _ => assert_eq!(records.iter().map(shown).collect::<Vec<_>>(), small()),
    }
}

#[test]
fn javas_batches_are_read_in_every_codec() {
    let lines = golden("batches.txt");
    for line in &lines {
        let [codec, kind] = &line.words[..] else { panic!("{:?}", line.words) };
        let codec: Compression = codec.parse().unwrap();
        let mut batches = Batches::new(&line.bytes);
        let batch = batches.next().expect("a batch").expect("sound");
        assert!(batches.next().is_none() && batches.partial().is_empty());
        assert_eq!(batch.verify_crc(), Ok(()), "{:?}", line.words);
        assert_eq!(batch.header().compression(), Ok(codec));
        assert_eq!(batch.header().to_bytes(), line.bytes[..BatchHeader::SIZE]);
        check_header(batch.header(), codec, kind);
        check_records(kind, &batch);
        let summary = batch.decompress(1 << 20).unwrap().check_produced().unwrap();
        assert_eq!(summary.records, batch.header().records_count);
        assert_eq!(summary.max_timestamp, batch.header().max_timestamp);
    }
    // Each codec's small batches and its large one, and the two markers.
    assert_eq!(lines.len(), 5 * 3 + 4 + 2);
}
