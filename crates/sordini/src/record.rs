//! What a caller hands in: borrowed or owned, encoded by the time the send returns.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sordini_core::accumulator::Intent;
use sordini_core::record as core;

/// The bytes of a key, a value or a header, borrowed or owned.
///
/// Made by `into()` from `&str`, `String`, `&[u8]`, `&[u8; N]`, `&Vec<u8>`, `Vec<u8>` and
/// [`Bytes`]. Whichever it is, the bytes are copied once, into the record's batch.
#[derive(Clone, Debug)]
pub struct Payload<'a>(Storage<'a>);

#[derive(Clone, Debug)]
enum Storage<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Payload<'_> {
    /// The bytes.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Storage::Borrowed(bytes) => bytes,
            Storage::Owned(bytes) => bytes,
            Storage::Shared(bytes) => bytes,
        }
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Payload<'_> {}

impl<'a> From<&'a [u8]> for Payload<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Storage::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    fn from(bytes: &'a [u8; N]) -> Self {
        Self(Storage::Borrowed(bytes))
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    fn from(bytes: &'a Vec<u8>) -> Self {
        Self(Storage::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    fn from(text: &'a str) -> Self {
        Self(Storage::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    fn from(text: &'a String) -> Self {
        Self(Storage::Borrowed(text.as_bytes()))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Storage::Owned(bytes))
    }
}

impl From<String> for Payload<'_> {
    fn from(text: String) -> Self {
        Self(Storage::Owned(text.into_bytes()))
    }
}

impl From<Bytes> for Payload<'_> {
    fn from(bytes: Bytes) -> Self {
        Self(Storage::Shared(bytes))
    }
}

/// One header: a name, and a value or Kafka's null.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header<'a> {
    name: Cow<'a, str>,
    value: Option<Payload<'a>>,
}

/// A record to append: a value or a tombstone, and whatever else it should carry.
///
/// ```
/// use sordini::Record;
///
/// let order = Record::new("{\"total\": 12}").key("customer-7").header("source", "web");
/// let gone = Record::tombstone("customer-8");
/// # assert_ne!(order, gone);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a record does nothing until it is sent"]
pub struct Record<'a> {
    key: Option<Payload<'a>>,
    value: Option<Payload<'a>>,
    headers: Vec<Header<'a>>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

impl<'a> Record<'a> {
    /// A record with this value and no key.
    #[inline]
    pub fn new(value: impl Into<Payload<'a>>) -> Self {
        Self {
            key: None,
            value: Some(value.into()),
            headers: Vec::new(),
            partition: None,
            timestamp: None,
        }
    }

    /// A record without a value: a compacted topic forgets what it had under this key.
    pub fn tombstone(key: impl Into<Payload<'a>>) -> Self {
        Self::null().key(key)
    }

    /// A record without value and key: possible, though no compacted topic takes it.
    pub fn null() -> Self {
        Self { value: None, ..Self::new(&[]) }
    }

    /// Takes the value away. Only a record with a key makes a compacted topic forget something;
    /// other topics hold a null value like any other.
    pub fn null_value(mut self) -> Self {
        self.value = None;
        self
    }

    /// Sets the key. Records with equal keys go to the same partition, in order, unless a
    /// partition is given or the settings ignore keys. An empty key is a key.
    #[inline]
    pub fn key(mut self, key: impl Into<Payload<'a>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header. Names may repeat, and the order is kept.
    pub fn header(self, name: impl Into<Cow<'a, str>>, value: impl Into<Payload<'a>>) -> Self {
        self.with_header(name.into(), Some(value.into()))
    }

    /// Adds a header whose value is Kafka's null, which is not the empty value.
    pub fn null_header(self, name: impl Into<Cow<'a, str>>) -> Self {
        self.with_header(name.into(), None)
    }

    fn with_header(mut self, name: Cow<'a, str>, value: Option<Payload<'a>>) -> Self {
        self.headers.push(Header { name, value });
        self
    }

    /// Chooses the partition, counted from 0, instead of the partitioner. One that does not exist
    /// fails the send.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the create time, in milliseconds since 1970-01-01T00:00:00Z, instead of the time of
    /// the append. Topics with `message.timestamp.type=LogAppendTime` overwrite it. A negative one
    /// fails the send with [`SendError::NegativeTimestamp`](crate::SendError::NegativeTimestamp).
    pub fn timestamp(mut self, millis: i64) -> Self {
        self.timestamp = Some(millis);
        self
    }

    /// As [`timestamp`](Self::timestamp), to the millisecond; times before 1970 are negative and
    /// fail the send, and times beyond the range of an i64 are the end of it.
    pub fn system_time(self, time: SystemTime) -> Self {
        let millis = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        };
        self.timestamp(millis)
    }

    /// Bytes of key and value: what pacing counts.
    #[inline]
    pub(crate) fn payload_len(&self) -> usize {
        let len = |part: &Option<Payload<'_>>| part.as_ref().map_or(0, |p| p.as_slice().len());
        len(&self.key) + len(&self.value)
    }

