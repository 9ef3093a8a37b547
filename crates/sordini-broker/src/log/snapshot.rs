//! A partition's producers on disk: Kafka's `<offset>.snapshot` (version 1), and beside it
//! `<offset>.producers`.
//!
//! Kafka's file holds one batch of each producer. A client with five batches in flight that
//! retries them all after a restart would have the first four refused as out of order, so ours
//! holds all five. It is an addition: where it is missing or damaged, Kafka's file is enough.

use std::collections::VecDeque;

use bytes::Bytes;
use sordini_protocol::Reader;

use super::batch::{NO_SEQUENCE, NO_TIMESTAMP};
use super::producers::{BATCHES_KEPT, BatchMeta, ProducerEntry, Producers};
use crate::crc;

/// Ends the name of Kafka's file.
pub const SUFFIX: &str = ".snapshot";
/// Ends the name of ours.
pub const WINDOW_SUFFIX: &str = ".producers";
/// The largest file that is read: the most producers with five batches each.
pub const FILE_MAX: u64 = 16 * 1024 * 1024;

const VERSION: i16 = 1;
const CRC_AT: usize = 2;
const ENTRIES_AT: usize = 6;
const WINDOW_MAGIC: i16 = 0x5350;

/// Kafka's file.
#[must_use]
pub fn encode(producers: &Producers) -> Vec<u8> {
    let mut out = head(VERSION, producers);
    for (id, entry) in producers.iter() {
        let last = entry.batches.back();
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&entry.epoch.to_be_bytes());
        out.extend_from_slice(&last.map_or(-1, |b| b.last_sequence).to_be_bytes());
        out.extend_from_slice(&last.map_or(-1, |b| b.last_offset).to_be_bytes());
        out.extend_from_slice(&last.map_or(0, |b| b.offset_delta).to_be_bytes());
        out.extend_from_slice(&entry.last_timestamp.to_be_bytes());
        out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
        out.extend_from_slice(&entry.open_transaction.unwrap_or(-1).to_be_bytes());
    }
    seal(out)
}

/// Our file.
#[must_use]
pub fn encode_window(producers: &Producers) -> Vec<u8> {
    let mut out = head(WINDOW_MAGIC, producers);
    for (id, entry) in producers.iter() {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&entry.epoch.to_be_bytes());
        out.push(entry.batches.len() as u8);
        for batch in &entry.batches {
            out.extend_from_slice(&batch.last_sequence.to_be_bytes());
            out.extend_from_slice(&batch.last_offset.to_be_bytes());
            out.extend_from_slice(&batch.offset_delta.to_be_bytes());
            out.extend_from_slice(&batch.timestamp.to_be_bytes());
        }
    }
    seal(out)
}

fn head(version: i16, producers: &Producers) -> Vec<u8> {
    let mut out = version.to_be_bytes().to_vec();
    out.extend_from_slice(&[0; ENTRIES_AT - CRC_AT]);
    out.extend_from_slice(&(producers.iter().count() as i32).to_be_bytes());
    out
}

fn seal(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc::of(&out[ENTRIES_AT..]);
    out[CRC_AT..ENTRIES_AT].copy_from_slice(&crc.to_be_bytes());
    out
}

/// A reader behind the checked head of a file, if that is sound.
fn open(bytes: &Bytes, version: i16) -> Option<Reader> {
    let stored = bytes.get(CRC_AT..ENTRIES_AT)?.first_chunk::<4>()?;
    if u32::from_be_bytes(*stored) != crc::of(bytes.get(ENTRIES_AT..)?) {
        return None;
    }
    let mut reader = Reader::new(bytes.clone());
    let found = reader.i16("version").ok()?;
    reader.i32("crc").ok()?;
    (found == version).then_some(reader)
}

/// Reads Kafka's file; `None` if it is damaged.
#[must_use]
pub fn decode(bytes: &Bytes) -> Option<Producers> {
    let mut reader = open(bytes, VERSION)?;
    let entries = reader
        .array("producers", false, 46, |r| {
            let id = r.i64("producer id")?;
            let epoch = r.i16("epoch")?;
            let last_sequence = r.i32("last sequence")?;
            let last_offset = r.i64("last offset")?;
            let offset_delta = r.i32("offset delta")?;
            let last_timestamp = r.i64("timestamp")?;
            let coordinator_epoch = r.i32("coordinator epoch")?;
            let open = r.i64("transaction's first offset")?;
            let batch =
                BatchMeta { last_sequence, last_offset, offset_delta, timestamp: last_timestamp };
            let entry = ProducerEntry {
                epoch,
                batches: is_sound(&batch).then_some(batch).into_iter().collect(),
                last_timestamp,
                coordinator_epoch,
                open_transaction: (open >= 0).then_some(open),
                seen_ms: 0,
            };
            Ok((id, entry))
        })
        .ok()?;
    reader.finish().ok()?;
    let mut producers = Producers::default();
    for (id, entry) in entries {
        producers.restore(id, entry);
    }
    Some(producers)
}

fn is_sound(batch: &BatchMeta) -> bool {
    batch.last_sequence >= NO_SEQUENCE
        && batch.last_offset >= 0
        && batch.offset_delta >= 0
        && i64::from(batch.offset_delta) <= batch.last_offset
        && batch.timestamp >= NO_TIMESTAMP
}

/// Reads our file and gives `producers`, as Kafka's file had them, their earlier batches back.
/// Entries that contradict Kafka's file are left out. Returns whether the file was sound.
pub fn widen(producers: &mut Producers, bytes: &Bytes) -> bool {
    let Some(windows) = decode_window(bytes) else { return false };
    for (id, epoch, batches) in windows {
        let Some(entry) = producers.get(id) else { continue };
        if entry.epoch != epoch || entry.batches.back() != batches.back() {
            continue;
        }
        let entry = ProducerEntry { batches, ..entry.clone() };
        producers.forget(Some(id));
        producers.restore(id, entry);
    }
    true
}

type Window = (i64, i16, VecDeque<BatchMeta>);

fn decode_window(bytes: &Bytes) -> Option<Vec<Window>> {
    let mut reader = open(bytes, WINDOW_MAGIC)?;
    let windows = reader
        .array("producers", false, 11, |r| {
            let id = r.i64("producer id")?;
            let epoch = r.i16("epoch")?;
            let count = r.i8("batches")?;
            let mut batches = VecDeque::new();
            for _ in 0..count {
                batches.push_back(BatchMeta {
                    last_sequence: r.i32("last sequence")?,
                    last_offset: r.i64("last offset")?,
                    offset_delta: r.i32("offset delta")?,
                    timestamp: r.i64("timestamp")?,
                });
            }
            Ok((id, epoch, batches))
        })
        .ok()?;
    reader.finish().ok()?;
    let sound = |w: &Window| w.2.len() <= BATCHES_KEPT && w.2.iter().all(is_sound);
    windows.iter().all(sound).then_some(windows)
}
