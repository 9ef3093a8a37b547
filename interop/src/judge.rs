//! What others say of a topic and of a folder of logs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kafka::{tool, verify};
use crate::lines::Lines;
use crate::process::Input;

/// What the Java consumer found in a topic, from its first record to its end.
#[derive(Debug)]
pub struct Verdict(Value);

/// Reads the topic to its end with the Java client alone.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn read_topic(bootstrap: &str, topic: &str) -> Verdict {
    let read = verify(&["--bootstrap-server", bootstrap, "--topic", topic]).ok();
    Verdict(serde_json::from_str(read.text()).unwrap_or_else(|e| panic!("{e}: {read}")))
}

/// Every record of the topic, as the Java client reads it: one JSON object a line.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn read_records(bootstrap: &str, topic: &str) -> String {
    read_records_as(bootstrap, topic, Isolation::ReadCommitted).0
}

/// Whose records a reader sees: Kafka's `isolation.level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "the protocol has no third value")]
pub enum Isolation {
    /// Those of committed transactions, and of none.
    ReadCommitted,
    /// Those of aborted and open ones too.
    ReadUncommitted,
}

impl Isolation {
    /// As a client's setting.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

/// What [`read_records`] returns, at this isolation, with what there is in sum.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn read_records_as(bootstrap: &str, topic: &str, isolation: Isolation) -> (String, Verdict) {
    let args = ["--bootstrap-server", bootstrap, "--topic", topic, "--records"];
    let read = verify(&[&args[..], &["--isolation", isolation.name()]].concat()).ok();
    // The summary comes last; before it the client may have warned of a broker that is gone.
    let summary = read.stderr.rfind("{\"topic\":").map_or("", |at| &read.stderr[at..]);
    let verdict = serde_json::from_str(summary).unwrap_or_else(|e| panic!("{e}: {read}"));
    (read.text().to_owned(), Verdict(verdict))
}

impl Verdict {
    /// The partitions with a transaction that neither committed nor aborted, or whose end is not
    /// replicated: a read_committed reader stops before their high watermark.
    ///
    /// # Panics
    /// If there are no partitions.
    #[must_use]
    pub fn open(&self) -> Vec<u64> {
        let partitions = self.0["partitions"].as_array().expect("a summary has partitions");
        let open = partitions.iter().filter(|it| it["end_offset"] != it["high_watermark"]);
        open.map(|it| it["partition"].as_u64().expect("a number")).collect()
    }

    /// A number of the summary, such as `records` or `duplicate_values`.
    ///
    /// # Panics
    /// If there is no such number.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("no number `{name}` in {}", self.0))
    }

    /// Number of partitions that hold a record.
    #[must_use]
    pub fn partitions_used(&self) -> usize {
        let partitions = self.0["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        partitions.iter().filter(|partition| partition["count"].as_u64() > Some(0)).count()
    }

    /// The hash of each partition's values in the order of their offsets.
    #[must_use]
    pub fn hashes(&self) -> Vec<String> {
        let partitions = self.0["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        partitions.iter().map(|partition| partition["sha256"].to_string()).collect()
    }

    /// Every line is there once, each key in order, and nothing else.
    ///
    /// # Panics
    /// If not, with the whole summary.
    pub fn assert_exactly(&self, lines: &Lines) {
        let shown = &self.0;
        assert_eq!(self.number("records"), lines.count as u64, "records; {shown}");
        assert_eq!(self.number("duplicate_values"), 0, "duplicates; {shown}");
        assert_eq!(self.number("out_of_order"), 0, "out of order; {shown}");
        assert_eq!(self.number("sequence_gaps"), 0, "gaps; {shown}");
        assert_eq!(self.number("records_without_sequence"), 0, "strangers; {shown}");
        assert_eq!(self.0["values_sha256"].as_str(), Some(&*lines.values_sha256()), "{shown}");
    }
}

/// What DumpLogSegments prints where a segment is not sound.
const UNSOUND: &[&str] = &[
    "isvalid: false",
    "invalid bytes at the end",
    "Mismatches in",
    "Non-consecutive",
    "out of order timestamp",
    "not found in",
];

/// What DumpLogSegments says of one file.
#[derive(Debug)]
pub struct Dump {
    /// The file.
    pub file: PathBuf,
    /// What it printed.
    pub text: String,
}

impl Dump {
    /// Why the file is not sound; `None` if it is.
    #[must_use]
    pub fn unsound(&self) -> Option<&'static str> {
        let text = without_first_offsets(&self.text);
        UNSOUND.iter().copied().find(|sign| text.contains(sign))
    }

    /// How many batches are stored with each codec (`NONE`, `GZIP` ..).
    #[must_use]
    pub fn codecs(&self) -> BTreeMap<String, usize> {
        let mut codecs = BTreeMap::new();
        for line in self.text.lines().filter(|line| line.starts_with("baseOffset:")) {
            let codec =
                line.split("compresscodec: ").nth(1).and_then(|rest| rest.split(' ').next());
            *codecs.entry(codec.unwrap_or("?").to_uppercase()).or_default() += 1;
        }
        codecs
    }
}

