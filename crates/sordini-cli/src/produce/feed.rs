//! From the input to the producer: one run of lines after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sordini::SendError;
use tokio::time::{Instant, MissedTickBehavior};

use super::ledger::Tally;
use super::outlet::Outlet;
use super::shape::{Parsed, Shape};
use super::source::{Item, Place, Source};
use super::stopped::{NotTaken, Stopped};
use crate::connect::explained;
use crate::input::{Piece, lines};
use crate::signals::Signals;
use crate::summary::Line;
use crate::terminal::{self, Progress, grouped};

/// Lines that are handed in together: enough to share a lock, few enough to learn of a failure soon.
const RUN: usize = 256;

/// How often outcomes are looked at while no line comes.
const LOOK: Duration = Duration::from_millis(200);

/// How late a timer may ring: without making up for that, high rates would stay below what is asked.
const LATE: Duration = Duration::from_millis(10);

/// Rejected lines that are told about, each by its number.
const TOLD: u64 = 5;

/// Hands lines to the producer, and keeps the ledger.
#[derive(Debug)]
pub(super) struct Feed {
    outlet: Outlet,
    shape: Shape,
    source: Source,
    signals: Signals,
    /// How long nothing may move before reading stops: max.block.ms.
    patience: Duration,
    pace: Option<Pace>,
    complete: bool,
    began: Instant,
    /// Bytes of the input that were dealt with.
    position: u64,
    /// The line that comes in parts, and has not ended.
    unended: Option<Unended>,
    /// The last line that was dealt with.
    reached: Option<Place>,
}

/// A line of which parts were dealt with.
#[derive(Debug)]
struct Unended {
    place: Place,
    bytes: u64,
}

