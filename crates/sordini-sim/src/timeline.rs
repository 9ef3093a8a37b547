//! What happened in a world, for a person: who did what, when; the moments that matter for one
//! record marked, and no more lines than one reads.

use std::fmt;
use std::time::Duration;

use sordini_core::time::Instant;

use crate::clock::millis;
use crate::history::Tp;
use crate::report::Report;

/// Most moments that are chosen to be printed; between them stands how many are not.
const MOST: usize = 60;
/// So many moments before what was found are marked, where no record is named.
const JUST_BEFORE: usize = 12;
/// Longest text of a line; what stands beyond is an error's tail.
const WIDEST: usize = 150;

/// How much a moment tells, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// A fault, a node's life, leaders, what logs lost.
    World,
    /// What troubles a producer: retries, failures, epochs.
    Trouble,
    /// Connections, in-sync replicas.
    Detail,
    /// A batch is sent, appended, acknowledged.
    Routine,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// Who: `node 2`, `producer 0`, `controller`, `world`.
    pub who: String,
    /// What, in a few words.
    pub what: String,
    /// The partition it concerns, if it is one's.
    pub partition: Option<Tp>,
    /// The numbers of the records it concerns.
    pub records: Vec<u64>,
    pub(crate) weight: Weight,
}

/// What happened in a world, in order. It prints as a list of some 60 of them, those marked `>`
/// that concern the record it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// All moments, in order.
    pub moments: Vec<Moment>,
    /// The record whose fate is told.
    pub about: Option<u64>,
    /// What was found in the end: the broken promise, or what the settings allow.
    pub found: Option<String>,
    /// When it was found, where it concerns no record.
    pub found_at: Option<Instant>,
}

impl Timeline {
    pub(crate) fn push(&mut self, moment: Moment) {
        self.moments.push(moment);
    }

    /// What was found in the end, and about which record.
    pub(crate) fn tell_end(&mut self, report: &Report) {
        if let Some(broken) = report.violations.first() {
            self.about = broken.record();
            self.found = Some(format!("{} is broken: {}", broken.invariant, broken.text));
            self.found_at = Some(broken.at).filter(|_| self.about.is_none());
        } else if let Some(witness) = report.witnesses.first() {
            self.about = Some(witness.record);
            let text = &witness.text;
            self.found = Some(format!("{:?}, as the settings allow: {text}", witness.anomaly));
        }
    }

    /// Does it concern the record? Where there is none: is it among the last before it was found?
    fn is_marked(&self, at: usize) -> bool {
        let moment = &self.moments[at];
        let last = self.found_at.is_some_and(|found| {
            let before = self.moments.partition_point(|moment| moment.at <= found);
            (before.saturating_sub(JUST_BEFORE)..before).contains(&at)
        });
        last || self.about.is_some_and(|id| moment.records.contains(&id))
    }

    /// The partition of the record that it is about.
    fn partition(&self) -> Option<Tp> {
        let of_it = |moment: &&Moment| self.about.is_some_and(|id| moment.records.contains(&id));
        self.moments.iter().find(of_it)?.partition
    }

    /// The moments that are printed, by their place: what concerns the record first, then what
    /// tells the most, of its own partition before that of others, near to that before far off.
    fn chosen(&self) -> Vec<usize> {
        let home = self.partition();
        let marked: Vec<Instant> = (0..self.moments.len())
            .filter(|at| self.is_marked(*at))
            .map(|at| self.moments[at].at)
            .collect();
        let mut all: Vec<usize> = (0..self.moments.len()).collect();
        all.sort_by_key(|at| {
            let moment = &self.moments[*at];
            let foreign = home.is_some() && moment.partition.is_some_and(|tp| Some(tp) != home);
            (!self.is_marked(*at), foreign, moment.weight, distance(&marked, moment.at), *at)
        });
        all.truncate(MOST);
        all.sort_unstable();
        // To say that one is left out takes as much room as to tell it.
        let alone: Vec<usize> =
            all.windows(2).filter(|it| it[1] == it[0] + 2).map(|it| it[0] + 1).collect();
        all.extend(alone);
        all.sort_unstable();
        all
    }
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = self.chosen();
        let mut next = 0;
        for at in chosen {
            left_out(f, at - next)?;
            next = at + 1;
            let moment = &self.moments[at];
            let mark = if self.is_marked(at) { '>' } else { ' ' };
            let (ms, who) = (millis(moment.at), &moment.who);
            writeln!(
                f,
                "{mark} {:>3}.{:03} s  {who:<11} {}",
                ms / 1000,
                ms % 1000,
                cut(&moment.what)
            )?;
        }
        left_out(f, self.moments.len() - next)?;
        if let Some(found) = &self.found {
            let when = self.found_at.map_or("in the end".to_owned(), |at| {
                format!("at {}.{:03} s", millis(at) / 1000, millis(at) % 1000)
            });
            writeln!(f, "> {when}  {}", cut(found))?;
        }
        Ok(())
    }
}

