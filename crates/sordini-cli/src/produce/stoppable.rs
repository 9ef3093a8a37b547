//! An input that is not read any more once reading was told to stop, so that what comes later stays
//! where it is: in the pipe, for who reads it next.

use std::fs::{File, Metadata};
use std::io::{self, PipeReader, PipeWriter, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells that reading is to stop: when it is dropped, or before.
#[derive(Debug)]
pub(super) struct Stop {
    told: Arc<AtomicBool>,
    /// Its other end becomes readable when this one is closed, which ends a wait for input.
    bell: Option<PipeWriter>,
}

/// Hears of it.
#[derive(Debug)]
pub(super) struct Stopping {
    told: Arc<AtomicBool>,
    #[cfg_attr(not(unix), expect(dead_code, reason = "nothing waits there for one of two"))]
    bell: PipeReader,
}

/// The two ends.
///
/// # Errors
/// If the system gives no pipe.
pub(super) fn stopping() -> io::Result<(Stop, Stopping)> {
    let (reader, writer) = io::pipe()?;
    let told = Arc::new(AtomicBool::new(false));
    let stop = Stop { told: Arc::clone(&told), bell: Some(writer) };
    Ok((stop, Stopping { told, bell: reader }))
}

impl Stop {
    pub(super) fn tell(&mut self) {
        self.told.store(true, Ordering::Release);
        self.bell = None;
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.tell();
    }
}

impl Stopping {
    pub(super) fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }
}

/// Stdin, read without a buffer of its own: what that holds could not be waited for.
///
/// # Errors
/// If the system does not give it.
#[cfg(unix)]
pub(super) fn stdin() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Stdin, read without a buffer of its own.
///
/// # Errors
/// If the system does not give it.
#[cfg(windows)]
pub(super) fn stdin() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(io::stdin().as_handle().try_clone_to_owned()?.into())
}

/// A file, or a pipe, for as long as it is to be read.
#[derive(Debug)]
pub(super) struct Stoppable<'a> {
    file: File,
    stopping: &'a Stopping,
    /// Is it read on, whatever was told?
    goes_on: bool,
}

impl<'a> Stoppable<'a> {
    pub(super) fn new(file: File, stopping: &'a Stopping) -> Self {
        Self { file, stopping, goes_on: false }
    }

    /// Reads on, or not, once reading was told to stop.
    pub(super) fn set_goes_on(&mut self, goes_on: bool) {
        self.goes_on = goes_on;
    }

    /// Can it be read again?
    pub(super) fn is_file(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    /// Gives the last `bytes` of what was read of a file back: who reads on where this one stopped,
    /// by the same descriptor, begins with them.
    pub(super) fn give_back(&mut self, bytes: usize) -> io::Result<u64> {
        self.file.seek(SeekFrom::Current(-i64::try_from(bytes).unwrap_or(0)))
    }

    /// Waits for something to read, or for the word to stop. What can't be waited for is read.
    #[cfg(unix)]
    fn wait(&self) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        let interest = PollFlags::IN;
        let mut both =
            [PollFd::new(&self.file, interest), PollFd::new(&self.stopping.bell, interest)];
        // A read that followed an interrupted wait would hear no word.
        Ok(rustix::io::retry_on_intr(|| poll(&mut both, None)).map(drop)?)
    }

    #[cfg(not(unix))]
    fn wait(&self) -> io::Result<()> {
        Ok(())
    }

    /// Is nothing left of a file that has an end?
    fn is_at_end(&mut self) -> bool {
        let metadata = self.file.metadata().ok().filter(Metadata::is_file);
        metadata.is_some_and(|it| self.file.stream_position().is_ok_and(|at| at >= it.len()))
    }
}

impl Read for Stoppable<'_> {
    /// As the file's; an error where reading was told to stop, unless the end was reached.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait()?;
        match self.stopping.is_told() && !self.goes_on {
            true if self.is_at_end() => Ok(0),
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => self.file.read(buffer),
        }
    }
}
