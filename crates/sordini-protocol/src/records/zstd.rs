//! Zstandard frames, with or without a declared content size, one or several.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::compression::read_capped;
use super::{Compression, DecompressError};

/// The one-shot decoder believes a declared size up to its limit, so that limit follows from
/// the input's length. Batches of real data stay below it.
const QUICK_RATIO: usize = 64;
const QUICK_MIN: usize = 64 * 1024;

/// The most that one block yields, RFC 8878 section 3.1.1.2.4.
const MAX_BLOCK: usize = 128 * 1024;

pub(super) fn decompress(input: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    let quick = input.len().saturating_mul(QUICK_RATIO).saturating_add(QUICK_MIN).min(cap);
    match zrip::decompress_with_limit(input, quick) {
        Ok(out) if out.len() <= cap => Ok(out),
        // zrip calls a block corrupt that runs into the limit, so an error says little. The
        // streaming decoder is slower, but its buffers grow with what was really decoded, and
        // with a block of room above the cap it never meets a limit inside a block.
        _ => {
            let limit = cap.saturating_add(MAX_BLOCK).saturating_add(MAX_BLOCK);
            let decoder = zrip::FrameDecoder::with_limit(input, limit);
            read_capped(Compression::Zstd, decoder, cap).map_err(|error| name_the_cap(error, cap))
        }
    }
}

/// A declared size beyond the limit arrives as an I/O error, of which only the text is left.
fn name_the_cap(error: DecompressError, cap: usize) -> DecompressError {
    match error {
        DecompressError::Corrupt { detail, .. }
            if detail == zrip::DecompressError::OutputTooSmall.to_string() =>
        {
            DecompressError::TooLarge { codec: Compression::Zstd, cap }
        }
        error => error,
    }
}
