use std::io::Write;

use super::*;

/// A signed varint as Kafka writes it.
fn varint(value: i64) -> Vec<u8> {
    let mut left = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut out = Vec::new();
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
    out
}

fn with_length(content: &[u8]) -> Vec<u8> {
    [varint(content.len() as i64), content.to_vec()].concat()
}

fn nullable(bytes: Option<&[u8]>) -> Vec<u8> {
    bytes.map_or_else(|| varint(-1), with_length)
}

type TestHeader<'a> = (&'a str, Option<&'a [u8]>);

fn record(
    timestamp_delta: i64,
    offset_delta: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[TestHeader<'_>],
) -> Vec<u8> {
    let mut content = vec![0];
    content.extend(varint(timestamp_delta));
    content.extend(varint(offset_delta));
    content.extend(nullable(key));
    content.extend(nullable(value));
    content.extend(varint(headers.len() as i64));
    for (key, value) in headers {
        content.extend(with_length(key.as_bytes()));
        content.extend(nullable(*value));
    }
    with_length(&content)
}

fn header(count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 100,
        magic: 2,
        last_offset_delta: count - 1,
        base_timestamp: 1_000,
        max_timestamp: 9_000,
        producer_id: 7,
        producer_epoch: 1,
        base_sequence: 40,
        records_count: count,
        ..BatchHeader::default()
    }
}

/// A whole batch: lengths and CRC are filled in.
fn batch(mut header: BatchHeader, body: &[u8]) -> Vec<u8> {
    header.batch_length = (BatchHeader::SIZE - BatchHeader::LENGTH_END + body.len()) as i32;
    let mut bytes = [&header.to_bytes()[..], body].concat();
    header.crc = crc32c(&bytes[BatchHeader::CRC_START..]);
    bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
    bytes
}

fn two_records() -> Vec<u8> {
    [
        record(0, 0, Some(b"k"), Some(b"v"), &[("a", Some(b"1")), ("a", None), ("", Some(b""))]),
        record(-5, 1, None, None, &[]),
    ]
    .concat()
}

fn read(header: &BatchHeader, body: &[u8]) -> Result<Vec<(i64, i64)>, BatchError> {
    RecordIter::new(header, body).map(|r| r.map(|r| (r.offset, r.timestamp))).collect()
}

#[test]
fn crc_is_castagnoli() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    let bytes: Vec<u8> = (0..100_000u32).map(|i| (i * 31) as u8).collect();
    for length in [0, 1, 7, 8, 63, 64, 65, 1023, 4096, 100_000] {
        assert_eq!(crc32c(&bytes[..length]), ::crc32c::crc32c(&bytes[..length]), "{length}");
    }
}

#[test]
fn a_header_reads_back_what_was_written() {
    let header = BatchHeader {
        base_offset: i64::MAX,
        batch_length: 49,
        partition_leader_epoch: -1,
        magic: 2,
        crc: u32::MAX,
        attributes: 0x7c,
        last_offset_delta: 5,
        base_timestamp: -1,
        max_timestamp: i64::MIN,
        producer_id: 1 << 40,
        producer_epoch: i16::MAX,
        base_sequence: i32::MAX,
        records_count: 6,
    };
    assert_eq!(BatchHeader::parse(&header.to_bytes()), Ok(header));
    assert_eq!(header.compression(), Ok(Compression::Zstd));
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert!(header.is_transactional() && header.is_control() && header.has_delete_horizon());
    assert_eq!(header.last_offset(), None);
    assert_eq!(header.batch_size(), 61);
}

#[test]
fn each_batch_of_a_range_is_found_and_a_cut_off_one_is_left() {
    let one = batch(header(2), &two_records());
    let bytes = [one.clone(), one.clone(), one.clone()].concat();
    for cut in 0..bytes.len() {
        let mut batches = Batches::new(&bytes[..cut]);
        let whole = batches.by_ref().inspect(|b| assert!(b.is_ok(), "cut at {cut}")).count();
        assert_eq!(whole, cut / one.len());
        assert_eq!(batches.partial().len(), cut % one.len());
    }
    assert_eq!(Batches::new(&bytes).count(), 3);
}

