//! Files in memory, which know what a loss of power would leave of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Entry, Storage};

/// A [`Storage`] in memory. Clones share the files, so that a broker can be dropped and another
/// opened on what it left.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, File>,
    dirs: BTreeSet<String>,
    /// Names as the last `sync_dir` of their folder left them: path to file contents' owner.
    durable: BTreeMap<String, u64>,
    durable_dirs: BTreeSet<String>,
    /// What a sync has made durable, by the file's identity; survives renames.
    synced: BTreeMap<u64, Vec<u8>>,
    next_id: u64,
}

#[derive(Debug)]
struct File {
    id: u64,
    data: Vec<u8>,
    /// Where the bytes begin that no sync has covered.
    synced_to: usize,
}

impl File {
    fn new(id: u64, data: Vec<u8>) -> Self {
        Self { id, data, synced_to: 0 }
    }
}

impl MemoryStorage {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loses power: what was not synced is gone, names that no `sync_dir` has seen too.
    ///
    /// This is the harshest outcome; a real disk may have written some of it. `keep_unsynced`
    /// says how many bytes of a file's unsynced tail were, given the path and the tail's length.
    pub fn lose_power(&self, mut keep_unsynced: impl FnMut(&str, usize) -> usize) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut survivors = BTreeMap::new();
        for (path, id) in &state.durable {
            let mut data = state.synced.get(id).cloned().unwrap_or_default();
            let written = state.files.values().find(|file| file.id == *id);
            if let Some(written) = written
                && let Some(tail) = written.data.strip_prefix(data.as_slice())
            {
                let keep = keep_unsynced(path, tail.len()).min(tail.len());
                data.extend_from_slice(&tail[..keep]);
            }
            survivors.insert(path.clone(), File::new(*id, data));
        }
        state.files = survivors;
        state.dirs = state.durable_dirs.clone();
    }

    /// The contents of a file, if it is there.
    #[must_use]
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().files.get(path).map(|file| file.data.clone())
    }

    /// Replaces the contents of a file, or creates it: a disk that changes bytes by itself.
    pub fn overwrite(&self, path: &str, data: Vec<u8>) {
        let mut state = self.lock();
        match state.files.get_mut(path) {
            Some(file) => {
                file.data = data;
                file.synced_to = 0;
            }
            None => {
                let id = state.fresh_id();
                state.files.insert(path.to_owned(), File::new(id, data));
            }
        }
    }

    /// Paths of all files, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere can't leave the maps half changed: each method changes one of them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn file(&mut self, path: &str) -> &mut File {
        let next_id = &mut self.next_id;
        self.files.entry(path.to_owned()).or_insert_with(|| {
            *next_id += 1;
            File::new(*next_id, Vec::new())
        })
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {path}"))
}

impl Storage for MemoryStorage {
    fn create_dir(&mut self, dir: &str) -> io::Result<()> {
        self.lock().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn remove_dir(&mut self, dir: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.dirs.remove(dir);
        state.files.retain(|path, _| parent(path) != dir);
        Ok(())
    }

    fn list(&mut self, dir: &str) -> io::Result<Vec<Entry>> {
        let state = self.lock();
        let mut entries: Vec<Entry> = Vec::new();
        if dir.is_empty() {
            entries
                .extend(state.dirs.iter().map(|name| Entry { name: name.clone(), is_dir: true }));
        }
        for path in state.files.keys().filter(|path| parent(path) == dir) {
            let name = path.rsplit('/').next().unwrap_or(path).to_owned();
            entries.push(Entry { name, is_dir: false });
        }
        entries.sort();
        Ok(entries)
    }

    fn len(&mut self, path: &str) -> io::Result<Option<u64>> {
        Ok(self.lock().files.get(path).map(|file| file.data.len() as u64))
    }

    fn append(&mut self, path: &str, parts: &[&[u8]]) -> io::Result<()> {
        let mut state = self.lock();
        let file = state.file(path);
        for part in parts {
            file.data.extend_from_slice(part);
        }
        Ok(())
    }

    fn read(&mut self, path: &str, position: u64, len: usize) -> io::Result<Bytes> {
        let state = self.lock();
        let file = state.files.get(path).ok_or_else(|| not_found(path))?;
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(file.data.len());
        let end = start.saturating_add(len).min(file.data.len());
        Ok(Bytes::copy_from_slice(&file.data[start..end]))
    }

    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
        let mut state = self.lock();
        let file = state.file(path);
        file.data.truncate(usize::try_from(len).unwrap_or(usize::MAX));
        file.synced_to = file.synced_to.min(file.data.len());
        Ok(())
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let file = state.files.get_mut(path).ok_or_else(|| not_found(path))?;
        let durable = state.synced.entry(file.id).or_default();
        durable.truncate(file.synced_to);
        durable.extend_from_slice(&file.data[durable.len()..]);
        file.synced_to = file.data.len();
        Ok(())
    }

    fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.durable.retain(|path, _| parent(path) != dir);
        for (path, file) in state.files.iter().filter(|(path, _)| parent(path) == dir) {
            state.durable.insert(path.clone(), file.id);
        }
        if dir.is_empty() {
            state.durable_dirs = state.dirs.clone();
            let dirs = &state.durable_dirs;
            state.durable.retain(|path, _| parent(path).is_empty() || dirs.contains(parent(path)));
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        if let Some(file) = state.files.remove(from) {
            state.files.insert(to.to_owned(), file);
            return Ok(());
        }
        if !state.dirs.remove(from) {
            return Err(not_found(from));
        }
        state.dirs.insert(to.to_owned());
        let moved: Vec<String> =
            state.files.keys().filter(|path| parent(path) == from).cloned().collect();
        for path in moved {
            if let Some(file) = state.files.remove(&path) {
                let name = path.rsplit('/').next().unwrap_or(&path);
                state.files.insert(format!("{to}/{name}"), file);
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.lock().files.remove(path);
        Ok(())
    }
}
