use super::*;
use crate::compress::compress;
use crate::test_batch::{TestBatch, reseal};

const NOW: i64 = 1_700_000_000_000;

fn config(settings: &[(&str, &str)]) -> TopicConfig {
    let mut config = TopicConfig::default();
    for (name, value) in settings {
        config.set(name, value).expect("setting");
    }
    config
}

fn judge_with(
    bytes: &[u8],
    settings: &[(&str, &str)],
    version: i16,
) -> Result<Validated, Rejection> {
    let config = config(settings);
    let rules = Rules { config: &config, version, wall_ms: NOW, max_decompressed_bytes: 1 << 20 };
    validate(&Bytes::copy_from_slice(bytes), &rules)
}

fn judge(bytes: &[u8]) -> Result<Validated, Rejection> {
    judge_with(bytes, &[], 13)
}

fn batch() -> TestBatch {
    TestBatch::of(&["a", "b", "c"]).timestamps(&[NOW, NOW + 5, NOW - 5])
}

fn refused(bytes: &[u8]) -> ErrorCode {
    judge(bytes).expect_err("refused").code
}

/// The batch with the bytes at `at` replaced, and the CRC put right.
fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = batch().encode();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    reseal(&mut batch);
    batch
}

fn compressed(codec: Compression) -> Vec<u8> {
    let plain = batch().encode();
    let body = compress(codec, &plain[HEADER_LEN..]).expect("compress");
    let mut header = Header::new(&plain).expect("header");
    header.set_body(codec.code(), &body);
    [header.bytes().as_slice(), &body].concat()
}

#[test]
fn a_sound_batch_is_kept_to_the_byte() {
    let bytes = batch().encode();
    let validated = judge(&bytes).expect("sound");
    assert_eq!([validated.header.bytes().as_slice(), &validated.body].concat(), bytes);
    assert_eq!(validated.log_append_time, -1);
}

#[test]
fn what_is_not_one_batch_of_magic_2_is_refused() {
    let bytes = batch().encode();
    for cut in 0..bytes.len() {
        judge(&bytes[..cut]).expect_err("cut off");
    }
    assert_eq!(refused(&[]), ErrorCode::InvalidRecord);
    assert_eq!(refused(&[bytes.clone(), bytes.clone()].concat()), ErrorCode::InvalidRecord);
    assert_eq!(refused(&[bytes.clone(), vec![0; 70]].concat()), ErrorCode::CorruptMessage);
    for (magic, code) in [
        (0, ErrorCode::InvalidRecord),
        (1, ErrorCode::InvalidRecord),
        (3, ErrorCode::CorruptMessage),
        (0xff, ErrorCode::CorruptMessage),
    ] {
        assert_eq!(refused(&changed(16, &[magic])), code, "{magic}");
    }
    for length in [-1i32, 0, 48, i32::MIN] {
        let bytes = changed(8, &length.to_be_bytes());
        assert_eq!(refused(&bytes), ErrorCode::CorruptMessage, "{length}");
    }
    assert_eq!(refused(&changed(8, &i32::MAX.to_be_bytes())), ErrorCode::InvalidRecord);
}

#[test]
fn a_tail_that_holds_no_batch_is_not_stored() {
    let bytes = batch().encode();
    for tail in [vec![0], vec![0xff; 16], bytes[..bytes.len() - 1].to_vec()] {
        let validated = judge(&[bytes.clone(), tail].concat()).expect("sound");
        assert_eq!([validated.header.bytes().as_slice(), &validated.body].concat(), bytes);
    }
}

#[test]
fn every_flipped_bit_behind_the_crc_is_noticed() {
    let bytes = batch().encode();
    for at in 17..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let code = judge_with(&damaged, &[], 13).expect_err("damaged").code;
        assert_eq!(code, ErrorCode::CorruptMessage, "byte {at}");
    }
}

