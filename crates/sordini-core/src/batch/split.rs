//! Cuts a batch that the broker found too large in two (KIP-126).

use std::fmt;
use std::sync::Arc;

use sordini_protocol::mutant;

use crate::batch::body::Body;
use crate::batch::plain::plain;
use crate::batch::stages::{Meta, Ready, Stamped};
use crate::config::Codec;
use crate::memory::Memory;
use crate::wire::batch_header::Stamp;
use crate::wire::compress::Compressor;
use crate::wire::varint;

/// Why a batch could not be cut. Its bytes are this process's own, so this is a defect here or a
/// memory error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitError(&'static str);

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for SplitError {}

struct Cut {
    base_timestamp: i64,
    max_timestamp: i64,
    count: u32,
    bytes: Vec<u8>,
}

/// One encoded record, its deltas taken out: timestamp delta, and what is behind the deltas.
fn dissect(record: &[u8]) -> Option<(i64, &[u8])> {
    let (_attributes, rest) = record.split_first()?;
    let (timestamp_delta, rest) = varint::get(rest)?;
    let (_offset_delta, rest) = varint::get(rest)?;
    Some((timestamp_delta, rest))
}

fn next_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = varint::get(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

impl Cut {
    /// Encodes `count` records from the front of `bytes` anew, and moves `bytes` behind them.
    fn take(bytes: &mut &[u8], count: u32, old_base: i64) -> Option<Self> {
        let mut cut = Self { base_timestamp: 0, max_timestamp: i64::MIN, count, bytes: Vec::new() };
        for index in 0..count {
            let (record, rest) = next_record(bytes)?;
            *bytes = rest;
            let (delta, tail) = dissect(record)?;
            let timestamp = old_base.checked_add(delta)?;
            if index == 0 {
                cut.base_timestamp = timestamp;
            }
            cut.max_timestamp = cut.max_timestamp.max(timestamp);
            cut.push(index, timestamp.checked_sub(cut.base_timestamp)?, tail);
        }
        Some(cut)
    }

    fn push(&mut self, index: u32, timestamp_delta: i64, tail: &[u8]) {
        let mut stage = [0; 2 * varint::MAX_LEN];
        let mut at = varint::put(&mut stage, 0, timestamp_delta);
        at = varint::put(&mut stage, at, i64::from(index));
        let mut prefix = [0; varint::MAX_LEN];
        let end = varint::put(&mut prefix, 0, (1 + at + tail.len()) as i64);
        self.bytes.extend_from_slice(&prefix[..end]);
        self.bytes.push(0);
        self.bytes.extend_from_slice(&stage[..at]);
        self.bytes.extend_from_slice(tail);
    }

    /// The records section as it is to be sent, with its codec.
    fn pack(self, codec: Codec, level: Option<i32>) -> (Codec, Vec<u8>) {
        match Compressor::default().compress(codec, level, [&self.bytes[..]]) {
            Ok(packed) if packed.len() < self.bytes.len() => (codec, packed),
            _ => (Codec::None, self.bytes),
        }
    }
}

/// The two halves of `batch`, stamped so that together they cover exactly its sequences (S3).
///
/// # Errors
/// If the batch has one record, or its bytes do not read as they were written; the batch comes
/// back.
#[allow(clippy::result_large_err, reason = "the batch itself comes back, once a split fails")]
pub fn halve(
    batch: Stamped,
    level: Option<i32>,
    memory: &Arc<Memory>,
) -> Result<[Stamped; 2], (Stamped, SplitError)> {
    assert!(!batch.meta.ambiguous, "S3: a batch that may be in the log was split");
    let count = batch.meta.count();
    if count < 2 {
        return Err((batch, SplitError("the batch has one record")));
    }
    let cuts = plain(batch.codec, &batch.body)
        .ok_or(SplitError("the batch does not decompress"))
        .and_then(|bytes| {
            let mut rest = &bytes[..];
            let base = batch.meta.base_timestamp;
            let mut take = |count| Cut::take(&mut rest, count, base);
            let cuts = take(count / 2).zip(take(count - count / 2));
            cuts.filter(|_| rest.is_empty())
                .ok_or(SplitError("the batch does not read as it was written"))
        });
    let (first, second) = match cuts {
        Ok(cuts) => cuts,
        Err(error) => return Err((batch, error)),
    };
    let Stamped { meta, codec, body, stamp, .. } = batch;
    let middle = meta.records.start + first.count;
    let ranges = [meta.records.start..middle, middle..meta.records.end];
    let stamps = [stamp, follow(stamp, first.count)];
    let timestamps = [&first, &second].map(|cut| (cut.base_timestamp, cut.max_timestamp));
    let lens = [first.bytes.len(), second.bytes.len()];
    let packed = [first.pack(codec, level), second.pack(codec, level)];
    let codecs = [packed[0].0, packed[1].0];
    let parts = packed.map(|(_, bytes)| bytes).into();
    // Another reference is a frame on a dead connection: its share is then returned later.
    let old = Arc::try_unwrap(body).map(|body| body.0).unwrap_or_default();
    let mut segments = memory.exchange(old, parts).into_iter();
    Ok([0, 1].map(|half| {
        let meta = Meta {
            id: meta.id,
            opened: meta.opened,
            records: ranges[half].clone(),
            completion: Arc::clone(&meta.completion),
            base_timestamp: timestamps[half].0,
            max_timestamp: timestamps[half].1,
            uncompressed: lens[half],
            attempts: meta.attempts,
            ambiguous: false,
            obstacle: meta.obstacle.clone(),
        };
        let body = Arc::new(Body(segments.next().into_iter().collect()));
        Ready { meta, codec: codecs[half], body }.stamp(stamps[half])
    }))
}

/// The stamp of the batch that follows one of `count` records.
fn follow(stamp: Stamp, count: u32) -> Stamp {
    if stamp == Stamp::NONE {
        return stamp;
    }
    let next = i64::from(stamp.base_sequence) + i64::from(count) + i64::from(mutant!(M27));
    Stamp { base_sequence: (next & i64::from(i32::MAX)) as i32, ..stamp }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(bytes: Vec<u8>) -> Cut {
        Cut { base_timestamp: 0, max_timestamp: 0, count: 1, bytes }
    }

    #[test]
    fn the_largest_deltas_fit_their_place() {
        let mut of = cut(Vec::new());
        of.push(i32::MAX as u32, i64::MIN, b"tail");
        let (record, rest) = next_record(&of.bytes).expect("a record");
        assert_eq!((dissect(record), rest), (Some((i64::MIN, &b"tail"[..])), &[][..]));
    }

    #[test]
    fn a_half_is_compressed_only_where_that_saves_a_byte() {
        // The longer the run behind the noise, the more it saves: one of them saves exactly nothing.
        let noise: Vec<u8> = (1..64u8).collect();
        let mut gained_nothing = 0;
        for run in 0..100 {
            let bytes = [&noise[..], &vec![0; run]].concat();
            let packed = Compressor::default()
                .compress(Codec::Lz4, None, [&bytes[..]])
                .expect("it compresses");
            gained_nothing += usize::from(packed.len() == bytes.len());
            let saves = packed.len() < bytes.len();
            let expected = if saves { (Codec::Lz4, packed) } else { (Codec::None, bytes.clone()) };
            assert_eq!(cut(bytes).pack(Codec::Lz4, None), expected, "{run}");
        }
        assert!(gained_nothing > 0);
    }
}
