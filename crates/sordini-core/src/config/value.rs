//! Reading and writing single values as Java does: trimmed, integers with an optional sign.

use std::borrow::Cow;
use std::time::Duration;

/// What a setting takes, for the error message.
pub(super) type Expected = Cow<'static, str>;

pub(super) fn boolean(text: &str) -> Result<bool, Expected> {
    if text.eq_ignore_ascii_case("true") {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") {
        Ok(false)
    } else {
        Err("true or false".into())
    }
}

/// An integer within bounds, which the error repeats.
pub(super) fn integer(text: &str, least: i64, most: i64) -> Result<i64, Expected> {
    match text.parse::<i64>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ if most == i64::MAX => Err(format!("an integer of {least} or more").into()),
        _ => Err(format!("an integer from {least} to {most}").into()),
    }
}

/// A count of bytes that fits this machine's addresses.
pub(super) fn bytes(text: &str, least: i64, most: i64) -> Result<usize, Expected> {
    let most = most.min(i64::try_from(usize::MAX).unwrap_or(i64::MAX));
    let value = integer(text, least, most).map_err(|expected| format!("bytes: {expected}"))?;
    Ok(usize::try_from(value).unwrap_or(0))
}

/// -1 leaves the choice to the operating system.
pub(super) fn socket_buffer(text: &str) -> Result<Option<usize>, Expected> {
    let value = integer(text, -1, i64::from(i32::MAX))?;
    Ok(usize::try_from(value).ok())
}

pub(super) fn millis(text: &str, least: i64, most: i64) -> Result<Duration, Expected> {
    let value =
        integer(text, least, most).map_err(|expected| format!("milliseconds: {expected}"))?;
    Ok(Duration::from_millis(value.unsigned_abs()))
}

pub(super) fn show_millis(value: Duration) -> String {
    value.as_millis().to_string()
}

pub(super) fn show_socket_buffer(value: Option<usize>) -> String {
    value.map_or_else(|| "-1".to_owned(), |value| value.to_string())
}
