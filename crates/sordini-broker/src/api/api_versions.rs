//! ApiVersions (key 18), versions 0 to 5.
//!
//! - 3: flexible, with the client's name and version (KIP-511). 5: the cluster and node that the
//!   client means (KIP-1242): REBOOTSTRAP_REQUIRED if it is not this one.
//! - A version that is too new is answered in version 0 with UNSUPPORTED_VERSION and the versions
//!   of ApiVersions itself.
//! - `transaction.version` is finalised at 1 and 2: a client then knows which protocol of
//!   transactions to use. Before version 4 a feature that may be 0 is not listed as supported: old
//!   clients can't read that (KAFKA-17492).

use sordini_protocol::ApiKey;
use sordini_protocol::ErrorCode;
use sordini_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};

use crate::broker::Broker;
use crate::coordinator::TransactionVersion;
use crate::coordinator::version::FEATURE;
use crate::versions::APIS;

/// The first version that lists features whose least level is 0.
const ZERO_FEATURES_SINCE: i16 = 4;

pub(super) fn handle(
    broker: &Broker,
    version: i16,
    request: &ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = is_software_name(&request.client_software_name)
        && is_software_name(&request.client_software_version);
    if version >= 3 && !named {
        return refuse(request, 0, ErrorCode::InvalidRequest);
    }
    if version >= 5
        && let Some(cluster) = &request.cluster_id
        && (*cluster != broker.cluster_id() || request.node_id != broker.config.node_id)
    {
        return refuse(request, 0, ErrorCode::RebootstrapRequired);
    }
    let api_keys =
        broker.config.versions.advertised().map(|(api_key, min_version, max_version)| ApiVersion {
            api_key,
            min_version,
            max_version,
        });
    let response =
        ApiVersionsResponse { api_keys: api_keys.collect(), ..ApiVersionsResponse::default() };
    // A release without the APIs of the new protocol has no such feature.
    match broker.config.versions.offers_epoch_bumps() {
        true => with_features(broker, version, response),
        false => response,
    }
}

fn with_features(
    broker: &Broker,
    version: i16,
    mut response: ApiVersionsResponse,
) -> ApiVersionsResponse {
    if version >= ZERO_FEATURES_SINCE {
        response.supported_features.push(SupportedFeatureKey {
            name: FEATURE.to_owned(),
            min_version: TransactionVersion::V0.level(),
            max_version: TransactionVersion::V2.level(),
        });
    }
    response.finalized_features_epoch = broker.features_epoch;
    let level = broker.transaction_version().level();
    if level > 0 {
        response.finalized_features.push(FinalizedFeatureKey {
            name: FEATURE.to_owned(),
            max_version_level: level,
            min_version_level: level,
        });
    }
    response
}

/// Kafka's rule: letters, digits, and between them dashes and dots.
fn is_software_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    name.bytes().all(inner)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// The answer to a version that is too new, to be sent in version 0.
pub(super) fn unsupported() -> ApiVersionsResponse {
    let own = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions).map(|api| ApiVersion {
        api_key: api.key.code(),
        min_version: api.min,
        max_version: api.max,
    });
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: own.collect(),
        ..ApiVersionsResponse::default()
    }
}

/// Refuses the request.
pub(super) fn refuse(_: &ApiVersionsRequest, _: i16, code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse { error_code: code.code(), ..ApiVersionsResponse::default() }
}

#[cfg(test)]
mod tests {
    use super::is_software_name;

    #[test]
    fn software_names_are_judged_as_kafka_judges_them() {
        for good in ["a", "sordini", "apache-kafka-java", "4.4.0", "9"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "a_b", "ä", "a\n"] {
            assert!(!is_software_name(bad), "{bad:?}");
        }
    }
}