#[test]
fn a_malformed_batch_ends_the_range_with_an_error() {
    let mut bytes = batch(header(2), &two_records());
    bytes[8..12].copy_from_slice(&(-1i32).to_be_bytes());
    let mut batches = Batches::new(&bytes);
    let error = BatchError::InvalidLength { what: "a batch", length: -1 };
    assert_eq!(batches.next(), Some(Err(error)));
    assert_eq!(batches.next(), None);
    bytes[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert!(matches!(
        Batches::new(&bytes).next(),
        Some(Err(BatchError::InvalidLength { length: 48, .. }))
    ));
    bytes[16] = 1;
    assert_eq!(Batches::new(&bytes).next(), Some(Err(BatchError::UnsupportedMagic(1))));
}

#[test]
fn any_flipped_bit_under_the_crc_is_seen() {
    let bytes = batch(header(2), &two_records());
    assert_eq!(Batch::parse(&bytes).and_then(|b| b.verify_crc()), Ok(()));
    for at in 17..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let crc = Batch::parse(&bytes).and_then(|b| b.verify_crc());
        assert!(matches!(crc, Err(BatchError::CrcMismatch { .. })), "byte {at}");
    }
    // What brokers set is outside.
    for at in [0, 7, 12, 15] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert_eq!(Batch::parse(&bytes).and_then(|b| b.verify_crc()), Ok(()), "byte {at}");
    }
}

#[test]
fn records_come_with_offset_timestamp_key_value_and_headers() {
    let bytes = batch(header(2), &two_records());
    let records = Batch::parse(&bytes).unwrap().decompress(1 << 20).unwrap();
    let records: Vec<Record<'_>> = records.iter().map(Result::unwrap).collect();
    assert_eq!((records[0].offset, records[0].timestamp), (100, 1_000));
    assert_eq!((records[0].key, records[0].value), (Some(&b"k"[..]), Some(&b"v"[..])));
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        records[0].headers.iter().map(|h| (h.key, h.value)).collect();
    assert_eq!(headers, [(&b"a"[..], Some(&b"1"[..])), (b"a", None), (b"", Some(b""))]);
    assert_eq!(records[0].headers.len(), 3);
    assert_eq!((records[1].offset, records[1].timestamp), (101, 995));
    assert_eq!((records[1].key, records[1].value), (None, None));
    assert!(records[1].headers.is_empty());
    assert_eq!(records.len(), 2);
}

#[test]
fn log_append_time_replaces_every_timestamp() {
    let header = BatchHeader { attributes: 0x08, ..header(2) };
    assert_eq!(read(&header, &two_records()), Ok(vec![(100, 9_000), (101, 9_000)]));
}

#[test]
fn offsets_ascend_within_the_batch_and_may_have_gaps() {
    let body = |deltas: [i64; 3]| deltas.map(|d| record(0, d, None, None, &[])).concat();
    let compacted = BatchHeader { last_offset_delta: 9, ..header(3) };
    assert!(read(&compacted, &body([2, 5, 9])).is_ok());
    for (deltas, wrong) in [([2, 5, 10], 10), ([2, 2, 3], 2), ([3, 2, 4], 2), ([-1, 0, 1], -1)] {
        let error = read(&compacted, &body(deltas)).unwrap_err();
        assert!(
            matches!(error, BatchError::InvalidOffsetDelta { delta, .. } if delta == wrong),
            "{deltas:?}: {error}"
        );
    }
}

