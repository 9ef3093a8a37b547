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
}

impl Versions {
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
        Ok(Self {
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
