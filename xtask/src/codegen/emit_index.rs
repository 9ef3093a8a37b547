//! From the tables to Rust: what spans all APIs (keys, error codes, the list of modules).

use std::fmt::Write as _;

use super::emit::MARKER;
use super::schema::{Message, Versions};

/// `api_key.rs`, from lines `key name versions flexible [unstable]`.
pub(crate) fn api_keys(table: &str) -> Result<String, String> {
    let mut rows = Vec::new();
    for line in table.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [key, name, _, flexible, ..] = words[..] else {
            return Err(format!("api_keys.txt: {line}"));
        };
        rows.push((key, name, Versions::parse(flexible)?));
    }
    let mut out = format!("{MARKER}//! Which APIs Kafka has.\n\n");
    out.push_str(
        "/// The APIs of Kafka 4.4, by the key that names them in a request header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {\n",
    );
    for (key, name, _) in &rows {
        let _ = writeln!(out, "/// `{name}`.\n{name} = {key},");
    }
    out.push_str("}\n\nimpl ApiKey {\n/// Every API, by ascending key.\npub const ALL: &[Self] = &[");
    for (_, name, _) in &rows {
        let _ = write!(out, "Self::{name}, ");
    }
    out.push_str(
        "];\n\n/// The API with this key, if Kafka 4.4 has one.
        #[must_use]
        pub fn from_code(code: i16) -> Option<Self> { match code {\n",
    );
    for (key, name, _) in &rows {
        let _ = writeln!(out, "{key} => Some(Self::{name}),");
    }
    out.push_str(
        "_ => None } }\n\n/// The key on the wire.
        #[must_use]
        pub fn code(self) -> i16 { self as i16 }

        /// Kafka's name of the API.
        #[must_use]
        pub fn name(self) -> &'static str { match self {\n",
    );
    for (_, name, _) in &rows {
        let _ = writeln!(out, "Self::{name} => \"{name}\",");
    }
    out.push_str(
        "} }\n\n/// The first version with tagged fields (KIP-482); `i16::MAX` if there is none.
        #[must_use]
        pub fn flexible_from(self) -> i16 { match self {\n",
    );
    let mut by_version: std::collections::BTreeMap<i16, Vec<&str>> = Default::default();
    for (_, name, flexible) in &rows {
        let low = if flexible.is_none() { i16::MAX } else { flexible.low };
        by_version.entry(low).or_default().push(name);
    }
    for (low, names) in by_version {
        let names: Vec<String> = names.iter().map(|n| format!("Self::{n}")).collect();
        let low = if low == i16::MAX { "i16::MAX".into() } else { low.to_string() };
        let _ = writeln!(out, "{} => {low},", names.join(" | "));
    }
    out.push_str(
        "} }\n\n/// The version of the request header that goes with a version of this API.
        #[must_use]
        pub fn request_header_version(self, version: i16) -> i16 {
            if version >= self.flexible_from() { 2 } else { 1 }
        }

        /// The version of the response header that goes with a version of this API: always 0
        /// for ApiVersions, whose answer must be readable before versions are known (KIP-511).
        #[must_use]
        pub fn response_header_version(self, version: i16) -> i16 {
            if version >= self.flexible_from() && self != Self::ApiVersions { 1 } else { 0 }
        }
    }

    impl std::fmt::Display for ApiKey {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.name())
        }
    }\n",
    );
    Ok(out)
}

