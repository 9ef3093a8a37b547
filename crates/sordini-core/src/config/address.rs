//! `host:port` as it stands in `bootstrap.servers`.

use std::fmt;

/// A broker's address as given: a name or an IP address, and a port. Not yet resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Address {
    /// A host name, an IPv4 address, or an IPv6 address without brackets.
    pub host: String,
    /// 1 to 65 535.
    pub port: u16,
}

/// Why a text is no [`Address`]; ends with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

impl Address {
    /// An address from its parts.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Reads `host:port`, `[ipv6]:port` or, as in Java, `PROTOCOL://host:port`.
    ///
    /// # Errors
    /// A missing host or port, a port outside 1 to 65 535, an IPv6 address without brackets, or
    /// a character that no host has.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let bare = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (host, port) = bare.rsplit_once(':').ok_or_else(|| {
            AddressError(format!("{text:?} has no port; write host:port, as in {text}:9092"))
        })?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(AddressError(format!(
                "{text:?} looks like an IPv6 address; write it in brackets, as in [::1]:9092"
            )));
        }
        let host = bracketed.unwrap_or(host);
        let legal = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '%' | ':');
        if host.is_empty() || !host.chars().all(legal) {
            return Err(AddressError(format!("{text:?} names no host; write host:port")));
        }
        match port.parse() {
            Ok(port @ 1..) => Ok(Self::new(host, port)),
            _ => Err(AddressError(format!("{text:?} has no port between 1 and 65535"))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
