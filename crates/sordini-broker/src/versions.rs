//! Which versions of which API are offered: those of Kafka 4.4, or those of an older release.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sordini_protocol::ApiKey;

/// One API: what is advertised and what is served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    pub key: ApiKey,
    /// The lowest version that clients are told of.
    pub advertised_min: i16,
    /// The lowest version that is served.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

const fn api(key: ApiKey, min: i16, max: i16) -> Api {
    Api { key, advertised_min: min, min, max }
}

/// All that is served, by key.
///
/// Produce is advertised from 0, as Kafka 4 does, because librdkafka up to 2.8 drops gzip, snappy
/// and lz4 silently otherwise (KAFKA-18659); 0 to 2 are not served.
pub(crate) const APIS: &[Api] = &[
    Api { key: ApiKey::Produce, advertised_min: 0, min: 3, max: 13 },
    api(ApiKey::Fetch, 4, 18),
    api(ApiKey::ListOffsets, 1, 11),
    api(ApiKey::Metadata, 0, 13),
    api(ApiKey::FindCoordinator, 0, 6),
    api(ApiKey::ApiVersions, 0, 5),
    api(ApiKey::CreateTopics, 2, 7),
    api(ApiKey::DeleteTopics, 1, 6),
    api(ApiKey::InitProducerId, 0, 5),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4),
    api(ApiKey::DescribeConfigs, 1, 4),
    api(ApiKey::CreatePartitions, 0, 3),
    api(ApiKey::DescribeCluster, 0, 2),
    api(ApiKey::DescribeProducers, 0, 0),
    api(ApiKey::AddPartitionsToTxn, 0, 5),
    api(ApiKey::AddOffsetsToTxn, 0, 4),
    api(ApiKey::EndTxn, 0, 5),
    api(ApiKey::TxnOffsetCommit, 0, 6),
    api(ApiKey::OffsetCommit, 2, 10),
    api(ApiKey::OffsetFetch, 1, 10),
    api(ApiKey::DescribeTransactions, 0, 0),
    // Kafka's 2 filters by a regular expression of Java's.
    api(ApiKey::ListTransactions, 0, 1),
];

/// Highest versions of a Kafka release; -1 where the API did not exist.
/// In the order of [`APIS`].
const RELEASES: &[((u16, u16), [i16; 22])] = &[
    ((2, 1), [7, 10, 4, 7, 2, 2, 3, 3, 1, 2, 2, 1, -1, -1, 1, 1, 1, 2, 6, 5, -1, -1]),
    ((2, 2), [7, 10, 5, 7, 2, 2, 3, 3, 1, 2, 2, 1, -1, -1, 1, 1, 1, 2, 6, 5, -1, -1]),
    ((2, 3), [7, 11, 5, 8, 2, 2, 3, 3, 1, 3, 2, 1, -1, -1, 1, 1, 1, 2, 7, 5, -1, -1]),
    ((2, 4), [8, 11, 5, 9, 3, 3, 5, 4, 2, 3, 2, 1, -1, -1, 1, 1, 1, 2, 8, 6, -1, -1]),
    ((2, 5), [8, 11, 5, 9, 3, 3, 5, 4, 3, 3, 2, 2, -1, -1, 1, 1, 1, 3, 8, 7, -1, -1]),
    ((2, 6), [8, 11, 5, 9, 3, 3, 5, 4, 3, 3, 3, 2, -1, -1, 1, 1, 1, 3, 8, 7, -1, -1]),
    ((2, 7), [8, 12, 5, 9, 3, 3, 6, 5, 4, 3, 3, 3, -1, -1, 2, 2, 2, 3, 8, 7, -1, -1]),
    ((2, 8), [9, 12, 6, 11, 3, 3, 7, 6, 4, 4, 4, 3, 0, 0, 3, 3, 3, 3, 8, 7, -1, -1]),
    ((3, 0), [9, 12, 7, 11, 4, 3, 7, 6, 4, 4, 4, 3, 0, 0, 3, 3, 3, 3, 8, 8, 0, 0]),
    ((3, 1), [9, 13, 7, 12, 4, 3, 7, 6, 4, 4, 4, 3, 0, 0, 3, 3, 3, 3, 8, 8, 0, 0]),
    ((3, 5), [9, 15, 8, 12, 4, 3, 7, 6, 4, 4, 4, 3, 0, 0, 3, 3, 3, 3, 8, 8, 0, 0]),
    ((3, 6), [9, 15, 8, 12, 4, 3, 7, 6, 4, 4, 4, 3, 0, 0, 4, 3, 3, 3, 8, 8, 0, 0]),
    ((3, 7), [10, 16, 8, 12, 4, 3, 7, 6, 4, 4, 4, 3, 1, 0, 4, 3, 3, 3, 9, 9, 0, 0]),
    ((3, 8), [11, 16, 8, 12, 5, 3, 7, 6, 5, 4, 4, 3, 1, 0, 5, 4, 4, 4, 9, 9, 0, 1]),
    ((3, 9), [11, 17, 9, 12, 6, 4, 7, 6, 5, 4, 4, 3, 1, 0, 5, 4, 4, 4, 9, 9, 0, 1]),
    ((4, 0), [12, 17, 10, 13, 6, 4, 7, 6, 5, 4, 4, 3, 2, 0, 5, 4, 5, 5, 9, 9, 0, 1]),
    ((4, 1), [13, 18, 10, 13, 6, 4, 7, 6, 5, 4, 4, 3, 2, 0, 5, 4, 5, 5, 9, 9, 0, 1]),
    ((4, 2), [13, 18, 11, 13, 6, 4, 7, 6, 5, 4, 4, 3, 2, 0, 5, 4, 5, 5, 10, 10, 0, 1]),
    ((4, 4), [13, 18, 11, 13, 6, 5, 7, 6, 5, 4, 4, 3, 2, 0, 5, 4, 5, 6, 10, 10, 0, 1]),
];

