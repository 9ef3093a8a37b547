use super::*;
use crate::coordinator::transaction::Metadata;

/// Bytes of Kafka's own serializers, spelled out by the message definitions TransactionLogKey,
/// TransactionLogValue, OffsetCommitKey and OffsetCommitValue.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair =
        |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).expect("ascii"), 16).expect("hex");
    digits.chunks(2).map(pair).collect()
}

fn metadata() -> Metadata {
    let mut now = Metadata::new(0x1122, 60_000, 0x0102_0304);
    now.state = State::PrepareCommit;
    now.producer_epoch = 7;
    now.started_ms = 0x0102_0300;
    now.partitions = [("ab".to_owned(), 3), ("ab".to_owned(), 5), ("c".to_owned(), 0)].into();
    now
}

#[test]
fn states_have_kafkas_bytes() {
    let record = transaction("id", &metadata(), TransactionVersion::V0);
    assert_eq!(record.key, hex("0000 0002 6964"));
    let expected = "0000 0000000000001122 0007 0000ea60 02 \
        00000002 0002 6162 00000002 00000003 00000005 0001 63 00000001 00000000 \
        0000000001020304 0000000001020300";
    assert_eq!(record.value, Some(hex(expected)));
    let mut now = metadata();
    now.previous_producer_id = 0x1122;
    now.next_producer_id = 0x33;
    now.client_version = TransactionVersion::V2;
    let record = transaction("id", &now, TransactionVersion::V2);
    let expected = "0001 0000000000001122 0007 0000ea60 02 \
        03 03 6162 03 00000003 00000005 00 02 63 02 00000000 00 \
        0000000001020304 0000000001020300 \
        03 00 08 0000000000001122 01 08 0000000000000033 02 02 0002";
    assert_eq!(record.value, Some(hex(expected)));
}

#[test]
fn states_read_back() {
    let mut now = metadata();
    now.previous_producer_id = 4;
    now.next_producer_id = 5;
    now.last_producer_epoch = 6;
    now.client_version = TransactionVersion::V2;
    let empty = Metadata { state: State::Empty, partitions: BTreeSet::new(), ..now.clone() };
    for now in [now, empty] {
        // At level 0 too, since the client speaks the new protocol still.
        for level in [TransactionVersion::V2, TransactionVersion::V0] {
            let record = transaction("id", &now, level);
            let read = read_transaction(&record.key, record.value.as_deref()).expect("sound");
            assert_eq!(read, TransactionRecord::State("id".to_owned(), now.clone()));
        }
    }
    let tombstone = transaction_tombstone("id");
    let read = read_transaction(&tombstone.key, None).expect("sound");
    assert_eq!(read, TransactionRecord::Tombstone("id".to_owned()));
}

#[test]
fn damaged_records_are_errors_and_unknown_ones_are_skipped() {
    let record = transaction("id", &metadata(), TransactionVersion::V2);
    let value = record.value.expect("a value");
    for cut in 0..value.len() {
        read_transaction(&record.key, Some(&value[..cut])).expect_err("cut");
    }
    for (key, value) in [("0007 0000", ""), ("0000 0000", "0009")] {
        let read = read_transaction(&hex(key), Some(&hex(value))).expect("skipped");
        assert_eq!(read, TransactionRecord::Unknown);
    }
    let huge = hex("0001 0000000000001122 0007 0000ea60 02 ffffffff0f");
    read_transaction(&record.key, Some(&huge)).expect_err("a count beyond what is there");
}

fn sample() -> (OffsetKey, CommittedOffset) {
    let key = OffsetKey { group: "g".to_owned(), topic: "ab".to_owned(), partition: 3 };
    let committed = CommittedOffset {
        offset: 0x55,
        leader_epoch: 9,
        metadata: "m".to_owned(),
        committed_ms: 0x0102_0304,
        expires_ms: None,
        topic_id: Uuid([0xaa; 16]),
    };
    (key, committed)
}

#[test]
fn offsets_have_kafkas_bytes() {
    let (key, mut committed) = sample();
    let record = offset(&key, &committed);
    assert_eq!(record.key, hex("0001 0001 67 0002 6162 00000003"));
    let expected = "0004 0000000000000055 00000009 02 6d 0000000001020304 01 00 10 \
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    assert_eq!(record.value, Some(hex(expected)));
    committed.expires_ms = Some(0x0102_0305);
    let expected = "0001 0000000000000055 0001 6d 0000000001020304 0000000001020305";
    assert_eq!(offset(&key, &committed).value, Some(hex(expected)));
}

#[test]
fn offsets_read_back_in_every_version() {
    let (key, committed) = sample();
    let record = offset(&key, &committed);
    let read = read_offset(&record.key, record.value.as_deref()).expect("sound");
    assert_eq!(read, OffsetRecord::Offset(key.clone(), committed.clone()));
    let old = [
        ("0000 0000000000000055 0001 6d 0000000001020304", -1, None),
        ("0001 0000000000000055 0001 6d 0000000001020304 0000000000000009", -1, Some(9)),
        ("0002 0000000000000055 0001 6d 0000000001020304", -1, None),
        ("0003 0000000000000055 00000009 0001 6d 0000000001020304", 9, None),
    ];
    for (value, leader_epoch, expires_ms) in old {
        let read = read_offset(&record.key, Some(&hex(value))).expect("sound");
        let topic_id = Uuid::ZERO;
        let expected = CommittedOffset { leader_epoch, expires_ms, topic_id, ..committed.clone() };
        assert_eq!(read, OffsetRecord::Offset(key.clone(), expected));
    }
    let read = read_offset(&record.key, None).expect("sound");
    assert_eq!(read, OffsetRecord::Tombstone(key));
    let member = read_offset(&hex("0002 0001 67"), Some(&[])).expect("skipped");
    assert_eq!(member, OffsetRecord::Unknown);
}
