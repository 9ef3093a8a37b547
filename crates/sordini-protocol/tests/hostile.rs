//! What hostile bytes can't do: panic, or make a decoder allocate beyond its bound.
//!
//! One test, so that nothing else allocates while it counts.

mod support;

use std::io::Write;

use bytes::Bytes;
use sordini_protocol::records::{BatchError, Batches, Compression, DecompressError, decompress};
use sordini_protocol::{DecodeErrorKind, Message, Reader, Uuid, decode};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::{Sample, Source, Visitor, every_message, golden};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// What `f` returned, and how many bytes it allocated, freed ones included.
fn counted<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(ALLOCATOR);
    let value = f();
    (value, region.change().bytes_allocated)
}

/// A `Bytes` made of a vector allocates its reference count when it is first sliced.
const SHARED: usize = 64;

struct Attack {
    lines: Vec<support::Golden>,
    decoded: usize,
}

impl Attack {
    /// Decodes what may be anything; returns whether it was accepted.
    fn decode<M: Message>(&mut self, name: &str, version: i16, bytes: &[u8]) -> bool {
        let input = Bytes::copy_from_slice(bytes);
        let (result, allocated) = counted(|| decode::<M>(input, version));
        let bound = bytes.len() * Reader::ALLOCATION_FACTOR + SHARED;
        assert!(allocated <= bound, "{name} {version}: {allocated} bytes for {bytes:02x?}");
        self.decoded += 1;
        result.is_ok()
    }
}

impl Visitor for Attack {
    fn message<M: Message + Sample>(&mut self, name: &'static str) {
        let lines = std::mem::take(&mut self.lines);
        for line in lines.iter().filter(|line| line.words[0] == name) {
            let version: i16 = line.words[1].parse().unwrap();
            for cut in 0..line.bytes.len() {
                assert!(
                    !self.decode::<M>(name, version, &line.bytes[..cut]),
                    "{name} {version} cut at {cut}"
                );
            }
            let longer = [&line.bytes[..], &[0]].concat();
            assert!(!self.decode::<M>(name, version, &longer), "{name} {version} and a byte more");
            for at in 0..line.bytes.len() {
                for hostile in [
                    &[0x00][..],
                    &[0x01],
                    &[0x7f],
                    &[0x80],
                    &[0xff],
                    &[0xff, 0xff, 0xff, 0xff, 0x0f],
                    &[0x7f, 0xff, 0xff, 0xff],
                    &[0x80, 0x00, 0x00, 0x00],
                ] {
                    let mut bytes = line.bytes.clone();
                    for (to, from) in bytes[at..].iter_mut().zip(hostile) {
                        *to = *from;
                    }
                    self.decode::<M>(name, version, &bytes);
                }
            }
        }
        self.lines = lines;
    }
}

fn messages_stay_within_their_bound() {
    let mut attack = Attack { lines: golden("messages.txt"), decoded: 0 };
    every_message(&mut attack);
    assert!(attack.decoded > 100_000, "{}", attack.decoded);
}

/// The five bytes that abort kafka-protocol 0.18.
fn the_five_bytes_that_kill_others_are_an_error() {
    use sordini_protocol::messages::metadata::MetadataRequest;
    let bytes = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0x00]);
    let error = decode::<MetadataRequest>(bytes, 0).unwrap_err();
    assert_eq!(error.field, "MetadataRequest.Topics");
    assert_eq!(error.kind, DecodeErrorKind::ImpossibleCount { count: 0x7fff_ffff, fits: 0 });
}

/// As little as can be on the wire, but for one array, which is long.
struct Lean<'a> {
    long: &'a str,
    seen: Vec<String>,
}

impl Source for Lean<'_> {
    fn number(&mut self, _: &str) -> i64 {
        0
    }

    fn flag(&mut self, _: &str) -> bool {
        false
    }

    fn text(&mut self, _: &str) -> String {
        String::new()
    }

    fn bytes(&mut self, _: &str) -> Vec<u8> {
        Vec::new()
    }

    fn uuid(&mut self, _: &str) -> Uuid {
        Uuid::ZERO
    }

    fn count(&mut self, field: &str) -> usize {
        self.seen.push(field.to_owned());
        if field == self.long { 500 } else { 1 }
    }

    fn is_null(&mut self, field: &str) -> bool {
        // A null array would hide what it holds; the other nulls are as lean as empty.
        let is_string = ["name", "host", "rack", "message", "value", "key", "id", "documentation"];
        is_string.iter().any(|end| field.ends_with(end))
    }

    fn is_set(&mut self, _: &str) -> bool {
        true
    }
}

struct LeanestLegal {
    decoded: usize,
}

impl Visitor for LeanestLegal {
    fn message<M: Message + Sample>(&mut self, name: &'static str) {
        for version in M::VERSIONS {
            let mut first = Lean { long: "", seen: Vec::new() };
            M::sample(&mut first, version);
            for long in &first.seen {
                let message = M::sample(&mut Lean { long, seen: Vec::new() }, version);
                let mut bytes = Vec::new();
                message
                    .encode(&mut bytes, version)
                    .unwrap_or_else(|e| panic!("{name} {version}: {e}"));
                let bound = bytes.len() * Reader::ALLOCATION_FACTOR + SHARED;
                let (back, allocated) = counted(|| decode::<M>(bytes.into(), version));
                assert_eq!(back.as_ref(), Ok(&message), "{name} {version} with many {long}");
                assert!(allocated <= bound, "{name} {version} with many {long}: {allocated}");
                self.decoded += 1;
            }
        }
    }
}

