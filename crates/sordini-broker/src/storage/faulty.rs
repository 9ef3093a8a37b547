//! A storage that fails when told to: a full disk, an I/O error, a torn write.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Entry, Storage};

/// What a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageOp {
    /// [`Storage::append`].
    Append,
    /// [`Storage::sync`] and [`Storage::sync_dir`].
    Sync,
    /// [`Storage::read`].
    Read,
    /// [`Storage::rename`].
    Rename,
    /// [`Storage::truncate`].
    Truncate,
}

#[derive(Debug, Default)]
struct Plan {
    space_left: Option<u64>,
    /// Operations that still change something; then none does.
    steps_left: Option<u64>,
    failing: Vec<Failing>,
}

#[derive(Debug)]
struct Failing {
    op: StorageOp,
    path_contains: String,
    after: u64,
    times: u64,
    torn_at: usize,
    kind: io::ErrorKind,
}

/// The switch of a [`FaultyStorage`]. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StorageFaults {
    plan: Arc<Mutex<Plan>>,
}

impl StorageFaults {
    /// No faults yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk is full after `bytes` more appended bytes: the append that crosses the line
    /// writes what still fits (a torn write) and fails with ENOSPC, as all further ones do.
    pub fn full_after(&self, bytes: u64) {
        self.lock().space_left = Some(bytes);
    }

    /// The machine stops after `steps` more operations that change something: the next one is
    /// done by half where it can be (an append), and nothing works any more.
    pub fn stop_after(&self, steps: u64) {
        self.lock().steps_left = Some(steps);
    }

    /// Whether the machine has stopped.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.lock().steps_left == Some(0)
    }

    /// The disk has room again.
    pub fn make_room(&self) {
        self.lock().space_left = None;
    }

    /// Fails the next `times` operations of this kind on paths that contain `path_contains`,
    /// after `after` have passed. A failing append first writes `torn_at` bytes.
    pub fn fail(
        &self,
        op: StorageOp,
        path_contains: &str,
        after: u64,
        times: u64,
        torn_at: usize,
        kind: io::ErrorKind,
    ) {
        let path_contains = path_contains.to_owned();
        self.lock().failing.push(Failing { op, path_contains, after, times, torn_at, kind });
    }

    /// Ends all faults.
    pub fn clear(&self) {
        *self.lock() = Plan::default();
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that strikes this operation, if one does.
    fn strike(&self, op: StorageOp, path: &str) -> Option<(usize, io::Error)> {
        let mut plan = self.lock();
        for failing in &mut plan.failing {
            if failing.op != op || failing.times == 0 || !path.contains(&failing.path_contains) {
                continue;
            }
            if failing.after > 0 {
                failing.after -= 1;
                continue;
            }
            failing.times -= 1;
            let error = io::Error::new(failing.kind, format!("injected fault: {op:?} of {path}"));
            return Some((failing.torn_at, error));
        }
        None
    }

    /// Counts an operation that changes something. `Ok(true)`: it is the last, to be done by half.
    fn step(&self) -> io::Result<bool> {
        match &mut self.lock().steps_left {
            None => Ok(false),
            Some(0) => Err(stopped()),
            Some(left) => {
                *left -= 1;
                Ok(*left == 0)
            }
        }
    }

    /// How many of `len` bytes still fit on the disk.
    fn take_space(&self, len: usize) -> usize {
        let mut plan = self.lock();
        match &mut plan.space_left {
            None => len,
            Some(left) => {
                let fits = len.min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= fits as u64;
                fits
            }
        }
    }
}

fn stopped() -> io::Error {
    io::Error::other("injected fault: the machine has stopped")
}

/// A [`Storage`] around another one, with the faults of a [`StorageFaults`].
#[derive(Debug)]
pub struct FaultyStorage<S> {
    inner: S,
    faults: StorageFaults,
}

impl<S: Storage> FaultyStorage<S> {
    /// Wraps `inner`.
    pub fn new(inner: S, faults: StorageFaults) -> Self {
        Self { inner, faults }
    }

    /// Refuses an operation that a fault strikes, or that comes when the machine has stopped; the
    /// last one before that is lost.
    fn change(&self) -> io::Result<()> {
        if self.faults.step()? { Err(stopped()) } else { Ok(()) }
    }

    fn check(&self, op: StorageOp, path: &str) -> io::Result<()> {
        if op != StorageOp::Read {
            self.change()?;
        }
        self.faults.strike(op, path).map_or(Ok(()), |(_, error)| Err(error))
    }

    fn append_prefix(&mut self, path: &str, parts: &[&[u8]], len: usize) -> io::Result<()> {
        let mut left = len;
        for part in parts {
            let take = left.min(part.len());
            self.inner.append(path, &[&part[..take]])?;
            left -= take;
        }
        Ok(())
    }
}

impl<S: Storage> Storage for FaultyStorage<S> {
    fn create_dir(&mut self, dir: &str) -> io::Result<()> {
        self.change()?;
        self.inner.create_dir(dir)
    }

    fn remove_dir(&mut self, dir: &str) -> io::Result<()> {
        self.change()?;
        self.inner.remove_dir(dir)
    }

    fn list(&mut self, dir: &str) -> io::Result<Vec<Entry>> {
        self.inner.list(dir)
    }

    fn len(&mut self, path: &str) -> io::Result<Option<u64>> {
        self.inner.len(path)
    }

    fn append(&mut self, path: &str, parts: &[&[u8]]) -> io::Result<()> {
        if let Some((torn_at, error)) = self.faults.strike(StorageOp::Append, path) {
            self.append_prefix(path, parts, torn_at)?;
            return Err(error);
        }
        let len = parts.iter().map(|part| part.len()).sum();
        if self.faults.step()? {
            self.append_prefix(path, parts, len / 2)?;
            return Err(stopped());
        }
        let fits = self.faults.take_space(len);
        if fits < len {
            self.append_prefix(path, parts, fits)?;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "injected fault: disk full"));
        }
        self.inner.append(path, parts)
    }

    fn read(&mut self, path: &str, position: u64, len: usize) -> io::Result<Bytes> {
        self.check(StorageOp::Read, path)?;
        self.inner.read(path, position, len)
    }

    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
        self.check(StorageOp::Truncate, path)?;
        self.inner.truncate(path, len)
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        self.check(StorageOp::Sync, path)?;
        self.inner.sync(path)
    }

    fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        self.check(StorageOp::Sync, dir)?;
        self.inner.sync_dir(dir)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.check(StorageOp::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.change()?;
        self.inner.remove(path)
    }
}
