//! The real disk: one folder, locked while it is open.
#![allow(clippy::disallowed_types, reason = "this is the disk")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Entry, Storage, is_full};

/// Files kept open at a time: the active files of a hundred partitions.
const OPEN_FILES_MAX: usize = 256;

const LOCK_FILE: &str = ".lock";

/// Room on the disk that only upkeep may use: a broker on a full disk can start, and can note that a
/// topic is deleted before its records go and make room.
const RESERVE_FILE: &str = ".reserve";
const RESERVE_LEN: usize = 128 * 1024;
const RESERVE_STEP: usize = 4096;

/// A folder that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenFolderError {
    /// Another process has it.
    #[error(
        "the folder {} is in use by another broker (its file {LOCK_FILE} is locked); \
         stop that broker or choose another folder",
        folder.display()
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// It can't be created or written.
    #[error(
        "the folder {} can't be used: {source}; choose a folder that this user may write",
        folder.display()
    )]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A [`Storage`] in a folder of the file system. Folders are made 0700 and files 0600 (Unix). Of the
/// disk 128 KiB are kept (`.reserve`) for the broker's own small files and for what replaces a small
/// file of a partition, so that on a full disk a broker can start and delete topics; records, their
/// indexes and new files of a partition never get it.
#[derive(Debug)]
pub struct DiskStorage {
    root: PathBuf,
    open: BTreeMap<String, OpenFile>,
    clock: u64,
    /// Bytes of the reserve that are there.
    reserve: usize,
    /// Held until drop: the lock belongs to the open file.
    _lock: File,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    used: u64,
}

impl DiskStorage {
    /// Opens `folder`, which is created if it is not there, and locks it.
    ///
    /// # Errors
    /// If another process has locked it, or it can't be created or written.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, OpenFolderError> {
        let root: PathBuf = folder.into();
        let unusable = |source| OpenFolderError::Unusable { folder: root.clone(), source };
        create_private_dir(&root).map_err(unusable)?;
        let lock = private_file().create(true).open(root.join(LOCK_FILE)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenFolderError::Locked { folder: root }),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let mut disk = Self { root, open: BTreeMap::new(), clock: 0, reserve: 0, _lock: lock };
        disk.fill_reserve();
        Ok(disk)
    }

    /// Makes the reserve whole, as far as there is room.
    fn fill_reserve(&mut self) {
        if self.reserve >= RESERVE_LEN {
            return;
        }
        let opened = private_file().create(true).open(self.path(RESERVE_FILE));
        let Ok(mut file) = opened else { return };
        let len = file.metadata().map_or(0, |found| found.len());
        self.reserve = usize::try_from(len).unwrap_or(usize::MAX);
        while self.reserve < RESERVE_LEN && file.write_all(&[0; RESERVE_STEP]).is_ok() {
            self.reserve += RESERVE_STEP;
        }
    }

    /// Gives the reserve up; whether there was any.
    fn spend_reserve(&mut self) -> bool {
        let path = self.path(RESERVE_FILE);
        let was_there = std::mem::take(&mut self.reserve) > 0;
        // Removed alone, it would keep its bytes for as long as somebody else has it open.
        let emptied = private_file().open(&path).and_then(|file| file.set_len(0));
        let removed = fs::remove_file(&path);
        was_there && (emptied.is_ok() || removed.is_ok())
    }

    /// Whether writing this file is upkeep: it takes another's place, or is one of the few that say
    /// what is in the folder. What grows with records, indexes too, would use the reserve up.
    fn is_upkeep(&self, path: &str) -> bool {
        path.strip_suffix(".tmp")
            .is_some_and(|target| !target.contains('/') || self.path(target).exists())
    }

    /// Writes to a file; where the disk is full and it is upkeep, once more without the reserve.
    fn write_to(
        &mut self,
        path: &str,
        mut write: impl FnMut(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let done = self.file(path, true).and_then(&mut write);
        match done {
            Err(error) if is_full(&error) && self.is_upkeep(path) && self.spend_reserve() => {
                let done = self.file(path, true).and_then(write);
                // What this file did not take is kept from all others again.
                self.fill_reserve();
                done
            }
            done => done,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn file(&mut self, path: &str, create: bool) -> io::Result<&mut File> {
        self.clock += 1;
        if !self.open.contains_key(path) {
            if self.open.len() >= OPEN_FILES_MAX {
                self.close_oldest();
            }
            let file = private_file().create(create).open(self.root.join(path))?;
            self.open.insert(path.to_owned(), OpenFile { file, used: 0 });
        }
        match self.open.get_mut(path) {
            Some(open) => {
                open.used = self.clock;
                Ok(&mut open.file)
            }
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn close_oldest(&mut self) {
        let oldest = self.open.iter().min_by_key(|(_, open)| open.used);
        if let Some(path) = oldest.map(|(path, _)| path.clone()) {
            self.open.remove(&path);
        }
    }

    fn forget(&mut self, path: &str) {
        let below = format!("{path}/");
        self.open.retain(|name, _| name != path && !name.starts_with(&below));
    }
}

/// Files are read at positions and appended to; nobody but the owner may read them.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options
}

fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}

fn write_all_vectored(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero)),
            Ok(written) => IoSlice::advance_slices(&mut rest, written),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}

