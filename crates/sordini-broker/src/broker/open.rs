//! Opening a broker on what an earlier one left, and the small files of Kafka's that say what is
//! in a folder.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use sordini_protocol::Uuid;

use super::ends::{self, Ends};
use super::{Broker, IdSource, Partition, Topic};
use crate::catalog::Catalog;
use crate::cluster::{Doubtful, Found, Node};
use crate::config::BrokerConfig;
use crate::coordinator::{CONSUMER_OFFSETS, Coordinator, TRANSACTION_STATE};
use crate::faults::Faults;
use crate::log::{Closed, Left, LogError, LogOptions, PartitionLog, Recovery, closed};
use crate::monitor::Monitor;
use crate::storage::{self, Storage};
use crate::time::Now;
use crate::topic_config::TopicConfig;

pub(super) const META_PROPERTIES: &str = "meta.properties";
pub(super) const PARTITION_METADATA: &str = "partition.metadata";
pub(super) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// What was known to be committed, in a cluster.
pub(super) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// Present while no broker has the folder open, and all of it was synced.
pub(super) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
const CHECKPOINT_MAX: u64 = 64 * 1024 * 1024;

/// Why a broker can't be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A partition's log can't be opened.
    #[error("can't open the log: {0}")]
    Log(#[from] LogError),
    /// The broker's own files can't be read or written.
    #[error("can't open the broker's folder: {0}")]
    Storage(#[from] io::Error),
}

/// What is known of a partition's log before it is opened; nothing of a new one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// All before this offset was synced.
    point: i64,
    /// How the last broker left it.
    left: Left,
    /// What it held when it was last closed, if that is known and still counts.
    closed: Option<Closed>,
}

impl Broker {
    /// Opens a broker on `storage`: empty, or as an earlier one left it, whether it was closed
    /// or killed.
    ///
    /// # Errors
    /// If the storage fails, or the catalog is damaged.
    pub fn open(
        config: BrokerConfig,
        storage: Box<dyn Storage>,
        now: Now,
    ) -> Result<Self, OpenError> {
        Self::open_as(config, storage, now, None)
    }

    /// Opens a broker, on its own or as a node of a cluster, whose replicas are opened as the
    /// controller names them.
    pub(crate) fn open_as(
        config: BrokerConfig,
        mut storage: Box<dyn Storage>,
        now: Now,
        mut node: Option<Box<Node>>,
    ) -> Result<Self, OpenError> {
        let loaded = Catalog::load(storage.as_mut())?;
        let starts = loaded.as_ref().map_or(0, |catalog| catalog.starts) + 1;
        let mut ids = IdSource::new(config.id_seed, starts);
        let cluster_id = node.as_ref().map(|node| node.cluster_id);
        let mut catalog =
            loaded.unwrap_or_else(|| Catalog::new(cluster_id.unwrap_or_else(|| ids.uuid())));
        catalog.starts = starts;
        if starts > 1 {
            // A broker that comes back leads anew: clients must not take it for the old one.
            let epochs = catalog.topics.values_mut().flat_map(|topic| &mut topic.epochs);
            epochs.for_each(|epoch| *epoch = epoch.saturating_add(1));
        }
        let clean = storage.len(CLEAN_SHUTDOWN)?.is_some();
        let points = read_checkpoint(storage.as_mut(), RECOVERY_POINTS)?;
        let ends = ends::read(storage.as_mut())?;
        if let Some(node) = &mut node {
            let high_watermarks = read_checkpoint(storage.as_mut(), HIGH_WATERMARKS)?;
            let ends = if clean { ends.clone() } else { Ends::new() };
            let doubtful = match starts {
                1 => Doubtful::All,
                _ => Doubtful::These(ends::changed(storage.as_mut(), &ends)?),
            };
            let recovery_points = points.clone();
            node.found = Found { clean, ends, doubtful, recovery_points, high_watermarks };
        }
        catalog.save(storage.as_mut())?;
        let monitor = Monitor::new(config.produce_log_limit);
        let mut broker = Self {
            config,
            storage,
            catalog,
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            faults: Faults::default(),
            monitor,
            node,
            coordinator: Coordinator::default(),
            features_epoch: first_features_epoch(starts),
            ids,
            guards: 0,
            connections: BTreeMap::new(),
            runnable: VecDeque::new(),
            timers: BTreeSet::new(),
            produced: super::quota::Meter::default(),
            awaiting_sync: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            advanced: BTreeMap::new(),
            outputs: VecDeque::new(),
            next_housekeeping: now.mono.after_millis(super::housekeeping::EVERY_MS),
            recovered: Vec::new(),
            checkpointed: BTreeMap::new(),
        };
        broker.write_meta_properties()?;
        broker.sweep()?;
        if broker.node.is_none() {
            broker.forget_clean_shutdown()?;
            broker.open_topics(now, clean, &points, &ends)?;
            // What was prepared is completed before anybody asks.
            broker.run(now);
            broker.end_unknown_transactions(now);
        }
        Ok(broker)
    }

