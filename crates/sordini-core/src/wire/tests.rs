use std::io::Read;

use proptest::prelude::*;
use sordini_protocol::records::{Batch, Compression, decompress};

use super::batch_header::{self, Contents, Stamp};
use super::compress::{CompressError, Compressor};
use super::{crc32c, record, varint};
use crate::config::Codec;
use crate::record::{Header, Record};

const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn integers() -> impl Strategy<Value = i64> {
    let power = (0..64u32, -2..=2i64, any::<bool>()).prop_map(|(bit, near, negative)| {
        let value = (1i64 << bit).wrapping_add(near);
        if negative { value.wrapping_neg() } else { value }
    });
    prop_oneof![any::<i64>(), power]
}

/// Protocol Buffers' sint64, from its specification: groups of seven bits, the lowest first.
fn sint64(value: i64) -> Vec<u8> {
    let mut zigzag =
        if value < 0 { 2 * value.unsigned_abs() as u128 - 1 } else { 2 * value as u128 };
    let mut out = Vec::new();
    loop {
        let low = (zigzag % 128) as u8;
        zigzag /= 128;
        if zigzag == 0 {
            out.push(low);
            return out;
        }
        out.push(low + 128);
    }
}

proptest! {
    #[test]
    fn varints_are_protocol_buffers_sint64_and_read_back(value in integers(), behind: u8) {
        let mut stage = [0; varint::MAX_LEN];
        let end = varint::put(&mut stage, 0, value);
        prop_assert_eq!(&stage[..end], &sint64(value)[..]);
        prop_assert_eq!(varint::len(value), end);
        let mut bytes = stage[..end].to_vec();
        bytes.push(behind);
        prop_assert_eq!(varint::get(&bytes), Some((value, &[behind][..])));
        for cut in 0..end {
            prop_assert_eq!(varint::get(&stage[..cut]), None);
        }
    }

    #[test]
    fn hostile_varints_are_refused_or_fit_64_bits(bytes: Vec<u8>) {
        if let Some((value, rest)) = varint::get(&bytes) {
            let used = bytes.len() - rest.len();
            prop_assert!((1..=varint::MAX_LEN).contains(&used));
            // Longer than needed is Kafka's to accept; the value is what its bits say.
            let shortest = sint64(value);
            prop_assert!(shortest.len() <= used);
            prop_assert!(bytes[shortest.len()..used].iter().all(|byte| byte & 0x7f == 0));
        }
    }

    #[test]
    fn unsigned_varints_are_leb128(value: u32) {
        let mut out = Vec::new();
        varint::push_unsigned(&mut out, value);
        // sint64 of a natural number is LEB128 of its double.
        prop_assert_eq!(out, if value == 0 { vec![0] } else {
            let mut rest = u64::from(value);
            let mut expected = Vec::new();
            while rest > 0 {
                expected.push((rest % 128) as u8 + if rest >= 128 { 128 } else { 0 });
                rest /= 128;
            }
            expected
        });
    }
}

#[test]
fn a_varint_of_more_than_64_bits_is_refused() {
    assert_eq!(varint::get(&[]), None);
    assert_eq!(varint::get(&[0x80; 10]), None);
    assert_eq!(varint::get(&[0xff; 11]), None);
    let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    assert_eq!(varint::get(&longest), Some((i64::MIN, &[][..])));
    let mut beyond = longest;
    beyond[9] = 0x02;
    assert_eq!(varint::get(&beyond), None);
    beyond[9] = 0x81;
    assert_eq!(varint::get(&[&beyond[..], &[0]].concat()), None);
}

/// A record's parts, owned.
type Parts = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    // Few names, so that they repeat.
    let name = prop_oneof!["[ab]{0,2}", Just("größe".to_owned())];
    (bytes(), bytes(), prop::collection::vec((name, bytes()), 0..70))
}

