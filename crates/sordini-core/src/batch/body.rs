//! The records section of a batch: immutable once sealed.

use crate::memory::Segment;

/// The bytes of a batch's records, as encoded or compressed, in the segments they lie in.
#[derive(Debug)]
pub struct Body(pub(crate) Vec<Segment>);

impl Body {
    /// The bytes, in order.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Segment::bytes)
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes as one run, copied.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts().flatten().copied().collect()
    }
}
