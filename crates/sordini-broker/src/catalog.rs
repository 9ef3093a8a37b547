//! What the broker knows beside the logs: its identity, the topics with their settings and
//! leader epochs, and which producer ids were given out. One small text file, replaced in one
//! step on every change, so that a crash leaves the old or the new state and nothing between.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use sordini_protocol::Uuid;

use crate::crc;
use crate::storage::{self, Storage};
use crate::topic_config::TopicConfig;

/// The file's name, in the broker's folder.
pub(crate) const FILE: &str = "sordini.catalog";
/// Producer ids that are reserved on disk at a time, as many as Kafka does.
const PRODUCER_ID_BLOCK: i64 = 1000;
const HEADING: &str = "sordini-catalog 1";
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// A topic as the catalog keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicEntry {
    pub id: Uuid,
    pub config: TopicConfig,
    /// Leader epoch of each partition.
    pub epochs: Vec<i32>,
}

/// The broker's identity and topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Catalog {
    pub cluster_id: Uuid,
    /// How often the broker was started on this folder.
    pub starts: u64,
    pub topics: BTreeMap<String, TopicEntry>,
    next_producer_id: i64,
    /// All producer ids below are reserved on disk; never below `next_producer_id`.
    reserved_producer_ids: i64,
}

impl Catalog {
    pub(crate) fn new(cluster_id: Uuid) -> Self {
        Self {
            cluster_id,
            starts: 0,
            topics: BTreeMap::new(),
            next_producer_id: 0,
            reserved_producer_ids: 0,
        }
    }

    /// Reads the catalog; `None` if there is none yet.
    ///
    /// # Errors
    /// As the medium fails; [`io::ErrorKind::InvalidData`] if the file is damaged: without it
    /// topics would be lost and producer ids given out twice, so nobody goes on without it.
    pub(crate) fn load(storage: &mut dyn Storage) -> io::Result<Option<Self>> {
        if storage.len(FILE)?.is_none() {
            return Ok(None);
        }
        let bytes = storage::read_all(storage, FILE, FILE_MAX)?;
        let parsed = std::str::from_utf8(&bytes).ok().and_then(parse);
        parsed.map(Some).ok_or_else(|| {
            let message = format!(
                "the broker's file {FILE} is damaged; restore it from a copy, \
                 or choose another folder"
            );
            io::Error::new(io::ErrorKind::InvalidData, message)
        })
    }

    /// Writes the catalog so that it survives a loss of power.
    ///
    /// # Errors
    /// As the medium fails; the file then has its old contents.
    pub(crate) fn save(&self, storage: &mut dyn Storage) -> io::Result<()> {
        storage::replace(storage, "", FILE, self.to_text().as_bytes(), true)
    }

    /// A producer id that was never given out, and never will be again.
    ///
    /// # Errors
    /// As the medium fails: a block of ids is written before its first is used.
    pub(crate) fn new_producer_id(&mut self, storage: &mut dyn Storage) -> io::Result<i64> {
        if self.next_producer_id >= self.reserved_producer_ids {
            let before = self.reserved_producer_ids;
            self.reserved_producer_ids = self
                .next_producer_id
                .checked_add(PRODUCER_ID_BLOCK)
                .ok_or_else(|| io::Error::other("all producer ids were given out"))?;
            if let Err(error) = self.save(storage) {
                self.reserved_producer_ids = before;
                return Err(error);
            }
        }
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        Ok(id)
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "{HEADING}\ncluster {}\nstarts {}\nproducer-ids {}\n",
            self.cluster_id, self.starts, self.reserved_producer_ids
        );
        for (name, topic) in &self.topics {
            let epochs: Vec<String> = topic.epochs.iter().map(i32::to_string).collect();
            let _ = writeln!(text, "topic {name} {} {}", topic.id, epochs.join(","));
            for (setting, value) in topic.config.iter() {
                let _ = writeln!(text, "config {setting}={value}");
            }
        }
        seal(text)
    }
}

/// The text with a last line by which damage shows.
pub(crate) fn seal(mut text: String) -> String {
    let crc = crc::of(text.as_bytes());
    let _ = writeln!(text, "crc {crc:08x}");
    text
}

/// The lines of a text that was sealed; `None` if it is damaged.
pub(crate) fn unseal(text: &str) -> Option<std::str::Lines<'_>> {
    let body_len = text.strip_suffix('\n')?.rfind('\n')? + 1;
    let (body, last) = text.split_at_checked(body_len)?;
    let crc = u32::from_str_radix(last.trim_end().strip_prefix("crc ")?, 16).ok()?;
    (crc == crc::of(body.as_bytes())).then(|| body.lines())
}