/// `error_code.rs`, from lines `code NAME retriable refreshes-metadata`.
pub(crate) fn error_codes(table: &str) -> Result<String, String> {
    let mut rows = Vec::new();
    for line in table.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [code, name, retriable, metadata] = words[..] else {
            return Err(format!("errors.txt: {line}"));
        };
        rows.push((code, name, super::camel_case(name), retriable == "true", metadata == "true"));
    }
    let mut out = format!("{MARKER}//! Kafka's error codes.\n\n");
    out.push_str(
        "/// The error codes of Kafka 4.4.
        ///
        /// Exhaustive on purpose: a table of what to do about each code must not compile when a
        /// code is added.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {\n",
    );
    for (code, name, variant, ..) in &rows {
        let default = if *code == "0" { "#[default]\n" } else { "" };
        let _ = writeln!(out, "/// {code}, `{name}`.\n{default}{variant},");
    }
    out.push_str(
        "/// A code that Kafka 4.4 does not have. [`ErrorCode::from_code`] never makes it of a
        /// known code.
        Unrecognized(i16),
    }

    impl ErrorCode {
        /// Every code that Kafka 4.4 has, by ascending number.
        pub const ALL: &[Self] = &[",
    );
    for (_, _, variant, ..) in &rows {
        let _ = write!(out, "Self::{variant}, ");
    }
    out.push_str(
        "];\n\n/// The error with this code.
        #[must_use]
        pub fn from_code(code: i16) -> Self { match code {\n",
    );
    for (code, _, variant, ..) in &rows {
        let _ = writeln!(out, "{code} => Self::{variant},");
    }
    out.push_str(
        "code => Self::Unrecognized(code) } }\n\n/// The code on the wire.
        #[must_use]
        pub fn code(self) -> i16 { match self {\n",
    );
    for (code, _, variant, ..) in &rows {
        let _ = writeln!(out, "Self::{variant} => {code},");
    }
    out.push_str(
        "Self::Unrecognized(code) => code } }\n\n/// Kafka's name of the code.
        #[must_use]
        pub fn name(self) -> &'static str { match self {\n",
    );
    for (_, name, variant, ..) in &rows {
        let _ = writeln!(out, "Self::{variant} => \"{name}\",");
    }
    out.push_str("Self::Unrecognized(_) => \"UNRECOGNIZED\" } }\n\n");
    let mut predicate = |name: &str, doc: &str, holds: &dyn Fn(bool, bool) -> bool| {
        let variants: Vec<String> = rows
            .iter()
            .filter(|(.., retriable, metadata)| holds(*retriable, *metadata))
            .map(|(_, _, variant, ..)| format!("Self::{variant}"))
            .collect();
        let _ = writeln!(
            out,
            "{doc}\n#[must_use]\npub fn {name}(self) -> bool {{ matches!(self, {}) }}\n",
            variants.join(" | ")
        );
    };
    predicate(
        "is_retriable",
        "/// Whether Java's client holds the error for transient (its exception is a\n/// `RetriableException`). An unrecognized code is not.",
        &|retriable, _| retriable,
    );
    predicate(
        "is_invalid_metadata",
        "/// Whether the error says that what we know of the cluster is out of date (Java's\n/// exception is an `InvalidMetadataException`).",
        &|_, metadata| metadata,
    );
    out.push_str(
        "}

    impl std::fmt::Display for ErrorCode {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            match self {
                Self::Unrecognized(code) => write!(f, \"unrecognized error code {code}\"),
                code => f.write_str(code.name()),
            }
        }
    }\n",
    );
    Ok(out)
}

/// `messages/mod.rs`.
pub(crate) fn modules(families: &[(String, Vec<Message>)]) -> String {
    let apis: Vec<&str> =
        families.iter().map(|(f, _)| f.as_str()).filter(|f| *f != "Header").collect();
    let mut out = format!(
        "{MARKER}//! Kafka's messages: one module per API, the names are Kafka's.\n\nuse std::ops::RangeInclusive;\n\nuse crate::{{ApiKey, DecodeError, DecodeErrorKind, EncodeError, Message, Reader}};\n\n"
    );
    for (family, _) in families {
        let _ = writeln!(out, "pub mod {};", super::snake_case(family));
    }
    out.push_str("\n/// The APIs whose messages this crate has.\npub const SUPPORTED: &[ApiKey] = &[");
    for api in &apis {
        let _ = write!(out, "ApiKey::{api}, ");
    }
    out.push_str(
        "];\n\n/// The versions of an API that this crate can encode and decode; `None` if the API is not
        /// in [`SUPPORTED`].
        #[must_use]
        pub fn versions(api: ApiKey) -> Option<RangeInclusive<i16>> { match api {\n",
    );
    for api in &apis {
        let module = super::snake_case(api);
        let _ = writeln!(out, "ApiKey::{api} => Some({module}::{api}Request::VERSIONS),");
    }
    out.push_str("_ => None } }\n\n");
    for kind in ["Request", "Response"] {
        any(&mut out, kind, &apis);
    }
    out
}

/// The enum of all requests or all responses.
fn any(out: &mut String, kind: &str, apis: &[&str]) {
    let lower = kind.to_lowercase();
    let _ = writeln!(
        out,
        "/// A {lower} of any API in [`SUPPORTED`].
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Any{kind} {{"
    );
    for api in apis {
        let module = super::snake_case(api);
        let _ = writeln!(out, "/// `{api}{kind}`.\n{api}({module}::{api}{kind}),");
    }
    let _ = writeln!(
        out,
        "}}

        impl Any{kind} {{
            /// Reads a {lower} of `api`.
            ///
            /// # Errors
            /// As [`Message::decode`], and if the API is not in [`SUPPORTED`].
            pub fn decode(api: ApiKey, r: &mut Reader, version: i16) -> Result<Self, DecodeError> {{
                Ok(match api {{"
    );
    for api in apis {
        let _ = writeln!(out, "ApiKey::{api} => Self::{api}(Message::decode(r, version)?),");
    }
    let _ = writeln!(
        out,
        "api => return Err(r.error(\"{kind}\", DecodeErrorKind::UnknownApiKey(api.code()))),
            }}) }}

            /// Appends the {lower} to `out`.
            ///
            /// # Errors
            /// As [`Message::encode`].
            pub fn encode(&self, out: &mut Vec<u8>, version: i16) -> Result<(), EncodeError> {{
                match self {{"
    );
    for api in apis {
        let _ = writeln!(out, "Self::{api}(message) => message.encode(out, version),");
    }
    let _ = writeln!(
        out,
        "}} }}\n\n/// The API that the {lower} belongs to.\n#[must_use]\npub fn api(&self) -> ApiKey {{ match self {{"
    );
    for api in apis {
        let _ = writeln!(out, "Self::{api}(_) => ApiKey::{api},");
    }
    out.push_str("} } }\n\n");
    for api in apis {
        let module = super::snake_case(api);
        let _ = writeln!(
            out,
            "impl From<{module}::{api}{kind}> for Any{kind} {{ fn from(message: {module}::{api}{kind}) -> Self {{ Self::{api}(message) }} }}\n"
        );
    }
}
