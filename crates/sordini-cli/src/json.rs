//! One record as one JSON line: what `tail --json` prints and `produce --from-json` reads.
//!
//! Bytes that are valid UTF-8 stand as a string in `key` and `value`; other bytes stand in base64 in
//! `key_base64` and `value_base64` instead. A null key, value or header value is `null`.

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::base64;

/// A record read from a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JsonRecord {
    pub(crate) partition: Option<i32>,
    /// Milliseconds since 1970; `None` where the line has none (or -1, which means the same).
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A record to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(String, Option<Bytes>)],
}

#[derive(Serialize)]
struct OutLine<'a> {
    partition: i32,
    offset: i64,
    timestamp: i64,
    #[serde(flatten)]
    key: OutKey<'a>,
    headers: Vec<OutHeader<'a>>,
    #[serde(flatten)]
    value: OutValue<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutKey<'a> {
    Text { key: Option<&'a str> },
    Base64 { key_base64: String },
}

#[derive(Serialize)]
#[serde(untagged)]
enum OutValue<'a> {
    Text { value: Option<&'a str> },
    Base64 { value_base64: String },
}

#[derive(Serialize)]
struct OutHeader<'a> {
    key: &'a str,
    #[serde(flatten)]
    value: OutValue<'a>,
}

impl<'a> OutValue<'a> {
    fn of(bytes: Option<&'a [u8]>) -> Self {
        match bytes.map(std::str::from_utf8) {
            None => Self::Text { value: None },
            Some(Ok(text)) => Self::Text { value: Some(text) },
            Some(Err(_)) => Self::Base64 { value_base64: encode(bytes) },
        }
    }
}

impl<'a> OutKey<'a> {
    fn of(bytes: Option<&'a [u8]>) -> Self {
        match OutValue::of(bytes) {
            OutValue::Text { value } => Self::Text { key: value },
            OutValue::Base64 { value_base64 } => Self::Base64 { key_base64: value_base64 },
        }
    }
}

fn encode(bytes: Option<&[u8]>) -> String {
    base64::encode(bytes.unwrap_or_default())
}

/// Appends `record` as one JSON object to `out`, without a line feed.
pub(crate) fn write(record: Shown<'_>, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let headers = record.headers.iter();
    let line = OutLine {
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: OutKey::of(record.key),
        headers: headers
            .map(|(key, value)| OutHeader { key, value: OutValue::of(value.as_deref()) })
            .collect(),
        value: OutValue::of(record.value),
    };
    serde_json::to_writer(out, &line)
}

/// `Some(None)` for a null, so that null and absent differ.
fn present<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(input).map(Some)
}

// A field that is passed over could be a misspelled key: what is unknown is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InLine {
    #[serde(default)]
    partition: Option<i32>,
    #[serde(default, rename = "offset")]
    _offset: IgnoredAny,
    #[serde(default)]
    timestamp: Option<i64>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    key_base64: Option<String>,
    #[serde(default)]
    headers: Vec<InHeader>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Option<String>>,
    #[serde(default)]
    value_base64: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InHeader {
    key: String,
    #[serde(default, deserialize_with = "present")]
    value: Option<Option<String>>,
    #[serde(default)]
    value_base64: Option<String>,
}

/// Reads one line. `offset` is passed over: the broker gives another.
///
/// # Errors
/// What is wrong with the line, for a person.
pub(crate) fn read(line: &[u8]) -> Result<JsonRecord, String> {
    let foreign = |why: &dyn std::fmt::Display| {
        format!("it is no JSON object as `sordini tail --json` prints it: {why}")
    };
    // serde would take an array for the fields in their order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(foreign(&"it does not begin with {"));
    }
    let line: InLine = serde_json::from_slice(line).map_err(|error| {
        // Within an input of many lines "line 1" would mislead.
        let text = error.to_string();
        let said = text.split(" at line 1 column ").next().unwrap_or_default();
        foreign(&format_args!("{said} (column {})", error.column()))
    })?;
    let mut headers = Vec::with_capacity(line.headers.len());
    for header in line.headers {
        let value = value_of(header.value, header.value_base64, "a header's value")?;
        headers.push((header.key, value));
    }
    let key = match (line.key, line.key_base64) {
        (None, None) => None,
        (key, base64) => value_of(key.map(Some), base64, "key")?,
    };
    Ok(JsonRecord {
        partition: line.partition,
        timestamp: line.timestamp.filter(|millis| *millis != -1),
        key,
        value: value_of(line.value, line.value_base64, "value")?,
        headers,
    })
}

fn value_of(
    text: Option<Option<String>>,
    base64: Option<String>,
    name: &str,
) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.map(String::into_bytes)),
        (None, Some(base64)) => base64::decode(&base64)
            .map(Some)
            .ok_or_else(|| format!("{name} in base64 is not padded standard base64")),
        (None, None) => Err(format!("{name} is missing: a string, null, or base64 is needed")),
        (Some(_), Some(_)) => Err(format!("{name} is there twice, as text and in base64")),
    }
}

#[cfg(test)]
mod tests;
