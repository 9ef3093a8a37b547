//! Java's `.properties` files, the grammar of `java.util.Properties.load`.
//!
//! A logical line ends at LF, CR or CRLF that no odd number of backslashes precedes; the next
//! line then continues it without its leading blanks. `#` or `!` first makes a comment, which a
//! backslash does not continue. The name ends at the first `=`, `:` or blank that is not escaped.
//! `\t \n \r \f` are control characters, `\uXXXX` a UTF-16 unit, any other `\c` is `c`.

use super::ConfigError;

/// One setting, and the line on which it began.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Counted from 1.
    pub line: usize,
    /// The setting's name.
    pub name: String,
    /// Its value, as text.
    pub value: String,
}

/// All settings, in the order of the file; a later one of the same name replaces an earlier one.
///
/// # Errors
/// [`ConfigError::Syntax`] where an escape is none.
pub fn parse(text: &str) -> Result<Vec<Entry>, ConfigError> {
    let mut entries = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, logical) in logical_lines(text) {
        let (name, value) = split(&logical);
        let unescape =
            |part: &str| unescape(part).map_err(|reason| ConfigError::Syntax { line, reason });
        entries.push(Entry { line, name: unescape(name)?, value: unescape(value)? });
    }
    Ok(entries)
}

const fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    for (index, natural) in natural_lines(text).enumerate() {
        let rest = natural.trim_start_matches(blank);
        let begins = !continues || lines.last().is_some_and(|(_, line)| line.is_empty());
        if begins && (rest.is_empty() || rest.starts_with(['#', '!'])) {
            continues = false;
            continue;
        }
        let backslashes = rest.len() - rest.trim_end_matches('\\').len();
        let odd = backslashes % 2 == 1;
        let content = if odd { &rest[..rest.len() - 1] } else { rest };
        match lines.last_mut() {
            Some((_, line)) if continues => line.push_str(content),
            _ => lines.push((index + 1, content.to_owned())),
        }
        continues = odd;
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

/// Splits name from value, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .find(|c: char| {
            let ends = !escaped && (matches!(c, '=' | ':') || blank(c));
            escaped = c == '\\' && !escaped;
            ends
        })
        .unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start_matches(blank))
}

fn unescape(text: &str) -> Result<String, String> {
    // UTF-16, since an escape is one unit and two of them may make one character.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = match c {
            '\\' => match chars.next() {
                Some('u') => {
                    units.push(unit(chars.as_str())?);
                    chars = chars.as_str()[4..].chars();
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some(other) => other,
                None => continue,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| "a \\u escape is half of a surrogate pair".to_owned())
}

fn unit(digits: &str) -> Result<u16, String> {
    digits
        .get(..4)
        .filter(|four| four.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|four| u16::from_str_radix(four, 16).ok())
        .ok_or_else(|| "\\u needs four hexadecimal digits (a backslash is written \\\\)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let entries = parse(text).expect("this is a properties file");
        entries.into_iter().map(|entry| (entry.name, entry.value)).collect()
    }

    fn pair(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    // Each case was run through Java 17's Properties.load; where Java keeps half a surrogate pair
    // or a byte order mark, we refuse the one and skip the other.
    #[test]
    fn separators_are_equals_colon_and_blanks() {
        for text in ["a=b", "a = b", "a:b", "a : b", "a b", " \ta\t b", "a\x0cb", "a  =  b"] {
            assert_eq!(pairs(text), pair("a", "b"), "{text:?}");
        }
        assert_eq!(pairs("a==b"), pair("a", "=b"));
        assert_eq!(pairs("a = = b"), pair("a", "= b"));
        assert_eq!(pairs("a"), pair("a", ""));
        assert_eq!(pairs("=b"), pair("", "b"));
    }

    #[test]
    fn a_value_keeps_its_trailing_blanks() {
        assert_eq!(pairs("a=b \t"), pair("a", "b \t"));
    }

    #[test]
    fn comments_are_not_continued() {
        assert_eq!(pairs("# one\\\na=b\n  ! two\n\n"), pair("a", "b"));
        assert_eq!(pairs("a=b # not a comment"), pair("a", "b # not a comment"));
    }

    #[test]
    fn an_odd_number_of_backslashes_continues_a_line() {
        assert_eq!(pairs("a=b,\\\n   c"), pair("a", "b,c"));
        assert_eq!(pairs("a=b,\\\r\n\tc\\\rd"), pair("a", "b,cd"));
        assert_eq!(pairs("a=b\\\n# c"), pair("a", "b# c"));
        assert_eq!(pairs("a=b\\\\\nc=d").len(), 2);
        assert_eq!(pairs("a=b\\\n\nc=d").len(), 2);
        assert_eq!(pairs("a=b\\"), pair("a", "b"));
        assert_eq!(pairs("\\\n# c\na=b"), pair("a", "b"));
        assert_eq!(pairs("   \\\n   a=b"), pair("a", "b"));
    }

    #[test]
    fn escapes_are_read_as_java_reads_them() {
        assert_eq!(pairs(r"a\=b\:c\ d=e"), pair("a=b:c d", "e"));
        assert_eq!(pairs(r"a=\t\n\r\f\\\q"), pair("a", "\t\n\r\x0c\\q"));
        assert_eq!(pairs("a=\\u0041\\u00e4\\ud83d\\ude00"), pair("a", "A\u{e4}\u{1f600}"));
        assert_eq!(pairs("\u{feff}a=b"), pair("a", "b"));
    }

    #[test]
    fn a_bad_escape_is_an_error_that_names_its_line() {
        for text in ["ok=1\n\na=\\u12", "ok=1\n\na=\\u12g4", "ok=1\n\na=\\ud83d"] {
            let error = parse(text).expect_err("the escape is bad");
            assert!(error.to_string().starts_with("line 3: "), "{error}");
        }
    }
}