fn left_out(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    match count {
        0 => Ok(()),
        count => writeln!(f, "             ... {count} more"),
    }
}

/// How far off it is from the nearest of `moments`, which are in order.
fn distance(moments: &[Instant], at: Instant) -> Duration {
    let next = moments.partition_point(|moment| *moment < at);
    let after = moments.get(next).map(|moment| moment.saturating_since(at));
    let before = next.checked_sub(1).map(|last| at.saturating_since(moments[last]));
    after.into_iter().chain(before).min().unwrap_or_default()
}

/// The text, on one line, and no longer than a line.
fn cut(text: &str) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= WIDEST {
        return line;
    }
    let mut short: String = line.chars().take(WIDEST - 3).collect();
    short.push_str("...");
    short
}

/// Records by their numbers, runs as such: `records 4-9, 12`.
pub(crate) fn name_records(ids: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *id => *last = *id,
            _ => runs.push((*id, *id)),
        }
    }
    let name = |(first, last): &(u64, u64)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    let mut names: Vec<String> = runs.iter().take(3).map(name).collect();
    if runs.len() > 3 {
        names.push(format!(".. ({} in all)", ids.len()));
    }
    let noun = if ids.len() == 1 { "record" } else { "records" };
    format!("{noun} {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(ms: u64, what: &str, partition: Tp, records: &[u64], weight: Weight) -> Moment {
        Moment {
            at: Instant::from_millis(ms),
            who: "node 1".to_owned(),
            what: what.to_owned(),
            partition: Some(partition),
            records: records.to_vec(),
            weight,
        }
    }

    #[test]
    fn what_concerns_the_record_is_marked_and_what_is_near_to_it_stays() {
        let mut timeline = Timeline { about: Some(7), ..Timeline::default() };
        for ms in 0..3002 {
            let (what, tp) = (format!("moment {ms}"), (0, (ms % 3) as i32));
            timeline.push(moment(ms, &what, tp, &[100 + ms], Weight::Routine));
        }
        timeline.push(moment(4000, "appends record 7", (0, 1), &[7], Weight::Routine));
        timeline.push(moment(4001, "is killed", (0, 1), &[], Weight::World));
        timeline.found = Some("record 7 was lost".to_owned());
        let text = timeline.to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&">   4.000 s  node 1      appends record 7"), "{text}");
        assert!(lines.contains(&"    4.001 s  node 1      is killed"), "{text}");
        assert_eq!(lines[lines.len() - 1], "> in the end  record 7 was lost");
        // Of the rest, what is its partition's and nearest; between stands how many are not told.
        let others: Vec<u64> =
            lines.iter().filter_map(|line| line.split_once("moment ")?.1.parse().ok()).collect();
        assert_eq!(others.len(), MOST - 2, "{text}");
        assert!(others.iter().all(|ms| ms % 3 == 1 && *ms > 2800), "{text}");
        assert!(lines.contains(&"             ... 2 more"), "{text}");
    }

    #[test]
    fn one_that_would_be_left_out_alone_is_told() {
        let mut timeline = Timeline::default();
        for ms in 0..=100 {
            let weight = if ms % 2 == 0 { Weight::World } else { Weight::Routine };
            timeline.push(moment(ms, &format!("moment {ms}"), (0, 0), &[], weight));
        }
        assert!(!timeline.to_string().contains("..."), "{timeline}");
    }

    #[test]
    fn without_a_record_what_came_just_before_is_marked() {
        let mut timeline = Timeline::default();
        for ms in 0..2000 {
            timeline.push(moment(ms, &format!("moment {ms}"), (0, 0), &[], Weight::Routine));
        }
        timeline.found = Some("it turned in circles".to_owned());
        timeline.found_at = Some(Instant::from_millis(1000));
        let text = timeline.to_string();
        let marked: Vec<&str> = text.lines().filter(|line| line.starts_with('>')).collect();
        assert_eq!(marked.len(), JUST_BEFORE + 1, "{text}");
        assert_eq!(marked[0], ">   0.989 s  node 1      moment 989");
        assert_eq!(marked[JUST_BEFORE], "> at 1.000 s  it turned in circles");
    }

    #[test]
    fn records_are_named_in_runs_and_lines_end() {
        assert_eq!(name_records(&[4]), "record 4");
        assert_eq!(name_records(&[4, 5, 6, 9]), "records 4-6, 9");
        assert_eq!(name_records(&[1, 3, 5, 7, 8]), "records 1, 3, 5, .. (5 in all)");
        assert_eq!(cut(&"x\n".repeat(100)).len(), WIDEST);
    }
}
