//! Compresses the records section of a batch, in the framing that Kafka's clients share.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::config::{Codec, ZSTD_LEVEL};

/// Java's snappy writer cuts its input so; other readers expect blocks of this order.
const XERIAL_BLOCK: usize = 32 << 10;

/// Java's LZ4 blocks.
const LZ4_BLOCK: usize = 64 << 10;

/// Parts of this size get a block of their own, without being copied next to others.
const LZ4_ALONE: usize = LZ4_BLOCK / 2;

/// From here on the larger table pays, which is cleared for each block.
const LZ4_SMALL: usize = 4 << 10;

/// A larger buffer is not kept for the next batch.
const KEPT: usize = 2 << 20;

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

/// Compresses one batch after another, and keeps what the codecs but gzip need for it: their tables, and
/// buffers of up to 2 MiB each for what goes in and what comes out.
#[derive(Default)]
pub struct Compressor {
    /// None before the first batch, and after a panic.
    workspace: Option<Box<Workspace>>,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its buffers hold records.
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

impl Compressor {
    /// Compresses `parts`, as if they stood one behind the other.
    ///
    /// `level` is Kafka's (KIP-390). LZ4 has one speed here, and zstd's levels above 4 work as 4: the
    /// codecs used are pure Rust and stop there.
    ///
    /// # Errors
    /// If the codec refuses, or panics; with [`Codec::None`] always.
    pub fn compress<'a>(
        &mut self,
        codec: Codec,
        level: Option<i32>,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, CompressError> {
        // What a panic leaves behind is not used again.
        let workspace = self.workspace.take();
        guarded(|| {
            let mut workspace = workspace.unwrap_or_default();
            let compressed = workspace.compress(codec, level, parts);
            workspace.trim();
            self.workspace = Some(workspace);
            compressed
        })
    }
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

#[derive(Default)]
struct Workspace {
    input: Vec<u8>,
    output: Vec<u8>,
    lz4: Option<[CompressTable; 2]>,
    snappy: Option<snap::raw::Encoder>,
    zstd: Option<zrip::CompressContext>,
}

impl Workspace {
    fn compress<'a>(
        &mut self,
        codec: Codec,
        level: Option<i32>,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, CompressError> {
        self.input.clear();
        match codec {
            Codec::None => Err(failed("no codec was chosen")),
            Codec::Gzip => gzip(level.unwrap_or(-1), parts),
            Codec::Snappy => self.xerial(parts),
            Codec::Lz4 => self.lz4(parts),
            Codec::Zstd => self.zstd(level.unwrap_or(ZSTD_LEVEL), parts),
        }
    }

    fn trim(&mut self) {
        for buffer in [&mut self.input, &mut self.output] {
            if buffer.capacity() > KEPT {
                *buffer = Vec::new();
            }
        }
    }

    /// An LZ4 frame of independent blocks of up to 64 KiB, without checksums of the content (KIP-57).
    fn lz4<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, CompressError> {
        // Magic; version 1 and independent blocks; blocks of 64 KiB; the checksum of these two.
        const HEAD: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
        let mut at = 0;
        for mut part in parts {
            if part.len() >= LZ4_ALONE && !self.input.is_empty() {
                at = self.lz4_block(at, None)?;
            }
            while let Some((block, rest)) = part.split_at_checked(LZ4_BLOCK - self.input.len()) {
                match self.input.is_empty() {
                    true => at = self.lz4_block(at, Some(block))?,
                    false => {
                        self.input.extend_from_slice(block);
                        at = self.lz4_block(at, None)?;
                    }
                }
                part = rest;
            }
            if part.len() >= LZ4_ALONE {
                at = self.lz4_block(at, Some(part))?;
            } else {
                self.input.extend_from_slice(part);
            }
        }
        if !self.input.is_empty() {
            at = self.lz4_block(at, None)?;
        }
        Ok([&HEAD, &self.output[..at], &[0; 4]].concat())
    }

    /// Puts a block of `part`, or else of the input, which is then empty, to `at` of the output, and
    /// says where it ends.
    fn lz4_block(&mut self, at: usize, part: Option<&[u8]>) -> Result<usize, CompressError> {
        /// In a block's length: it is not compressed.
        const PLAIN: u32 = 1 << 31;
        let block = part.unwrap_or(&self.input);
        let tables = || [CompressTable::small(), CompressTable::large()];
        let [small, large] = self.lz4.get_or_insert_with(tables);
        let table = if block.len() < LZ4_SMALL { small } else { large };
        let room = get_maximum_output_size(block.len());
        // What is in the buffer does not matter, so only growth costs anything.
        if self.output.len() < at + 4 + room {
            self.output.resize(at + 4 + room, 0);
        }
        let (head, room) = self.output[at..].split_at_mut(4);
        let len = compress_into_with_table(block, room, table).map_err(failed)?;
        let (len, stated) = match len < block.len() {
            true => (len, len as u32),
            false => {
                room[..block.len()].copy_from_slice(block);
                (block.len(), block.len() as u32 | PLAIN)
            }
        };
        head.copy_from_slice(&stated.to_le_bytes());
        if part.is_none() {
            self.input.clear();
        }
        Ok(at + 4 + len)
    }

    fn zstd<'a>(
        &mut self,
        level: i32,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, CompressError> {
        let level = level.clamp(-7, 4);
        if self.zstd.is_none() {
            let mut context = zrip::CompressContext::new(level).map_err(failed)?;
            // The batch has its own; other clients' frames have none either.
            context.set_content_checksum(false);
            self.zstd = Some(context);
        }
        let context = self.zstd.as_mut().expect("just made");
        context.set_level(level).map_err(failed)?;
        parts.into_iter().for_each(|part| self.input.extend_from_slice(part));
        let bound = zrip::compress_bound(self.input.len());
        // What is in the buffer does not matter, so only growth costs anything.
        if self.output.len() < bound {
            self.output.resize(bound, 0);
        }
        let len = context.compress_into(&self.input, &mut self.output).map_err(failed)?;
        Ok(self.output[..len].to_vec())
    }

    /// The framing of xerial's snappy-java: a 16-byte head, then blocks of big-endian length and raw
    /// snappy.
    fn xerial<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, CompressError> {
        const HEAD: [u8; 16] =
            [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
        parts.into_iter().for_each(|part| self.input.extend_from_slice(part));
        let out = &mut self.output;
        let snappy = self.snappy.get_or_insert_with(snap::raw::Encoder::new);
        out.clear();
        out.extend_from_slice(&HEAD);
        for block in self.input.chunks(XERIAL_BLOCK) {
            let at = out.len();
            out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
            let len = snappy.compress(block, &mut out[at + 4..]).map_err(failed)?;
            out[at..at + 4].copy_from_slice(&(len as u32).to_be_bytes());
            out.truncate(at + 4 + len);
        }
        Ok(out.clone())
    }
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
