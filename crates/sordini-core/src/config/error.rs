//! Errors and warnings about settings: each names the setting, its value and the remedy.

use std::fmt;

/// A setting and its value, as an error quotes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Said {
    /// Kafka's name.
    pub name: String,
    /// The value as given or defaulted; `(hidden)` where it could be a secret.
    pub value: String,
    /// Where the value is from.
    pub origin: Origin,
}

/// Where a setting's value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The caller gave it.
    Given,
    /// It is the default; nobody need have given it.
    Default,
}

impl Said {
    pub(super) fn new(name: &str, value: impl Into<String>) -> Self {
        Self { name: name.to_owned(), value: value.into(), origin: Origin::Given }
    }

    pub(super) fn by_default(self) -> Self {
        Self { origin: Origin::Default, ..self }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Given => "",
            Origin::Default => " (the default)",
        };
        write!(f, "{}={}{origin}", self.name, self.value)
    }
}

/// Something accepted that does not do what its name may promise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// Kafka's name of the setting.
    pub name: String,
    /// What happens instead, and why.
    pub text: String,
}

impl Warning {
    pub(super) fn new(name: &str, text: impl Into<String>) -> Self {
        Self { name: name.to_owned(), text: text.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}

/// Why a producer can't be configured like this.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    Unknown {
        /// The name as given.
        name: String,
        /// The known name that is spelled most alike, if one is near.
        nearest: Option<&'static str>,
    },
    /// Another client knows the setting by this name.
    Elsewhere {
        /// The name as given.
        name: String,
        /// What to write here instead.
        here: &'static str,
    },
    /// Known, and not accepted, since ignoring it would change what the caller gets.
    Refused {
        /// The setting and its value.
        said: Said,
        /// Why, and what to do instead.
        reason: String,
    },
    /// The value is not one that the setting takes.
    Invalid {
        /// The setting and its value.
        said: Said,
        /// What it takes.
        expected: String,
    },
    /// Values that can't all be obeyed.
    Contradiction {
        /// The settings concerned, two or more, with their values.
        said: Vec<Said>,
        /// Why they exclude each other, and what would be right.
        right: String,
    },
    /// A setting without a default was not given.
    Missing {
        /// Kafka's name.
        name: &'static str,
    },
    /// The text is no `.properties` file.
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
}

impl ConfigError {
    /// With what is known of who said what: a value that was given is no default, though it be the
    /// same.
    pub(super) fn knowing(mut self, given: impl Fn(&str) -> bool) -> Self {
        if let Self::Contradiction { said, .. } = &mut self {
            said.iter_mut().filter(|it| given(&it.name)).for_each(|it| it.origin = Origin::Given);
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, nearest: Some(nearest) } => {
                write!(f, "there is no setting {name:?}; did you mean {nearest}?")
            }
            Self::Unknown { name, nearest: None } => {
                write!(f, "there is no setting {name:?}; names are those of Kafka's Java producer")
            }
            Self::Elsewhere { name, here } => {
                write!(f, "{name} is another client's name for a setting; here: {here}")
            }
            Self::Refused { said, reason } => write!(f, "{said} is refused: {reason}"),
            Self::Invalid { said, expected } => write!(f, "{said} is invalid: expected {expected}"),
            Self::Contradiction { said, right } => {
                for (i, one) in said.iter().enumerate() {
                    let separator = match i {
                        0 => "",
                        _ if i + 1 == said.len() => " and ",
                        _ => ", ",
                    };
                    write!(f, "{separator}{one}")?;
                }
                write!(f, " contradict each other: {right}")
            }
            Self::Missing { name } => {
                write!(
                    f,
                    "{name} is missing; it has no default (for example {name}=localhost:9092)"
                )
            }
            Self::Syntax { line, reason } => write!(f, "line {line}: {reason}"),
        }
    }
}

impl std::error::Error for ConfigError {}
