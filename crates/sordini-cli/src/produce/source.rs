//! The input: files and stdin, cut into lines by a thread of its own.
//!
//! A thread, since reads of files and pipes block.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::stoppable::{self, Stop, Stoppable, Stopping};
use crate::connect::why_unreadable;
use crate::exit::Failure;
use crate::input::{LineReader, Piece};
use crate::terminal;

/// Pieces that may wait to be taken: what is read while records are appended.
const PIECES_AHEAD: usize = 2;

/// How long a reader that was told to stop has to hand over what it holds: it may be a line of
/// gigabytes. Where a system has no way to wait for input and for the word to stop, one that waits for
/// a pipe hears nothing.
const HAND_OVER: Duration = Duration::from_millis(if cfg!(unix) { 60_000 } else { 200 });

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
    file: File,
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
            all.add_stdin()?;
        }
        for path in files {
            if path.as_os_str() == "-" {
                all.add_stdin()?;
            } else {
                all.add_file(path).map_err(|error| {
                    let why = why_unreadable(&error);
                    Failure::usage(format!("the file {} can't be read: {why}", path.display()))
                })?;
            }
        }
        Ok(all)
    }

    fn add_stdin(&mut self) -> Result<(), Failure> {
        self.size = None;
        if io::stdin().is_terminal() {
            terminal::note("reading lines from the terminal; Ctrl-D ends the input");
        }
        let file = stoppable::stdin()
            .map_err(|error| Failure::usage(format!("stdin can't be read: {error}")))?;
        self.inputs.push(Input { name: "stdin".into(), file });
        Ok(())
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
        self.inputs.push(Input { name, file });
        Ok(())
    }

    /// The first input that is the file at `path`, by whatever name.
    pub(super) fn name_of(&self, path: &Path) -> Option<&str> {
        let wanted = identity(&path.metadata().ok()?)?;
        let is_it = |input: &&Input| {
            let metadata = input.file.metadata().ok();
            metadata.and_then(|it| identity(&it)).is_some_and(|it| it == wanted)
        };
        self.inputs.iter().find(is_it).map(|input| &*input.name)
    }

    /// Starts to read. Lines longer than `limit` bytes come in parts.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub(super) fn start(self, limit: usize) -> io::Result<Source> {
        let (sender, items) = mpsc::channel(PIECES_AHEAD);
        let (stop, stopping) = stoppable::stopping()?;
        std::thread::Builder::new().name("input".into()).spawn(move || {
            let count = self.inputs.len();
            for (number, input) in (1..).zip(self.inputs) {
                let after = if number < count { After::Another } else { After::Nothing };
                if !read(input, limit, &sender, &stopping, after) {
                    return;
                }
            }
            // A receiver that is gone does not want to know.
            let _ = sender.blocking_send(Item::End);
        })?;
        Ok(Source { items, stop, limit })
    }
}

/// What follows an input.
#[derive(Clone, Copy)]
enum After {
    /// Another one, whose first line must not become one with the last of this.
    Another,
    Nothing,
}

/// Reads one input; false where nothing more is wanted, or can be had. What was read when reading is
/// told to stop, or fails, is handed over: of a pipe also a line that had only begun, as nobody else
/// has it. A line of a file of which parts were handed over is read to its end, if it has one.
fn read(
    input: Input,
    limit: usize,
    items: &mpsc::Sender<Item>,
    stopping: &Stopping,
    after: After,
) -> bool {
    let Input { name, file } = input;
    let input = Stoppable::new(file, stopping);
    let is_file = input.is_file();
    let mut lines = LineReader::new(input, limit);
    let (mut line, mut parts) = (1, 0);
    let mut hand_over = |piece: Piece| {
        let place = Place { name: Arc::clone(&name), line };
        line += ended_lines(&piece);
        items.blocking_send(Item::Piece(place, piece)).is_ok()
    };
    let ended = loop {
        let goes_on = is_file && lines.is_inside_a_line() && parts < endless(limit);
        lines.input_mut().set_goes_on(goes_on);
        let piece = match (lines.next_piece(), after) {
            (Ok(Some(piece)), After::Another) => piece.ended(),
            (Ok(Some(piece)), After::Nothing) => piece,
            (Ok(None), _) => return true,
            (Err(error), _) => break error,
        };
        parts = if lines.is_inside_a_line() { parts + piece.bytes().len() as u64 } else { 0 };
        if !hand_over(piece) {
            return false;
        }
    };
    if let Some(begun) = lines.take_begun() {
        if is_file {
            // Where that can't be done, the file is read anew by its name.
            drop(lines.input_mut().give_back(begun.bytes().len()));
        } else if !hand_over(begun) {
            return false;
        }
    }
    if !stopping.is_told() {
        let why = format!("{name} can't be read any further: {ended}");
        // A receiver that is gone does not want to know.
        let _ = items.blocking_send(Item::Failed(why));
    }
    false
}

/// How much is read of a line at most, in bytes, where one that comes in one piece has `limit`: one
/// that is longer has no end, and all of it could only be rejected.
fn endless(limit: usize) -> u64 {
    ENDLESS.max((limit as u64).saturating_mul(8))
}

/// What tells files apart, whatever their names; nothing tells pipes and devices apart.
#[cfg(unix)]
fn identity(metadata: &std::fs::Metadata) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Option<(u64, u64)> {
    None
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
    stop: Stop,
    limit: usize,
}

impl Source {
    /// The longest line that comes in one piece, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How much is read of a line at most, in bytes.
    pub(super) fn longest(&self) -> u64 {
        endless(self.limit)
    }

    /// The next item; `None` where the reader has gone.
    ///
    /// # Cancellation
    /// Safe.
    pub(super) async fn next(&mut self) -> Option<Item> {
        self.items.recv().await
    }

    /// Stops reading.
    pub(super) fn stop(&mut self) {
        self.stop.tell();
    }

    /// After [`Source::stop`]: what was read already, as far as the reader hands it over soon. It
    /// does, but where a system has no way to wait for input and for the word to stop.
    pub(super) async fn left_over(&mut self) -> Option<Item> {
        tokio::time::timeout(HAND_OVER, self.items.recv()).await.ok().flatten()
    }
}
