//! Batches that have been sent again for a while: told once for each cause, and once more when they
//! are written after all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

/// The target of these events: the turn for the better is of interest to whoever heard of the
/// trouble, whatever else is logged.
const TARGET: &str = "sordini::trouble";

/// What passes sooner is a cluster's everyday: a leader moves, a broker starts again.
const PATIENCE: Duration = Duration::from_secs(2);

/// For so long the same cause is not told again, however often it comes and goes.
const SILENCE: Duration = Duration::from_secs(30);

/// All that is being sent again, by its cause.
#[derive(Debug)]
pub(super) struct Troubles {
    causes: BTreeMap<&'static str, Trouble>,
    delivery_timeout: Duration,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// The partitions with batches that have yet to be written, and since when.
    partitions: BTreeMap<(Arc<str>, i32), Instant>,
    /// When it was told last.
    told: Option<Instant>,
}

impl Troubles {
    /// None yet; batches are given up after `delivery_timeout`.
    pub(super) fn new(delivery_timeout: Duration) -> Self {
        Self { causes: BTreeMap::new(), delivery_timeout }
    }

    /// A batch of the partition will be sent again.
    pub(super) fn retried(&mut self, topic: &Arc<str>, partition: i32, cause: &'static str) {
        let (place, now) = ((Arc::clone(topic), partition), Instant::now());
        for (_, other) in self.causes.iter_mut().filter(|(name, _)| **name != cause) {
            other.partitions.remove(&place);
        }
        let fresh = || Trouble { since: now, partitions: BTreeMap::new(), told: None };
        let trouble = self.causes.entry(cause).or_insert_with(fresh);
        if trouble.partitions.is_empty() {
            trouble.since = now;
        }
        let since = *trouble.partitions.entry(place).or_insert(now);
        let untold = trouble.told.is_none_or(|told| told < trouble.since);
        let silent = trouble.told.is_some_and(|told| now.duration_since(told) < SILENCE);
        if untold && !silent && now.duration_since(since) >= PATIENCE {
            trouble.told = Some(now);
            let (patience, limit) = (PATIENCE.as_secs(), self.delivery_timeout.as_millis());
            warn!(
                target: TARGET,
                %topic,
                partition,
                cause,
                "a batch has not been taken for more than {patience} s; it is sent again, until \
                 delivery.timeout.ms={limit} is over"
            );
        }
    }

    /// A batch of the partition that had been sent again is written.
    pub(super) fn recovered(&mut self, topic: &Arc<str>, partition: i32) {
        for (cause, trouble) in self.gone(topic, partition) {
            let after_ms = trouble.since.elapsed().as_millis();
            let after_ms = u64::try_from(after_ms).unwrap_or(u64::MAX);
            info!(target: TARGET, %topic, partition, cause, after_ms, "batches are taken again");
        }
    }

    /// A batch of the partition was given up, which is told of elsewhere.
    pub(super) fn failed(&mut self, topic: &Arc<str>, partition: i32) {
        self.gone(topic, partition).for_each(drop);
    }

    /// Takes the partition out, and yields the causes that were told and have none left.
    fn gone(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
    ) -> impl Iterator<Item = (&'static str, &Trouble)> {
        let place = (Arc::clone(topic), partition);
        self.causes.iter_mut().filter_map(move |(cause, trouble)| {
            let was_in = trouble.partitions.remove(&place).is_some();
            let told = trouble.told.is_some_and(|told| told >= trouble.since);
            (was_in && trouble.partitions.is_empty() && told).then_some((*cause, &*trouble))
        })
    }
}
