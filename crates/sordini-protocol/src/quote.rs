//! Values within messages for people.

use std::borrow::Cow;

/// Characters of a value that a message repeats: a transactional id, say, may have 32767 bytes.
const QUOTED: usize = 256;

/// A value, or how it begins and how long it is.
#[must_use]
pub fn quoted(value: &str) -> Cow<'_, str> {
    match value.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}... ({} bytes)", &value[..end], value.len()).into(),
        None => value.into(),
    }
}
