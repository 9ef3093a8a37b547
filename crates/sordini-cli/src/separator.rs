//! `-K`: the bytes between a key and its value.

use std::str::FromStr;

use memchr::memmem;

/// The separator of `-K`, its escapes resolved; never empty, never with an LF in it.
#[derive(Clone, Debug)]
pub(crate) struct Separator {
    bytes: Vec<u8>,
    finder: memmem::Finder<'static>,
}

impl Separator {
    /// The separator itself.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Key and value of `line`, split at the first separator; a line without one has no key.
    pub(crate) fn split<'a>(&self, line: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        // One byte is the usual case, and memchr finds it faster than a searcher does.
        let at = match self.bytes.as_slice() {
            [byte] => memchr::memchr(*byte, line),
            _ => self.finder.find(line),
        };
        match at {
            Some(at) => (Some(&line[..at]), &line[at + self.bytes.len()..]),
            None => (None, line),
        }
    }
}

impl FromStr for Separator {
    type Err = String;

    /// Reads `text` with the escapes `\t`, `\0`, `\\` and `\xHH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = unescape(text)?;
        if bytes.is_empty() {
            return Err("the separator is empty; name at least one character, as in -K :".into());
        }
        if bytes.contains(&b'\n') {
            return Err("the separator holds a line feed, which already ends the line".into());
        }
        let finder = memmem::Finder::new(&bytes).into_owned();
        Ok(Self { bytes, finder })
    }
}

fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = rest.next();
        bytes.push(match escape {
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                hex_byte(&digits).ok_or_else(|| {
                    format!(
                        "\\x{digits} is no byte: two hexadecimal digits follow \\x, as in \\x1f"
                    )
                })?
            }
            other => {
                let shown = other.map(String::from).unwrap_or_default();
                return Err(format!(
                    "the escape \\{shown} is unknown; known are \\t, \\0, \\\\ and \\xHH"
                ));
            }
        });
    }
    Ok(bytes)
}

fn hex_byte(digits: &str) -> Option<u8> {
    let both = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    both.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(separator: &str, line: &'static str) -> (Option<&'static str>, &'static str) {
        let separator: Separator = separator.parse().expect("a separator");
        let (key, value) = separator.split(line.as_bytes());
        let text = |bytes| std::str::from_utf8(bytes).expect("UTF-8");
        (key.map(text), text(value))
    }

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        assert_eq!(split(":", "k:v"), (Some("k"), "v"));
        assert_eq!(split(":", "k:v:w"), (Some("k"), "v:w"));
        assert_eq!(split(":", ":v"), (Some(""), "v"));
        assert_eq!(split(":", "k:"), (Some("k"), ""));
        assert_eq!(split(":", "v"), (None, "v"));
        assert_eq!(split(":", ""), (None, ""));
    }

    #[test]
    fn a_separator_may_be_several_bytes() {
        assert_eq!(split("=>", "a=b=>c=>d"), (Some("a=b"), "c=>d"));
        assert_eq!(split("é", "aéb"), (Some("a"), "b"));
        assert_eq!(split("::", "a:b"), (None, "a:b"));
    }

    #[test]
    fn escapes_stand_for_their_bytes() {
        assert_eq!(split("\\t", "a\tb"), (Some("a"), "b"));
        assert_eq!(split("\\x1f", "a\u{1f}b"), (Some("a"), "b"));
        assert_eq!(split("\\\\", "a\\b"), (Some("a"), "b"));
        assert_eq!(split("\\0", "a\0b"), (Some("a"), "b"));
    }

    #[test]
    fn what_is_no_separator_says_why() {
        for (text, why) in [
            ("", "empty"),
            ("\\n", "unknown"),
            ("\n", "line feed"),
            ("\\", "unknown"),
            ("\\x1", "hexadecimal"),
            ("\\x+1", "hexadecimal"),
        ] {
            let error = text.parse::<Separator>().expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