    /// What is written from now on is not closed: the mark must not come back with a loss of power.
    /// A node waits with this until it is registered, so that others know what it may have lost.
    pub(crate) fn forget_clean_shutdown(&mut self) -> io::Result<()> {
        self.storage.remove(CLEAN_SHUTDOWN)?;
        if self.config.fsync { self.storage.sync_dir("") } else { Ok(()) }
    }

    fn write_meta_properties(&mut self) -> io::Result<()> {
        if self.storage.len(META_PROPERTIES)?.is_some() {
            return Ok(());
        }
        let text = format!(
            "#\nversion=1\nnode.id={}\ndirectory.id={}\ncluster.id={}\n",
            self.config.node_id,
            self.ids.uuid(),
            self.catalog.cluster_id
        );
        storage::replace(self.storage.as_mut(), "", META_PROPERTIES, text.as_bytes(), true)
    }

    /// Finishes deletions that a crash interrupted, and sets aside folders of no known topic.
    fn sweep(&mut self) -> io::Result<()> {
        for entry in self.storage.list("")?.into_iter().filter(|entry| entry.is_dir) {
            if entry.name.ends_with("-delete") {
                self.storage.remove_dir(&entry.name)?;
            } else if self.node.is_none()
                && is_partition_dir(&entry.name)
                && !self.is_known(&entry.name)
            {
                self.set_aside(&entry.name)?;
            }
        }
        Ok(())
    }

    fn is_known(&self, dir: &str) -> bool {
        let Some((topic, index)) = dir.rsplit_once('-') else { return false };
        let partitions = self.catalog.topics.get(topic).map_or(0, |topic| topic.epochs.len());
        index.parse::<usize>().is_ok_and(|index| index < partitions)
    }

    /// Renames a folder that stands where a new topic's would, as Kafka does with strays.
    pub(super) fn set_aside(&mut self, dir: &str) -> io::Result<()> {
        let aside = format!("{dir}.{}-stray", self.ids.uuid());
        self.storage.rename(dir, &aside)
    }

    /// Opens a node's replica, as its folder was found. What it holds is taken for committed only
    /// as far as was noted.
    pub(crate) fn open_found(
        &mut self,
        now: Now,
        topic: &str,
        index: i32,
        id: Uuid,
        config: &TopicConfig,
    ) -> Result<PartitionLog, LogError> {
        let dir = format!("{topic}-{index}");
        let failed = |source| LogError::Storage { dir: dir.clone(), source };
        if self.storage.len(&storage::join(&dir, PARTITION_METADATA)).map_err(failed)?.is_some()
            && !self.is_of(&dir, id).map_err(failed)?
        {
            // A topic of that name was deleted while this node was away.
            self.bury(&dir);
        }
        let found = self.node.as_mut().map(|node| &mut node.found);
        let (before, high) = found.map_or((Before::default(), 0), |found| {
            let of = |offsets: &BTreeMap<String, i64>| offsets.get(&dir).copied().unwrap_or(0);
            let (point, clean) = (of(&found.recovery_points), found.clean);
            let closed = ends::of(&found.ends, &dir, id);
            found.ends.remove(&dir);
            let left = if clean { Left::Closed } else { Left::Open };
            (Before { point, left, closed }, of(&found.high_watermarks))
        });
        let opened = self.open_partition(now, &dir, id, config, before);
        let (mut log, report) = opened.map_err(|error| match error {
            OpenError::Log(error) => error,
            OpenError::Storage(source) => failed(source),
        })?;
        if let Some(lost) = &report.lost
            && !self.is_in_sync(topic, index)
        {
            // What follows the loss is copied with it: the others would not know of the gap.
            if lost.from < log.log_start() {
                log.restart_at(self.storage.as_mut(), lost.from, now.wall_ms)?;
            } else {
                log.truncate_to(self.storage.as_mut(), lost.from, now.wall_ms)?;
            }
        }
        log.doubt_from(high);
        if report != Recovery::default() {
            self.recovered.push((dir, report));
        }
        Ok(log)
    }

