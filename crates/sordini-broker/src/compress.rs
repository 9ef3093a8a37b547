//! Compressors, for topics whose `compression.type` is not `producer`. The broker has its own,
//! so that what the producer core writes is never judged by its own code.

use std::io::{self, Write};

use sordini_protocol::records::Compression;

/// Java's snappy stream begins with this: a magic, a version, a lowest compatible version.
const XERIAL_HEAD: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes of a block of that stream before compression, Java's default.
const XERIAL_BLOCK: usize = 32 * 1024;
/// zstd's own default is Kafka's too.
const ZSTD_LEVEL: i32 = 3;

/// Compresses the records of a batch, as Kafka's broker does.
///
/// # Errors
/// If a compressor fails, which none does on input of a batch's size.
pub(crate) fn compress(codec: Compression, records: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Compression::None => Ok(records.to_vec()),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(records)?;
            encoder.finish()
        }
        Compression::Snappy => xerial(records),
        Compression::Lz4 => {
            // Kafka's brokers read independent blocks only.
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(records)?;
            encoder.finish().map_err(io::Error::other)
        }
        Compression::Zstd => zrip::compress(records, ZSTD_LEVEL).map_err(io::Error::other),
    }
}

fn xerial(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = XERIAL_HEAD.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK) {
        let compressed = encoder.compress_vec(block).map_err(io::Error::other)?;
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sordini_protocol::records::decompress;

    #[test]
    fn what_is_compressed_reads_back() {
        let sizes = [0, 1, 100, XERIAL_BLOCK, XERIAL_BLOCK + 1, 300_000];
        for codec in Compression::ALL {
            for size in sizes.into_iter().filter(|size| *size > 0 || codec != Compression::Snappy) {
                let records: Vec<u8> = (0..size).map(|i| (i * i / 7) as u8).collect();
                let compressed = compress(codec, &records).expect("compress");
                let back = decompress(codec, &compressed, 1 << 20).expect("decompress");
                assert!(back == records, "{codec:?} {size}");
            }
        }
    }
}
