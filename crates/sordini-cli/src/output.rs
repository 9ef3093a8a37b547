//! Stdout, and what to do when nobody reads it any more.

use std::io::{self, Write};
#[cfg(unix)]
use std::os::fd::AsFd;

#[cfg(unix)]
use tokio::{io::Interest, net::unix::pipe::Sender};

use crate::exit::{FAILED, Failure, Outcome};

/// How much is gathered before it is written, in bytes.
const GATHERED: usize = 64 * 1024;

/// Gathers output. What is gathered is written by [`Output::flush`], or once there is much.
#[derive(Debug)]
pub(crate) struct Output<W> {
    inner: W,
    buffer: Vec<u8>,
}

impl Output<io::Stdout> {
    /// The process's stdout.
    pub(crate) fn stdout() -> Self {
        Self::new(io::stdout())
    }
}

impl<W: Write> Output<W> {
    fn new(inner: W) -> Self {
        Self { inner, buffer: Vec::with_capacity(GATHERED) }
    }

    /// Where to append what is to be written.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes what is gathered, where it is much.
    ///
    /// # Errors
    /// As [`Output::flush`].
    pub(crate) fn flush_if_full(&mut self) -> Result<(), Failure> {
        if self.buffer.len() >= GATHERED { self.flush() } else { Ok(()) }
    }

    /// Writes what is gathered.
    ///
    /// # Errors
    /// A [`Failure`] that is quiet where the reader has gone: it has seen enough.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let written = self.inner.write_all(&self.buffer).and_then(|()| self.inner.flush());
        self.buffer.clear();
        judged(written)
    }
}

fn judged(written: io::Result<()>) -> Outcome {
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::quiet(0),
        _ => Failure { code: FAILED, message: format!("stdout can't be written: {error}") },
    })
}

/// Prints what `--help` or `--version` asked for.
///
/// # Errors
/// As [`Output::flush`].
pub(crate) fn print_help(asked: &clap::Error) -> Outcome {
    judged(asked.print().and_then(|()| io::stdout().flush()))
}

/// Waits until nobody can read stdout any more, where that can be known: of a pipe. An idle writer
/// learns of it in no other way.
///
/// # Cancellation
/// Safe.
pub(crate) async fn reader_gone() {
    #[cfg(unix)]
    if let Ok(descriptor) = io::stdout().as_fd().try_clone_to_owned()
        // Nothing is written through it, so that it may stay blocking, as its copies are.
        && let Ok(pipe) = Sender::from_owned_fd_unchecked(descriptor)
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    // A file, which has no reader.
    std::future::pending::<()>().await;
}

/// Prints one line to stdout.
///
/// # Errors
/// As [`Output::flush`].
pub(crate) fn print_line(line: &str) -> Result<(), Failure> {
    let mut output = Output::stdout();
    output.buffer().extend_from_slice(line.as_bytes());
    output.buffer().push(b'\n');
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is_one() {
        let end = |kind| {
            let mut output = Output::new(Closed(kind));
            output.buffer().push(b'x');
            output.flush().expect_err("it is closed")
        };
        assert_eq!(end(io::ErrorKind::BrokenPipe), Failure::quiet(0));
        let full = end(io::ErrorKind::StorageFull);
        assert_eq!(full.code, FAILED);
        assert!(full.message.contains("stdout can't be written"), "{}", full.message);
    }
}