/// The budget never refuses a legal message, however little its elements hold.
fn the_leanest_legal_messages_meet_their_budget() {
    let mut lean = LeanestLegal { decoded: 0 };
    every_message(&mut lean);
    assert!(lean.decoded > 300, "{}", lean.decoded);
}

fn batches_stay_within_their_bound() {
    for line in golden("batches.txt") {
        let read = |bytes: &[u8]| -> Result<usize, BatchError> {
            let mut records = 0;
            for batch in Batches::new(bytes) {
                for record in &batch?.decompress(1 << 20)? {
                    records += 1 + record?.headers.iter().count();
                }
            }
            Ok(records)
        };
        let small = line.bytes.len() < 1_000;
        let step = if small { 1 } else { 97 };
        for at in (0..line.bytes.len()).step_by(step) {
            assert_eq!(read(&line.bytes[..at]), Ok(0), "a batch that is cut off is none");
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bytes = line.bytes.clone();
                bytes[at] = value;
                // Whatever it holds, it does not panic; most changes are noticed by the CRC
                // alone, which is left out here so that the reader is reached.
                let (_, allocated) = counted(|| read(&bytes));
                assert!(allocated <= (4 << 20) + (1 << 20), "{:?}: {allocated}", line.words);
            }
        }
    }
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gz.write_all(data).unwrap();
    gz.finish().unwrap()
}

/// A zstd frame of RLE blocks: four bytes for every 128 KiB.
fn zstd_rle(header: &[u8], blocks: usize) -> Vec<u8> {
    let mut bytes = [&[0x28, 0xb5, 0x2f, 0xfd][..], header].concat();
    for i in 0..blocks {
        let word = (128 << 10 << 3) | 2 | usize::from(i + 1 == blocks);
        bytes.extend(&(word as u32).to_le_bytes()[..3]);
        bytes.push(b'x');
    }
    bytes
}

/// An LZ4 frame with blocks of 4 MiB, each as dense as the format allows.
fn lz4_dense(blocks: usize) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(
        lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max4MB),
        Vec::new(),
    );
    encoder.write_all(&vec![0; blocks << 22]).unwrap();
    encoder.finish().unwrap()
}

fn bombs() -> Vec<(&'static str, Compression, Vec<u8>)> {
    let zeros = vec![0; 64 << 20];
    let xerial = |block: &[u8]| {
        let length = (block.len() as u32).to_be_bytes();
        [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &length[..], block].concat()
    };
    let snappy = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
    // Declares 4 GiB - 1, holds nothing.
    let liar = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00, 0x00];
    vec![
        ("gzip", Compression::Gzip, gzip(&zeros)),
        ("gzip in many members", Compression::Gzip, gzip(&zeros[..1 << 16]).repeat(1_000)),
        ("snappy, raw", Compression::Snappy, snappy.clone()),
        ("snappy, xerial", Compression::Snappy, xerial(&snappy)),
        ("snappy that lies", Compression::Snappy, liar.to_vec()),
        ("xerial that lies", Compression::Snappy, xerial(&liar)),
        ("snappy that lies at the cap", Compression::Snappy, vec![0x80, 0x80, 0x40, 0x00, 0x00]),
        ("lz4", Compression::Lz4, lz4_dense(16)),
        // No size, a window of 1 KiB.
        ("zstd", Compression::Zstd, zstd_rle(&[0x00, 0x00], 512)),
        // No size, a window of 128 MiB.
        ("zstd, wide window", Compression::Zstd, zstd_rle(&[0x00, 0x88], 512)),
        // Declares 1 MiB as one segment, holds 64 MiB; and the reverse.
        ("zstd that lies low", Compression::Zstd, zstd_rle(&[0xa0, 0, 0, 16, 0], 512)),
        ("zstd that lies high", Compression::Zstd, zstd_rle(&[0xa0, 0, 0, 0, 0x7f], 1)),
        ("zstd that lies at the cap", Compression::Zstd, zstd_rle(&[0xa0, 0, 0, 64, 0], 1)),
    ]
}

fn bombs_are_defused() {
    for (name, codec, bytes) in bombs() {
        for cap in [0, 1_000, 1 << 20, 4 << 20] {
            let (result, allocated) = counted(|| decompress(codec, &bytes, cap).map(|_| ()));
            let error = result.expect_err(name);
            let lies = matches!(error, DecompressError::Corrupt { .. });
            assert!(!lies || name.contains("lies"), "{name}: {error}");
            assert!(allocated <= 4 * cap + (1 << 20), "{name} at cap {cap}: {allocated}");
            // A lie of a few bytes gets no more than the decoders' own tables.
            let is_short = bytes.len() < 100;
            assert!(!is_short || allocated < 1 << 19, "{name} at cap {cap}: {allocated}");
        }
    }
}

#[test]
fn hostile_bytes_neither_panic_nor_exhaust_memory() {
    messages_stay_within_their_bound();
    the_five_bytes_that_kill_others_are_an_error();
    the_leanest_legal_messages_meet_their_budget();
    batches_stay_within_their_bound();
    bombs_are_defused();
}
