//! Snappy, as Kafka's clients write it: in xerial's framing (Java, librdkafka, franz-go) or raw
//! (older librdkafka and others).
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::{Compression, DecompressError};

/// `\x82SNAPPY\0`, which starts the framing of Java's snappy library.
const MAGIC: &[u8; 8] = b"\x82SNAPPY\0";

/// The magic, a version and the oldest compatible version, both int32.
const HEADER: usize = 16;

/// Snappy's densest element turns 3 bytes into 64: a declared size beyond this multiple of the
/// input is a lie, whatever follows.
const MAX_EXPANSION: usize = 22;

pub(super) fn decompress(input: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    if !input.starts_with(MAGIC) {
        append_raw(&mut out, input, cap)?;
        return Ok(out);
    }
    let mut rest = input;
    loop {
        rest = skip_header(rest)?;
        // Blocks, up to the end or to the header of another stream.
        while !rest.is_empty() && !rest.starts_with(MAGIC) {
            let Some((length, tail)) = rest.split_first_chunk::<4>() else {
                return Err(corrupt("a block's length is cut off"));
            };
            let length = u32::from_be_bytes(*length);
            let block = usize::try_from(length).ok().and_then(|n| tail.split_at_checked(n));
            let Some((block, tail)) = block else {
                return Err(corrupt(format_args!(
                    "a block of {length} bytes is announced, {} are left",
                    tail.len()
                )));
            };
            append_raw(&mut out, block, cap)?;
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(out);
        }
    }
}

/// Skips a stream's header. Java's reader demands a compatible version of at least 1.
fn skip_header(input: &[u8]) -> Result<&[u8], DecompressError> {
    let Some((header, rest)) = input.split_first_chunk::<HEADER>() else {
        return Err(corrupt("the stream header is cut off"));
    };
    let version = header.get(8..).and_then(|v| v.first_chunk()).copied().map(i32::from_be_bytes);
    match version {
        Some(1..) => Ok(rest),
        _ => Err(corrupt(format_args!("stream version {} is unknown", version.unwrap_or(0)))),
    }
}

fn append_raw(out: &mut Vec<u8>, block: &[u8], cap: usize) -> Result<(), DecompressError> {
    let declared = snap::raw::decompress_len(block).map_err(corrupt)?;
    if declared > block.len().saturating_mul(MAX_EXPANSION) {
        return Err(corrupt(format_args!(
            "{} bytes can't hold the {declared} that they declare",
            block.len()
        )));
    }
    let start = out.len();
    let end = start.saturating_add(declared);
    if end > cap {
        return Err(DecompressError::TooLarge { codec: Compression::Snappy, cap });
    }
    out.resize(end, 0);
    let target = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, target).map_err(corrupt)?;
    Ok(())
}

fn corrupt(detail: impl std::fmt::Display) -> DecompressError {
    DecompressError::corrupt(Compression::Snappy, detail)
}