#[test]
fn a_produced_batch_has_no_gaps() {
    let body = |deltas: [i64; 3]| deltas.map(|d| record(d * 10, d, None, None, &[])).concat();
    let check = |header: BatchHeader, body: &[u8]| {
        let bytes = batch(header, body);
        Batch::parse(&bytes).unwrap().decompress(1 << 20).unwrap().check_produced()
    };
    let summary = Summary { records: 3, max_timestamp: 1_020, offset_delta_of_max: 2 };
    assert_eq!(check(header(3), &body([0, 1, 2])), Ok(summary));
    let wide = BatchHeader { last_offset_delta: 9, ..header(3) };
    for deltas in [[0, 1, 2], [0, 1, 3], [1, 2, 3]] {
        let error = check(wide, &body(deltas));
        assert!(matches!(error, Err(BatchError::InvalidOffsetDelta { .. })), "{deltas:?}");
    }
}

#[test]
fn the_count_must_be_what_is_there() {
    let body = two_records();
    assert_eq!(read(&header(2), &body).unwrap().len(), 2);
    assert!(matches!(read(&header(1), &body), Err(BatchError::Trailing { .. })));
    let three = BatchHeader { records_count: 3, ..header(2) };
    assert!(matches!(read(&three, &body), Err(BatchError::Truncated { .. })));
    for count in [-1, i32::MAX, i32::MIN] {
        let header = BatchHeader { records_count: count, ..header(2) };
        let error = read(&header, &body).unwrap_err();
        assert!(matches!(error, BatchError::InvalidCount { .. }), "{count}: {error}");
    }
}

#[test]
fn a_record_fills_its_length_exactly() {
    let good = record(0, 0, Some(b"key"), Some(b"value"), &[]);
    for (change, used) in [(1, Some(good.len() - 1)), (-1, None)] {
        let mut bytes = good.clone();
        // The length is one zigzag byte.
        bytes[0] = (bytes[0] as i8 + 2 * change) as u8;
        bytes.resize((good.len() as i8 + change) as usize, 0);
        let stated = bytes.len() - 1;
        assert_eq!(read(&header(1), &bytes), Err(BatchError::RecordSize { stated, used }));
    }
}

#[test]
fn hostile_lengths_in_a_record_are_errors() {
    // attributes, timestamp delta, offset delta, then what is hostile.
    let broken = |rest: &[u8]| {
        let content = [&[0, 0, 0], rest].concat();
        read(&header(1), &[with_length(&content), vec![0; 8]].concat())
    };
    let huge = varint(i64::from(i32::MAX));
    let null = varint(-1);
    for (name, rest) in [
        ("key of 2 GiB", [&huge[..], &[0; 8]].concat()),
        ("key of length -2", [&varint(-2)[..], &[0; 8]].concat()),
        ("value of 2 GiB", [&null[..], &huge, &[0; 8]].concat()),
        ("2^31-1 headers", [&null[..], &null, &huge, &[0; 8]].concat()),
        ("-1 headers", [&null[..], &null, &null, &[0; 8]].concat()),
        ("null header key", [&null[..], &null, &varint(1), &null, &null].concat()),
    ] {
        assert!(broken(&rest).is_err(), "{name}");
    }
}

