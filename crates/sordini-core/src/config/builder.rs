//! Collects what is said, by name, by file or by type, and makes a [`Config`] of it.

use std::collections::BTreeSet;

use super::check::{self, Given};
use super::error::{Said, Warning};
use super::{Config, ConfigError, known, nearest, properties, table};

/// Settings as they are being said. A later word on the same setting replaces an earlier one.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ConfigBuilder {
    config: Config,
    given: BTreeSet<&'static str>,
    warnings: Vec<Warning>,
}

impl ConfigBuilder {
    /// Java's defaults, nothing said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one setting by its Kafka name, from its text; blanks around the value do not count.
    ///
    /// A warning about a known but meaningless setting is returned, and again by
    /// [`build`](Self::build).
    ///
    /// # Errors
    /// [`ConfigError::Unknown`], [`ConfigError::Elsewhere`], [`ConfigError::Refused`] or
    /// [`ConfigError::Invalid`]; nothing has changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<Option<Warning>, ConfigError> {
        let (name, value) = (name.trim(), value.trim());
        if let Some(setting) = table::find(name) {
            (setting.set)(&mut self.config, value).map_err(|expected| ConfigError::Invalid {
                said: Said::new(name, known::shown(name, value)),
                expected: expected.into_owned(),
            })?;
            self.given.insert(setting.name);
            return Ok(None);
        }
        let Some(judgement) = known::judge(name, value) else {
            let names = table::SUPPORTED.iter().map(|setting| setting.name).chain(known::names());
            let nearest = nearest::nearest(name, names);
            return Err(ConfigError::Unknown { name: name.escape_debug().to_string(), nearest });
        };
        let warning = judgement?;
        self.warnings.extend(warning.clone());
        Ok(warning)
    }

    /// Sets all settings of a Java `.properties` file, in its order.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`], or the first error of [`set`](Self::set). What stood before the
    /// error is then already set.
    pub fn properties(&mut self, text: &str) -> Result<Vec<Warning>, ConfigError> {
        let mut warnings = Vec::new();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for entry in properties::parse(text)? {
            warnings.extend(self.set(&entry.name, &entry.value)?);
            if !seen.insert(entry.name.clone()) {
                let text = format!("given twice; the value on line {} counts", entry.line);
                let twice = Warning::new(&entry.name, text);
                self.warnings.push(twice.clone());
                warnings.push(twice);
            }
        }
        Ok(warnings)
    }

    /// Changes typed values directly; `name` is the Kafka name of the setting that is now given.
    pub fn with(&mut self, name: &'static str, change: impl FnOnce(&mut Config)) -> &mut Self {
        debug_assert!(table::find(name).is_some(), "{name} is no supported setting");
        change(&mut self.config);
        self.given.insert(name);
        self
    }

    /// The values so far, before they are checked.
    #[must_use]
    pub const fn peek(&self) -> &Config {
        &self.config
    }

    /// Settles what was left open and checks the whole. The warnings are all those since the
    /// builder was made.
    ///
    /// As in Java, with a warning each: `acks` other than `all`, or `retries=0`, turn idempotence
    /// off unless `enable.idempotence` was given; `delivery.timeout.ms` is raised to
    /// `linger.ms + request.timeout.ms`, and a maximum to its first value, unless given.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`], [`ConfigError::Invalid`] or [`ConfigError::Missing`].
    pub fn build(&self) -> Result<(Config, Vec<Warning>), ConfigError> {
        let mut config = self.config.clone();
        let mut warnings = self.warnings.clone();
        warnings.extend(check::settle(&mut config, self));
        let sound = config.check().and_then(|()| check::levels(&config, self));
        match sound {
            Ok(()) => Ok((config, warnings)),
            Err(error) => Err(error.knowing(|name| self.given.contains(name))),
        }
    }
}

impl Given for ConfigBuilder {
    fn given(&self, name: &str) -> bool {
        self.given.contains(name)
    }
}
