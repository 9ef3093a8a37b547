//! Which version of each API to speak with one broker (KIP-35, KIP-511).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use sordini_protocol::ApiKey;
use sordini_protocol::messages::api_versions::ApiVersionsResponse;

/// The versions of Produce that `connection::produce` frames.
const PRODUCE: RangeInclusive<i16> = 3..=13;
/// What is needed of Metadata: topic ids from 10 on, leader epochs from 7 on.
const METADATA: RangeInclusive<i16> = 4..=13;
/// What is needed of InitProducerId.
const INIT_PRODUCER_ID: RangeInclusive<i16> = 0..=5;

/// What transactions need; brokers without are no worse for a producer without.
const FIND_COORDINATOR: RangeInclusive<i16> = 1..=6;
/// From version 4 on the request is meant for brokers.
const ADD_PARTITIONS: RangeInclusive<i16> = 0..=3;
const ADD_OFFSETS: RangeInclusive<i16> = 0..=4;
const COMMIT_OFFSETS: RangeInclusive<i16> = 0..=6;
const END: RangeInclusive<i16> = 0..=5;
const DESCRIBE: RangeInclusive<i16> = 0..=0;

/// The cluster's feature that tells which protocol transactions follow (KIP-890).
const TRANSACTION_VERSION: &str = "transaction.version";

/// Kafka 2.1, the oldest line that is supported, speaks Produce 7.
const OLDEST_PRODUCE: i16 = 7;

/// The first version of ApiVersions that is tried.
pub const FIRST_TRY: i16 = 4;

/// The versions agreed with one broker: the highest that both know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Of Produce.
    pub produce: i16,
    /// Of Metadata.
    pub metadata: i16,
    /// Of InitProducerId.
    pub init_producer_id: i16,
    /// Of what coordinators are asked.
    pub coordination: Coordination,
    /// What the broker says of the cluster.
    pub features: Features,
}

/// The versions of what coordinators are asked; `None` where there is none in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coordination {
    /// Of FindCoordinator.
    pub find_coordinator: Option<i16>,
    /// Of AddPartitionsToTxn.
    pub add_partitions: Option<i16>,
    /// Of AddOffsetsToTxn.
    pub add_offsets: Option<i16>,
    /// Of TxnOffsetCommit.
    pub commit_offsets: Option<i16>,
    /// Of EndTxn.
    pub end: Option<i16>,
    /// Of DescribeTransactions.
    pub describe: Option<i16>,
}

/// What is finalized for the whole cluster (KIP-584), as one broker tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Rises with each change; -1 where the broker does not tell.
    pub epoch: i64,
    /// `transaction.version`; 0 where it is not set.
    pub transaction_version: i16,
}

impl Default for Features {
    fn default() -> Self {
        Self { epoch: -1, transaction_version: 0 }
    }
}

impl Features {
    fn of(response: &ApiVersionsResponse) -> Self {
        let mut finalized = response.finalized_features.iter();
        let version = finalized.find(|feature| feature.name == TRANSACTION_VERSION);
        Self {
            epoch: response.finalized_features_epoch,
            transaction_version: version.map_or(0, |feature| feature.max_version_level),
        }
    }
}

impl Versions {
    /// Can transactions follow the protocol of KIP-890 through this broker?
    #[must_use]
    pub fn speaks_second_protocol(&self) -> bool {
        let Coordination { commit_offsets, end, .. } = self.coordination;
        self.produce >= 12 && commit_offsets >= Some(5) && end >= Some(5)
    }

    /// Agrees on versions with a broker that offers `response`.
    ///
    /// # Errors
    /// A text that names the API and both ranges, if there is no version in common, or the broker
    /// is older than Kafka 2.1.
    pub fn agree(response: &ApiVersionsResponse) -> Result<Self, String> {
        let offered: BTreeMap<i16, (i16, i16)> = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        let highest = |key: ApiKey, ours: RangeInclusive<i16>| {
            let Some(&(min, max)) = offered.get(&key.code()) else {
                return Err(format!("the broker does not offer {}", key.name()));
            };
            let version = max.min(*ours.end());
            if version < min || version < *ours.start() {
                let (first, last) = (ours.start(), ours.end());
                return Err(format!(
                    "the broker offers {} {min} to {max}, this client speaks {first} to {last}",
                    key.name()
                ));
            }
            Ok(version)
        };
        let produce = highest(ApiKey::Produce, PRODUCE)?;
        if produce < OLDEST_PRODUCE {
            return Err(format!(
                "the broker is older than Kafka 2.1, the oldest supported: \
                 it offers Produce only up to {produce}"
            ));
        }
        let coordination = Coordination {
            find_coordinator: highest(ApiKey::FindCoordinator, FIND_COORDINATOR).ok(),
            add_partitions: highest(ApiKey::AddPartitionsToTxn, ADD_PARTITIONS).ok(),
            add_offsets: highest(ApiKey::AddOffsetsToTxn, ADD_OFFSETS).ok(),
            commit_offsets: highest(ApiKey::TxnOffsetCommit, COMMIT_OFFSETS).ok(),
            end: highest(ApiKey::EndTxn, END).ok(),
            describe: highest(ApiKey::DescribeTransactions, DESCRIBE).ok(),
        };
        Ok(Self {
            coordination,
            features: Features::of(response),
            produce,
            metadata: highest(ApiKey::Metadata, METADATA)?,
            init_producer_id: highest(ApiKey::InitProducerId, INIT_PRODUCER_ID)?,
        })
    }
}

/// The version to ask ApiVersions with next, after a broker answered `tried` with
/// UNSUPPORTED_VERSION: what it lists, if that is lower, else 0. `None` when nothing lower is left.
#[must_use]
pub fn fall_back(tried: i16, response: &ApiVersionsResponse) -> Option<i16> {
    if tried <= 0 {
        return None;
    }
    let listed = response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.code());
    Some(listed.map_or(0, |api| api.max_version.clamp(0, FIRST_TRY)).min(tried - 1))
}