    /// Whether this node is in the ISR of a partition, so that nobody is known to have more.
    fn is_in_sync(&self, topic: &str, index: i32) -> bool {
        let node = self.node.as_ref();
        let image = node.and_then(|node| node.view.partition(topic, index));
        image.is_none_or(|image| image.isr.contains(&self.config.node_id))
    }

    /// Whether a partition's folder is that of the topic with this id.
    fn is_of(&mut self, dir: &str, id: Uuid) -> io::Result<bool> {
        let path = storage::join(dir, PARTITION_METADATA);
        let bytes = storage::read_all(self.storage.as_mut(), &path, CHECKPOINT_MAX)?;
        Ok(std::str::from_utf8(&bytes).is_ok_and(|text| text.contains(&id.to_string())))
    }

    /// Removes a partition's folder, by way of a name that the next start would sweep away.
    pub(crate) fn bury(&mut self, dir: &str) {
        let dying = format!("{dir}.{}-delete", self.ids.uuid());
        if self.storage.rename(dir, &dying).is_ok() {
            let _ = self.storage.remove_dir(&dying);
        }
        if let Some(node) = &mut self.node {
            node.found.ends.remove(dir);
            node.found.recovery_points.remove(dir);
            node.found.high_watermarks.remove(dir);
        }
    }

    /// The partitions' folders that there are.
    pub(crate) fn partition_dirs(&mut self) -> Vec<String> {
        let entries = self.storage.list("").unwrap_or_default();
        let dirs = entries.into_iter().filter(|e| e.is_dir && is_partition_dir(&e.name));
        dirs.map(|entry| entry.name).collect()
    }

    fn open_topics(
        &mut self,
        now: Now,
        clean: bool,
        points: &BTreeMap<String, i64>,
        ends: &Ends,
    ) -> Result<(), OpenError> {
        let entries = self.catalog.topics.clone();
        for (name, entry) in entries {
            let mut topic = Topic { id: entry.id, partitions: BTreeMap::new() };
            for (index, epoch) in (0i32..).zip(&entry.epochs) {
                let dir = format!("{name}-{index}");
                // What is not sound in a coordinator's log must not be found when it is read.
                let trusted = !matches!(name.as_str(), TRANSACTION_STATE | CONSUMER_OFFSETS);
                let point = points.get(&dir).copied().filter(|_| trusted).unwrap_or(0);
                let closed = ends::of(ends, &dir, entry.id);
                let left = match (clean, trusted) {
                    (true, true) => Left::Closed,
                    (true, false) => Left::Changed,
                    (false, _) => Left::Open,
                };
                let before = Before { point, left, closed };
                let opened = self.open_partition(now, &dir, entry.id, &entry.config, before)?;
                let (mut log, report) = opened;
                log.become_leader(self.storage.as_mut(), *epoch)?;
                if report.lost.is_some() {
                    let end = closed.map_or(0, |closed| closed.end);
                    log.skip_to(self.storage.as_mut(), end, *epoch, now.wall_ms)?;
                }
                if report != Recovery::default() {
                    self.recovered.push((dir, report));
                }
                topic.partitions.insert(index, Partition::sole(log, *epoch));
            }
            self.names.insert(entry.id, name.clone());
            self.topics.insert(name, topic);
        }
        Ok(())
    }

