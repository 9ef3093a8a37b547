//! Which versions a connection may speak: those that its broker's answer to ApiVersions offers
//! (KIP-35, KIP-511). What another connection was offered counts for nothing.

use std::collections::BTreeMap;

use bytes::Bytes;
use sordini_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use sordini_protocol::{ApiKey, ErrorCode, Message, frame};

/// What a broker offered on one connection.
#[derive(Debug, Default)]
pub(super) enum Offer {
    /// Nothing yet: only ApiVersions may be asked, in any version.
    #[default]
    Unknown,
    /// ApiVersions was asked in this version, and was too new; the highest that is known of it.
    TooNew(i16, Option<i16>),
    /// These: lowest and highest version by API key.
    Made(BTreeMap<i16, (i16, i16)>),
}

impl Offer {
    /// May a request of `api` be sent in `version`?
    pub(super) fn allows(&self, api: ApiKey, version: i16) -> Result<(), String> {
        let name = api.name();
        match self {
            Self::Unknown | Self::TooNew(..) if api != ApiKey::ApiVersions => {
                Err(format!("{name} {version} on a connection that has no versions yet"))
            }
            Self::Unknown => Ok(()),
            Self::TooNew(tried, known) => {
                let most = known.unwrap_or(0).min(tried - 1).max(0);
                let told = format!("ApiVersions {version} after {tried} was refused, up to {most}");
                if version <= most { Ok(()) } else { Err(told) }
            }
            Self::Made(offered) => match offered.get(&api.code()) {
                Some((min, max)) if (*min..=*max).contains(&version) => Ok(()),
                Some((min, max)) => {
                    Err(format!("{name} {version}, and {min} to {max} were offered here"))
                }
                None => Err(format!("{name} {version}, which was not offered here")),
            },
        }
    }

    /// Reads an answer to ApiVersions, its correlation id before it, as it was asked in `version`.
    pub(super) fn read(&mut self, body: &Bytes, version: i16) {
        let decode = |version: i16| {
            let (_, mut reader) =
                frame::response_header::<ApiVersionsRequest>(body.clone(), version).ok()?;
            ApiVersionsResponse::decode(&mut reader, version).ok()
        };
        // A refusal is in version 0, whatever was asked; the code stands first in every version.
        let code = body.get(4..6).and_then(|it| it.first_chunk::<2>());
        let refused = code
            .is_some_and(|code| i16::from_be_bytes(*code) == ErrorCode::UnsupportedVersion.code());
        if refused {
            let listed = decode(0).into_iter().flat_map(|it| it.api_keys);
            let own = listed.filter(|it| it.api_key == ApiKey::ApiVersions.code());
            *self = Self::TooNew(version, own.map(|it| it.max_version).next());
        } else if let Some(answer) = decode(version).filter(|it| it.error_code == 0) {
            let all = answer.api_keys.iter();
            let all = all.map(|it| (it.api_key, (it.min_version, it.max_version)));
            *self = Self::Made(all.collect());
        }
    }
}