impl Feed {
    pub(super) fn new(
        outlet: Outlet,
        shape: Shape,
        source: Source,
        signals: Signals,
        patience: Duration,
        rate: Option<u64>,
    ) -> Self {
        let pace = rate.map(Pace::new);
        Self {
            outlet,
            shape,
            source,
            signals,
            patience,
            pace,
            complete: false,
            began: Instant::now(),
            position: 0,
            unended: None,
            reached: None,
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.outlet.tally()
    }

    pub(super) fn outlet(&mut self) -> &mut Outlet {
        &mut self.outlet
    }

    /// Was the input read to its end, and each of its lines dealt with?
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Where the input was not read to its end: the last line that is accounted for, if one is. None
    /// where a line before it could not be kept: nobody may go on behind it.
    pub(super) fn last_line(&self) -> Option<Line> {
        let is_sure = !self.complete && !self.outlet.lacks_lines();
        let Place { name, line } = self.reached.as_ref().filter(|_| is_sure)?;
        Some(Line { input: name.to_string(), line: *line })
    }

    /// Reads to the end of the input, or until that makes no sense any more.
    ///
    /// # Errors
    /// Why it stopped before.
    pub(super) async fn run(&mut self, progress: &Progress) -> Result<(), Stopped> {
        let result = self.read_all(progress).await;
        self.source.stop();
        if let Err(stopped) = &result {
            // What was read is gone from a pipe: it must not get lost here, not even where a second
            // signal comes while the transaction is aborted.
            let kept = match self.outlet.keeps_lines() {
                true => self.keep_left_over().await,
                false => Ok(()),
            };
            self.outlet.stop(stopped).await;
            kept?;
        }
        result
    }

    async fn read_all(&mut self, progress: &Progress) -> Result<(), Stopped> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let item = tokio::select! {
                biased;
                _ = self.signals.wait() => return Err(Stopped::Signal),
                item = self.source.next() => item,
                // While the input rests, what is on its way still arrives.
                _ = look.tick() => {
                    self.outlet.settle().await?;
                    self.show_counts(progress);
                    continue;
                }
            };
            match item {
                Some(Item::Piece(place, Piece::Lines(block))) => {
                    self.feed(&place, &block, progress).await?;
                }
                Some(Item::Piece(place, Piece::Overlong { bytes, last })) => {
                    self.reject_part(&place, bytes, last).await?;
                }
                Some(Item::Failed(why)) => return Err(Stopped::Because(why)),
                Some(Item::End) => {
                    self.complete = true;
                    return self.outlet.end().await;
                }
                None => return Err(Stopped::Because("the input's reader has gone".into())),
            }
        }
    }

    /// Hands in the lines of `block`; where that stops, [`Feed::abandon`] deals with the rest.
    async fn feed(
        &mut self,
        place: &Place,
        block: &Bytes,
        progress: &Progress,
    ) -> Result<(), Stopped> {
        let (mut start, mut number) = (0, place.line);
        let mut run = Vec::with_capacity(RUN);
        // The shape is lent to the run while the rest of this is borrowed mutably.
        let shape = self.shape.clone();
        let mut most = self.run_length();
        for line in lines(block) {
            let end = (start + line.len() + 1).min(block.len());
            let parsed = shape.parse(line, start, end);
            start = end;
            number += 1;
            let broken = match parsed {
                Ok(parsed) => {
                    run.push(parsed);
                    None
                }
                Err(why) => Some(why),
            };
            if run.len() >= most || broken.is_some() {
                let first = number - run.len() as u64 - u64::from(broken.is_some());
                self.submit(place, block, &shape, &run, first, progress).await?;
                run.clear();
                most = self.run_length();
            }
            if let Some(why) = broken {
                self.tell_rejected(place, number - 1, &why);
                let begun = end - line.len() - usize::from(block[..end].ends_with(b"\n"));
                if let Err(stopped) = self.outlet.reject(block.slice(begun..end), 1).await {
                    return self.abandon(place, block, end, stopped);
                }
            }
        }
        let first = number - run.len() as u64;
        self.submit(place, block, &shape, &run, first, progress).await?;
        self.reach(place, number - place.line);
        Ok(())
    }

    /// So many lines from `place` on are dealt with.
    fn reach(&mut self, place: &Place, lines: u64) {
        if lines > 0 {
            let line = place.line + lines - 1;
            self.reached = Some(Place { name: Arc::clone(&place.name), line });
        }
    }

    /// So many bytes of the line at `place` are dealt with; or, with `last`, all of it is.
    fn reach_part(&mut self, place: &Place, bytes: usize, last: bool) {
        let before = self.unended.take().map_or(0, |line| line.bytes);
        if last {
            self.reach(place, 1);
        } else {
            self.unended = Some(Unended { place: place.clone(), bytes: before + bytes as u64 });
        }
    }

    fn run_length(&self) -> usize {
        self.pace.as_ref().map_or(RUN, |pace| pace.run.min(RUN))
    }

    /// Hands in a run of lines, the first of which has the number `first`.
    async fn submit(
        &mut self,
        place: &Place,
        block: &Bytes,
        shape: &Shape,
        run: &[Parsed<'_>],
        first: u64,
        progress: &Progress,
    ) -> Result<(), Stopped> {
        let mut done = 0;
        while done < run.len() {
            let rest = &run[done..];
            let rest = &rest[..rest.len().min(self.outlet.most())];
            let from = rest.first().map_or(block.len(), |first| first.start);
            if let Err(stopped) = self.wait_for_turn(rest.len()).await {
                return self.abandon(place, block, from, stopped);
            }
            let (accepted, refused) = self.outlet.take(&mut self.signals, block, rest, shape).await;
            done += accepted;
            if let Err(refused) = refused {
                match self.judge(refused) {
                    Ok(why) => {
                        self.tell_rejected(place, first + done as u64, &why);
                        let Parsed { start, end, .. } = run[done];
                        done += 1;
                        let line = block.slice(start..end);
                        if let Err(stopped) = self.outlet.reject(line, 1).await {
                            return self.abandon(place, block, end, stopped);
                        }
                    }
                    Err(stopped) => {
                        return self.abandon(place, block, end_of(&run[..done], from), stopped);
                    }
                }
            }
            if let Err(stopped) = self.outlet.settle().await {
                return self.abandon(place, block, end_of(&run[..done], from), stopped);
            }
        }
        self.show(progress, block, run);
        Ok(())
    }

    /// Waits for the pace, and for room in the ledger.
    async fn wait_for_turn(&mut self, count: usize) -> Result<(), Stopped> {
        if let Some(pace) = &mut self.pace {
            let due = pace.next(count);
            tokio::select! {
                _ = self.signals.wait() => return Err(Stopped::Signal),
                () = tokio::time::sleep_until(due) => {}
            }
        }
        self.outlet.ready(&mut self.signals, self.patience).await?;
        match self.signals.seen() {
            Some(_) => Err(Stopped::Signal),
            None => Ok(()),
        }
    }

    /// Whether a record that was not accepted concerns its line alone (then why), or all of them.
    fn judge(&self, refused: NotTaken) -> Result<String, Stopped> {
        let error = match refused {
            NotTaken::Line(error) => error,
            NotTaken::Rest(stopped) => return Err(stopped),
        };
        match error {
            SendError::TooLarge { .. } | SendError::NegativeTimestamp { .. } => {
                Ok(error.to_string())
            }
            // With -p every other line would meet the same.
            SendError::UnknownPartition { .. } if self.shape.partition.is_none() => {
                Ok(error.to_string())
            }
            SendError::Closed if self.signals.seen().is_some() => Err(Stopped::Signal),
            error => Err(Stopped::Because(match self.outlet.first_failure() {
                Some(failure) => format!("{}; before that: {failure}", explained(&error)),
                None => explained(&error),
            })),
        }
    }

    /// Reading stops before the line that begins at `from`. With `--failed` it and those behind it
    /// go there, as rejected; else they are not counted, and who goes on begins with them.
    fn abandon(
        &mut self,
        place: &Place,
        block: &Bytes,
        from: usize,
        stopped: Stopped,
    ) -> Result<(), Stopped> {
        let taken = count_lines(&block[..from]);
        self.reach(place, taken);
        if self.outlet.keeps_lines() && from < block.len() {
            let lines = block.slice(from..);
            let count = count_lines(&lines);
            self.outlet.leave(lines, count)?;
            self.reach(place, taken + count);
        }
        Err(stopped)
    }

    /// Rejects what the reader held when it was told to stop.
    async fn keep_left_over(&mut self) -> Result<(), Stopped> {
        while let Some(item) = self.source.left_over().await {
            match item {
                Item::Piece(place, Piece::Lines(block)) => {
                    let count = count_lines(&block);
                    self.outlet.leave(block, count)?;
                    self.reach(&place, count);
                }
                Item::Piece(place, Piece::Overlong { bytes, last }) => {
                    self.reach_part(&place, bytes.len(), last);
                    self.outlet.leave(bytes, u64::from(last))?;
                }
                Item::Failed(_) => break,
                Item::End => {
                    self.complete = true;
                    break;
                }
            }
        }
        if let Some(Unended { place, .. }) = self.unended.take() {
            // A line of which a part was read is one that was not delivered.
            self.outlet.leave(Bytes::new(), 1)?;
            self.reach(&place, 1);
        }
        Ok(self.outlet.finish()?)
    }

    /// Rejects a part of a line that is too long to be held.
    async fn reject_part(&mut self, place: &Place, part: Bytes, last: bool) -> Result<(), Stopped> {
        let ready = self.outlet.ready_for_part(&mut self.signals).await;
        if ready.is_err() && !self.outlet.keeps_lines() {
            return ready;
        }
        if last {
            let why = format!(
                "it is longer than {} bytes, the most that max.request.size allows; raise that \
                 with -X, or send less in a line",
                self.source.limit()
            );
            self.tell_rejected(place, place.line, &why);
        }
        self.position += part.len() as u64;
        self.reach_part(place, part.len(), last);
        let rejected = self.outlet.reject(part, u64::from(last)).await;
        ready.and(rejected)?;
        let read = self.unended.as_ref().map_or(0, |line| line.bytes);
        if read <= self.source.longest() {
            return Ok(());
        }
        Err(Stopped::Because(format!(
            "line {} of {} has no end: {} bytes were read of it, and max.request.size allows {}; \
             lines end at LF, so give it input that is made of lines",
            place.line,
            place.name,
            grouped(read),
            grouped(self.source.limit() as u64)
        )))
    }

    fn tell_rejected(&self, place: &Place, line: u64, why: &str) {
        match self.tally().rejected {
            count if count < TOLD || tracing::enabled!(tracing::Level::INFO) => {
                terminal::warn(format!("line {line} of {} is rejected: {why}", place.name));
            }
            TOLD => {
                terminal::warn("more lines are rejected; the summary counts them (-v tells each)");
            }
            _ => {}
        }
    }

    fn show(&mut self, progress: &Progress, block: &Bytes, run: &[Parsed<'_>]) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
        self.position += (last.end.min(block.len()) - first.start) as u64;
        self.show_counts(progress);
    }

    fn show_counts(&self, progress: &Progress) {
        let tally = self.tally();
        progress.show(self.position, || {
            let waiting = tally.accepted - tally.delivered - tally.failed - tally.unknown;
            let rate = tally.delivered as f64 / self.began.elapsed().as_secs_f64().max(0.001);
            let mut text = format!(
                "{} delivered ({}/s), {} on their way",
                grouped(tally.delivered),
                grouped(rate as u64),
                grouped(waiting)
            );
            let lost = tally.failed + tally.unknown + tally.rejected;
            if lost > 0 {
                text.push_str(&format!(", {} not delivered", grouped(lost)));
            }
            text
        });
    }

    /// Waits for the outcomes of all that was accepted: `within` is more than they may take.
    pub(super) async fn drain(&mut self, progress: &Progress, within: Duration) {
        let until = Instant::now() + within;
        let mut failure = None;
        while let Some(ledger) = self.outlet.waiting().filter(|ledger| !ledger.is_empty()) {
            let left = until.saturating_duration_since(Instant::now());
            match ledger.wait_for_oldest(left).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => failure = Some(error),
            }
            self.show_counts(progress);
        }
        if let Some(error) = failure.or(self.outlet.finish().err()) {
            terminal::error(error.message);
        }
    }
}

