//! Which cluster a command talks to, and the settings it talks with.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use sordini::fetch::Settings;
use sordini::{Config, SendError};

use crate::exit::Failure;
use crate::terminal;

/// Where the embedded broker keeps its data unless `--data` says otherwise.
pub(crate) const DEFAULT_DATA: &str = "sordini-data";

/// The largest file of settings that is read, in bytes.
const CONFIG_MAX: u64 = 1 << 20;

/// The brokers to talk to, or the folder of the embedded one.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// The brokers to ask first, separated by commas; without it, the embedded broker
    #[arg(
        short,
        long = "bootstrap-server",
        value_name = "HOST:PORT,..",
        global = true,
        conflicts_with = "data"
    )]
    pub(crate) bootstrap: Option<String>,

    /// The embedded broker's folder, used without -b [default: sordini-data]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data: Option<PathBuf>,
}

impl Target {
    /// The embedded broker's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.data.as_deref().unwrap_or(Path::new(DEFAULT_DATA))
    }
}

/// Settings by their Kafka names.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Said {
    /// Any setting by its Kafka name, as in -X client.id=nightly; outranks --config
    #[arg(short = 'X', value_name = "NAME=VALUE", global = true, value_parser = parse_pair)]
    pub(crate) settings: Vec<(String, String)>,

    /// A Java .properties file with settings
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
}

impl Said {
    /// The text of `--config`, where it is given.
    ///
    /// # Errors
    /// If the file can't be read.
    pub(crate) fn config_text(&self) -> Result<Option<String>, Failure> {
        let Some(path) = &self.config else { return Ok(None) };
        let unreadable =
            |why| Failure::usage(format!("--config {} can't be read: {why}", path.display()));
        let mut text = String::new();
        let read = File::open(path).and_then(|file| {
            let mut beginning = file.take(CONFIG_MAX + 1);
            beginning.read_to_string(&mut text)
        });
        match read {
            Ok(length) if length as u64 > CONFIG_MAX => Err(unreadable(format!(
                "it has more than {CONFIG_MAX} bytes; is it a .properties file?"
            ))),
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Err(unreadable("it is no text in UTF-8, as a .properties file is".to_owned()))
            }
            Err(error) => Err(unreadable(why_unreadable(&error))),
        }
    }

    /// Refuses an address beside another, or beside the folder of an embedded broker: one of the two
    /// would be ignored. A file's `bootstrap.servers` may stand for every day, and is outranked.
    ///
    /// # Errors
    /// If both are said on the command line.
    pub(crate) fn refuse_two_clusters(&self, target: &Target) -> Result<(), Failure> {
        let mut named = self.settings.iter().filter(|(name, _)| name == "bootstrap.servers");
        let Some((name, value)) = named.next() else { return Ok(()) };
        let other = match (&target.data, &target.bootstrap) {
            (Some(data), _) => format!("--data {} the embedded broker", data.display()),
            (None, Some(bootstrap)) if bootstrap != value => format!("-b {bootstrap} another"),
            _ => return Ok(()),
        };
        let why = format!("-X {name}={value} names one cluster, and {other}; give one of them");
        Err(Failure::usage(why))
    }

    /// Refuses `-X name` beside an `option` that says something else: one of the two would be ignored.
    ///
    /// # Errors
    /// If they differ.
    pub(crate) fn refuse_another(
        &self,
        name: &str,
        value: &str,
        option: &str,
    ) -> Result<(), Failure> {
        let mut said = self.settings.iter().filter(|(one, _)| one == name);
        match said.find(|(_, other)| other != value) {
            Some((_, other)) => Err(Failure::usage(format!(
                "-X {name}={other} and {option} {value} ask for different things; give one of them"
            ))),
            None => Ok(()),
        }
    }

    /// What an error in `--config` is prefixed with.
    pub(crate) fn config_name(&self) -> String {
        self.config.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

/// What the system said of a file, in words where those are known.
pub(crate) fn why_unreadable(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file; is the path right?".to_owned(),
        _ => error.to_string(),
    }
}

/// Splits `NAME=VALUE`; for clap.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.to_owned()))
        }
        _ => Err("it is not of the form NAME=VALUE".into()),
    }
}

/// The error, with what to do about it on this command line where it does not say so itself.
pub(crate) fn explained(error: &SendError) -> String {
    match error {
        SendError::UnknownTopic { topic, .. } => {
            format!("{error}; `sordini topic create {topic}` makes it, with the same -b or --data")
        }
        SendError::UnknownPartition { partitions, .. } => {
            format!("{error}; -p takes 0 to {}", partitions - 1)
        }
        _ => error.to_string(),
    }
}

/// What passes sooner needs no word.
const SOON: Duration = Duration::from_secs(3);

/// Waits, and says what for where that takes long.
///
/// # Cancellation
/// That of `wait`.
pub(crate) async fn patiently<T>(
    wait: impl Future<Output = T>,
    what: impl FnOnce() -> String,
) -> T {
    let mut wait = pin!(wait);
    match tokio::time::timeout(SOON, &mut wait).await {
        Ok(done) => done,
        Err(_) => {
            terminal::warn(what());
            wait.await
        }
    }
}

