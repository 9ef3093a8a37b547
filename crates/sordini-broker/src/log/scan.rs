//! Walks the batches of a segment file, whose bytes are not trusted.

use std::io;

use bytes::Bytes;

use super::batch::{HEADER_LEN, Header, MAGIC};
use super::marker::Marker;
use super::segment::Damage;
use crate::crc;
use crate::storage::Storage;

/// Bytes read from the file at a time.
const WINDOW: usize = 256 * 1024;
/// The largest control batch that is looked into; a marker has 78 bytes.
const CONTROL_MAX: u64 = 4096;
/// Bytes that are searched for a sound batch behind damage: more than any batch has by default.
const SEARCH_MAX: u64 = 64 * 1024 * 1024;
/// Where the bytes begin that the CRC covers.
const CRC_FROM: u64 = 21;

/// How much of a batch is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// The header's own consistency: for bytes that were checked when they were written.
    Headers,
    /// The CRC of every byte: for bytes that a crash may have torn.
    Checksums,
}

/// Where a batch stands, and its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Position of the batch in the file.
    pub(super) position: u64,
    /// Its size in bytes.
    pub(super) size: u64,
    /// Its header.
    pub(super) header: Header,
}

/// A walk over a segment's batches. It ends at the first byte that is not part of a sound batch
/// with ascending offsets.
pub(super) struct Scan<'a> {
    storage: &'a mut dyn Storage,
    path: &'a str,
    depth: Depth,
    position: u64,
    end: u64,
    next_offset: i64,
    max_offset: i64,
    window: Bytes,
    window_at: u64,
}

impl<'a> Scan<'a> {
    /// Walks from `position` to `end` of the file at `path`, whose segment begins at offset
    /// `base`; the first batch found must not begin before `next_offset`.
    pub(super) fn new(
        storage: &'a mut dyn Storage,
        path: &'a str,
        depth: Depth,
        (position, end): (u64, u64),
        (base, next_offset): (i64, i64),
    ) -> Self {
        Self {
            storage,
            path,
            depth,
            position,
            end,
            next_offset,
            max_offset: base.saturating_add(i64::from(i32::MAX)),
            window: Bytes::new(),
            window_at: 0,
        }
    }

    /// The same walk, but no batch may reach `limit`.
    #[must_use]
    pub(super) fn below(mut self, limit: i64) -> Self {
        self.max_offset = self.max_offset.min(limit.saturating_sub(1));
        self
    }

    /// Position behind the last sound batch.
    #[must_use]
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Offset behind the last sound batch.
    #[must_use]
    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// The next batch; `None` behind the last sound one.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn next(&mut self) -> io::Result<Option<Found>> {
        let position = self.position;
        let Some((header, size)) = self.sound_at(position)? else { return Ok(None) };
        self.position = position + size;
        self.next_offset = header.last_offset() + 1;
        Ok(Some(Found { position, size, header }))
    }

    /// The header and size of the batch that begins at `position`, if it is sound.
    fn sound_at(&mut self, position: u64) -> io::Result<Option<(Header, u64)>> {
        let Some(header) = Header::new(&self.peek(position, HEADER_LEN)?) else { return Ok(None) };
        let Some(size) = header.size().map(|size| size as u64) else { return Ok(None) };
        let fits = position.checked_add(size).is_some_and(|end| end <= self.end);
        let sound = fits
            && header.magic() == MAGIC
            && header.last_offset_delta() >= 0
            && header.base_offset() >= self.next_offset
            && header.last_offset() <= self.max_offset;
        if !sound || (self.depth == Depth::Checksums && !self.crc_holds(&header, position, size)?) {
            return Ok(None);
        }
        Ok(Some((header, size)))
    }

    /// What the bytes look like where the walk has ended. A write that was cut short leaves no sound
    /// batch anywhere behind, and nobody else leaves one by chance.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn damage(&mut self) -> io::Result<Damage> {
        let until = self.end.min(self.position.saturating_add(SEARCH_MAX));
        for position in self.position + 1..until {
            if self.sound_at(position)?.is_some() {
                return Ok(Damage::Within);
            }
        }
        let header = Header::new(&self.peek(self.position, HEADER_LEN)?);
        let size = header.filter(|it| it.magic() == MAGIC).and_then(|header| header.size());
        let end = size.and_then(|size| self.position.checked_add(size as u64));
        Ok(match end {
            Some(end) if end <= self.end => Damage::LastBatch,
            _ => Damage::AtEnd,
        })
    }

    /// The marker that a batch holds, if it holds one.
    ///
    /// # Errors
    /// As the medium fails.
    pub(super) fn marker(&mut self, found: &Found) -> io::Result<Option<Marker>> {
        if !found.header.is_control() || found.size > CONTROL_MAX {
            return Ok(None);
        }
        let len = usize::try_from(found.size).unwrap_or(usize::MAX);
        let bytes = self.peek(found.position, len)?;
        let body = bytes.get(HEADER_LEN..).unwrap_or_default();
        Ok(Marker::read(&found.header, body))
    }

    /// Up to `len` bytes at `position`, but none behind the end.
    fn peek(&mut self, position: u64, len: usize) -> io::Result<Bytes> {
        let len = len.min(usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX));
        if let Some(held) = self.held(position, len) {
            return Ok(held);
        }
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        self.window = self.storage.read(self.path, position, WINDOW.min(left))?;
        self.window_at = position;
        Ok(self.held(position, len.min(self.window.len())).unwrap_or_default())
    }

    fn held(&self, position: u64, len: usize) -> Option<Bytes> {
        let from = usize::try_from(position.checked_sub(self.window_at)?).ok()?;
        let to = from.checked_add(len)?;
        (to <= self.window.len()).then(|| self.window.slice(from..to))
    }

    /// Checks a CRC window by window: a size that a damaged header claims must not become an
    /// allocation.
    fn crc_holds(&mut self, header: &Header, position: u64, size: u64) -> io::Result<bool> {
        let mut crc = crc::Running::new();
        let (mut at, end) = (position + CRC_FROM, position + size);
        while at < end {
            let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(WINDOW);
            let bytes = self.peek(at, wanted)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            crc.update(&bytes);
            at += bytes.len() as u64;
        }
        Ok(crc.finish() == header.crc())
    }
}
