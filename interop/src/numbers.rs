//! Transactions that can be judged: each has a number, which it writes to every partition.
//!
//! The writer's log says what was meant and what it was told; readers say what there is. Neither
//! is believed alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What became of a number, as far as its writer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the judge handles each")]
pub enum Fate {
    /// In every partition.
    Committed,
    /// In none.
    Aborted,
    /// In every partition or in none: the writer was killed, or could not find out.
    Doubtful,
}

/// A writer's log, over all its lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    fates: BTreeMap<u64, Fate>,
    /// How often it began.
    pub lives: u32,
    /// Numbers of which only a read after a restart told what became of them.
    pub found: u32,
    /// Whether its last life came to its end.
    pub ended: bool,
}

impl Told {
    /// From the log's text. Its last line may be half written: the writer was killed.
    ///
    /// # Errors
    /// With the line that no writer should have written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut told = Self::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            told.line(line).ok_or_else(|| format!("the writer's log says `{line}`"))?;
        }
        Ok(told)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let words: Vec<&str> = line.split(' ').collect();
        let number = words.get(1).and_then(|word| word.parse::<u64>().ok());
        match (words.first().copied()?, number, words.get(2).copied()) {
            ("start", None, None) => self.lives += 1,
            ("end", None, None) => self.ended = true,
            ("intent", Some(number), Some(what)) => self.intend(number, what)?,
            // What it never asked to commit is not there, whatever it was told of the abort.
            ("outcome" | "found", Some(number), Some(_))
                if self.fates.get(&number)? == &Fate::Aborted => {}
            ("outcome", Some(number), Some("committed")) => self.learn(number, Fate::Committed)?,
            ("outcome", Some(number), Some("aborted")) => self.learn(number, Fate::Aborted)?,
            ("outcome", Some(number), Some("unknown")) => self.learn(number, Fate::Doubtful)?,
            ("found", Some(number), Some(what)) => {
                self.found += 1;
                match what {
                    "all" => self.learn(number, Fate::Committed)?,
                    "none" => self.learn(number, Fate::Aborted)?,
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn intend(&mut self, number: u64, what: &str) -> Option<()> {
        let fate = match what {
            "commit" => Fate::Doubtful,
            "abort" => Fate::Aborted,
            _ => return None,
        };
        // A number is used once, and they rise.
        let rises = self.fates.last_key_value().is_none_or(|(last, _)| *last < number);
        (rises && self.fates.insert(number, fate).is_none()).then_some(())
    }

    fn learn(&mut self, number: u64, fate: Fate) -> Option<()> {
        let known = self.fates.get_mut(&number).filter(|known| **known == Fate::Doubtful)?;
        *known = fate;
        Some(())
    }

    /// How many numbers were meant for the log.
    #[must_use]
    pub fn intents(&self) -> usize {
        self.fates.len()
    }

    /// How many have this fate.
    #[must_use]
    pub fn count(&self, fate: Fate) -> usize {
        self.fates.values().filter(|it| **it == fate).count()
    }
}

/// What a reader read: per partition the numbers in the order of their offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<u64, Vec<(u64, u64)>>);

impl Seen {
    /// From the lines of [`crate::judge::read_records`].
    ///
    /// # Errors
    /// With a line that is no number's record.
    pub fn from_json(lines: &str) -> Result<Self, String> {
        let mut seen = Self::default();
        for line in lines.lines() {
            let record = |line| {
                let object: Value = serde_json::from_str(line).ok()?;
                let number = object["value"].as_str()?.parse().ok()?;
                Some((object["partition"].as_u64()?, object["offset"].as_u64()?, number))
            };
            let (partition, offset, number) =
                record(line).ok_or_else(|| format!("a strange record: {line}"))?;
            seen.0.entry(partition).or_default().push((offset, number));
        }
        Ok(seen)
    }

    /// From lines of a partition, an offset, a key and a number, with tabs between.
    ///
    /// # Errors
    /// With a line that is no number's record.
    pub fn from_lines(lines: &str) -> Result<Self, String> {
        let mut seen = Self::default();
        for line in lines.lines() {
            let words: Vec<&str> = line.split('\t').collect();
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
            let (Some(partition), Some(offset), Some(number), 4) =
                (number(0), number(1), number(3), words.len())
            else {
                return Err(format!("a strange record: {line}"));
            };
            seen.0.entry(partition).or_default().push((offset, number));
        }
        Ok(seen)
    }

    /// How many records.
    #[must_use]
    pub fn records(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// The partitions of each number, once for each record.
    fn by_number(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut numbers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (partition, records) in &self.0 {
            for (_, number) in records {
                numbers.entry(*number).or_default().push(*partition);
            }
        }
        numbers
    }
}

/// What of a read_committed reader's view contradicts the writer's log; empty if nothing does.
#[must_use]
pub fn judge_committed(told: &Told, seen: &Seen, partitions: u64) -> Vec<String> {
    let mut faults = Vec::new();
    let numbers = seen.by_number();
    let every: Vec<u64> = (0..partitions).collect();
    for (number, fate) in &told.fates {
        let there = numbers.get(number).map(Vec::as_slice).unwrap_or_default();
        let sound = match fate {
            Fate::Committed => there == every,
            Fate::Aborted => there.is_empty(),
            Fate::Doubtful => there.is_empty() || there == every,
        };
        if !sound {
            faults.push(format!("{number} ({fate:?}) is in the partitions {there:?}"));
        }
    }
    for number in numbers.keys().filter(|number| !told.fates.contains_key(number)) {
        faults.push(format!("{number} was never written"));
    }
    for (partition, records) in &seen.0 {
        // One transaction ends before the next begins, so their numbers rise in each partition.
        for pair in records.windows(2).filter(|pair| pair[0].1 >= pair[1].1) {
            faults.push(format!("partition {partition}: {} before {}", pair[0].1, pair[1].1));
        }
    }
    faults
}

/// What is wrong with a read_uncommitted reader's view beside a read_committed one's.
#[must_use]
pub fn judge_uncommitted(told: &Told, committed: &Seen, all: &Seen) -> Vec<String> {
    let mut faults = Vec::new();
    for (partition, records) in &committed.0 {
        let there: BTreeSet<_> = all.0.get(partition).into_iter().flatten().collect();
        for record in records.iter().filter(|record| !there.contains(record)) {
            let (offset, number) = record;
            faults.push(format!("{number} at {partition}@{offset} is only read_committed there"));
        }
    }
    for (number, partitions) in all.by_number() {
        let once: BTreeSet<_> = partitions.iter().collect();
        if once.len() < partitions.len() {
            faults.push(format!("{number} is twice in one of the partitions {partitions:?}"));
        }
        if !told.fates.contains_key(&number) {
            faults.push(format!("{number} was never written"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "start\nintent 0 commit\noutcome 0 committed\nintent 1 abort\n\
                       outcome 1 aborted\nintent 2 commit\nstart\nfound 2 none\nintent 3 commit\n\
                       outcome 3 unknown\nintent 4 abort\nintent 5 commit\noutc";

    fn told() -> Told {
        Told::parse(LOG).expect("a sound log")
    }

    fn seen(numbers: &[(u64, u64)]) -> Seen {
        let line = |(at, (partition, number)): (usize, &(u64, u64))| {
            format!("{partition}\t{at}\t\t{number}\n")
        };
        Seen::from_lines(&numbers.iter().enumerate().map(line).collect::<String>()).expect("lines")
    }

    #[test]
    fn a_log_that_was_cut_off_says_what_is_in_doubt() {
        let told = told();
        assert_eq!((told.intents(), told.lives, told.found, told.ended), (6, 2, 1, false));
        let counts = [Fate::Committed, Fate::Aborted, Fate::Doubtful].map(|fate| told.count(fate));
        assert_eq!(counts, [1, 3, 2]);
    }

    #[test]
    fn a_log_that_contradicts_itself_is_refused() {
        for more in ["intent 4 commit", "outcome 0 aborted", "outcome 9 committed", "found 3 torn"]
        {
            let text = format!("{}\n{more}\n", &LOG[..LOG.len() - 5]);
            assert!(Told::parse(&text).is_err_and(|error| error.contains(more)), "{more}");
        }
    }

    #[test]
    fn what_was_in_doubt_is_in_all_or_in_none() {
        for sound in [&[(0, 0), (1, 0)][..], &[(0, 0), (1, 0), (1, 5), (0, 5)]] {
            assert_eq!(judge_committed(&told(), &seen(sound), 2), [""; 0]);
        }
    }

    #[test]
    fn every_contradiction_is_found() {
        let faulty: [&[(u64, u64)]; 8] = [
            &[],                               // a committed one is missing
            &[(0, 0)],                         // it is torn
            &[(0, 0), (1, 0), (1, 0)],         // it is twice there
            &[(0, 0), (1, 0), (0, 1), (1, 1)], // an aborted one
            &[(0, 0), (1, 0), (0, 2), (1, 2)], // what was found in none came later
            &[(0, 0), (1, 0), (0, 3)],         // a doubtful one is torn
            &[(0, 0), (1, 0), (0, 7), (1, 7)], // nobody's
            &[(0, 3), (1, 3), (0, 0), (1, 0)], // out of order
        ];
        for faulty in faulty {
            assert!(!judge_committed(&told(), &seen(faulty), 2).is_empty(), "{faulty:?}");
        }
    }

    #[test]
    fn read_uncommitted_sees_a_superset() {
        let committed = seen(&[(0, 0), (1, 0)]);
        let all = seen(&[(0, 0), (1, 0), (0, 1)]);
        assert_eq!(judge_uncommitted(&told(), &committed, &all), [""; 0]);
        assert!(!judge_uncommitted(&told(), &all, &committed).is_empty());
        let doubled = seen(&[(0, 0), (1, 0), (0, 0)]);
        assert!(!judge_uncommitted(&told(), &committed, &doubled).is_empty());
    }
}