#[test]
fn counts_that_contradict_each_other_are_refused() {
    for count in [-1i32, 0, 2, 4, i32::MAX] {
        assert_eq!(refused(&changed(57, &count.to_be_bytes())), ErrorCode::InvalidRecord);
    }
    for delta in [-1i32, 1, 3, i32::MAX] {
        assert_eq!(refused(&changed(23, &delta.to_be_bytes())), ErrorCode::InvalidRecord);
    }
    // A count that both fields agree on, and the records do not.
    for (delta, count) in [(1i32, 2i32), (3, 4), (i32::MAX - 1, i32::MAX)] {
        let mut bytes = changed(23, &delta.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        reseal(&mut bytes);
        assert_eq!(refused(&bytes), ErrorCode::InvalidRecord, "{count}");
    }
}

#[test]
fn what_only_brokers_may_write_is_refused() {
    assert_eq!(refused(&batch().attributes(1 << 5).encode()), ErrorCode::InvalidRecord);
    assert_eq!(refused(&changed(0, &1i64.to_be_bytes())), ErrorCode::InvalidRecord);
    assert_eq!(refused(&batch().producer(4, 0, -1).encode()), ErrorCode::InvalidRecord);
    assert_eq!(refused(&batch().producer(-2, 0, 0).encode()), ErrorCode::InvalidRecord);
}

#[test]
fn a_batch_above_the_topics_limit_is_too_large() {
    let size = batch().encode().len();
    let exactly = size.to_string();
    judge_with(&batch().encode(), &[("max.message.bytes", &exactly)], 13).expect("fits");
    let below = (size - 1).to_string();
    let rejection = judge_with(&batch().encode(), &[("max.message.bytes", &below)], 13);
    let rejection = rejection.expect_err("too large");
    assert_eq!(rejection.code, ErrorCode::MessageTooLarge);
    assert!(rejection.message.contains(&below) && rejection.message.contains(&exactly));
}

#[test]
fn every_codec_is_read_and_zstd_only_since_version_7() {
    for codec in Compression::ALL {
        let bytes = compressed(codec);
        let validated = judge(&bytes).expect("sound");
        assert_eq!([validated.header.bytes().as_slice(), &validated.body].concat(), bytes);
        let old = judge_with(&bytes, &[], 6).map(|_| ());
        match codec {
            Compression::Zstd => {
                let code = old.expect_err("too old").code;
                assert_eq!(code, ErrorCode::UnsupportedCompressionType);
            }
            _ => old.expect("any version"),
        }
        // Plain records under a codec's name.
        let mislabelled = batch().attributes(i16::from(codec.code())).encode();
        if codec != Compression::None {
            assert_eq!(refused(&mislabelled), ErrorCode::UnknownServerError, "{codec:?}");
        }
    }
    for unknown in 5..8 {
        let bytes = batch().attributes(unknown).encode();
        assert_eq!(refused(&bytes), ErrorCode::UnknownServerError);
    }
}

#[test]
fn a_bomb_is_refused_at_the_cap() {
    let value = "x".repeat(2 << 20);
    let plain = TestBatch::of(&[value.as_str()]).timestamp(NOW).encode();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let body = compress(codec, &plain[HEADER_LEN..]).expect("compress");
        let mut header = Header::new(&plain).expect("header");
        header.set_body(codec.code(), &body);
        let bytes = [header.bytes().as_slice(), &body].concat();
        assert_eq!(refused(&bytes), ErrorCode::UnknownServerError, "{codec:?}");
    }
}

#[test]
fn the_topics_codec_replaces_the_producers() {
    let plain = batch().encode();
    for source in Compression::ALL {
        for target in Compression::ALL {
            let setting = [("compression.type", target.name())];
            let validated = judge_with(&compressed(source), &setting, 13).expect("sound");
            let stored = [validated.header.bytes().as_slice(), &validated.body].concat();
            let stored = Batch::parse(&stored).expect("a batch");
            stored.verify_crc().expect("sealed");
            assert_eq!(stored.header().attributes & 7, i16::from(target.code()));
            let records = stored.decompress(1 << 20).expect("decompress");
            assert_eq!(records.body(), &plain[HEADER_LEN..], "{source} to {target}");
        }
    }
}

