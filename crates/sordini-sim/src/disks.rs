//! The nodes' disks: in memory, with what a loss of power would leave of them.

use std::io;

use sordini_broker::storage::{FaultyStorage, MemoryStorage, Storage, StorageFaults, StorageOp};

use crate::faults::DiskOp;
use crate::rng::Rng;

/// One node's disk. It outlives the node's process.
#[derive(Debug)]
pub(crate) struct Disk {
    memory: MemoryStorage,
    pub(crate) faults: StorageFaults,
    rng: Rng,
}

impl Disk {
    pub(crate) fn new(seed: u64, node: i32) -> Self {
        Self {
            memory: MemoryStorage::new(),
            faults: StorageFaults::new(),
            rng: Rng::stream(seed, 1000 + node as u64),
        }
    }

    /// What a node is started on.
    pub(crate) fn storage(&self) -> Box<dyn Storage> {
        Box::new(FaultyStorage::new(self.memory.clone(), self.faults.clone()))
    }

    /// Loses what was not synced, but for a rest of it, torn anywhere.
    pub(crate) fn lose_power(&mut self) {
        let rng = &mut self.rng;
        self.memory.lose_power(|path, tail| match path {
            // It is always synced as a whole. A draw would make other worlds of the seeds that are
            // known from before there was such a file.
            "sordini.ends" => tail,
            _ => match rng.below(3) {
                0 => 0,
                1 => tail,
                _ => rng.below(tail as u64 + 1) as usize,
            },
        });
    }

    /// Flips a bit of a log. Returns whether there was one to be flipped.
    pub(crate) fn rot(&mut self) -> bool {
        let logs: Vec<String> =
            self.memory.paths().into_iter().filter(|path| path.ends_with(".log")).collect();
        if logs.is_empty() {
            return false;
        }
        let path = &logs[self.rng.below(logs.len() as u64) as usize];
        let mut data = self.memory.contents(path).unwrap_or_default();
        let batches = batches(&data);
        if batches.is_empty() {
            return false;
        }
        // Before the checksum stands what it does not cover: no broker could tell (decision 7).
        let (start, end) = self.rng.pick(&batches);
        let at = self.rng.within((start + COVERED_FROM) as u64..=end as u64 - 1) as usize;
        data[at] ^= 1 << self.rng.below(8);
        self.memory.overwrite(path, data);
        true
    }

    /// Fails the next `times` operations.
    pub(crate) fn fail(&self, op: DiskOp, times: u16) {
        let (op, torn_at) = match op {
            DiskOp::Append(torn_at) => (StorageOp::Append, usize::from(torn_at)),
            DiskOp::Sync => (StorageOp::Sync, 0),
            DiskOp::Read => (StorageOp::Read, 0),
        };
        self.faults.fail(op, "", 0, u64::from(times), torn_at, io::ErrorKind::Other);
    }
}

/// In a batch: behind base offset, length, leader epoch and magic.
const COVERED_FROM: usize = 17;

/// Where the whole batches of a log begin and end.
fn batches(data: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(end) = batch_end(data, at) {
        found.push((at, end));
        at = end;
    }
    found
}

/// Where the batch at `at` ends, if all of it is there.
fn batch_end(data: &[u8], at: usize) -> Option<usize> {
    let length = data.get(at + 8..)?.first_chunk::<4>()?;
    let size = usize::try_from(i32::from_be_bytes(*length)).ok()?.checked_add(12)?;
    (size > COVERED_FROM && at + size <= data.len()).then_some(at + size)
}