fn parse(text: &str) -> Option<Catalog> {
    let mut lines = unseal(text)?;
    if lines.next()? != HEADING {
        return None;
    }
    let cluster_id = lines.next()?.strip_prefix("cluster ")?.parse().ok()?;
    let starts = lines.next()?.strip_prefix("starts ")?.parse().ok()?;
    let reserved: i64 = lines.next()?.strip_prefix("producer-ids ")?.parse().ok()?;
    let mut topics: Vec<(String, TopicEntry)> = Vec::new();
    for line in lines {
        if let Some(topic) = line.strip_prefix("topic ") {
            topics.push(parse_topic(topic)?);
        } else {
            let (name, value) = line.strip_prefix("config ")?.split_once('=')?;
            topics.last_mut()?.1.config.set(name, value).ok()?;
        }
    }
    Some(Catalog {
        cluster_id,
        starts,
        topics: topics.into_iter().collect(),
        next_producer_id: reserved,
        reserved_producer_ids: reserved,
    })
}

fn parse_topic(line: &str) -> Option<(String, TopicEntry)> {
    let mut words = line.split(' ');
    let name = words.next().filter(|name| topic_name_error(name).is_none())?;
    let id = words.next()?.parse().ok()?;
    let epochs: Option<Vec<i32>> =
        words.next()?.split(',').map(|epoch| epoch.parse().ok().filter(|e| *e >= 0)).collect();
    let entry = TopicEntry { id, config: TopicConfig::default(), epochs: epochs? };
    words.next().is_none().then(|| (name.to_owned(), entry))
}

/// Why `name` can't be a topic's, if it can't: Kafka's rule, which also makes it safe as the
/// name of a folder.
pub(crate) fn topic_name_error(name: &str) -> Option<String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() {
        Some("the topic name is empty".to_owned())
    } else if name == "." || name == ".." {
        Some(format!("the topic name can't be {name:?}"))
    } else if name.len() > 249 {
        Some(format!("the topic name is {} characters long, more than 249", name.len()))
    } else if !name.bytes().all(legal) {
        Some(format!(
            "the topic name {} has characters other than ASCII letters, digits, '.', '_' and '-'",
            name.escape_default()
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{FaultyStorage, MemoryStorage, StorageFaults, StorageOp};

    fn sample() -> Catalog {
        let mut catalog = Catalog::new(Uuid([7; 16]));
        catalog.starts = 3;
        let mut config = TopicConfig::default();
        config.set("retention.ms", "5").expect("setting");
        config.set("cleanup.policy", "delete, compact").expect("setting");
        let entry = TopicEntry { id: Uuid([9; 16]), config, epochs: vec![0, 4, 2] };
        catalog.topics.insert("a.b_c-1".to_owned(), entry);
        catalog
    }

    #[test]
    fn a_catalog_reads_back() {
        let mut storage = MemoryStorage::new();
        assert_eq!(Catalog::load(&mut storage).expect("load"), None);
        let catalog = sample();
        catalog.save(&mut storage).expect("save");
        assert_eq!(Catalog::load(&mut storage).expect("load"), Some(catalog));
    }

    #[test]
    fn a_damaged_catalog_is_an_error_at_every_byte() {
        let mut storage = MemoryStorage::new();
        sample().save(&mut storage).expect("save");
        let sound = storage.contents(FILE).expect("file");
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            storage.overwrite(FILE, damaged);
            let error = Catalog::load(&mut storage).expect_err("damaged");
            assert!(error.to_string().contains(FILE), "{error}");
            storage.overwrite(FILE, sound[..at].to_vec());
            Catalog::load(&mut storage).expect_err("cut");
        }
    }

    #[test]
    fn producer_ids_are_never_given_out_twice() {
        let mut storage = MemoryStorage::new();
        let mut catalog = sample();
        let mut given = Vec::new();
        for round in 0..3 {
            for _ in 0..PRODUCER_ID_BLOCK / 2 + round {
                given.push(catalog.new_producer_id(&mut storage).expect("id"));
            }
            catalog = Catalog::load(&mut storage).expect("load").expect("there");
        }
        let ascending = given.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(ascending, "ids ascend over restarts");
    }

    #[test]
    fn no_producer_id_is_given_out_that_is_not_on_disk() {
        let faults = StorageFaults::new();
        let mut storage = FaultyStorage::new(MemoryStorage::new(), faults.clone());
        let mut catalog = sample();
        faults.fail(StorageOp::Append, FILE, 0, 2, 3, io::ErrorKind::StorageFull);
        catalog.new_producer_id(&mut storage).expect_err("full disk");
        catalog.new_producer_id(&mut storage).expect_err("full disk");
        let id = catalog.new_producer_id(&mut storage).expect("room again");
        let loaded = Catalog::load(&mut storage).expect("load").expect("there");
        assert!(loaded.next_producer_id > id);
    }

    #[test]
    fn names_that_are_no_topics_are_refused() {
        for name in ["a", "A-b_c.9", "..a", &"x".repeat(249)] {
            assert_eq!(topic_name_error(name), None, "{name}");
        }
        for name in ["", ".", "..", "a/b", "../x", "a b", "ä", "a\0", &"x".repeat(250)] {
            assert!(topic_name_error(name).is_some(), "{name:?}");
        }
    }
}
