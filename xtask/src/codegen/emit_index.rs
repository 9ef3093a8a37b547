//! From the tables to Rust: the list of modules, and what holds any message.

use std::fmt::Write as _;

use super::emit::MARKER;
use super::schema::Message;

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
    out.push_str(
        "\n/// The APIs whose messages this crate has.\npub const SUPPORTED: &[ApiKey] = &[",
    );
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
