//! The input: files and stdin, cut into lines by a thread of its own.
//!
//! A thread, since a read of a pipe can't be interrupted: who stops reading leaves it where it is.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::connect::why_unreadable;
use crate::exit::Failure;
use crate::input::{LineReader, Piece};
use crate::terminal;

/// Pieces that may wait to be taken: what is read while records are appended.
const PIECES_AHEAD: usize = 2;

/// How long a reader that was told to stop has to hand over what it holds.
const HAND_OVER: Duration = Duration::from_millis(200);

/// Where a piece came from.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The file's name, or `stdin`.
    pub(super) name: Arc<str>,
    /// The number of the piece's first line, from 1.
    pub(super) line: u64,
}

/// Bytes that are read at least of a line before it is taken to have no end.
const ENDLESS: u64 = 64 << 20;

/// What the thread hands over.
#[derive(Debug)]
pub(super) enum Item {
    /// Lines, or a part of one.
    Piece(Place, Piece),
    /// The input can't be read any further.
    Failed(String),
    /// The last input was read to its end.
    End,
}

/// One file or stdin, opened.
struct Input {
    name: Arc<str>,
    reader: Box<dyn Read + Send>,
}

/// All inputs, opened before anything is sent.
pub(super) struct Inputs {
    inputs: Vec<Input>,
    /// Their bytes together, where each is a file.
    pub(super) size: Option<u64>,
}

impl Inputs {
    /// Opens `files`; none, or `-`, is stdin.
    ///
    /// # Errors
    /// If one can't be opened, or is a folder.
    pub(super) fn open(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut all = Self { inputs: Vec::new(), size: Some(0) };
        if files.is_empty() {
            all.add_stdin();
        }
        for path in files {
            if path.as_os_str() == "-" {
                all.add_stdin();
            } else {
                all.add_file(path).map_err(|error| {
                    let why = why_unreadable(&error);
                    Failure::usage(format!("the file {} can't be read: {why}", path.display()))
                })?;
            }
        }
        Ok(all)
    }

    fn add_stdin(&mut self) {
        self.size = None;
        if io::stdin().is_terminal() {
            terminal::note("reading lines from the terminal; Ctrl-D ends the input");
        }
        self.inputs.push(Input { name: "stdin".into(), reader: Box::new(io::stdin()) });
    }

    fn add_file(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let size = metadata.is_file().then_some(metadata.len());
        self.size = self.size.zip(size).map(|(all, one)| all.saturating_add(one));
        let name = path.display().to_string().into();
        self.inputs.push(Input { name, reader: Box::new(file) });
        Ok(())
    }

    /// Starts to read. Lines longer than `limit` bytes come in parts.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(self, limit: usize) -> io::Result<Source> {
        let (sender, items) = mpsc::channel(PIECES_AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        std::thread::Builder::new().name("input".into()).spawn(move || {
            for input in self.inputs {
                if !read(input, limit, &sender, &seen) {
                    return;
                }
            }
            // A receiver that is gone does not want to know.
            let _ = sender.blocking_send(Item::End);
        })?;
        Ok(Source { items, stop, limit })
    }
}

/// Reads one input; false where nothing more is wanted, or can be had.
fn read(input: Input, limit: usize, items: &mpsc::Sender<Item>, stop: &AtomicBool) -> bool {
    let Input { name, reader } = input;
    let mut lines = LineReader::new(reader, limit);
    let mut line = 1;
    while !stop.load(Ordering::Relaxed) {
        let item = match lines.next_piece() {
            Ok(Some(piece)) => {
                let place = Place { name: Arc::clone(&name), line };
                line += ended_lines(&piece);
                Item::Piece(place, piece)
            }
            Ok(None) => return true,
            Err(error) => Item::Failed(format!("{name} can't be read any further: {error}")),
        };
        let failed = matches!(item, Item::Failed(_));
        if items.blocking_send(item).is_err() || failed {
            return false;
        }
    }
    false
}

fn ended_lines(piece: &Piece) -> u64 {
    match piece {
        Piece::Lines(lines) => memchr::memchr_iter(b'\n', lines).count() as u64,
        Piece::Overlong { last, .. } => u64::from(*last),
    }
}

/// The input while it is read.
#[derive(Debug)]
pub(super) struct Source {
    items: mpsc::Receiver<Item>,
    stop: Arc<AtomicBool>,
    limit: usize,
}

impl Source {
    /// The longest line that comes in one piece, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How much is read of a line at most, in bytes: one that is longer has no end, and all of it
    /// could only be rejected.
    pub(super) fn longest(&self) -> u64 {
        ENDLESS.max((self.limit as u64).saturating_mul(8))
    }

    /// The next item; `None` where the reader has gone.
    ///
    /// # Cancellation
    /// Safe.
    pub(super) async fn next(&mut self) -> Option<Item> {
        self.items.recv().await
    }

    /// Stops reading.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// After [`Source::stop`]: what was read already, as far as the reader hands it over soon. A
    /// reader that waits for a pipe holds nothing.
    pub(super) async fn left_over(&mut self) -> Option<Item> {
        tokio::time::timeout(HAND_OVER, self.items.recv()).await.ok().flatten()
    }
}
