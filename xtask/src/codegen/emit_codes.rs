//! From the tables to Rust: the enums of API keys and of error codes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::emit::MARKER;
use super::schema::Versions;

/// The words of each line that is no comment.
fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    lines.map(|l| l.split_whitespace().collect())
}

/// Lines of `match` arms or enum variants, one per row.
fn lines<T>(rows: &[T], line: impl Fn(&T) -> String) -> String {
    rows.iter().map(|row| line(row) + "\n").collect()
}

struct Api<'a> {
    key: &'a str,
    name: &'a str,
    flexible: Versions,
}

/// `api_key.rs`, from lines `key name versions flexible [unstable]`.
pub(crate) fn api_keys(table: &str) -> Result<String, String> {
    let mut apis = Vec::new();
    for row in rows(table) {
        let [key, name, _, flexible, ..] = row[..] else {
            return Err(format!("api_keys.txt: {row:?}"));
        };
        apis.push(Api { key, name, flexible: Versions::parse(flexible)? });
    }
    let variants = lines(&apis, |a| format!("/// `{0}`.\n{0} = {1},", a.name, a.key));
    let all = lines(&apis, |a| format!("Self::{},", a.name));
    let from = lines(&apis, |a| format!("{} => Some(Self::{}),", a.key, a.name));
    let names = lines(&apis, |a| format!("Self::{0} => \"{0}\",", a.name));
    Ok(format!(
        "{MARKER}//! Which APIs Kafka has.

        /// The APIs of Kafka 4.4, by the key that names them in a request header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {{ {variants} }}

        impl ApiKey {{
            /// Every API, by ascending key.
            pub const ALL: &[Self] = &[{all}];

            /// The API with this key, if Kafka 4.4 has one.
            #[must_use]
            pub fn from_code(code: i16) -> Option<Self> {{ match code {{ {from} _ => None }} }}

            /// The key on the wire.
            #[must_use]
            pub fn code(self) -> i16 {{ self as i16 }}

            /// Kafka's name of the API.
            #[must_use]
            pub fn name(self) -> &'static str {{ match self {{ {names} }} }}

            {}
        }}

        impl std::fmt::Display for ApiKey {{
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{
                f.write_str(self.name())
            }}
        }}\n",
        header_versions(&apis)
    ))
}

fn header_versions(apis: &[Api<'_>]) -> String {
    let mut by_version: BTreeMap<i16, Vec<String>> = BTreeMap::new();
    for api in apis {
        let low = if api.flexible.is_none() { i16::MAX } else { api.flexible.low };
        by_version.entry(low).or_default().push(format!("Self::{}", api.name));
    }
    let mut flexible = String::new();
    for (low, names) in by_version {
        let low = if low == i16::MAX { "i16::MAX".into() } else { low.to_string() };
        let _ = writeln!(flexible, "{} => {low},", names.join(" | "));
    }
    format!(
        "/// The first version with tagged fields (KIP-482); `i16::MAX` if there is none.
        #[must_use]
        pub fn flexible_from(self) -> i16 {{ match self {{ {flexible} }} }}

        /// The version of the request header that goes with a version of this API.
        #[must_use]
        pub fn request_header_version(self, version: i16) -> i16 {{
            if version >= self.flexible_from() {{ 2 }} else {{ 1 }}
        }}

        /// The version of the response header that goes with a version of this API: always 0
        /// for ApiVersions, whose answer must be readable before versions are known (KIP-511).
        #[must_use]
        pub fn response_header_version(self, version: i16) -> i16 {{
            if version >= self.flexible_from() && self != Self::ApiVersions {{ 1 }} else {{ 0 }}
        }}"
    )
}

struct ErrorRow<'a> {
    code: &'a str,
    name: &'a str,
    variant: String,
    retriable: bool,
    refreshes_metadata: bool,
}

/// `error_code.rs`, from lines `code NAME retriable refreshes-metadata`.
pub(crate) fn error_codes(table: &str) -> Result<String, String> {
    let mut errors = Vec::new();
    for row in rows(table) {
        let [code, name, retriable, metadata] = row[..] else {
            return Err(format!("errors.txt: {row:?}"));
        };
        errors.push(ErrorRow {
            code,
            name,
            variant: super::camel_case(name),
            retriable: retriable == "true",
            refreshes_metadata: metadata == "true",
        });
    }
    let variants = lines(&errors, |e| {
        let default = if e.code == "0" { "#[default]\n" } else { "" };
        format!("/// {}, `{}`.\n{default}{},", e.code, e.name, e.variant)
    });
    let all = lines(&errors, |e| format!("Self::{},", e.variant));
    Ok(format!(
        "{MARKER}//! Kafka's error codes.

        /// The error codes of Kafka 4.4.
        ///
        /// Exhaustive on purpose: a table of what to do about each code must not compile when a
        /// code is added.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {{
            {variants}
            /// A code that Kafka 4.4 does not have. [`ErrorCode::from_code`] never makes it of a
            /// known code.
            Unrecognized(i16),
        }}

        impl ErrorCode {{
            /// Every code that Kafka 4.4 has, by ascending number.
            pub const ALL: &[Self] = &[{all}];

            {}
        }}

        impl std::fmt::Display for ErrorCode {{
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {{
                match self {{
                    Self::Unrecognized(code) => write!(f, \"unrecognized error code {{code}}\"),
                    code => f.write_str(code.name()),
                }}
            }}
        }}\n",
        error_methods(&errors)
    ))
}

fn error_methods(errors: &[ErrorRow<'_>]) -> String {
    let from = lines(errors, |e| format!("{} => Self::{},", e.code, e.variant));
    let codes = lines(errors, |e| format!("Self::{} => {},", e.variant, e.code));
    let names = lines(errors, |e| format!("Self::{} => \"{}\",", e.variant, e.name));
    let either = |holds: fn(&ErrorRow<'_>) -> bool| {
        let variants = errors.iter().filter(|e| holds(e)).map(|e| format!("Self::{}", e.variant));
        variants.collect::<Vec<_>>().join(" | ")
    };
    let retriable = either(|e| e.retriable);
    let metadata = either(|e| e.refreshes_metadata);
    format!(
        "/// The error with this code.
        #[must_use]
        pub fn from_code(code: i16) -> Self {{
            match code {{ {from} code => Self::Unrecognized(code) }}
        }}

        /// The code on the wire.
        #[must_use]
        pub fn code(self) -> i16 {{
            match self {{ {codes} Self::Unrecognized(code) => code }}
        }}

        /// Kafka's name of the code.
        #[must_use]
        pub fn name(self) -> &'static str {{
            match self {{ {names} Self::Unrecognized(_) => \"UNRECOGNIZED\" }}
        }}

        /// Whether Java's client holds the error for transient (its exception is a
        /// `RetriableException`). An unrecognized code is not.
        #[must_use]
        pub fn is_retriable(self) -> bool {{ matches!(self, {retriable}) }}

        /// Whether the error says that what we know of the cluster is out of date (Java's
        /// exception is an `InvalidMetadataException`).
        #[must_use]
        pub fn is_invalid_metadata(self) -> bool {{ matches!(self, {metadata}) }}"
    )
}