    /// The record as the core takes it; `headers` is where its headers are laid out.
    pub(crate) fn intent<'b>(&'b self, headers: &'b mut Headers<'b>) -> Intent<'b> {
        self.intent_with(headers.lay_out(&self.headers))
    }

    /// The same for a record without headers.
    #[inline]
    pub(crate) fn plain_intent(&self) -> Option<Intent<'_>> {
        self.headers.is_empty().then(|| self.intent_with(&[]))
    }

    #[inline]
    fn intent_with<'b>(&'b self, headers: &'b [core::Header<'b>]) -> Intent<'b> {
        let record = core::Record {
            key: self.key.as_ref().map(Payload::as_slice),
            value: self.value.as_ref().map(Payload::as_slice),
            headers,
            timestamp: self.timestamp,
        };
        Intent { record, partition: self.partition }
    }
}

impl<'a, T: Into<Payload<'a>>> From<T> for Record<'a> {
    #[inline]
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// Headers of one record that need no allocation to be handed to the core.
const INLINE: usize = 4;

/// Room for one record's headers in the form that the core borrows: on the stack for up to
/// [`INLINE`] of them.
#[derive(Debug)]
pub(crate) struct Headers<'a> {
    few: [core::Header<'a>; INLINE],
    many: Vec<core::Header<'a>>,
}

impl<'a> Headers<'a> {
    pub(crate) const fn new() -> Self {
        Self { few: [core::Header { name: "", value: None }; INLINE], many: Vec::new() }
    }

    fn lay_out(&'a mut self, headers: &'a [Header<'a>]) -> &'a [core::Header<'a>] {
        let borrowed = headers.iter().map(Header::borrow);
        match self.few.get_mut(..headers.len()) {
            Some(few) => {
                few.iter_mut().zip(borrowed).for_each(|(place, header)| *place = header);
                few
            }
            None => {
                self.many.extend(borrowed);
                &self.many
            }
        }
    }
}

impl Header<'_> {
    fn borrow(&self) -> core::Header<'_> {
        core::Header { name: &self.name, value: self.value.as_ref().map(Payload::as_slice) }
    }
}

/// Calls `with` with the intents of all `records`, laid out side by side.
pub(crate) fn with_intents<R>(records: &[Record<'_>], with: impl FnOnce(&[Intent<'_>]) -> R) -> R {
    let headers: Vec<core::Header<'_>> =
        records.iter().flat_map(|record| record.headers.iter().map(Header::borrow)).collect();
    let mut rest = &headers[..];
    let intents: Vec<Intent<'_>> = records
        .iter()
        .map(|record| {
            let (own, others) = rest.split_at(record.headers.len());
            rest = others;
            record.intent_with(own)
        })
        .collect();
    with(&intents)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use bytes::Bytes;

    use super::{Headers, Record, with_intents};

    #[test]
    fn every_kind_of_bytes_makes_the_same_record() {
        let borrowed = Record::new("v").key(b"k");
        let owned = Record::new(vec![b'v']).key(String::from("k"));
        let shared = Record::new(Bytes::from_static(b"v")).key(&b"k"[..]);
        assert_eq!(borrowed, owned);
        assert_eq!(borrowed, shared);
        assert_eq!(Record::from("v").key("k"), owned);
        assert_eq!(Record::new("v").null_value().key("k"), Record::tombstone("k"));
    }

    #[test]
    fn an_intent_carries_all_of_the_record() {
        for count in [0, 1, 4, 5, 40] {
            let mut record = Record::new("v").key("k").partition(3).timestamp(-1);
            for i in 0..count {
                record = if i % 2 == 0 {
                    record.header(format!("h{i}"), vec![1])
                } else {
                    record.null_header("h")
                };
            }
            let mut headers = Headers::new();
            let one = record.intent(&mut headers);
            assert_eq!((one.record.key, one.record.value), (Some(&b"k"[..]), Some(&b"v"[..])));
            assert_eq!((one.partition, one.record.timestamp), (Some(3), Some(-1)));
            assert_eq!(one.record.headers.len(), count);
            for (i, header) in one.record.headers.iter().enumerate() {
                let (name, value) = if i % 2 == 0 {
                    (format!("h{i}"), Some(&[1][..]))
                } else {
                    ("h".to_owned(), None)
                };
                assert_eq!((header.name, header.value), (&*name, value));
            }
            let records = [Record::tombstone("t"), record.clone(), record.clone()];
            with_intents(&records, |all| {
                assert_eq!(all[0].record.value, None);
                assert!(all[0].record.headers.is_empty());
                assert_eq!(all[1].record, one.record);
                assert_eq!(all[2].record, one.record);
            });
        }
    }

    #[test]
    fn system_time_is_milliseconds_since_1970_on_both_sides() {
        let at = |time| {
            let record = Record::new("v").system_time(time);
            record.intent(&mut Headers::new()).record.timestamp
        };
        assert_eq!(at(UNIX_EPOCH + Duration::from_micros(1_500_900)), Some(1500));
        assert_eq!(at(UNIX_EPOCH - Duration::from_millis(20)), Some(-20));
    }
}
