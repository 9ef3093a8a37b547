//! The broker that a command brings along when it is given none.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use sordini_broker::server::StartError;
use sordini_broker::storage::OpenFolderError;
use sordini_broker::{Cut, Damage, Lost, OpenError, Recovery, Server, ServerBuilder};

use crate::exit::Failure;
use crate::terminal;

/// An embedded broker on a folder, for as long as one command runs.
#[derive(Debug)]
pub(crate) struct Embedded {
    server: Server,
    address: String,
}

impl Embedded {
    /// Opens the folder, which is created where it is not there. Topics are created as they are
    /// asked for, with three partitions.
    ///
    /// # Errors
    /// If the folder is locked or can't be used.
    pub(crate) async fn open(folder: &Path) -> Result<Self, Failure> {
        let server = start(Server::builder().data_dir(folder)).await.map_err(|error| {
            let locked = matches!(error, StartError::Folder(OpenFolderError::Locked { .. }));
            let mut failure = refused(folder, &error);
            if locked {
                failure
                    .message
                    .push_str("; if that is a `sordini serve`, talk to it: -b HOST:PORT");
            }
            failure
        })?;
        Ok(Self { address: server.bootstrap(), server })
    }

    /// As [`Embedded::open`], for who only looks at what is there.
    ///
    /// # Errors
    /// If there is no such folder, or it is locked or can't be used.
    pub(crate) async fn open_existing(folder: &Path) -> Result<Self, Failure> {
        if !folder.exists() {
            return Err(Failure::usage(format!(
                "there is no folder {}; `sordini produce TOPIC` makes one, --data names another, \
                 and -b HOST:PORT reads from a running broker",
                folder.display()
            )));
        }
        Self::open(folder).await
    }

    /// What `bootstrap.servers` takes.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Stops the broker; everything is on disk then.
    pub(crate) async fn close(self) {
        stop(self.server).await;
    }
}

/// Why a server on this folder does not start.
pub(crate) fn refused(folder: &Path, error: &StartError) -> Failure {
    let is_other = folder.exists() && !folder.is_dir();
    let folder = folder.display();
    Failure::usage(match error {
        StartError::Folder(OpenFolderError::Unusable { .. }) if is_other => {
            format!("--data {folder} is no folder; name one, which is made where it is not there")
        }
        StartError::Open(error) => match full_disk(error) {
            Some(full) => format!(
                "the folder {folder} can't be opened: its disk is full, and a broker that starts \
                 has to write a little; free some space ({full})"
            ),
            None => format!("the folder {folder} can't be opened: {error}"),
        },
        error => error.to_string(),
    })
}

fn full_disk(error: &OpenError) -> Option<&io::Error> {
    let first: &(dyn Error + 'static) = error;
    let chain = std::iter::successors(Some(first), |&error| error.source());
    let mut causes = chain.filter_map(|error| error.downcast_ref::<io::Error>());
    causes.find(|cause| cause.kind() == ErrorKind::StorageFull)
}

/// Starts a server, and says what it had to mend.
///
/// # Errors
/// Why it does not start.
pub(crate) async fn start(builder: ServerBuilder) -> Result<Server, StartError> {
    // What arrived is of interest to tests; a command that runs for days must not collect it.
    let server = builder.produce_log_limit(0).start().await?;
    for (partition, recovery) in server.recovered() {
        warn_of_repair(partition, recovery, Copies::None);
    }
    Ok(server)
}

/// Says what had to be mended of a partition.
pub(crate) fn warn_of_repair(partition: &str, recovery: &Recovery, copies: Copies) {
    // What was cut short is part of what is lost, where that is known.
    let torn = |cut: &&Cut| cut.damage == Damage::AtEnd && recovery.lost.is_some();
    if let Some(cut) = recovery.cut.as_ref().filter(|cut| !torn(cut)) {
        terminal::warn(told_of_cut(partition, cut, recovery.removed_segments, copies));
    }
    if let Some(lost) = &recovery.lost {
        terminal::warn(told_of_loss(partition, lost, copies));
    }
}

/// Where else a partition's records are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Nowhere.
    None,
    /// On other nodes, if the topic has replicas.
    OtherNodes,
}

/// What was cut off, whether that is usual, and what it means for those who use the partition.
fn told_of_cut(partition: &str, cut: &Cut, removed: usize, copies: Copies) -> String {
    let Cut { file, position, bytes, offset, damage } = cut;
    let (place, cause) = match damage {
        Damage::AtEnd => {
            return format!(
                "{partition}: {bytes} bytes of a write that was cut short were removed from the end \
                 of {file}, from byte {position} on, as a crash leaves them; the log ends at offset \
                 {offset}. Nothing is to be done, but a power cut may have taken the last records \
                 where --fsync was not given"
            );
        }
        Damage::Within => ("before its end", "which no crash leaves"),
        Damage::LastBatch => {
            ("where its last batch begins", "which a power cut may leave, but not the broker's end")
        }
    };
    let further = match removed {
        0 => String::new(),
        files => format!(", and the {files} files behind it, which were not known to be on disk,"),
    };
    format!(
        "{partition}: {file} is damaged at byte {position}, {place}, {cause}: is the disk sound, or \
         did something write to it? The {bytes} bytes of it from there on{further} were removed, \
         with what records they held, from offset {offset} on; {}",
        what_it_means(partition, copies)
    )
}

