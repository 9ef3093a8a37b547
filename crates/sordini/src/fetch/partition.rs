//! Where reading of one partition stands, and what it needs next.

use super::machine::{Millis, Notice, Start};

/// ListOffsets' name for the first offset that is there.
pub(super) const EARLIEST: i64 = -2;
/// ListOffsets' name for the end: the high watermark, or the last stable offset.
pub(super) const LATEST: i64 = -1;

/// What a partition asks its leader for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// An offset, by ListOffsets' timestamp.
    Offset(i64),
    /// Records from this offset on.
    Records(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Earliest,
    Latest,
    /// The offset was refused as out of range: where does the log begin?
    BelowStart(i64),
    /// It does not lie before the log's start: where does the log end?
    BeyondEnd(i64),
    At(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Never,
    Asked,
    At(i64),
}

/// One partition that is read.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) index: i32,
    /// The node that leads it, where one is known.
    pub(super) leader: Option<i32>,
    /// Is a request that concerns it on its way?
    pub(super) asked: bool,
    /// Not to be asked about before this.
    pub(super) not_before: Millis,
    /// When its leader last answered without an error (or reading began).
    pub(super) last_good: Millis,
    /// What went wrong since.
    pub(super) trouble: Option<String>,
    failures: u32,
    position: Position,
    end: End,
}

impl Partition {
    pub(super) fn new(index: i32, start: Start, stop_at_end: bool, now: Millis) -> Self {
        Self {
            index,
            leader: None,
            asked: false,
            not_before: 0,
            last_good: now,
            trouble: None,
            failures: 0,
            position: match start {
                Start::Earliest => Position::Earliest,
                Start::Latest => Position::Latest,
                Start::Offset(offset) => Position::At(offset),
            },
            end: if stop_at_end { End::Asked } else { End::Never },
        }
    }

    /// What to ask for next; `None` once the end is reached. The end comes first: what is written
    /// while the start is looked up lies behind it.
    pub(super) fn need(&self) -> Option<Need> {
        if self.end == End::Asked {
            return Some(Need::Offset(LATEST));
        }
        match (self.position, self.end) {
            (Position::At(offset), End::At(end)) if offset >= end => None,
            (Position::At(offset), _) => Some(Need::Records(offset)),
            (Position::Earliest | Position::BelowStart(_), _) => Some(Need::Offset(EARLIEST)),
            (Position::Latest | Position::BeyondEnd(_), _) => Some(Need::Offset(LATEST)),
        }
    }

    /// The offset before which records are wanted.
    pub(super) fn end(&self) -> i64 {
        match self.end {
            End::At(end) => end,
            End::Never | End::Asked => i64::MAX,
        }
    }

    /// The leader answered that the offset of `timestamp` is `offset`.
    pub(super) fn on_offset(&mut self, timestamp: i64, offset: i64) -> Option<Notice> {
        let partition = self.index;
        if self.end == End::Asked {
            // It was asked for nothing else.
            self.end = End::At(offset);
            // What lies beyond the end is never asked for, so that no leader will answer that.
            return match self.position {
                Position::At(wanted) if wanted > offset => {
                    self.position = Position::At(offset);
                    Some(Notice::Moved { partition, from: wanted, to: offset })
                }
                _ => None,
            };
        }
        let (position, notice) = match self.position {
            Position::BelowStart(wanted) if wanted >= offset => (Position::BeyondEnd(wanted), None),
            Position::BeyondEnd(wanted) if wanted <= offset => (Position::At(wanted), None),
            Position::BelowStart(wanted) | Position::BeyondEnd(wanted) => {
                (Position::At(offset), Some(Notice::Moved { partition, from: wanted, to: offset }))
            }
            Position::Earliest | Position::Latest => (Position::At(offset), None),
            Position::At(_) => (self.position, None),
        };
        debug_assert!(timestamp == EARLIEST || timestamp == LATEST);
        self.position = position;
        notice
    }

    /// Records up to `next` were handed out.
    pub(super) fn on_records(&mut self, next: i64) {
        self.position = Position::At(next);
    }

    /// The leader has nothing at the offset that was asked for.
    pub(super) fn on_out_of_range(&mut self) {
        if let Position::At(offset) = self.position {
            self.position = Position::BelowStart(offset);
        }
    }

    /// A leader answered as it should.
    pub(super) fn on_good(&mut self, now: Millis) {
        self.last_good = now;
        self.failures = 0;
        self.trouble = None;
    }

    /// Asking failed; `pause` gives the milliseconds to wait after so many failures in a row.
    pub(super) fn on_failure(&mut self, now: Millis, cause: String, pause: impl Fn(u32) -> Millis) {
        self.asked = false;
        self.trouble = Some(cause);
        self.not_before = now + pause(self.failures);
        self.failures = self.failures.saturating_add(1);
    }
}