#[test]
fn the_brokers_time_replaces_the_producers_where_the_topic_says_so() {
    let setting = [("message.timestamp.type", "LogAppendTime")];
    for codec in Compression::ALL {
        let validated = judge_with(&compressed(codec), &setting, 13).expect("sound");
        assert_eq!(validated.log_append_time, NOW);
        assert!(validated.header.is_log_append_time());
        assert_eq!(validated.header.max_timestamp(), NOW);
        let stored = [validated.header.bytes().as_slice(), &validated.body].concat();
        let stored = Batch::parse(&stored).expect("a batch");
        stored.verify_crc().expect("sealed again");
        let records = stored.decompress(1 << 20).expect("decompress");
        let times: Vec<_> = records.iter().map(|r| r.expect("record").timestamp).collect();
        assert_eq!(times, [NOW; 3]);
    }
}

#[test]
fn a_largest_timestamp_that_is_wrong_is_put_right() {
    let bytes = changed(35, &(NOW + 999_999_999).to_be_bytes());
    let validated = judge(&bytes).expect("sound");
    assert_eq!(validated.header.max_timestamp(), NOW + 5);
    assert_eq!(validated.header.crc(), validated.header.computed_crc(&validated.body));
}

#[test]
fn timestamps_out_of_bounds_are_named_record_by_record() {
    let hour = 3_600_000;
    let ahead = TestBatch::of(&["a", "b"]).timestamps(&[NOW, NOW + hour + 1]).encode();
    let rejection = judge(&ahead).expect_err("an hour ahead");
    assert_eq!(rejection.code, ErrorCode::InvalidTimestamp);
    assert_eq!(rejection.record_errors.len(), 1);
    assert_eq!(rejection.record_errors[0].0, 1);
    judge(&TestBatch::of(&["a"]).timestamp(NOW + hour).encode()).expect("just within");
    judge(&TestBatch::of(&["a"]).timestamp(0).encode()).expect("the past is open");
    let setting = [("message.timestamp.before.max.ms", "1000")];
    let old = TestBatch::of(&["a"]).timestamp(NOW - 1001).encode();
    assert_eq!(judge_with(&old, &setting, 13).expect_err("old").code, ErrorCode::InvalidTimestamp);
    // The broker's own time is always right.
    let setting = [("message.timestamp.type", "LogAppendTime")];
    judge_with(&ahead, &setting, 13).expect("replaced");
}

#[test]
fn extreme_timestamps_do_not_overflow() {
    for timestamp in [i64::MIN, i64::MAX, -2] {
        let bytes = TestBatch::of(&["a"]).timestamp(timestamp).encode();
        let _ = judge(&bytes);
    }
    let bytes = TestBatch::of(&["a"]).timestamp(i64::MAX).encode();
    assert_eq!(refused(&bytes), ErrorCode::InvalidTimestamp);
}

#[test]
fn a_producer_may_not_claim_the_brokers_time() {
    let unstamped = TestBatch::of(&["a"]).timestamp(-1).attributes(1 << 3).encode();
    assert_eq!(refused(&unstamped), ErrorCode::InvalidTimestamp);
    let setting = [("message.timestamp.type", "LogAppendTime")];
    let claimed = batch().attributes(1 << 3).encode();
    let code = judge_with(&claimed, &setting, 13).expect_err("claimed").code;
    assert_eq!(code, ErrorCode::InvalidTimestamp);
}

#[test]
fn a_compacted_topic_names_the_records_without_a_key() {
    let setting = [("cleanup.policy", "compact")];
    let rejection = judge_with(&batch().encode(), &setting, 13).expect_err("no keys");
    assert_eq!(rejection.code, ErrorCode::InvalidRecord);
    let indexes: Vec<_> = rejection.record_errors.iter().map(|error| error.0).collect();
    assert_eq!(indexes, [0, 1, 2]);
    judge_with(&batch().key("k").encode(), &setting, 13).expect("keys");
}