#[cfg(not(any(unix, windows)))]
fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

impl Storage for DiskStorage {
    fn create_dir(&mut self, dir: &str) -> io::Result<()> {
        create_private_dir(&self.path(dir))
    }

    fn remove_dir(&mut self, dir: &str) -> io::Result<()> {
        self.forget(dir);
        let removed = match fs::remove_dir_all(self.path(dir)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        self.fill_reserve();
        removed
    }

    fn list(&mut self, dir: &str) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let names = match fs::read_dir(self.path(dir)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(entries),
            other => other?,
        };
        for entry in names {
            let entry = entry?;
            // A name that is not UTF-8 is not one of ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn len(&mut self, path: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(path)) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn append(&mut self, path: &str, parts: &[&[u8]]) -> io::Result<()> {
        if path.ends_with(".log") {
            return write_all_vectored(self.file(path, true)?, parts);
        }
        self.write_to(path, |file| {
            let before = file.metadata()?.len();
            let written = write_all_vectored(file, parts);
            if written.is_err() {
                file.set_len(before)?;
            }
            written
        })
    }

    fn read(&mut self, path: &str, position: u64, len: usize) -> io::Result<Bytes> {
        let file = self.file(path, false)?;
        let left = file.metadata()?.len().saturating_sub(position);
        let wanted = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut buffer = vec![0; wanted];
        let mut filled = 0;
        while filled < wanted {
            match read_at(file, &mut buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        buffer.truncate(filled);
        Ok(Bytes::from(buffer))
    }

    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()> {
        self.write_to(path, |file| match file.metadata()?.len() > len {
            true => file.set_len(len),
            false => Ok(()),
        })
    }

    fn sync(&mut self, path: &str) -> io::Result<()> {
        self.file(path, false)?.sync_data()
    }

    fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        if cfg!(unix) { File::open(self.path(dir))?.sync_all() } else { Ok(()) }
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.path(from), self.path(to))?;
        // What was replaced has made room.
        self.fill_reserve();
        Ok(())
    }

    fn remove(&mut self, path: &str) -> io::Result<()> {
        self.forget(path);
        let removed = match fs::remove_file(self.path(path)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        self.fill_reserve();
        removed
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests of the disk touch it")]
mod tests {
    use super::*;

    /// Writes to a file of a disk that has no room but its reserve. Whether that was done.
    fn write_where_full(disk: &mut DiskStorage, path: &str, kind: io::ErrorKind) -> bool {
        let reserve = disk.path(RESERVE_FILE);
        let written = disk.write_to(path, |file| match reserve.exists() {
            true => Err(io::Error::from(kind)),
            false => file.write_all(b"x"),
        });
        let len = fs::metadata(&reserve).expect("the reserve is there").len();
        assert_eq!(len, RESERVE_LEN as u64, "and whole, after {path}");
        written.is_ok()
    }

    #[test]
    fn the_reserve_is_for_what_starting_and_deleting_take_and_is_taken_back_at_once() {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut disk = DiskStorage::open(folder.path()).expect("open");
        disk.create_dir("t-0").expect("a partition");
        disk.append("t-0/leader-epoch-checkpoint", &[b"0"]).expect("a file of it");
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            for path in ["sordini.catalog.tmp", "t-0/leader-epoch-checkpoint.tmp"] {
                assert!(write_where_full(&mut disk, path, kind), "{path}, {kind}");
            }
            for name in ["5.log", "5.index", "5.timeindex", "5.txnindex", "5.snapshot.tmp"] {
                let path = format!("t-0/{name}");
                assert!(!write_where_full(&mut disk, &path, kind), "{path}, {kind}");
            }
        }
        let other = io::ErrorKind::PermissionDenied;
        assert!(
            !write_where_full(&mut disk, "sordini.catalog.tmp", other),
            "room is not the matter"
        );
    }

    #[cfg(unix)]
    #[test]
    fn the_reserve_makes_room_also_where_somebody_else_has_it_open() {
        let folder = tempfile::tempdir().expect("tempdir");
        let mut disk = DiskStorage::open(folder.path()).expect("open");
        let other = File::open(disk.path(RESERVE_FILE)).expect("the reserve is there");
        assert!(disk.spend_reserve());
        assert_eq!(other.metadata().expect("an open file").len(), 0);
        assert!(!disk.spend_reserve(), "once");
    }
}
