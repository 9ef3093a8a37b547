//! What the application asks for: flush, close, and the end.

use sordini_protocol::mutant;

use crate::batch::BatchId;
use crate::error::{Cause, Refusal};
use crate::producer::Producer;
use crate::producer::io::{Command, Finished, Output, Token};
use crate::sequencing::slot::Slot;
use crate::time::Instant;

/// How far the producer is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Records are accepted.
    Open,
    /// What was accepted is delivered, until then.
    Closing {
        /// When to give up.
        deadline: Instant,
    },
    /// Every record has its outcome.
    Closed,
}

/// A flush that is not yet done.
#[derive(Debug)]
pub(super) struct Flush {
    token: Token,
    pub(super) mark: BatchId,
    pub(super) remaining: usize,
}

impl Producer {
    pub(super) fn on_command(&mut self, command: Command) {
        match command {
            Command::Flush { token, .. } if self.is_closed() => {
                self.finish(token, Finished::Flushed);
            }
            Command::Flush { token, mark } => {
                // What the data plane reported last must be in the view first.
                self.on_lanes_due();
                let remaining = self.seal_before(mark);
                self.flushes.push(Flush { token, mark, remaining });
            }
            Command::Close { token, deadline } => {
                self.closes.push(token);
                self.close(deadline);
            }
            command => self.on_transaction_command(command),
        }
    }

    fn close(&mut self, deadline: Instant) {
        let deadline = match self.life {
            Life::Open => deadline,
            Life::Closing { deadline: earlier } => deadline.min(earlier),
            Life::Closed => {
                self.finish_closes();
                return;
            }
        };
        self.life = Life::Closing { deadline };
        self.accumulator.close();
        self.accumulator.refuse_all(&Refusal::Closed);
        self.on_lanes_due();
        self.seal_before(BatchId(u64::MAX));
        self.close_transactions();
        if mutant!(M14) {
            self.partitions.values_mut().for_each(|partition| {
                while let (Some(_), view) = partition.lane.take(true) {
                    partition.view = view;
                }
            });
        }
        self.give_up_if_late();
    }

    /// Seals what was opened before `mark`, and counts the unresolved batches from before it.
    pub(super) fn seal_before(&mut self, mark: BatchId) -> usize {
        let mut count = 0;
        for partition in self.partitions.values_mut() {
            count += partition.lane.seal_before(mark);
            partition.view = partition.lane.view();
            let on_way = partition.line.slots().iter().filter_map(Slot::meta);
            count += on_way.filter(|meta| meta.id < mark).count();
        }
        self.touch_all();
        count
    }

    /// When the close gives up.
    pub(super) fn close_deadline(&self) -> Option<Instant> {
        match self.life {
            Life::Closing { deadline } => Some(deadline),
            Life::Open | Life::Closed => None,
        }
    }

    /// Fails what is left once a close's deadline has passed.
    pub(super) fn give_up_if_late(&mut self) {
        if self.close_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.fail_all(&Cause::Closed);
        }
    }

    /// Answers the commands that are done.
    pub(super) fn finish_commands(&mut self) {
        let mut at = 0;
        while let Some(flush) = self.flushes.get(at) {
            if flush.remaining > 0 {
                at += 1;
                continue;
            }
            let flush = self.flushes.remove(at);
            self.finish(flush.token, Finished::Flushed);
        }
        // What a codec still has is handed back before the end; codecs do not wait for anybody.
        // A transaction that is not ended by the deadline is aborted by its coordinator later on.
        let is_late = |deadline| deadline <= self.now;
        let waits = !self.is_without_transaction() && !self.close_deadline().is_some_and(is_late);
        let done = !self.is_busy() && self.owed.is_empty() && !waits;
        if self.close_deadline().is_some() && done {
            self.end();
        }
    }

    fn finish(&mut self, token: Token, result: Finished) {
        self.outputs.push_back(Output::Finish { token, result });
    }

    fn finish_closes(&mut self) {
        for token in std::mem::take(&mut self.closes) {
            self.finish(token, Finished::Closed);
        }
    }

    /// Nothing is left: closes the connections and answers.
    fn end(&mut self) {
        assert!(!self.is_busy(), "S5: closed with records unresolved");
        self.abandon_transactions();
        self.life = Life::Closed;
        for flush in std::mem::take(&mut self.flushes) {
            self.finish(flush.token, Finished::Flushed);
        }
        let connections = std::mem::take(&mut self.connections);
        for conn in connections.into_keys() {
            self.outputs.push_back(Output::Disconnect { conn });
        }
        self.nodes.clear();
        self.requests.clear();
        self.runnable.clear();
        self.timers.clear();
        self.owed.clear();
        self.finish_closes();
    }

    /// Ends the producer at once: every record gets its outcome, every command its answer. For a
    /// driver that goes away. Idempotent; drain the outputs after it as after an input.
    pub fn abandon(&mut self) {
        if self.is_closed() {
            return;
        }
        // What an interrupted drain left is still to be told.
        self.accumulator.close();
        self.accumulator.refuse_all(&Refusal::Closed);
        self.on_lanes_due();
        self.fail_all(&Cause::DriverGone);
        self.end();
    }
}
