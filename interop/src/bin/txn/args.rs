//! Arguments: `--name value`, and `-X name=value` for the producer.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::failed::Failed;

#[derive(Debug, Default)]
pub(crate) struct Args {
    all: BTreeMap<String, String>,
    pub(crate) settings: Vec<(String, String)>,
}

impl Args {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failed> {
        let mut parsed = Self::default();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| Failed::Other(format!("{name} has no value")))?;
            match (name.strip_prefix("--"), value.split_once('=')) {
                (Some(name), _) => drop(parsed.all.insert(name.to_owned(), value)),
                (None, Some((setting, value))) if name == "-X" => {
                    parsed.settings.push((setting.to_owned(), value.to_owned()));
                }
                _ => return Err(Failed::Other(format!("what is {name}?"))),
            }
        }
        Ok(parsed)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&str, Failed> {
        self.maybe(name).ok_or_else(|| Failed::Other(format!("--{name} is missing")))
    }

    pub(crate) fn maybe(&self, name: &str) -> Option<&str> {
        self.all.get(name).map(String::as_str)
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<T, Failed> {
        self.get(name)?.parse().map_err(|_| Failed::Other(format!("--{name} is no number")))
    }
}
