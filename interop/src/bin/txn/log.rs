//! The writer's log: each line on the disk before what follows it.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::failed::Failed;

pub(crate) struct Log(File);

/// What the lives before this one left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// The number to go on with.
    pub(crate) next: u64,
    /// Of these it is not known whether they were committed.
    pub(crate) doubtful: BTreeSet<u64>,
}

impl Log {
    /// Opens it, or begins it; a line that a kill has cut off is taken away.
    pub(crate) fn open(path: &Path) -> Result<(Self, Left), Failed> {
        let bytes = std::fs::read(path).unwrap_or_default();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let left = Left::of(&String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default()));
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).write(true).open(path);
        if let Ok(file) = &mut file {
            file.set_len(whole as u64).map_err(Failed::other)?;
            file.seek(SeekFrom::End(0)).map_err(Failed::other)?;
        }
        let file = file.map_err(|error| Failed::Other(format!("{}: {error}", path.display())))?;
        Ok((Self(file), left))
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failed> {
        self.0.write_all(format!("{text}\n").as_bytes()).map_err(Failed::other)?;
        self.0.sync_data().map_err(Failed::other)
    }
}

impl Left {
    fn of(text: &str) -> Self {
        let mut left = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let (what, number) = (words.next(), words.next().and_then(|word| word.parse().ok()));
            let Some(number) = number else { continue };
            match (what, words.next()) {
                (Some("intent"), how) => {
                    left.next = number + 1;
                    if how == Some("commit") {
                        left.doubtful.insert(number);
                    }
                }
                (Some("outcome"), Some("unknown")) => {}
                _ => drop(left.doubtful.remove(&number)),
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_cut_off_goes_on_behind_its_last_whole_line() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("log");
        let begun = "start\nintent 0 commit\noutcome 0 committed\nintent 1 abort\nintent 2 commit\n\
                     outcome 2 unknown\nintent 3 commit\n";
        std::fs::write(&path, format!("{begun}outcome 3 com")).expect("written");
        let (mut log, left) = Log::open(&path).expect("opened");
        assert_eq!(left, Left { next: 4, doubtful: [2, 3].into() });
        log.line("found 2 all").expect("written");
        let (_, left) = Log::open(&path).expect("opened");
        assert_eq!(left, Left { next: 4, doubtful: [3].into() });
        assert_eq!(std::fs::read_to_string(&path).expect("read"), format!("{begun}found 2 all\n"));
    }
}
