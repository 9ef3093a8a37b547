//! Can these settings work at all? A world in which nothing goes wrong tells settings that can't
//! from promises that are broken.

use std::fmt;

use sordini_protocol::quote::quoted;

use crate::plan::plan;
use crate::profile::Profile;
use crate::run::run;
use crate::settings::SettingsError;

/// So many calm worlds: their networks take from 20 us to 15 ms one way.
const WORLDS: u64 = 12;

/// Settings with which a producer writes nothing even where nothing goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Unworkable {
    /// Those of the settings without any one of which it would work.
    pub culprits: Vec<(String, String)>,
    /// What a record's sender was told.
    pub why: Option<String>,
    settings: Vec<(String, String)>,
}

impl fmt::Display for Unworkable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |of: &[(String, String)]| {
            let all = of.iter().map(|(name, value)| format!("{name}={}", quoted(value)));
            all.collect::<Vec<_>>().join(", ")
        };
        let what = if self.culprits.is_empty() { &self.settings } else { &self.culprits };
        write!(
            f,
            "{} can't work: even where nothing goes wrong, on a network that takes up to 15 ms one \
             way, records can't be delivered",
            list(what)
        )?;
        if let Some(why) = &self.why {
            write!(f, " ({why})")?;
        }
        match self.culprits.as_slice() {
            [] => f.write_str("; leave them out one by one to see which of them it is"),
            [(name, value)] if is_number(value) => {
                write!(f, "; give {name} a larger value, or leave it out")
            }
            [(name, _)] => write!(f, "; leave {name} out"),
            all if all.iter().all(|(_, value)| is_number(value)) => {
                f.write_str("; any one of them that is larger, or left out, would do")
            }
            _ => {
                f.write_str("; leave one of them out, or give one that is a number a larger value")
            }
        }
    }
}

fn is_number(value: &str) -> bool {
    value.trim().parse::<f64>().is_ok()
}

/// Tries `settings` in calm worlds.
///
/// # Errors
/// If the settings do not make a producer.
pub fn preflight(settings: &[(String, String)]) -> Result<Option<Unworkable>, SettingsError> {
    let Some(why) = failure(settings)? else { return Ok(None) };
    let mut culprits = Vec::new();
    for (at, said) in settings.iter().enumerate() {
        let mut less = settings.to_vec();
        less.remove(at);
        // Without it they may contradict each other; or none may be left, and all would be drawn.
        less.push(("client.id".to_owned(), "preflight".to_owned()));
        if matches!(failure(&less), Ok(None)) {
            culprits.push(said.clone());
        }
    }
    let why = Some(why).filter(|why| !why.is_empty());
    Ok(Some(Unworkable { culprits, why, settings: settings.to_vec() }))
}

/// What a sender was told in a calm world that did not work; `None` if all worked.
fn failure(settings: &[(String, String)]) -> Result<Option<String>, SettingsError> {
    for seed in 0..WORLDS {
        let report = run(&plan(seed, &Profile::calm(), settings)?);
        if !report.is_clean() || report.written == 0 {
            return Ok(Some(report.last_failure.unwrap_or_default()));
        }
    }
    Ok(None)
}