#[test]
fn varints_of_records_have_at_most_32_or_64_bits() {
    let timestamp = |varint: &[u8]| {
        let content = [&[0][..], varint, &[0, 1, 1, 0]].concat();
        read(&header(1), &with_length(&content)).map(|records| records[0].1)
    };
    let max = [&[0xfe][..], &[0xff; 8], &[0x01]].concat();
    assert_eq!(timestamp(&max), Err(BatchError::Overflow("a timestamp")));
    let min = [&[0xff; 9][..], &[0x01]].concat();
    assert_eq!(timestamp(&min), Ok(i64::MIN + 1_000));
    let malformed = Err(BatchError::MalformedVarint("a timestamp delta"));
    for varint in [[&[0xff; 9][..], &[0x03]].concat(), [&[0x80; 9][..], &[0x02]].concat()] {
        assert_eq!(timestamp(&varint), malformed, "{varint:02x?} has 65 bits");
    }
    assert_eq!(timestamp(&[0x80; 11]), malformed);

    let key = |varint: &[u8]| {
        let content = [&[0, 0, 0][..], varint, &[0; 8]].concat();
        read(&header(1), &with_length(&content)).unwrap_err()
    };
    let malformed = BatchError::MalformedVarint("a key");
    assert_eq!(key(&[0xff, 0xff, 0xff, 0xff, 0x1f]), malformed);
    assert_eq!(key(&[0x80, 0x80, 0x80, 0x80, 0x10]), malformed);
    assert_eq!(key(&[0x80; 6]), malformed);
    let longest = key(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(longest, BatchError::InvalidLength { what: "a key", length: i32::MIN.into() });
}

#[test]
fn sums_beyond_64_bits_are_errors() {
    let body = [record(0, 0, None, None, &[]), record(1, 1, None, None, &[])].concat();
    let late = BatchHeader { base_offset: i64::MAX, ..header(2) };
    assert_eq!(read(&late, &body), Err(BatchError::Overflow("an offset")));
    let old = BatchHeader { base_timestamp: i64::MAX, ..header(2) };
    assert_eq!(read(&old, &body), Err(BatchError::Overflow("a timestamp")));
}

#[test]
fn control_records_say_how_the_transaction_ended() {
    for (key, expected) in [
        (&[0, 0, 0, 0][..], Some(ControlType::Abort)),
        (&[0, 0, 0, 1], Some(ControlType::Commit)),
        (&[0, 0, 0, 9], None),
        (&[0, 0, 0], None),
    ] {
        let body = record(0, 0, Some(key), Some(&[0; 6]), &[]);
        let record = RecordIter::new(&header(1), &body).next().unwrap().unwrap();
        assert_eq!(record.control_type(), expected);
    }
}

/// What other compressors make of `data`, in every framing that Kafka's clients write.
fn compressed(data: &[u8]) -> Vec<(&'static str, Compression, Vec<u8>)> {
    let gzip = |data: &[u8]| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(data).unwrap();
        gz.finish().unwrap()
    };
    let (left, right) = data.split_at(data.len() / 2);
    let snap = |data: &[u8]| snap::raw::Encoder::new().compress_vec(data).unwrap();
    let mut xerial = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    let xerial_header = xerial.clone();
    for block in data.chunks(32 * 1024) {
        let block = snap(block);
        xerial.extend((block.len() as u32).to_be_bytes());
        xerial.extend(block);
    }
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let lz4 = |info: FrameInfo, data: &[u8]| {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    let java = || FrameInfo::new().block_size(BlockSize::Max64KB);
    let linked = FrameInfo::new().block_mode(BlockMode::Linked).block_size(BlockSize::Max64KB);
    let checked = java()
        .block_checksums(true)
        .content_checksum(true)
        .content_size(Some(data.len() as u64))
        .block_size(BlockSize::Max4MB);
    let skippable = [&0x184d_2a53u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"abc"].concat();
    let mut streamed = ::zstd::Encoder::new(Vec::new(), 3).unwrap();
    streamed.write_all(data).unwrap();
    let streamed = streamed.finish().unwrap();
    let zstd = |data: &[u8]| ::zstd::bulk::compress(data, 3).unwrap();
    vec![
        ("gzip", Compression::Gzip, gzip(data)),
        ("gzip, two members", Compression::Gzip, [gzip(left), gzip(right)].concat()),
        ("snappy, raw", Compression::Snappy, snap(data)),
        ("snappy, xerial", Compression::Snappy, xerial.clone()),
        ("snappy, two xerial streams", Compression::Snappy, [xerial_header, xerial].concat()),
        ("lz4, as Java", Compression::Lz4, lz4(java(), data)),
        ("lz4, linked blocks", Compression::Lz4, lz4(linked.clone(), data)),
        ("lz4, checksums and size", Compression::Lz4, lz4(checked, data)),
        (
            "lz4, two frames and one to skip",
            Compression::Lz4,
            [lz4(linked.clone(), left), skippable.clone(), lz4(linked, right)].concat(),
        ),
        ("zstd, with its size", Compression::Zstd, zstd(data)),
        ("zstd, streamed", Compression::Zstd, streamed),
        ("zstd, two frames", Compression::Zstd, [zstd(left), skippable, zstd(right)].concat()),
        ("zstd, zrip", Compression::Zstd, zrip::compress(data, 1).unwrap()),
    ]
}

fn samples() -> Vec<Vec<u8>> {
    let json = r#"{"user":"u-17","page":"/cart","ms":1234}"#;
    let mut state = 1u32;
    let noise = (0..200_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    vec![
        Vec::new(),
        b"x".to_vec(),
        json.repeat(9_000).into_bytes(),
        noise.collect(),
        vec![0; 5 << 20],
    ]
}

#[test]
fn every_framing_of_every_codec_decompresses() {
    for data in samples() {
        for (name, codec, bytes) in compressed(&data) {
            let out = decompress(codec, &bytes, data.len());
            let out = out.unwrap_or_else(|e| panic!("{name}, {} bytes: {e}", data.len()));
            assert!(out == data, "{name}, {} bytes", data.len());
        }
        assert_eq!(decompress(Compression::None, &data, data.len()).as_deref(), Ok(&data[..]));
    }
}

#[test]
fn output_beyond_the_cap_is_refused() {
    for data in samples().into_iter().filter(|d| !d.is_empty()) {
        let mut all = compressed(&data);
        all.push(("none", Compression::None, data.clone()));
        for (name, codec, bytes) in all {
            for cap in [data.len() - 1, data.len() / 2, 0] {
                let error = decompress(codec, &bytes, cap).expect_err(name);
                assert_eq!(error, DecompressError::TooLarge { codec, cap }, "{name}");
            }
        }
    }
}

#[test]
fn cut_off_data_is_an_error_at_every_byte() {
    let data = "cut me off anywhere ".repeat(20).into_bytes();
    for (name, codec, bytes) in compressed(&data) {
        for cut in 0..bytes.len() {
            // Frames and members stand alone, so a cut between two leaves a valid whole.
            match decompress(codec, &bytes[..cut], 1 << 20) {
                Err(DecompressError::Corrupt { .. }) => {}
                Err(error) => panic!("{name}, cut at {cut}: {error}"),
                Ok(out) => {
                    let is_bare_header = name.contains("xerial") && cut == 16;
                    assert!(is_bare_header || name.contains("two"), "{name} at {cut}");
                    assert!(data.starts_with(&out), "{name} at {cut}");
                    assert!(out.len() == data.len() / 2 || out.is_empty(), "{name} at {cut}");
                }
            }
        }
    }
}

#[test]
fn bytes_of_another_codec_are_corrupt() {
    let data = b"some data that is long enough".repeat(3);
    let all = compressed(&data);
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        for (name, own, bytes) in &all {
            if *own != codec {
                let error = decompress(codec, bytes, 1 << 20).expect_err(name);
                assert!(matches!(error, DecompressError::Corrupt { .. }), "{name} as {codec}");
            }
        }
        assert!(decompress(codec, b"", 1 << 20).is_err(), "{codec}: empty");
    }
}

#[test]
fn codecs_have_kafkas_codes_and_names() {
    for (code, name) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let codec = Compression::from_code(code as u8).expect(name);
        assert_eq!((codec.code(), codec.name()), (code as u8, name));
        assert_eq!(name.parse(), Ok(codec));
    }
    assert_eq!(Compression::from_code(5), None);
    assert_eq!("LZ4".parse::<Compression>(), Err(UnknownCompressionName));
    let header = BatchHeader { attributes: 5, ..header(0) };
    assert_eq!(header.compression(), Err(BatchError::UnknownCompression(5)));
}

#[test]
fn an_empty_batch_left_by_compaction_has_no_records() {
    let left = BatchHeader { attributes: 4, records_count: 0, ..header(3) };
    let bytes = batch(left, &[]);
    let records = Batch::parse(&bytes).unwrap().decompress(0).unwrap();
    assert_eq!(records.iter().count(), 0);
}
