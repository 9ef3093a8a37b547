//! The seam between the log and the disk: every byte that the broker keeps goes through
//! [`Storage`], so that tests and the simulator can lose, tear and refuse writes.
//!
//! Paths are relative to the broker's folder, with `/` between folder and file. No path holds
//! anything that a client chose but a validated topic name.

mod disk;
mod faulty;
mod memory;

use std::io;

use bytes::Bytes;

pub use disk::{DiskStorage, OpenFolderError};
pub use faulty::{FaultyStorage, StorageFaults, StorageOp};
pub use memory::MemoryStorage;

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, without its folder.
    pub name: String,
    /// Whether it is a folder.
    pub is_dir: bool,
}

/// A folder of append-only files.
///
/// The contract that recovery relies on: what was appended is read back until the machine loses
/// power; what was appended before a successful [`sync`](Storage::sync) (and, for a new, renamed
/// or removed name, [`sync_dir`](Storage::sync_dir)) is read back even after that; an append that
/// fails may leave any prefix of its bytes behind.
pub trait Storage: Send {
    /// Creates a folder, and those above it; one that exists is left alone.
    ///
    /// # Errors
    /// As the medium fails.
    fn create_dir(&mut self, dir: &str) -> io::Result<()>;

    /// Removes a folder and all that is in it; one that is not there is no error.
    ///
    /// # Errors
    /// As the medium fails.
    fn remove_dir(&mut self, dir: &str) -> io::Result<()>;

    /// The names in a folder (`""` is the broker's own), sorted by name; none if it is not there.
    ///
    /// # Errors
    /// As the medium fails.
    fn list(&mut self, dir: &str) -> io::Result<Vec<Entry>>;

    /// The length of a file in bytes; `None` if there is no such file.
    ///
    /// # Errors
    /// As the medium fails.
    fn len(&mut self, path: &str) -> io::Result<Option<u64>>;

    /// Appends `parts`, one after the other, to a file, which is created if it is not there.
    ///
    /// # Errors
    /// As the medium fails: any prefix of the bytes may then be in the file.
    fn append(&mut self, path: &str, parts: &[&[u8]]) -> io::Result<()>;

    /// Reads up to `len` bytes from `position` on; fewer only at the end of the file.
    ///
    /// # Errors
    /// As the medium fails; [`io::ErrorKind::NotFound`] if there is no such file.
    fn read(&mut self, path: &str, position: u64, len: usize) -> io::Result<Bytes>;

    /// Cuts a file to `len` bytes; a file that is not there is created empty.
    ///
    /// # Errors
    /// As the medium fails.
    fn truncate(&mut self, path: &str, len: u64) -> io::Result<()>;

    /// Makes a file's bytes and length survive a loss of power.
    ///
    /// # Errors
    /// As the medium fails. What the file then holds is unknown, and a further sync that succeeds
    /// proves nothing: the caller must give the file up until it has read it back from the disk.
    fn sync(&mut self, path: &str) -> io::Result<()>;

    /// Makes the names in a folder survive a loss of power.
    ///
    /// # Errors
    /// As the medium fails.
    fn sync_dir(&mut self, dir: &str) -> io::Result<()>;

    /// Gives a file or folder another name, in one step; a file that has the name is replaced.
    ///
    /// # Errors
    /// As the medium fails.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// As the medium fails.
    fn remove(&mut self, path: &str) -> io::Result<()>;
}

/// Whether a write failed for want of room: on the disk, or in what its owner may take of it.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Reads a whole file, but refuses one longer than `limit` bytes.
///
/// # Errors
/// As the medium fails; [`io::ErrorKind::InvalidData`] if the file is longer.
pub(crate) fn read_all(storage: &mut dyn Storage, path: &str, limit: u64) -> io::Result<Bytes> {
    let Some(len) = storage.len(path)? else {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("there is no {path}")));
    };
    if len > limit {
        let message = format!("{path} holds {len} bytes, more than the {limit} it may hold");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    storage.read(path, 0, usize::try_from(len).unwrap_or(usize::MAX))
}

/// Replaces a file in one step that a crash leaves either done or not done.
///
/// # Errors
/// As the medium fails; the file then still has its old contents.
pub(crate) fn replace(
    storage: &mut dyn Storage,
    dir: &str,
    name: &str,
    contents: &[u8],
    durable: bool,
) -> io::Result<()> {
    let path = join(dir, name);
    let temporary = format!("{path}.tmp");
    storage.truncate(&temporary, 0)?;
    storage.append(&temporary, &[contents])?;
    if durable {
        storage.sync(&temporary)?;
    }
    storage.rename(&temporary, &path)?;
    if durable {
        storage.sync_dir(dir)?;
    }
    Ok(())
}

/// A path below `dir`, which may be the broker's own folder `""`.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests of the disk touch it")]
mod tests;
