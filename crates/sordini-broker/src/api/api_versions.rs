//! ApiVersions (key 18), versions 0 to 5.
//!
//! - 3: flexible, with the client's name and version (KIP-511). 5: the cluster and node that the
//!   client means (KIP-1242): REBOOTSTRAP_REQUIRED if it is not this one.
//! - A version that is too new is answered in version 0 with UNSUPPORTED_VERSION and the versions
//!   of ApiVersions itself.
//! - No features are finalised: a client then uses the first transaction protocol.

use sordini_protocol::ApiKey;
use sordini_protocol::ErrorCode;
use sordini_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse,
};

use crate::broker::Broker;
use crate::versions::APIS;

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
    ApiVersionsResponse { api_keys: api_keys.collect(), ..ApiVersionsResponse::default() }
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
