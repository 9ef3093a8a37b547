//! The embedded broker's own rules know no clock, thread, socket or file: all of that is its
//! server's and its disk's. (In sordini-core clippy bans the same, by that crate's clippy.toml;
//! one clippy.toml cannot ban something in one module of a crate.)

use super::Finding;
use super::paths;
use super::source::Source;

const BROKER: &str = "crates/sordini-broker";

/// Modules that do I/O by their office.
const OUTSIDE: &[&[&str]] = &[&["server"], &["storage", "disk"], &["testing"]];

/// Path beginnings, and why not.
const BANNED: &[(&[&str], &str)] = &[
    (&["tokio"], "the broker's rules are synchronous; async belongs to `server`"),
    (&["socket2"], "sockets belong to `server`"),
    (&["std", "time", "Instant"], "time is passed in, see `time`"),
    (&["std", "time", "SystemTime"], "time is passed in, see `time`"),
    (&["std", "thread"], "the broker runs on its caller's thread"),
    (&["std", "net"], "sockets belong to `server`"),
    (&["std", "fs"], "files are reached through the `Storage` trait"),
    (&["std", "env"], "settings are passed in"),
    (&["std", "process"], "the broker neither starts nor ends processes"),
    (&["std", "collections", "HashMap"], "its order is random and replay needs one: BTreeMap"),
    (&["std", "collections", "HashSet"], "its order is random and replay needs one: BTreeSet"),
    (&["std", "collections", "hash_map"], "its order is random and replay needs one: BTreeMap"),
];

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let Some((BROKER, module)) = source.module() else { return Vec::new() };
    if OUTSIDE.iter().any(|outside| module.starts_with(outside)) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (_, tokens) in source.production() {
        for path in paths::written(tokens) {
            let banned = BANNED.iter().find(|(start, _)| {
                path.segments.len() >= start.len()
                    && path.segments.iter().zip(*start).all(|(segment, banned)| segment == banned)
            });
            if let Some((start, reason)) = banned {
                let message = format!("`{}`: {reason}", start.join("::"));
                findings.push(source.finding(path.line, "broker-fence", message));
            }
        }
    }
    findings
}
