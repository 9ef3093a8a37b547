//! Compresses the records section of a batch, in the framing that Kafka's clients share.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::Codec;

/// Java's snappy writer cuts its input so; other readers expect blocks of this order.
const XERIAL_BLOCK: usize = 32 << 10;

/// Why a codec did not take its input. The batch is then sent as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressError(pub String);

impl std::fmt::Display for CompressError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "compression failed: {}", self.0)
    }
}

impl std::error::Error for CompressError {}

fn failed(error: impl std::fmt::Display) -> CompressError {
    CompressError(error.to_string())
}

/// Compresses `parts`, as if they stood one behind the other.
///
/// `level` is Kafka's (KIP-390). LZ4 has one speed here, and zstd's levels above 4 work as 4: the
/// codecs used are pure Rust and stop there.
///
/// # Errors
/// If the codec refuses, or panics; with [`Codec::None`] always.
pub fn compress<'a>(
    codec: Codec,
    level: Option<i32>,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, CompressError> {
    guarded(|| match codec {
        Codec::None => Err(failed("no codec was chosen")),
        Codec::Gzip => gzip(level.unwrap_or(-1), parts),
        Codec::Snappy => xerial(parts),
        Codec::Lz4 => lz4(parts),
        Codec::Zstd => zstd(level.unwrap_or(3), parts),
    })
}

/// Runs a codec, which is other people's code: a panic there must cost the compression of one
/// batch, not the producer.
///
/// # Errors
/// The codec's, or that it panicked. What it panicked with may quote the records, so that is left
/// to the panic hook.
pub(crate) fn guarded(
    codec: impl FnOnce() -> Result<Vec<u8>, CompressError>,
) -> Result<Vec<u8>, CompressError> {
    // Sound: the input is only read, and the output is dropped with the panic.
    catch_unwind(AssertUnwindSafe(codec)).unwrap_or_else(|_| Err(failed("the codec panicked")))
}

fn gzip<'a>(
    level: i32,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, CompressError> {
    let level = match u32::try_from(level) {
        Ok(level) => flate2::Compression::new(level.min(9)),
        Err(_) => flate2::Compression::default(),
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    for part in parts {
        encoder.write_all(part).map_err(failed)?;
    }
    encoder.finish().map_err(failed)
}

fn lz4<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, CompressError> {
    // Brokers refuse linked blocks (KIP-57).
    let frame = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Independent)
        .block_size(lz4_flex::frame::BlockSize::Max64KB);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
    for part in parts {
        encoder.write_all(part).map_err(failed)?;
    }
    encoder.finish().map_err(failed)
}

fn zstd<'a>(
    level: i32,
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, CompressError> {
    let level = level.clamp(-7, 4);
    let input = parts.into_iter().collect::<Vec<_>>().concat();
    zrip::compress(&input, level).map_err(failed)
}

/// The framing of xerial's snappy-java: a 16-byte head, then blocks of big-endian length and raw
/// snappy.
fn xerial<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>, CompressError> {
    const HEAD: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
    let input = parts.into_iter().collect::<Vec<_>>().concat();
    let mut out = HEAD.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
        let len = encoder.compress(block, &mut out[at + 4..]).map_err(failed)?;
        out[at..at + 4].copy_from_slice(&(len as u32).to_be_bytes());
        out.truncate(at + 4 + len);
    }
    Ok(out)
}
