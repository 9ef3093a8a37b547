//! What a person sees on stderr: one progress bar, and lines that do not tear it.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use indicatif::{ProgressBar, ProgressStyle};

/// The bar on the screen, where there is one: every line for stderr passes it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn bar() -> MutexGuard<'static, Option<ProgressBar>> {
    BAR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes to stderr while the bar steps aside. A closed stderr is nobody to tell.
fn say(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
    let guard = bar();
    let mut stderr = anstream::stderr();
    let _ = match guard.as_ref() {
        Some(bar) => bar.suspend(|| write(&mut stderr)),
        None => write(&mut stderr),
    };
}

fn labelled(color: AnsiColor, label: &str, text: &dyn Display) {
    let style = Style::new().bold().fg_color(Some(color.into()));
    say(|out| writeln!(out, "{style}{label}:{style:#} {text}"));
}

/// Says what ended the command.
pub(crate) fn error(text: impl Display) {
    labelled(AnsiColor::Red, "error", &text);
}

/// Says what a person should know, though it goes on.
pub(crate) fn warn(text: impl Display) {
    labelled(AnsiColor::Yellow, "warning", &text);
}

/// Says something that is no trouble.
pub(crate) fn note(text: impl Display) {
    say(|out| writeln!(out, "{text}"));
}

/// Takes the bar away.
pub(crate) fn clear() {
    if let Some(bar) = bar().take() {
        bar.finish_and_clear();
    }
}

/// A progress bar on stderr where that is a terminal; nothing otherwise.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar over `total` units, or a spinner where the end is not known.
    pub(crate) fn start(total: Option<u64>) -> Self {
        let (progress, template) = match total {
            Some(total) => {
                (ProgressBar::new(total), "{bar:20} {percent:>3} %  {eta:>3} left  {wide_msg}")
            }
            None => (ProgressBar::new_spinner(), "{spinner} {elapsed:>3}  {wide_msg}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            progress.set_style(style);
        }
        if !progress.is_hidden() {
            progress.enable_steady_tick(Duration::from_millis(200));
            *bar() = Some(progress.clone());
        }
        Self(progress)
    }

    /// Moves the bar, and says `text` beside it.
    pub(crate) fn show(&self, position: u64, text: impl FnOnce() -> String) {
        if !self.0.is_hidden() {
            self.0.set_position(position);
            self.0.set_message(text());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        clear();
    }
}

/// How long a line of the log stays unsaid once it was said.
const SILENCE: Duration = Duration::from_secs(30);
/// Lines that are remembered for that.
const REMEMBERED: usize = 64;

/// One line of the log, written whole, past the bar.
#[derive(Debug)]
pub(crate) struct LogLine {
    text: Vec<u8>,
    once: bool,
}

impl LogLine {
    /// A line that is always written.
    pub(crate) fn every() -> Self {
        Self { text: Vec::new(), once: false }
    }

    /// A line that is left out where the same was written a moment ago: a broker that is down fails
    /// every second in the same way.
    pub(crate) fn once() -> Self {
        Self { text: Vec::new(), once: true }
    }
}

/// Was `line` not seen within the last [`SILENCE`]?
fn is_news(line: &[u8], seen: &mut VecDeque<(Vec<u8>, Instant)>, now: Instant) -> bool {
    seen.retain(|(_, at)| now.saturating_duration_since(*at) < SILENCE);
    if seen.iter().any(|(text, _)| text == line) {
        return false;
    }
    if seen.len() >= REMEMBERED {
        seen.pop_front();
    }
    seen.push_back((line.to_vec(), now));
    true
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        static SEEN: Mutex<VecDeque<(Vec<u8>, Instant)>> = Mutex::new(VecDeque::new());
        let line = std::mem::take(&mut self.text);
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !line.is_empty() && (!self.once || is_news(&line, &mut seen, Instant::now())) {
            say(|out| out.write_all(&line));
        }
    }
}

/// `count` with its thousands apart.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_news_once_in_a_while() {
        let (mut seen, now) = (VecDeque::new(), Instant::now());
        assert!(is_news(b"down", &mut seen, now));
        assert!(!is_news(b"down", &mut seen, now + SILENCE / 2));
        assert!(is_news(b"up", &mut seen, now + SILENCE / 2));
        assert!(is_news(b"down", &mut seen, now + SILENCE));
        for number in 0..1000_u32 {
            assert!(is_news(&number.to_be_bytes(), &mut seen, now + SILENCE));
        }
        assert_eq!(seen.len(), REMEMBERED);
    }

    #[test]
    fn thousands_stand_apart() {
        for (count, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), text);
        }
    }
}
