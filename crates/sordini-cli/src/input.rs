//! Lines out of files and pipes: whole blocks of them, so that a line costs a search and nothing more.
//!
//! A line ends at LF; every other byte, CR included, belongs to the record. The last line of an
//! input needs no LF.

use std::io::{self, Read};

use bytes::Bytes;

/// How much is asked of the input at a time, in bytes.
pub(crate) const BLOCK_SIZE: usize = 256 * 1024;

/// What an input is cut into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Whole lines, each with its LF; only the very last line of an input may be without.
    Lines(Bytes),
    /// A part of one line that is longer than the limit, for passing on as it comes; with `last` the
    /// line is over (its LF, where it has one, is in this part).
    Overlong {
        /// The part's bytes.
        bytes: Bytes,
        /// Is this the line's last part?
        last: bool,
    },
}

impl Piece {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        match self {
            Self::Lines(bytes) | Self::Overlong { bytes, .. } => bytes,
        }
    }

    /// With a LF where it is the last of an input that ends without one.
    pub(crate) fn ended(self) -> Self {
        let ended = |bytes: Bytes| match bytes.ends_with(b"\n") {
            true => bytes,
            false => Bytes::from([&bytes[..], b"\n"].concat()),
        };
        match self {
            Self::Lines(bytes) => Self::Lines(ended(bytes)),
            Self::Overlong { bytes, last: true } => {
                Self::Overlong { bytes: ended(bytes), last: true }
            }
            part @ Self::Overlong { last: false, .. } => part,
        }
    }
}

/// Cuts a reader into [`Piece`]s. It holds at most one block and one line of `limit` bytes.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    input: R,
    scratch: Vec<u8>,
    /// How much of `scratch` has been read and not handed out.
    filled: usize,
    /// How much of that is known to hold no LF.
    searched: usize,
    limit: usize,
    block: usize,
    inside_overlong: bool,
    ended: bool,
}

impl<R: Read> LineReader<R> {
    /// Lines of `input`; those longer than `limit` bytes (without their LF) come as
    /// [`Piece::Overlong`].
    pub(crate) fn new(input: R, limit: usize) -> Self {
        Self::with_block(input, limit, BLOCK_SIZE)
    }

    fn with_block(input: R, limit: usize, block: usize) -> Self {
        Self {
            input,
            scratch: vec![0; block],
            filled: 0,
            searched: 0,
            limit,
            block,
            inside_overlong: false,
            ended: false,
        }
    }

    /// The next piece; `None` once the input has ended. Waits for no more than it needs: what a pipe
    /// has is handed out when it holds a whole line.
    ///
    /// # Errors
    /// The input's own. It may be asked again, but nothing promises that it goes on.
    pub(crate) fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if self.searched < self.filled
                && let Some(piece) = self.cut()
            {
                return Ok(Some(piece));
            }
            if self.ended {
                return Ok(self.take_rest());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        if self.filled == self.scratch.len() {
            self.scratch.resize(self.filled + self.block, 0);
        }
        loop {
            match self.input.read(&mut self.scratch[self.filled..]) {
                Ok(read) => {
                    self.filled += read;
                    self.ended = read == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What can be handed out of the bytes at hand.
    fn cut(&mut self) -> Option<Piece> {
        let held = &self.scratch[..self.filled];
        let first = memchr::memchr(b'\n', &held[self.searched..]).map(|at| self.searched + at);
        match first {
            Some(at) if self.inside_overlong || at > self.limit => {
                Some(self.take_overlong(at + 1, true))
            }
            Some(_) => Some(self.take_lines()),
            None if self.inside_overlong || self.filled > self.limit => {
                Some(self.take_overlong(self.filled, false))
            }
            None => {
                self.searched = self.filled;
                None
            }
        }
    }

    /// The lines that are complete, up to the first that is too long.
    fn take_lines(&mut self) -> Piece {
        let held = &self.scratch[..self.filled];
        let mut end = 0;
        let whole = memchr::memrchr(b'\n', held).map_or(0, |at| at + 1);
        if whole <= self.limit {
            end = whole;
        } else {
            for at in memchr::memchr_iter(b'\n', held) {
                if at - end > self.limit {
                    break;
                }
                end = at + 1;
            }
        }
        let lines = Bytes::copy_from_slice(&held[..end]);
        self.consume(end);
        // The line that has begun is known to have no LF; where it is too long already, it is looked
        // at again.
        if end == whole && self.filled <= self.limit {
            self.searched = self.filled;
        }
        Piece::Lines(lines)
    }

    fn take_overlong(&mut self, end: usize, last: bool) -> Piece {
        let bytes = Bytes::copy_from_slice(&self.scratch[..end]);
        self.consume(end);
        self.inside_overlong = !last;
        Piece::Overlong { bytes, last }
    }

    /// At the end of the input: the last line, where it has no LF.
    fn take_rest(&mut self) -> Option<Piece> {
        if self.inside_overlong {
            return Some(self.take_overlong(self.filled, true));
        }
        if self.filled == 0 {
            return None;
        }
        let line = Bytes::copy_from_slice(&self.scratch[..self.filled]);
        self.consume(self.filled);
        Some(Piece::Lines(line))
    }

    /// What is read.
    pub(crate) fn input_mut(&mut self) -> &mut R {
        &mut self.input
    }

    /// Is the line that was handed out last one that goes on?
    pub(crate) fn is_inside_a_line(&self) -> bool {
        self.inside_overlong
    }

    /// What was read of a line that has not ended, for who reads no further.
    pub(crate) fn take_begun(&mut self) -> Option<Piece> {
        match self.inside_overlong {
            _ if self.filled == 0 => None,
            true => Some(self.take_overlong(self.filled, false)),
            false => self.take_rest(),
        }
    }

    fn consume(&mut self, count: usize) {
        self.scratch.copy_within(count..self.filled, 0);
        self.filled -= count;
        self.searched = 0;
        // A long line must not hold its memory for the rest of the input.
        if self.scratch.len() > self.block && self.filled < self.block {
            self.scratch.truncate(self.block);
            self.scratch.shrink_to_fit();
        }
    }
}

/// The lines of a block of them, each without its LF.
pub(crate) fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = block;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (line, after) = match memchr::memchr(b'\n', rest) {
            Some(at) => (&rest[..at], &rest[at + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        rest = after;
        Some(line)
    })
}

#[cfg(test)]
mod tests;