/// What the loss of a partition's records means for those who use it.
fn what_it_means(partition: &str, copies: Copies) -> &'static str {
    if copies == Copies::OtherNodes {
        "what another node has of them is copied again if it is in sync, and leads; if none is, they \
         are lost to readers"
    } else if partition.starts_with("__transaction_state-") {
        "what was last written there of some transactional ids is lost: they begin from an earlier \
         state or anew, and what they had open is aborted. Nothing is to be done; a producer that \
         runs has to be started again"
    } else if partition.starts_with("__consumer_offsets-") {
        "groups whose offsets stood there go on from earlier ones, or from none"
    } else {
        "they are lost to readers; if they matter, stop the broker and take the folder from a copy"
    }
}

/// What a log held when its broker was stopped in order, and holds no more.
fn told_of_loss(partition: &str, lost: &Lost, copies: Copies) -> String {
    let Lost { file, position, from, to, offsets } = lost;
    let last = to.saturating_sub(1);
    let further = match offsets.saturating_sub(to.abs_diff(*from)) {
        0 => String::new(),
        more => format!(", and {more} behind them"),
    };
    let ahead = match copies {
        Copies::None => ". Their offsets are not given out again",
        Copies::OtherNodes => "",
    };
    format!(
        "{partition}: the records of {offsets} offsets, {from} to {last}{further}, were there when \
         the broker was last stopped in order, and are gone from byte {position} of {file} on, which no \
         crash leaves: is the disk sound, or did something cut or remove files? {}{ahead}",
        capital(what_it_means(partition, copies))
    )
}

/// The text as a sentence begins.
fn capital(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().into_iter().flat_map(char::to_uppercase).chain(rest).collect()
}

/// Stops a server.
pub(crate) async fn stop(server: Server) {
    if let Err(error) = server.shutdown().await {
        terminal::warn(format!("the broker's folder could not be closed cleanly: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use sordini_broker::log::LogError;

    use super::*;

    #[test]
    fn a_folder_that_can_not_be_opened_is_named_and_a_full_disk_has_a_remedy() {
        let told = |kind: ErrorKind| {
            let error = StartError::Open(OpenError::Storage(kind.into()));
            let failure = refused(Path::new("a/b"), &error);
            assert_eq!(failure.code, crate::exit::USAGE);
            failure.message
        };
        let full = told(ErrorKind::StorageFull);
        assert!(full.contains("folder a/b") && full.contains("free some space"), "{full}");
        let source = ErrorKind::StorageFull.into();
        let log = LogError::Storage { dir: "t-1".into(), source };
        let log = refused(Path::new("a/b"), &StartError::Open(OpenError::Log(log))).message;
        assert_eq!(log, full, "whichever file it was");
        let other = told(ErrorKind::PermissionDenied);
        assert!(other.contains("folder a/b") && !other.contains("full"), "{other}");
    }

    #[test]
    fn a_torn_end_is_told_from_damage_and_damage_with_what_it_means() {
        let cut = |damage| Cut {
            file: "t-0/00000000000000000000.log".into(),
            position: 217,
            bytes: 96,
            offset: 5,
            damage,
        };
        let torn = told_of_cut("t-0", &cut(Damage::AtEnd), 0, Copies::None);
        let end = "end of t-0/00000000000000000000.log, from byte 217 on";
        for part in ["96 bytes", "crash leaves", end, "ends at offset 5", "Nothing is to be done"] {
            assert!(torn.contains(part), "{torn}");
        }
        let rotten = told_of_cut("t-0", &cut(Damage::LastBatch), 0, Copies::None);
        let place = "t-0/00000000000000000000.log is damaged at byte 217, where its last batch";
        for part in [place, "a power cut may leave", "from offset 5", "from a copy"] {
            assert!(rotten.contains(part), "{rotten}");
        }
        let cases = [
            ("t-0", Copies::None, "from a copy"),
            ("__transaction_state-3", Copies::None, "transactional ids"),
            ("__consumer_offsets-3", Copies::None, "groups"),
            ("node 1: __transaction_state-3", Copies::OtherNodes, "if it is in sync, and leads"),
        ];
        for (partition, copies, meaning) in cases {
            let told = told_of_cut(partition, &cut(Damage::Within), 3, copies);
            for part in
                [partition, meaning, "at byte 217", "from offset 5", "no crash leaves", "3 files"]
            {
                assert!(told.contains(part), "{told}");
            }
        }
    }

    #[test]
    fn a_loss_is_told_with_its_offsets_its_place_and_what_it_means() {
        let file = "t-0/00000000000000000000.log".to_owned();
        let lost = Lost { file, position: 217, from: 5, to: 9, offsets: 4 };
        let told = told_of_loss("t-0", &lost, Copies::None);
        let place = "byte 217 of t-0/00000000000000000000.log";
        for part in ["4 offsets, 5 to 8, were", place, "from a copy", "not given out again"] {
            assert!(told.contains(part), "{told}");
        }
        let told = told_of_loss("t-0", &Lost { offsets: 7, ..lost.clone() }, Copies::None);
        assert!(told.contains("7 offsets, 5 to 8, and 3 behind them, were"), "{told}");
        let told = told_of_loss("node 2: t-0", &lost, Copies::OtherNodes);
        assert!(
            told.contains("if none is, they are lost") && !told.contains("given out"),
            "{told}"
        );
    }
}
