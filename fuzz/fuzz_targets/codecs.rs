//! What sound compressors write of any data is read back unchanged, at exactly its size.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use sordini_protocol::records::{Compression, decompress};

fn check(codec: Compression, compressed: &[u8], data: &[u8]) {
    let out = decompress(codec, compressed, data.len());
    assert_eq!(out.as_deref(), Ok(data), "{codec}");
    if !data.is_empty() {
        assert!(decompress(codec, compressed, data.len() - 1).is_err(), "{codec}");
    }
}

fuzz_target!(|data: &[u8]| {
    // Repeated, so that there is something to find; beyond one block if the input is long.
    let repeats = data.first().map_or(1, |b| usize::from(b % 64) + 1);
    let data = &data.repeat(repeats)[..];
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(data).expect("a Vec takes all");
    check(Compression::Gzip, &gz.finish().expect("a Vec takes all"), data);
    if let Ok(snappy) = snap::raw::Encoder::new().compress_vec(data) {
        check(Compression::Snappy, &snappy, data);
    }
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        let info = FrameInfo::new().block_mode(mode).block_size(BlockSize::Max64KB);
        let mut lz4 = FrameEncoder::with_frame_info(info, Vec::new());
        lz4.write_all(data).expect("a Vec takes all");
        check(Compression::Lz4, &lz4.finish().expect("a Vec takes all"), data);
    }
    for level in [-5, 1, 3, 9] {
        let sized = zstd::bulk::compress(data, level).expect("compresses");
        check(Compression::Zstd, &sized, data);
        let streamed = zstd::encode_all(data, level).expect("compresses");
        check(Compression::Zstd, &streamed, data);
    }
    for level in [-7, 1, 3, 4] {
        let ours = zrip::compress(data, level).expect("compresses");
        check(Compression::Zstd, &ours, data);
        assert_eq!(zstd::decode_all(&ours[..]).expect("the C library reads it"), data);
    }
});