/// Where the line behind `lines` begins; with none, at `from`.
fn end_of(lines: &[Parsed<'_>], from: usize) -> usize {
    lines.last().map_or(from, |line| line.end)
}

/// How many lines `block` has; the last one may be without its LF.
fn count_lines(block: &[u8]) -> u64 {
    lines(block).count() as u64
}

/// Lines a second at most.
#[derive(Debug)]
struct Pace {
    rate: f64,
    /// Lines that are handed in together: about fifty runs a second.
    run: usize,
    next: Instant,
}

impl Pace {
    fn new(rate: u64) -> Self {
        let run = usize::try_from(rate / 50).unwrap_or(RUN).max(1);
        Self { rate: rate as f64, run, next: Instant::now() }
    }

    /// When `count` lines more may go. A timer that rang a little late is made up for, a pause in
    /// the input is not.
    fn next(&mut self, count: usize) -> Instant {
        let due = self.next.max(Instant::now() - LATE);
        self.next = due + Duration::from_secs_f64(count as f64 / self.rate);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_never_above_the_rate_and_a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(1000);
        assert_eq!(pace.run, 20);
        for _ in 0..2 {
            let began = Instant::now();
            for _ in 0..51 {
                tokio::time::sleep_until(pace.next(20)).await;
            }
            // The first run goes at once: fifty pauses for a thousand lines, less what may be late.
            assert!(began.elapsed() >= Duration::from_secs(1) - LATE, "{:?}", began.elapsed());
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    }
}
