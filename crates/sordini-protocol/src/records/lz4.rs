//! LZ4 frames. Written here rather than taken from `lz4_flex::frame`, whose decoder takes a
//! missing end mark for the end, and allocates by the frame's declared block size.
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use lz4_flex::block;
use twox_hash::XxHash32;

use super::{Compression, DecompressError};

const MAGIC: u32 = 0x184D_2204;
/// Magic numbers of frames that a decoder skips: 0x184D2A50 to 0x184D2A5F.
const SKIPPABLE: u32 = 0x184D_2A50;

const INDEPENDENT_BLOCKS: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
const RESERVED: u8 = 0x02;
const DICTIONARY: u8 = 0x01;

/// How far back a linked block may refer.
const WINDOW: usize = 64 * 1024;

/// A byte of an LZ4 block stands for at most 255 bytes of output.
const MAX_EXPANSION: usize = 255;

/// Decompresses one frame or several. Linked blocks are read too: Kafka's brokers refuse them,
/// but other clients' readers do not.
pub(super) fn decompress(input: &[u8], cap: usize) -> Result<Vec<u8>, DecompressError> {
    let mut input = Input { rest: input };
    let mut out = Vec::new();
    while !input.rest.is_empty() {
        match input.u32("a frame's magic")? {
            MAGIC => frame(&mut input, &mut out, cap)?,
            magic if magic & !15 == SKIPPABLE => {
                let length = input.u32("a skippable frame's length")?;
                input.take("a skippable frame", length)?;
            }
            magic => return Err(corrupt(format_args!("{magic:08x} is not the magic of a frame"))),
        }
    }
    Ok(out)
}

struct Frame {
    flags: u8,
    max_block: usize,
    content_size: Option<u64>,
}

impl Frame {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

fn frame(input: &mut Input<'_>, out: &mut Vec<u8>, cap: usize) -> Result<(), DecompressError> {
    let frame = descriptor(input)?;
    let start = out.len();
    loop {
        let word = input.u32("a block's length")?;
        if word == 0 {
            break;
        }
        let is_stored = word & 0x8000_0000 != 0;
        let length = word & 0x7fff_ffff;
        if usize::try_from(length).map_or(true, |length| length > frame.max_block) {
            return Err(corrupt(format_args!(
                "a block of {length} bytes exceeds the frame's {}",
                frame.max_block
            )));
        }
        let block = input.take("a block", length)?;
        if frame.has(BLOCK_CHECKSUMS) {
            let stated = input.u32("a block's checksum")?;
            if stated != XxHash32::oneshot(0, block) {
                return Err(corrupt("a block's checksum does not match"));
            }
        }
        if is_stored {
            grow(out, block.len(), cap)?;
            out.extend_from_slice(block);
        } else {
            append_block(out, start, &frame, block, cap)?;
        }
    }
    let size = out.len().saturating_sub(start);
    if frame.content_size.is_some_and(|stated| u64::try_from(size) != Ok(stated)) {
        return Err(corrupt(format_args!("the content takes {size} bytes, not what it declares")));
    }
    if frame.has(CONTENT_CHECKSUM) {
        // Java's reader skips it as well: the batch's CRC covers the frame.
        input.u32("the content's checksum")?;
    }
    Ok(())
}

/// Reads what stands between the magic and the first block.
fn descriptor(input: &mut Input<'_>) -> Result<Frame, DecompressError> {
    let all = input.rest;
    let flags = input.byte("the frame's flags")?;
    let sizes = input.byte("the frame's block size")?;
    if flags >> 6 != 1 || flags & RESERVED != 0 {
        return Err(corrupt(format_args!("the frame's flags {flags:02x} are unknown")));
    }
    if flags & DICTIONARY != 0 {
        return Err(corrupt("it needs a dictionary"));
    }
    let max_block = match sizes {
        0x40 => 64 * 1024,
        0x50 => 256 * 1024,
        0x60 => 1024 * 1024,
        0x70 => 4 * 1024 * 1024,
        _ => return Err(corrupt(format_args!("the frame's block size {sizes:02x} is unknown"))),
    };
    let content_size = if flags & CONTENT_SIZE != 0 {
        let low = input.u32("the content's size")?;
        let high = input.u32("the content's size")?;
        Some(u64::from(high) << 32 | u64::from(low))
    } else {
        None
    };
    let used = all.len().saturating_sub(input.rest.len());
    let stated = input.byte("the descriptor's checksum")?;
    let computed = XxHash32::oneshot(0, all.get(..used).unwrap_or_default());
    if computed.to_be_bytes().get(2) != Some(&stated) {
        return Err(corrupt("the frame descriptor's checksum does not match"));
    }
    Ok(Frame { flags, max_block, content_size })
}

fn append_block(
    out: &mut Vec<u8>,
    start: usize,
    frame: &Frame,
    block: &[u8],
    cap: usize,
) -> Result<(), DecompressError> {
    let before = out.len();
    let possible = block.len().saturating_mul(MAX_EXPANSION).min(frame.max_block);
    let room = possible.min(cap.saturating_sub(before));
    out.resize(before.saturating_add(room), 0);
    let (history, target) = out.split_at_mut(before);
    let result = if frame.has(INDEPENDENT_BLOCKS) {
        block::decompress_into(block, target)
    } else {
        let window = start.max(before.saturating_sub(WINDOW));
        let dictionary = history.get(window..).unwrap_or_default();
        block::decompress_into_with_dict(block, target, dictionary)
    };
    match result {
        Ok(written) => {
            out.truncate(before.saturating_add(written));
            Ok(())
        }
        Err(block::DecompressError::OutputTooSmall { .. }) if room < possible => {
            Err(DecompressError::TooLarge { codec: Compression::Lz4, cap })
        }
        Err(error) => Err(corrupt(error)),
    }
}

fn grow(out: &mut Vec<u8>, by: usize, cap: usize) -> Result<(), DecompressError> {
    if out.len().saturating_add(by) > cap {
        return Err(DecompressError::TooLarge { codec: Compression::Lz4, cap });
    }
    out.reserve(by);
    Ok(())
}

struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, what: &str, length: u32) -> Result<&'a [u8], DecompressError> {
        let taken = usize::try_from(length).ok().and_then(|n| self.rest.split_at_checked(n));
        let Some((taken, rest)) = taken else { return Err(cut_off(what)) };
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self, what: &str) -> Result<u32, DecompressError> {
        let Some((word, rest)) = self.rest.split_first_chunk() else { return Err(cut_off(what)) };
        self.rest = rest;
        Ok(u32::from_le_bytes(*word))
    }

    fn byte(&mut self, what: &str) -> Result<u8, DecompressError> {
        let Some((byte, rest)) = self.rest.split_first() else { return Err(cut_off(what)) };
        self.rest = rest;
        Ok(*byte)
    }
}

fn cut_off(what: &str) -> DecompressError {
    corrupt(format_args!("{what} is cut off"))
}

fn corrupt(detail: impl std::fmt::Display) -> DecompressError {
    DecompressError::corrupt(Compression::Lz4, detail)
}