fn with_record<T>(parts: &Parts, act: impl FnOnce(&Record<'_>) -> T) -> T {
    let headers: Vec<_> =
        parts.2.iter().map(|(name, value)| Header { name, value: value.as_deref() }).collect();
    let (key, value) = (parts.0.as_deref(), parts.1.as_deref());
    act(&Record { key, value, headers: &headers, timestamp: None })
}

proptest! {
    #[test]
    fn a_record_takes_what_was_measured_and_never_more_than_the_bound(
        parts in parts(),
        offset_delta in prop_oneof![0..300u32, 0..=i32::MAX as u32],
        timestamp_delta in integers(),
    ) {
        with_record(&parts, |record| {
            let measured = record::measure(record, offset_delta, timestamp_delta);
            let mut out = vec![9; measured.total()];
            record::put(&mut out, record, offset_delta, timestamp_delta, measured);
            prop_assert!(measured.total() <= record::upper_bound(record));
            let (stated, rest) = varint::get(&out).expect("it starts with its length");
            prop_assert_eq!(stated, rest.len() as i64);
            Ok(())
        })?;
    }
}

/// A record as Kafka's protocol guide has it, from the oracle of its varints.
fn encoded(parts: &Parts, offset_delta: u32, timestamp_delta: i64) -> Vec<u8> {
    let field = |bytes: Option<&[u8]>| match bytes {
        None => sint64(-1),
        Some(bytes) => [&sint64(bytes.len() as i64)[..], bytes].concat(),
    };
    let mut body = vec![0];
    body.extend(sint64(timestamp_delta));
    body.extend(sint64(i64::from(offset_delta)));
    body.extend(field(parts.0.as_deref()));
    body.extend(field(parts.1.as_deref()));
    body.extend(sint64(parts.2.len() as i64));
    for (name, value) in &parts.2 {
        body.extend(field(Some(name.as_bytes())));
        body.extend(field(value.as_deref()));
    }
    [sint64(body.len() as i64), body].concat()
}

/// Puts it into buffers with room for what was measured, a little more, and plenty: it must come out
/// the same, and leave alone what is further behind it than the next seven bytes.
fn put(parts: &Parts, offset_delta: u32, timestamp_delta: i64) -> Vec<u8> {
    let put = |spare: usize| {
        with_record(parts, |record| {
            let measured = record::measure(record, offset_delta, timestamp_delta);
            let mut out = vec![9; measured.total() + spare];
            record::put(&mut out, record, offset_delta, timestamp_delta, measured);
            assert!(out.iter().skip(measured.total() + 7).all(|byte| *byte == 9));
            out.truncate(measured.total());
            out
        })
    };
    let exact = put(0);
    for spare in [1, 7, 8, 9, 100] {
        assert!(put(spare) == exact, "with {spare} bytes to spare");
    }
    exact
}

proptest! {
    #[test]
    fn a_record_is_encoded_as_the_format_says(
        parts in parts(),
        offset_delta in prop_oneof![
            0..300u32, 8_000..8_400u32, 1_048_570..1_048_580u32, 0..=i32::MAX as u32
        ],
        timestamp_delta in prop_oneof![integers(), -70..70i64, 8_100..8_300i64, 524_280..524_300i64],
    ) {
        let expected = encoded(&parts, offset_delta, timestamp_delta);
        prop_assert_eq!(put(&parts, offset_delta, timestamp_delta), &expected[..]);
    }
}

#[test]
fn a_record_is_encoded_as_the_format_says_wherever_a_length_takes_one_byte_more() {
    let lens = || (0..20).chain(50..140).chain(8_150..8_200).chain([1_048_575, 1_048_576]);
    for value in lens() {
        for key in [None, Some(0), Some(7), Some(60), Some(64), Some(8_150)] {
            let key = key.map(|len| vec![b'k'; len]);
            let parts = (key, Some(vec![b'v'; value]), Vec::new());
            for (offset, timestamp) in [(0, 0), (63, -64), (64, 64), (8_191, -8_192), (8_192, 9)] {
                let expected = encoded(&parts, offset, timestamp);
                assert!(put(&parts, offset, timestamp) == expected, "{value} {offset}");
            }
        }
    }
}

#[test]
fn the_bound_holds_where_a_length_takes_one_byte_more() {
    for len in (0..300).chain(8_100..8_300).chain(1_048_400..1_048_600) {
        let value = vec![0; len];
        let record = Record { value: Some(&value), ..Record::default() };
        let worst = record::measure(&record, i32::MAX as u32, i64::MIN).total();
        let bound = record::upper_bound(&record);
        assert!((worst..worst + 2).contains(&bound), "{len}: {worst} {bound}");
    }
}

#[test]
fn a_header_says_what_it_was_told_under_a_checksum_others_compute_alike() {
    let body: Vec<u8> = {
        let record = Record { value: Some(b"v"), ..Record::default() };
        let measured = record::measure(&record, 0, 0);
        let mut out = vec![0; measured.total()];
        record::put(&mut out, &record, 0, 0, measured);
        out
    };
    let contents =
        Contents { codec: Codec::None, count: 1, base_timestamp: -5, max_timestamp: i64::MAX };
    let stamp = Stamp {
        producer_id: i64::MAX - 1,
        epoch: 32_767,
        base_sequence: i32::MAX,
        transactional: false,
    };
    let (first, second) = body.split_at(2);
    let header = batch_header::encode(contents, stamp, body.len(), [first, second]);
    let bytes = [&header[..], &body].concat();
    let crc = u32::from_be_bytes(bytes[17..21].try_into().expect("four bytes"));
    assert_eq!(crc, ::crc32c::crc32c(&bytes[21..]));
    let batch = Batch::parse(&bytes).expect("it is whole");
    batch.verify_crc().expect("the checksum is right");
    let read = batch.header();
    assert_eq!((read.base_offset, read.partition_leader_epoch, read.magic), (0, -1, 2));
    assert_eq!((read.attributes, read.last_offset_delta, read.records_count), (0, 0, 1));
    assert_eq!((read.base_timestamp, read.max_timestamp), (-5, i64::MAX));
    assert_eq!((read.producer_id, read.producer_epoch), (i64::MAX - 1, 32_767));
    assert_eq!((read.base_sequence, read.batch_size()), (i32::MAX, bytes.len()));
}

#[test]
fn each_codec_has_kafkas_number_in_the_attributes() {
    for (codec, number) in [Codec::None].into_iter().chain(CODECS).zip([0i16, 1, 2, 3, 4]) {
        let contents = Contents { codec, count: 7, base_timestamp: 0, max_timestamp: 0 };
        let header = batch_header::encode(contents, Stamp::NONE, 1, [&[0][..]]);
        assert_eq!(header[21..23], number.to_be_bytes());
        assert_eq!(header[23..27], 6i32.to_be_bytes(), "the last offset delta");
        assert_eq!(header[43..57], [0xff; 14], "no producer");
    }
}

proptest! {
    #[test]
    fn the_checksum_does_not_depend_on_how_bytes_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
        cuts: [prop::sample::Index; 3],
    ) {
        let mut cuts = cuts.map(|cut| cut.index(bytes.len() + 1));
        cuts.sort_unstable();
        let [a, b, c] = cuts;
        let crc = crc32c::of(&bytes[..a], [&bytes[a..b], &bytes[b..c], &bytes[c..]]);
        prop_assert_eq!(crc, ::crc32c::crc32c(&bytes));
    }
}