/// A release that [`Versions::of_release`] does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no versions are known of Kafka {0:?}; name a release from 2.1 to 4.4, such as \"3.9\"")]
pub struct UnknownRelease(pub String);

/// The versions that a broker offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    caps: BTreeMap<i16, i16>,
}

impl Versions {
    /// The versions of a Kafka release, `"2.1"` up to `"4.4"`; a patch number is ignored. A
    /// release between two that are known has the versions of the earlier.
    ///
    /// The lowest versions stay those of this broker.
    ///
    /// # Errors
    /// If it is no such release.
    pub fn of_release(release: &str) -> Result<Self, UnknownRelease> {
        let unknown = || UnknownRelease(release.to_owned());
        let mut numbers = release.split('.').map(|n| n.parse::<u16>().ok());
        let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else {
            return Err(unknown());
        };
        let known = RELEASES.iter().rev().find(|(at, _)| *at <= (major, minor));
        let newest = RELEASES.last().map(|(at, _)| *at);
        let Some((_, maxima)) = known.filter(|_| Some((major, minor)) <= newest) else {
            return Err(unknown());
        };
        let caps = APIS.iter().zip(maxima).map(|(api, max)| (api.key.code(), *max)).collect();
        Ok(Self { caps })
    }

    /// Offers `key` only up to `max`; below the lowest version that is served, not at all.
    pub fn cap(&mut self, key: ApiKey, max: i16) {
        self.caps.insert(key.code(), max);
    }

    fn max(&self, api: &Api) -> i16 {
        self.caps.get(&api.key.code()).copied().unwrap_or(api.max).min(api.max)
    }

    /// The versions of `key` that are served; `None` if none are.
    #[must_use]
    pub fn served(&self, key: ApiKey) -> Option<RangeInclusive<i16>> {
        let api = APIS.iter().find(|api| api.key == key)?;
        let max = self.max(api);
        (api.min <= max).then_some(api.min..=max)
    }

    /// Whether all is offered that `transaction.version` 2 needs.
    #[must_use]
    pub(crate) fn offers_epoch_bumps(&self) -> bool {
        let offers = |key, version| self.served(key).is_some_and(|range| range.contains(&version));
        offers(ApiKey::Produce, 12)
            && offers(ApiKey::EndTxn, 5)
            && offers(ApiKey::TxnOffsetCommit, 5)
    }

    /// What clients are told: key, lowest and highest version.
    pub fn advertised(&self) -> impl Iterator<Item = (i16, i16, i16)> {
        APIS.iter().filter_map(|api| {
            let max = self.max(api);
            (api.min <= max).then_some((api.key.code(), api.advertised_min, max))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_offers_no_more_than_the_next() {
        for pair in RELEASES.windows(2) {
            let [(_, older), (name, newer)] = pair else { unreachable!("pairs") };
            assert!(older.iter().zip(newer).all(|(a, b)| a <= b), "{name:?}");
        }
        let (_, newest) = RELEASES.last().expect("releases");
        assert!(APIS.iter().zip(newest).all(|(api, max)| api.max == *max));
    }

    #[test]
    fn releases_have_the_versions_that_were_measured() {
        // Measured at running brokers.
        for (release, produce, metadata, init, find, versions) in [
            ("3.3.2", 9, 12, 4, 4, 3),
            ("3.9.2", 11, 12, 5, 6, 4),
            ("4.3.1", 13, 13, 5, 6, 4),
            ("4.4.0", 13, 13, 5, 6, 5),
        ] {
            let offered = Versions::of_release(release).expect(release);
            let max = |key| offered.served(key).map(|range| *range.end());
            assert_eq!(max(ApiKey::Produce), Some(produce), "{release}");
            assert_eq!(max(ApiKey::Metadata), Some(metadata), "{release}");
            assert_eq!(max(ApiKey::InitProducerId), Some(init), "{release}");
            assert_eq!(max(ApiKey::FindCoordinator), Some(find), "{release}");
            assert_eq!(max(ApiKey::ApiVersions), Some(versions), "{release}");
        }
    }

    #[test]
    fn old_releases_lack_what_came_later() {
        let old = Versions::of_release("2.1").expect("2.1");
        assert_eq!(old.served(ApiKey::Produce), Some(3..=7));
        assert_eq!(old.served(ApiKey::DescribeCluster), None);
        assert!(old.advertised().all(|(key, _, _)| key != ApiKey::DescribeCluster.code()));
        assert!(old.advertised().any(|entry| entry == (0, 0, 7)));
        for bad in ["", "2", "2.0", "4.5", "x.y", "0.11"] {
            assert!(Versions::of_release(bad).is_err(), "{bad}");
        }
    }
}
