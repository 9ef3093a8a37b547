//! Cuts the stream of a connection into frames.

use bytes::{Buf, Bytes, BytesMut};
use sordini_protocol::frame::{self, FrameSizeError};

/// A response larger than this is refused before a byte of it is kept.
const MAX_FRAME: usize = 100 << 20;

/// Before the broker has said which versions it speaks it is not known to be one: nothing it has
/// to say then is large.
const MAX_FIRST_FRAME: usize = 1 << 20;

/// The bytes of a connection that are not yet a frame.
#[derive(Debug, Default)]
pub struct Framing {
    pending: BytesMut,
    negotiated: bool,
}

impl Framing {
    /// The peer turned out to be a broker.
    pub fn negotiated(&mut self) {
        self.negotiated = true;
    }

    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame, without its length.
    ///
    /// # Errors
    /// If the length is no length that a broker would send; the text says what the peer seems to
    /// speak instead.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, String> {
        let Some(prefix) = self.pending.first_chunk::<4>() else { return Ok(None) };
        let max = if self.negotiated { MAX_FRAME } else { MAX_FIRST_FRAME };
        let size = frame::size(*prefix, max).map_err(|error| told(&error))?;
        if self.pending.len() < 4 + size {
            return Ok(None);
        }
        self.pending.advance(4);
        Ok(Some(self.pending.split_to(size).freeze()))
    }

    /// What the bytes so far look like if they are not Kafka's, for a peer that closed on us.
    #[must_use]
    pub fn looks_like(&self) -> Option<String> {
        let prefix = self.pending.first_chunk::<4>().filter(|_| !self.negotiated)?;
        frame::size(*prefix, MAX_FIRST_FRAME).err().map(|error| told(&error))
    }
}

/// What a size that is none tells of the peer, and what to do about it.
#[must_use]
pub fn told(error: &FrameSizeError) -> String {
    match error.looks_like() {
        Some("TLS") => "it speaks TLS, and takes no plaintext; use its PLAINTEXT port".to_owned(),
        Some(other) => format!("it speaks {other}, not Kafka's protocol; is the port right?"),
        None => format!("{error}; is the port a Kafka broker's?"),
    }
}