fn protocol_codec(codec: Codec) -> Compression {
    u8::try_from(codec.code()).ok().and_then(Compression::from_code).expect("a codec of Kafka")
}

/// Decoders that share no code with our encoders where there are such; snappy's framing is
/// rebuilt here from its description.
fn foreign(codec: Codec, packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match codec {
        Codec::None => out.extend_from_slice(packed),
        Codec::Gzip => {
            flate2::read::GzDecoder::new(packed).read_to_end(&mut out).expect("gzip");
        }
        Codec::Zstd => out = zstd::stream::decode_all(packed).expect("zstd's own library"),
        Codec::Lz4 => {
            lz4_flex::frame::FrameDecoder::new(packed).read_to_end(&mut out).expect("lz4");
        }
        Codec::Snappy => {
            let mut rest = packed.strip_prefix(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01").expect("head");
            while let Some((len, behind)) = rest.split_first_chunk::<4>() {
                let len = u32::from_be_bytes(*len) as usize;
                let block = snap::raw::Decoder::new().decompress_vec(&behind[..len]);
                out.extend(block.expect("a snappy block"));
                rest = &behind[len..];
            }
            assert_eq!(rest, b"");
        }
    }
    out
}

fn compressible() -> impl Strategy<Value = Vec<u8>> {
    let text = ("[a-d]{1,40}", 1..2000usize).prop_map(|(text, times)| text.repeat(times));
    let noise = prop::collection::vec(any::<u8>(), 1..100_000);
    prop_oneof![text.prop_map(String::into_bytes), noise]
}

fn compress<'a>(
    codec: Codec,
    level: Option<i32>,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, CompressError> {
    Compressor::default().compress(codec, level, parts)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_was_compressed_before_does_not_show(batches in prop::collection::vec(compressible(), 2..5)) {
        let mut compressor = Compressor::default();
        for bytes in &batches {
            for codec in CODECS {
                let reused = compressor.compress(codec, None, bytes.chunks(40_000));
                prop_assert_eq!(reused, compress(codec, None, bytes.chunks(40_000)));
            }
        }
    }

    #[test]
    fn lz4_takes_parts_of_any_size(sizes in prop::collection::vec(0..150_000usize, 0..8)) {
        let parts: Vec<Vec<u8>> = sizes.iter().map(|size| (0..*size).map(|at| (at / 7) as u8).collect()).collect();
        let bytes = parts.concat();
        let packed = compress(Codec::Lz4, None, parts.iter().map(Vec::as_slice)).expect("lz4");
        prop_assert_eq!(foreign(Codec::Lz4, &packed), &bytes[..]);
        let plain = decompress(protocol_codec(Codec::Lz4), &packed, bytes.len());
        prop_assert_eq!(&*plain.expect("our own reader"), &bytes[..]);
    }

    #[test]
    fn what_is_compressed_is_read_back_by_us_and_by_others(
        bytes in compressible(),
        cut: prop::sample::Index,
    ) {
        let (first, second) = bytes.split_at(cut.index(bytes.len()));
        for codec in CODECS {
            let packed = compress(codec, None, [first, second]).expect("codecs take everything");
            let plain = decompress(protocol_codec(codec), &packed, bytes.len());
            prop_assert_eq!(&*plain.expect("our own reader"), &bytes[..]);
            prop_assert_eq!(foreign(codec, &packed), &bytes[..]);
        }
    }
}

#[test]
fn every_level_that_kafka_knows_is_taken() {
    let bytes: Vec<u8> = (0..40_000u32).flat_map(|n| (n * n % 977).to_le_bytes()).collect();
    let levels = [
        (Codec::Gzip, &[-1, 1, 2, 3, 4, 5, 6, 7, 8, 9][..]),
        (Codec::Lz4, &[1, 9, 17]),
        (Codec::Zstd, &[-131_072, -7, -1, 0, 1, 2, 3, 4, 5, 19, 22]),
    ];
    for (codec, levels) in levels {
        for &level in levels {
            let packed = compress(codec, Some(level), [&bytes[..]]).expect("the level is known");
            assert!(packed.len() < bytes.len(), "{codec:?} {level}");
            assert_eq!(foreign(codec, &packed), bytes, "{codec:?} {level}");
        }
    }
    let size = |codec, level| compress(codec, Some(level), [&bytes[..]]).expect("known").len();
    assert!(size(Codec::Gzip, 9) <= size(Codec::Gzip, 1), "a level has an effect");
}

#[test]
fn no_codec_is_no_compression() {
    let error = compress(Codec::None, None, [&b"x"[..]]).expect_err("there is nothing to do");
    assert_eq!(error.to_string(), "compression failed: no codec was chosen");
}

#[test]
fn lz4_frames_have_blocks_that_stand_alone() {
    // Brokers refuse linked blocks (KIP-57): bit 5 of the frame's flags.
    let packed = compress(Codec::Lz4, None, [&[7; 200_000][..]]).expect("lz4");
    assert_eq!(packed[..4], 0x184d_2204_u32.to_le_bytes());
    assert_eq!(packed[4] & 0b1110_0000, 0b0110_0000, "version 1, independent blocks");
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "measured as another one")]
fn a_record_that_was_measured_as_another_is_not_written() {
    let record = Record { value: Some(b"abc"), ..Record::default() };
    let measured = record::measure(&record, 0, 0);
    record::put(&mut [0; 100], &record, 200, 0, measured);
}
