//! The broker that a command brings along when it is given none.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;

use sordini_broker::server::StartError;
use sordini_broker::storage::OpenFolderError;
use sordini_broker::{OpenError, Recovery, Server, ServerBuilder};

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
        if !folder.is_dir() {
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
    let folder = folder.display();
    Failure::usage(match error {
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
        warn_of_repair(partition, recovery);
    }
    Ok(server)
}

/// Says what had to be mended of a partition.
pub(crate) fn warn_of_repair(partition: &str, recovery: &Recovery) {
    if recovery.truncated_bytes > 0 {
        terminal::warn(format!(
            "{partition}: {} bytes of a write that was cut short were removed",
            recovery.truncated_bytes
        ));
    }
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
}
