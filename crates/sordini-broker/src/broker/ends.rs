//! What each log held when the broker was stopped in order: one small text, written last but for the
//! mark of that. A broker on its own never takes an offset back, so that for it an end holds until the
//! next one is written, over kills too; a node's replica may be cut to match its leader's.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use sordini_protocol::Uuid;

use super::Broker;
use crate::catalog::{seal, unseal};
use crate::log::{Closed, closed};
use crate::storage::{self, Storage};

/// The file's name, in the broker's folder.
const FILE: &str = "sordini.ends";
const HEADING: &str = "sordini-ends 1";
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// What logs held, by partition folder, with the topic's id: a topic made anew is another.
pub(crate) type Ends = BTreeMap<String, (Uuid, Closed)>;

/// Reads what an earlier broker wrote. A damaged file is as good as none.
pub(super) fn read(storage: &mut dyn Storage) -> io::Result<Ends> {
    match storage.len(FILE)? {
        Some(len) if len <= FILE_MAX => {}
        _ => return Ok(Ends::new()),
    }
    let bytes = storage::read_all(storage, FILE, FILE_MAX)?;
    let parsed = std::str::from_utf8(&bytes).ok().and_then(parse);
    if parsed.is_none() {
        tracing::warn!("{FILE} is damaged: what logs lost since the last stop is not told");
    }
    Ok(parsed.unwrap_or_default())
}

/// What the log in `dir` of the topic with this id held.
pub(super) fn of(ends: &Ends, dir: &str, id: Uuid) -> Option<Closed> {
    ends.get(dir).filter(|(of, _)| *of == id).map(|(_, closed)| *closed)
}

/// The folders whose logs are not what they were: they may have lost something.
pub(super) fn changed(storage: &mut dyn Storage, ends: &Ends) -> io::Result<Vec<String>> {
    let mut changed = Vec::new();
    for (dir, (_, closed)) in ends {
        if !closed::is_as_closed(storage, dir, closed)? {
            changed.push(dir.clone());
        }
    }
    Ok(changed)
}

fn parse(text: &str) -> Option<Ends> {
    let mut lines = unseal(text)?;
    if lines.next()? != HEADING {
        return None;
    }
    let mut ends = Ends::new();
    for line in lines {
        let mut words = line.split(' ');
        let (dir, id) = (words.next()?, words.next()?.parse().ok()?);
        let mut offset = || words.next()?.parse::<i64>().ok().filter(|offset| *offset >= 0);
        let (start, end) = (offset()?, offset()?);
        let bytes = words.next()?.parse().ok()?;
        ends.insert(dir.to_owned(), (id, Closed { start, end, bytes }));
    }
    Some(ends)
}

fn to_text(ends: &Ends) -> String {
    let mut text = format!("{HEADING}\n");
    for (dir, (id, Closed { start, end, bytes })) in ends {
        let _ = writeln!(text, "{dir} {id} {start} {end} {bytes}");
    }
    seal(text)
}

impl Broker {
    /// Writes what the logs hold, all of which were closed.
    pub(super) fn write_ends(&mut self) -> io::Result<()> {
        // What a node did not come to open is as it was.
        let mut ends = self.node.as_ref().map_or_else(Ends::new, |node| node.found.ends.clone());
        for (name, topic) in &self.topics {
            for (index, partition) in &topic.partitions {
                ends.insert(format!("{name}-{index}"), (topic.id, partition.log.closed()));
            }
        }
        let text = to_text(&ends);
        storage::replace(self.storage.as_mut(), "", FILE, text.as_bytes(), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_read_back_and_a_damaged_file_says_nothing() {
        let id = Uuid([7; 16]);
        let closed = Closed { start: 3, end: 40, bytes: 512 };
        let ends =
            Ends::from([("a-b-0".to_owned(), (id, closed)), ("a-b-1".to_owned(), (id, closed))]);
        let text = to_text(&ends);
        assert_eq!(parse(&text).as_ref(), Some(&ends));
        assert_eq!(of(&ends, "a-b-1", id), Some(closed));
        assert_eq!(of(&ends, "a-b-1", Uuid([8; 16])), None, "another topic of that name");
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(std::str::from_utf8(&bytes).ok().and_then(parse), None, "byte {at}");
            assert_eq!(parse(&text[..at]), None, "cut at {at}");
        }
    }
}
