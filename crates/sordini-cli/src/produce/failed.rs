//! The file of `--failed`: lines that were not delivered, as they were, in the input's order.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use crate::exit::{Failure, USAGE};

/// The file, where one was asked for.
#[derive(Debug)]
pub(super) struct FailedLines(Option<Opened>);

#[derive(Debug)]
struct Opened {
    name: String,
    file: BufWriter<File>,
    length: u64,
    /// Has all been written that was to be?
    whole: bool,
}

impl FailedLines {
    /// Opens the file. What is in it stays there until [`FailedLines::begin`].
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self(None)) };
        let name = path.display().to_string();
        // What an earlier run left in it must outlive a run that does not begin.
        match File::options().write(true).create(true).truncate(false).open(path) {
            Ok(file) => {
                Ok(Self(Some(Opened { name, file: BufWriter::new(file), length: 0, whole: true })))
            }
            Err(error) => Err(Failure { code: USAGE, ..unwritable(&name, &error) }),
        }
    }

    /// Whether lines are kept at all.
    pub(super) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it lacks lines, which could not be written.
    pub(super) fn lacks_lines(&self) -> bool {
        self.0.as_ref().is_some_and(|opened| !opened.whole)
    }

    /// That lines can be taken out of it again.
    ///
    /// # Errors
    /// If it is a pipe or a device.
    pub(super) fn check_erasable(&self) -> Result<(), Failure> {
        let Some(opened) = &self.0 else { return Ok(()) };
        match opened.file.get_ref().metadata() {
            Ok(metadata) if metadata.is_file() => Ok(()),
            Ok(_) => Err(Failure::usage(format!(
                "--failed {} is no file: with --transaction the lines of a transaction stand in it \
                 until it is committed, and then are taken out again; name a file",
                opened.name
            ))),
            Err(error) => Err(unwritable(&opened.name, &error)),
        }
    }

    /// Empties the file of what an earlier run left in it.
    ///
    /// # Errors
    /// If that can't be done.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        let Some(Opened { name, file, .. }) = &self.0 else { return Ok(()) };
        let file = file.get_ref();
        // A pipe or a device has nothing to be emptied of.
        let emptied = match file.metadata() {
            Ok(metadata) if metadata.is_file() => file.set_len(0),
            other => other.map(drop),
        };
        emptied.map_err(|error| unwritable(name, &error))
    }

    /// Adds lines, or a part of one.
    ///
    /// # Errors
    /// If they can't be written.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failure> {
        let Some(opened) = &mut self.0 else { return Ok(()) };
        opened.length += lines.len() as u64;
        let written = opened.file.write_all(lines);
        opened.judge(written)
    }

    /// How many bytes it holds.
    pub(super) fn length(&self) -> u64 {
        self.0.as_ref().map_or(0, |opened| opened.length)
    }

    /// Takes out again what was added since it was so long.
    ///
    /// # Errors
    /// If that can't be done.
    pub(super) fn shorten(&mut self, to: u64) -> Result<(), Failure> {
        let Some(opened) = &mut self.0 else { return Ok(()) };
        if opened.length == to {
            return Ok(());
        }
        opened.length = to;
        let file = &mut opened.file;
        let shortened = file
            .flush()
            .and_then(|()| file.get_ref().set_len(to))
            .and_then(|()| file.seek(SeekFrom::Start(to)).map(drop));
        opened.judge(shortened)
    }

    /// Writes what is still in memory.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let Some(opened) = &mut self.0 else { return Ok(()) };
        let flushed = opened.file.flush();
        opened.judge(flushed)
    }
}

impl Opened {
    fn judge(&mut self, done: io::Result<()>) -> Result<(), Failure> {
        self.whole &= done.is_ok();
        done.map_err(|error| unwritable(&self.name, &error))
    }
}

fn unwritable(name: &str, error: &io::Error) -> Failure {
    let folder = Path::new(name).parent().filter(|folder| !folder.exists());
    let why = match folder {
        Some(folder) if !folder.as_os_str().is_empty() => {
            format!("there is no folder {}; make it first", folder.display())
        }
        _ => error.to_string(),
    };
    Failure::failed(format!("--failed {name} can't be written: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_again_leaves_the_lines_before_it_and_room_for_those_after() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("failed");
        std::fs::write(&path, "of an earlier run\n").expect("a file");
        let mut failed = FailedLines::open(Some(&path)).expect("it can be written");
        failed.check_erasable().expect("a file");
        failed.begin().expect("emptied");
        failed.write(b"1\n").expect("written");
        let before = failed.length();
        failed.write(&[b'2'; 100_000]).expect("written");
        failed.shorten(before).expect("shortened");
        failed.write(b"3\n").expect("written");
        failed.finish().expect("written");
        assert_eq!(std::fs::read(&path).expect("a file"), b"1\n3\n");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_refused_where_lines_have_to_be_taken_out_again() {
        let failed = FailedLines::open(Some(Path::new("/dev/null"))).expect("it can be written");
        let refused = failed.check_erasable().expect_err("a device");
        assert_eq!(refused.code, crate::exit::USAGE);
        assert!(refused.message.contains("--failed /dev/null"), "{}", refused.message);
    }
}
