//! What record a line stands for.

use sordini::Record;

use crate::json::{self, JsonRecord};
use crate::separator::Separator;

/// How lines become records.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) separator: Option<Separator>,
    /// An empty value is a null value.
    pub(super) tombstones: bool,
    pub(super) partition: Option<i32>,
    /// On every record, before those of its own.
    pub(super) headers: Vec<(String, String)>,
    /// Lines are JSON objects.
    pub(super) from_json: bool,
}

/// A line that was understood.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    /// Where the line begins and ends (behind its LF) in its block.
    pub(super) start: usize,
    pub(super) end: usize,
    content: Content<'a>,
}

#[derive(Debug)]
enum Content<'a> {
    Bytes { key: Option<&'a [u8]>, value: Option<&'a [u8]> },
    Json(Box<JsonRecord>),
}

impl Shape {
    /// Understands `line`, which stands at `start..end` of its block.
    ///
    /// # Errors
    /// Why it is no record.
    pub(super) fn parse<'a>(
        &self,
        line: &'a [u8],
        start: usize,
        end: usize,
    ) -> Result<Parsed<'a>, String> {
        let content = if self.from_json {
            Content::Json(Box::new(json::read(line)?))
        } else {
            let (key, value) = match &self.separator {
                Some(separator) => separator.split(line),
                None => (None, line),
            };
            let value = Some(value).filter(|value| !(self.tombstones && value.is_empty()));
            Content::Bytes { key, value }
        };
        Ok(Parsed { start, end, content })
    }

    /// The record that `parsed` stands for.
    pub(super) fn record<'a>(&'a self, parsed: &'a Parsed<'_>) -> Record<'a> {
        let (key, value) = parsed.key_and_value();
        let mut record = match value {
            Some(value) => Record::new(value),
            None => Record::new(&[]).null_value(),
        };
        if let Some(key) = key {
            record = record.key(key);
        }
        for (name, value) in &self.headers {
            record = record.header(name.as_str(), value);
        }
        let mut partition = self.partition;
        if let Content::Json(json) = &parsed.content {
            for (name, value) in &json.headers {
                record = match value {
                    Some(value) => record.header(name.as_str(), value),
                    None => record.null_header(name.as_str()),
                };
            }
            if let Some(timestamp) = json.timestamp {
                record = record.timestamp(timestamp);
            }
            partition = partition.or(json.partition);
        }
        match partition {
            Some(partition) => record.partition(partition),
            None => record,
        }
    }
}

impl Parsed<'_> {
    fn key_and_value(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        match &self.content {
            Content::Bytes { key, value } => (*key, *value),
            Content::Json(json) => (json.key.as_deref(), json.value.as_deref()),
        }
    }

    /// Bytes of key and value.
    pub(super) fn bytes(&self) -> u64 {
        let (key, value) = self.key_and_value();
        (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            separator: None,
            tombstones: false,
            partition: None,
            headers: Vec::new(),
            from_json: false,
        }
    }

    fn record(shape: &Shape, line: &str) -> Record<'static> {
        let parsed = shape.parse(line.as_bytes(), 0, line.len()).expect("a record");
        // Compared by what it holds; owned, so that it outlives the parsed line.
        let (key, value) = parsed.key_and_value();
        let mut owned = match value {
            Some(value) => Record::new(value.to_vec()),
            None => Record::new(&[]).null_value(),
        };
        if let Some(key) = key {
            owned = owned.key(key.to_vec());
        }
        assert_eq!(shape.record(&parsed).partition(9), owned.clone().partition(9));
        owned
    }

    #[test]
    fn an_empty_line_is_an_empty_value_and_with_tombstones_a_null_one() {
        let mut shape = shape();
        assert_eq!(record(&shape, ""), Record::new(""));
        shape.tombstones = true;
        assert_eq!(record(&shape, ""), Record::new("").null_value());
        assert_eq!(record(&shape, " "), Record::new(" "));
        shape.separator = Some(":".parse().expect("a separator"));
        assert_eq!(record(&shape, "k:"), Record::tombstone("k"));
        assert_eq!(record(&shape, "k:v"), Record::new("v").key("k"));
        assert_eq!(record(&shape, ":v"), Record::new("v").key(""));
        assert_eq!(record(&shape, "v"), Record::new("v"));
    }

    #[test]
    fn headers_and_the_partition_are_on_every_record() {
        let mut shape = shape();
        shape.headers = vec![("h".into(), "1".into()), ("h".into(), "2".into())];
        shape.partition = Some(4);
        let parsed = shape.parse(b"v", 0, 1).expect("a record");
        let expected = Record::new("v").header("h", "1").header("h", "2").partition(4);
        assert_eq!(shape.record(&parsed), expected);
    }

    #[test]
    fn a_json_line_says_all_of_its_record_and_options_outrank_it() {
        let mut shape = shape();
        shape.from_json = true;
        let line = br#"{"partition":2,"offset":9,"timestamp":5,"key":"k","headers":[{"key":"a","value":null},{"key":"b","value_base64":"/w=="}],"value":null}"#;
        let parsed = shape.parse(line, 0, line.len()).expect("a record");
        let expected =
            Record::tombstone("k").null_header("a").header("b", &[0xff]).timestamp(5).partition(2);
        assert_eq!(shape.record(&parsed), expected);
        shape.partition = Some(0);
        assert_eq!(shape.record(&parsed), expected.partition(0));
    }
}
