//! Which leader epoch began at which offset (KIP-101, KIP-320), and Kafka's checkpoint file of
//! it: `leader-epoch-checkpoint`.

use std::fmt::Write as _;

/// The file's name, in the partition's folder.
pub const FILE: &str = "leader-epoch-checkpoint";
/// The answer where nothing is known: "no epoch", "no offset".
pub const UNDEFINED: (i32, i64) = (-1, -1);
/// The largest file that is read: 100 000 epochs.
pub const FILE_MAX: u64 = 4 * 1024 * 1024;

/// The epochs of one partition, ascending in epoch and in start offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<(i32, i64)>,
}

impl LeaderEpochs {
    /// Notes that `epoch` begins at `start`. Epochs that begin at or behind `start` never held a
    /// record, and go. Returns whether anything changed.
    pub fn assign(&mut self, epoch: i32, start: i64) -> bool {
        if epoch < 0 || start < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        self.entries.retain(|entry| entry.1 < start);
        self.entries.push((epoch, start));
        true
    }

    /// The newest epoch.
    #[must_use]
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|entry| entry.0)
    }

    /// The epoch that `offset` belongs to.
    #[must_use]
    pub fn epoch_of(&self, offset: i64) -> Option<i32> {
        self.entries.iter().rev().find(|entry| entry.1 <= offset).map(|entry| entry.0)
    }

    /// The last epoch at or below `requested`, and the offset at which it ended; `log_end` ends
    /// the newest. [`UNDEFINED`] if that is not known.
    #[must_use]
    pub fn end_offset_for(&self, requested: i32, log_end: i64) -> (i32, i64) {
        if requested < 0 {
            return UNDEFINED;
        }
        if self.latest() == Some(requested) {
            return (requested, log_end);
        }
        let higher = self.entries.partition_point(|entry| entry.0 <= requested);
        let Some(next) = self.entries.get(higher) else { return UNDEFINED };
        let floor = higher.checked_sub(1).and_then(|i| self.entries.get(i));
        (floor.map_or(requested, |entry| entry.0), next.1)
    }

    /// Forgets what lies at or behind `end`. Returns whether anything changed.
    pub fn truncate_end(&mut self, end: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.1 < end);
        before != self.entries.len()
    }

    /// Forgets what lies before `start`; the epoch that `start` belongs to now begins there.
    pub fn truncate_start(&mut self, start: i64) -> bool {
        let kept = self.entries.iter().rposition(|entry| entry.1 <= start).unwrap_or(0);
        let mut changed = kept > 0;
        self.entries.drain(..kept);
        if let Some(first) = self.entries.first_mut()
            && first.1 < start
        {
            first.1 = start;
            changed = true;
        }
        changed
    }

    /// The checkpoint file's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            let _ = writeln!(text, "{epoch} {start}");
        }
        text
    }

    /// Reads the checkpoint file's text; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != "0" {
            return None;
        }
        let count: usize = lines.next()?.parse().ok()?;
        let mut entries: Vec<(i32, i64)> = Vec::new();
        for line in lines.by_ref().take(count) {
            let (epoch, start) = line.split_once(' ')?;
            let entry: (i32, i64) = (epoch.parse().ok()?, start.parse().ok()?);
            let grows = entries.last().is_none_or(|last| entry.0 > last.0 && entry.1 >= last.1);
            if entry.0 < 0 || entry.1 < 0 || !grows {
                return None;
            }
            entries.push(entry);
        }
        (entries.len() == count && lines.next().is_none()).then_some(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start) in entries {
            epochs.assign(*epoch, *start);
        }
        epochs
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let known = epochs(&[(2, 10), (5, 20), (7, 30)]);
        assert_eq!(known.end_offset_for(7, 99), (7, 99));
        assert_eq!(known.end_offset_for(5, 99), (5, 30));
        assert_eq!(known.end_offset_for(6, 99), (5, 30));
        assert_eq!(known.end_offset_for(4, 99), (2, 20));
        assert_eq!(known.end_offset_for(1, 99), (1, 10), "before all that is known");
        assert_eq!(known.end_offset_for(8, 99), UNDEFINED, "after all that is known");
        assert_eq!(known.end_offset_for(-1, 99), UNDEFINED);
        assert_eq!(LeaderEpochs::default().end_offset_for(0, 99), UNDEFINED);
    }

    #[test]
    fn epochs_without_a_record_vanish() {
        let mut known = epochs(&[(0, 0), (1, 0), (2, 5), (3, 5)]);
        assert_eq!(known, epochs(&[(1, 0), (3, 5)]));
        assert!(!known.assign(3, 9), "an epoch begins once");
        assert!(!known.assign(2, 9), "and never goes back");
        assert_eq!(known.epoch_of(4), Some(1));
        assert_eq!(known.epoch_of(5), Some(3));
    }

    #[test]
    fn truncation_keeps_the_epoch_of_what_is_left() {
        let mut known = epochs(&[(0, 0), (1, 10), (2, 20)]);
        assert!(known.truncate_end(20));
        assert_eq!(known, epochs(&[(0, 0), (1, 10)]));
        assert!(known.truncate_start(15));
        assert_eq!(known, epochs(&[(1, 15)]));
        assert!(!known.truncate_start(15));
    }

    #[test]
    fn the_checkpoint_reads_back_and_refuses_what_is_not_one() {
        let known = epochs(&[(0, 0), (3, 10)]);
        assert_eq!(known.to_text(), "0\n2\n0 0\n3 10\n");
        assert_eq!(LeaderEpochs::parse(&known.to_text()), Some(known));
        for bad in [
            "",
            "0",
            "1\n0\n",
            "0\n1\n",
            "0\n0\n1 1\n",
            "0\n2\n3 1\n2 2\n",
            "0\n1\n-1 0\n",
            "0\n99999999999999\n",
        ] {
            assert_eq!(LeaderEpochs::parse(bad), None, "{bad:?}");
        }
    }
}