    /// Opens, or creates, the log of one partition.
    pub(super) fn open_partition(
        &mut self,
        now: Now,
        dir: &str,
        id: Uuid,
        config: &TopicConfig,
        before: Before,
    ) -> Result<(PartitionLog, Recovery), OpenError> {
        let options = LogOptions {
            config: config.clone(),
            strict_first_sequence: self.config.strict_first_sequence,
            producer_expiration_ms: self.config.producer_expiration_ms,
            durable: self.config.fsync,
        };
        let storage = self.storage.as_mut();
        storage.create_dir(dir)?;
        if storage.len(&storage::join(dir, PARTITION_METADATA))?.is_none() {
            let text = format!("version: 0\ntopic_id: {id}\n");
            let durable = self.config.fsync;
            storage::replace(storage, dir, PARTITION_METADATA, text.as_bytes(), durable)?;
        }
        let Before { point, left, closed } = before;
        // Where bytes are lacking, or too many, all that is left is looked at.
        let changed = match closed {
            Some(closed) if left != Left::Open => closed::bytes_in(storage, dir)? != closed.bytes,
            _ => false,
        };
        let (point, left) = if changed { (0, Left::Changed) } else { (point, left) };
        let opened = PartitionLog::open(storage, dir, options, point, left, now.wall_ms)?;
        let (mut log, mut report) = opened;
        if let Some(closed) = closed {
            let short = log.log_end() < closed.end || report.cut.is_some();
            report.lost = match (changed, short) {
                // Retention may have moved the start since, unless nothing was written.
                (true, _) => log.missing(storage, closed.start, closed.end)?,
                (false, true) => log.missing(storage, log.log_start(), closed.end)?,
                (false, false) => None,
            };
        }
        if report.lost.is_some() || report.cut.is_some() {
            log.bridge(storage)?;
        }
        if self.config.fsync {
            storage.sync_dir(dir)?;
            storage.sync_dir("")?;
        }
        Ok((log, report))
    }
}

/// Where a broker's count of changed features begins: above all that an earlier start came to.
fn first_features_epoch(starts: u64) -> i64 {
    i64::try_from(starts).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

/// Whether a folder's name is a partition's, `<topic>-<index>`.
fn is_partition_dir(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(topic, index)| {
        !topic.is_empty() && !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit())
    })
}

/// Kafka's checkpoint of offsets: version 0, a count, and `topic partition offset` per line.
/// A damaged one is as good as none: all segments are then scanned.
fn read_checkpoint(storage: &mut dyn Storage, file: &str) -> io::Result<BTreeMap<String, i64>> {
    match storage.len(file)? {
        Some(len) if len <= CHECKPOINT_MAX => {}
        _ => return Ok(BTreeMap::new()),
    }
    let bytes = storage::read_all(storage, file, CHECKPOINT_MAX)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    Ok(parse_checkpoint(text).unwrap_or_default())
}

fn parse_checkpoint(text: &str) -> Option<BTreeMap<String, i64>> {
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let mut points = BTreeMap::new();
    for line in lines {
        let mut words = line.split(' ');
        let (topic, index) = (words.next()?, words.next()?);
        let offset: i64 = words.next()?.parse().ok().filter(|offset| *offset >= 0)?;
        points.insert(format!("{topic}-{index}"), offset);
    }
    (points.len() == count).then_some(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_read_back_and_others_are_refused() {
        let points = parse_checkpoint("0\n2\na 0 5\nb-c 12 7\n").expect("checkpoint");
        assert_eq!(points.get("a-0"), Some(&5));
        assert_eq!(points.get("b-c-12"), Some(&7));
        for bad in ["", "1\n0\n", "0\n2\na 0 5\n", "0\n1\na 0 -1\n", "0\n1\na 0\n", "0\nx\n"] {
            assert_eq!(parse_checkpoint(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn folders_of_partitions_are_told_from_others() {
        assert!(is_partition_dir("clicks-0") && is_partition_dir("a-b-12"));
        assert!(!is_partition_dir("clicks") && !is_partition_dir("clicks-"));
        assert!(!is_partition_dir("-1") && !is_partition_dir("a-0.x-stray"));
    }
}
