//! Kafka's 16-byte identifiers (KIP-516), written in unpadded base64url.

use std::fmt;
use std::str::FromStr;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The id of a topic, a directory or a client instance. Displayed as Kafka does: 22 characters
/// of base64url without padding.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zeros: "no id" wherever Kafka's messages hold an id.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for group in self.0.chunks(3) {
            let mut bits = [0u8; 4];
            for (to, from) in bits.iter_mut().skip(1).zip(group) {
                *to = *from;
            }
            let bits = u32::from_be_bytes(bits);
            for shift in [18u32, 12, 6, 0].into_iter().take(group.len().saturating_add(1)) {
                let digit = usize::try_from((bits >> shift) & 63).unwrap_or_default();
                f.write_char(ALPHABET.get(digit).copied().map_or('A', char::from))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

/// A text that is not a Kafka uuid: it takes 22 characters of base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseUuidError;

impl fmt::Display for ParseUuidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a Kafka uuid: expected 22 characters of base64url without padding")
    }
}

impl std::error::Error for ParseUuidError {}

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        if text.len() != 22 {
            return Err(ParseUuidError);
        }
        let mut value: u128 = 0;
        let mut surplus = 0;
        for (i, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|b| *b == byte).ok_or(ParseUuidError)?;
            let digit = u8::try_from(digit).map_err(|_| ParseUuidError)?;
            if i == 21 {
                // 22 digits hold 132 bits: the last digit's low four are padding.
                surplus = digit & 15;
                value = (value << 2) | u128::from(digit >> 4);
            } else {
                value = (value << 6) | u128::from(digit);
            }
        }
        if surplus != 0 {
            return Err(ParseUuidError);
        }
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_print_and_parse_as_kafka_prints_them() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        // Uuid.ONE_UUID and METADATA_TOPIC_ID of Kafka: the long 1.
        let one = Uuid(1u128.to_be_bytes());
        assert_eq!(one.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        let all = Uuid([0xff; 16]);
        assert_eq!(all.to_string(), "_____________________w");
        for id in [Uuid::ZERO, one, all, Uuid(*b"0123456789abcdef")] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn texts_that_are_no_uuid_are_refused() {
        for text in [
            "",
            "AAAA",
            "AAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAA+Q",
            "AAAAAAAAAAAAAAAAAAAAAB",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(ParseUuidError), "{text}");
        }
    }
}