/// What the tool prints before the pairs of offsets of a file between which it misses some.
const MISSING_OFFSETS: &str = "Non-consecutive offsets in ";

/// The text without what the tool of 4.3.1 says of every sound segment but a log's first: it
/// starts at offset -1, and so misses all those before the file's first, the one in its name.
/// Where it misses anything else in the same file, all that it says of the file stays.
fn without_first_offsets(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut said = vec![line];
        if let Some(file) = line.strip_prefix(MISSING_OFFSETS) {
            while let Some(pair) = lines.next_if(|line| line.contains(" is followed by ")) {
                said.push(pair);
            }
            let first = base_offset(file).filter(|base| *base > 0);
            let first = first.map(|base| format!("  -1 is followed by {base}"));
            if said.len() == 2 && first.as_deref() == Some(said[1]) {
                continue;
            }
        }
        for line in said {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The offset of a segment's first record, by the name of its .log.
fn base_offset(file: &str) -> Option<u64> {
    let name = Path::new(file).file_name()?.to_str()?.strip_suffix(".log")?;
    let digits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok())?
}

/// All files are sound, and every batch of every .log is stored with this codec.
///
/// # Panics
/// If not, with what the tool printed.
pub fn assert_stored_as(dumps: &[Dump], codec: &str) {
    assert_sound(dumps);
    let mut batches = BTreeMap::new();
    for dump in dumps {
        for (codec, count) in dump.codecs() {
            *batches.entry(codec).or_insert(0) += count;
        }
    }
    let codecs: Vec<&String> = batches.keys().collect();
    assert_eq!(codecs, [&codec.to_uppercase()], "batches by codec: {batches:?}");
}

/// DumpLogSegments finds nothing wrong.
///
/// # Panics
/// If it does, with what it printed.
pub fn assert_sound(dumps: &[Dump]) {
    for dump in dumps {
        assert_eq!(dump.unsound(), None, "{}: {}", dump.file.display(), dump.text);
    }
}

/// Files of a segment that can be read at any time.
pub const LOGS: &[&str] = &["log"];
/// All files of a segment. Kafka's own indexes are sound only after a clean stop: until then the
/// active segment's are padded with zeros, which the tool takes for entries.
pub const ALL_FILES: &[&str] = &["log", "index", "timeindex", "snapshot"];

/// Lets DumpLogSegments read these files (every record of a .log) of a topic's folders under
/// `data`.
///
/// # Panics
/// If there is no .log, or the tool fails.
#[must_use]
pub fn dump_topic(data: &Path, topic: &str, kinds: &[&str]) -> Vec<Dump> {
    let is_partition = |name: &str| {
        let rest = name.strip_prefix(topic).and_then(|rest| rest.strip_prefix('-'));
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut files = Vec::new();
    for folder in list(data) {
        if folder.file_name().and_then(|name| name.to_str()).is_some_and(is_partition) {
            files.extend(list(&folder).into_iter().filter(|file| is_a(file, kinds)));
        }
    }
    assert!(files.iter().any(|file| is_a(file, LOGS)), "no .log of {topic} in {}", data.display());
    dump(&files)
}

fn is_a(file: &Path, kinds: &[&str]) -> bool {
    file.extension().and_then(|kind| kind.to_str()).is_some_and(|kind| kinds.contains(&kind))
}

/// One run of the tool for all files: a JVM takes longer to start than to read them.
fn dump(files: &[PathBuf]) -> Vec<Dump> {
    let names: Vec<&str> = files.iter().map(|file| file.to_str().expect("UTF-8")).collect();
    let args = ["--deep-iteration", "--files", &names.join(",")];
    let printed = tool("DumpLogSegments", &args, Input::Nothing).ok();
    let text = format!("{}\n{}", printed.text(), printed.stderr);
    let mut dumps = Vec::new();
    for section in text.split("Dumping ").skip(1) {
        let file = section.split(['\n', ' ']).next().unwrap_or_default();
        dumps.push(Dump { file: file.into(), text: section.to_owned() });
    }
    for file in files {
        assert!(dumps.iter().any(|dump| dump.file == *file), "{} not in {text}", file.display());
    }
    // What it finds it sums up after the last section, whichever file it concerns.
    dumps
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLED: &str = "/d/t-0/00000000000000000184.log";

    fn unsound(text: &str) -> Option<&'static str> {
        Dump { file: ROLLED.into(), text: text.to_owned() }.unsound()
    }

    fn missing(file: &str, pairs: &[(i64, i64)]) -> String {
        let mut text = format!("Non-consecutive offsets in {file}\n");
        for (before, after) in pairs {
            text.push_str(&format!("  {before} is followed by {after}\n"));
        }
        text
    }

    #[test]
    fn a_segment_that_does_not_begin_at_offset_0_is_sound() {
        let section = format!(
            "{ROLLED}\nLog starting offset: 184\nbaseOffset: 184 lastOffset: 199 count: 16 \
             compresscodec: none crc: 1 isvalid: true\n| offset: 184 sequence: 0\n"
        );
        assert_eq!(unsound(&section), None);
        // As printed of two files after the last section.
        let other = missing("/d/t-0/00000000000000000349.log", &[(-1, 349)]);
        let rolled = missing(ROLLED, &[(-1, 184)]);
        assert_eq!(unsound(&format!("{section}\n{other}{rolled}")), None);
    }

    #[test]
    fn every_other_missing_offset_is_found() {
        let first = "/d/t-0/00000000000000000000.log";
        let index = "/d/t-0/00000000000000000184.index";
        let cases: [(&str, &[(i64, i64)]); 9] = [
            (ROLLED, &[(-1, 185)]),
            (ROLLED, &[(-1, 1840)]),
            (ROLLED, &[(183, 185)]),
            (ROLLED, &[(-1, 184), (190, 192)]),
            (ROLLED, &[(190, 192), (-1, 184)]),
            (ROLLED, &[(-1, 184), (-1, 184)]),
            (ROLLED, &[]),
            (first, &[(-1, 0)]),
            (index, &[(-1, 184)]),
        ];
        for (file, pairs) in cases {
            let text = missing(file, pairs);
            assert_eq!(unsound(&text), Some("Non-consecutive"), "{text}");
            // What is sound elsewhere excuses nothing.
            let sound = missing("/d/t-0/00000000000000000349.log", &[(-1, 349)]);
            assert_eq!(unsound(&format!("{sound}{text}")), Some("Non-consecutive"), "{text}");
            assert_eq!(unsound(&format!("{text}{sound}")), Some("Non-consecutive"), "{text}");
        }
    }

    #[test]
    fn other_signs_are_found_beside_the_first_offset() {
        for sign in UNSOUND {
            let text = format!("{}{sign} something\n", missing(ROLLED, &[(-1, 184)]));
            assert_eq!(unsound(&text), Some(*sign));
        }
    }
}