/// For [`patiently`]: a topic whose partitions are not known yet.
pub(crate) fn until_known(topic: &str, config: &Config) -> String {
    format!(
        "waiting for the cluster to name the partitions of the topic {topic:?}, for up to {} ms \
         (max.block.ms); `sordini topic list`, with the same -b or --data, shows which topics there are",
        config.max_block.as_millis()
    )
}

/// What a command that appends goes on with after the first signal, and for how long.
pub(crate) fn waited_for(config: &Config) -> String {
    format!(
        "stopping: what was accepted is delivered, or given up within {} ms (delivery.timeout.ms); \
         a second Ctrl-C ends at once, and leaves open what became of it",
        config.delivery_timeout.as_millis()
    )
}

/// A partition's number; for clap.
pub(crate) fn parse_partition(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(partition @ 0..) => Ok(partition),
        _ => Err("partitions are whole numbers from 0 up; `sordini topic describe TOPIC` lists \
                  them"
            .into()),
    }
}

/// A topic's name by the rule of Kafka's brokers; for clap, so that a name that no topic can have
/// is told of before a folder or a file is made for it.
pub(crate) fn parse_topic(name: &str) -> Result<String, String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if matches!(name, "." | "..") || !(1..=249).contains(&name.len()) || !name.bytes().all(legal) {
        return Err(
            "a topic's name is 1 to 249 ASCII letters, digits, '.', '_' and '-', and neither \
                    '.' nor '..'"
                .into(),
        );
    }
    Ok(name.to_owned())
}

/// The settings of a reader or of a request about topics; the addresses may still be missing.
///
/// # Errors
/// If a setting is unknown or wrong, or `--config` can't be read.
pub(crate) fn reader_settings(
    mut settings: Settings,
    target: &Target,
    said: &Said,
) -> Result<Settings, Failure> {
    said.refuse_two_clusters(target)?;
    settings.client_id = "sordini-cli".into();
    if let Some(text) = said.config_text()? {
        let name = said.config_name();
        let warnings = settings
            .properties(&text)
            .map_err(|error| Failure::usage(format!("{name}: {error}")))?;
        warnings.iter().for_each(|warning| terminal::warn(format!("{name}: {warning}")));
    }
    for (name, value) in &said.settings {
        if let Some(warning) = settings.set(name, value).map_err(Failure::usage)? {
            terminal::warn(warning);
        }
    }
    if let Some(bootstrap) = &target.bootstrap {
        settings.set("bootstrap.servers", bootstrap).map_err(Failure::usage)?;
    }
    if target.data.is_some() {
        // A folder that is named outranks a file's bootstrap.servers.
        settings.bootstrap.clear();
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_addresses_or_an_address_and_a_folder_are_two_clusters() {
        let pair = ("bootstrap.servers".to_owned(), "h:1".to_owned());
        let said = Said { settings: vec![pair], config: None };
        let beside = |data: Option<PathBuf>| Target { bootstrap: None, data };
        assert_eq!(said.refuse_two_clusters(&beside(None)), Ok(()));
        let refused = said.refuse_two_clusters(&beside(Some("here".into()))).expect_err("two");
        assert_eq!(refused.code, crate::exit::USAGE);
        for told in ["bootstrap.servers=h:1", "--data here"] {
            assert!(refused.message.contains(told), "{}", refused.message);
        }
        assert!(reader_settings(Settings::default(), &beside(Some("here".into())), &said).is_err());
        let at = |address: &str| Target { bootstrap: Some(address.to_owned()), data: None };
        assert_eq!(said.refuse_two_clusters(&at("h:1")), Ok(()), "the same");
        let refused = said.refuse_two_clusters(&at("other:1")).expect_err("two");
        assert!(refused.message.contains("-b other:1"), "{}", refused.message);
    }

    #[test]
    fn a_setting_that_an_option_contradicts_is_refused() {
        let pair = ("isolation.level".to_owned(), "read_committed".to_owned());
        let said = Said { settings: vec![pair], config: None };
        let refuse = |value| said.refuse_another("isolation.level", value, "--isolation");
        assert_eq!(refuse("read_committed"), Ok(()), "the same");
        let refused = refuse("read_uncommitted").expect_err("two");
        for told in ["isolation.level=read_committed", "--isolation read_uncommitted"] {
            assert!(refused.message.contains(told), "{}", refused.message);
        }
        assert_eq!(Said::default().refuse_another("isolation.level", "x", "--isolation"), Ok(()));
    }

    #[test]
    fn a_partition_is_a_number_from_0_up() {
        assert_eq!(parse_partition("0"), Ok(0));
        assert_eq!(parse_partition("2147483647"), Ok(i32::MAX));
        for text in ["", "-1", "abc", "1.5", "2147483648"] {
            assert!(parse_partition(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_topics_name_follows_kafkas_rule() {
        for name in ["a", "...", "A.b_c-9", &"x".repeat(249)] {
            assert_eq!(parse_topic(name).as_deref(), Ok(name));
        }
        for name in ["", ".", "..", "a b", "a/b", "a!", "\u{e9}", "a\n", &"x".repeat(250)] {
            assert!(parse_topic(name).is_err(), "{name:?}");
        }
    }
}
