//! What a caller hands in, borrowed.

/// One header of a record. Names may repeat; their order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The header's name.
    pub name: &'a str,
    /// The header's value; `None` is Kafka's null, which is not the empty value.
    pub value: Option<&'a [u8]>,
}

/// An intent to append: key, value, headers and timestamp, borrowed from the caller until the
/// append has copied them into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record<'a> {
    /// Decides the partition where none is given; `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// The event; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers in their order.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since 1970; `None` takes the time of the append.
    pub timestamp: Option<i64>,
}
