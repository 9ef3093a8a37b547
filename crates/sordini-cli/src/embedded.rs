//! The broker that a command brings along when it is given none.

use std::path::Path;

use sordini_broker::server::StartError;
use sordini_broker::storage::OpenFolderError;
use sordini_broker::{Server, ServerBuilder};

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
            let hint = "; if that is a `sordini serve`, talk to it: -b HOST:PORT";
            Failure::usage(format!("{error}{}", if locked { hint } else { "" }))
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

/// Starts a server, and says what it had to mend.
///
/// # Errors
/// Why it does not start.
pub(crate) async fn start(builder: ServerBuilder) -> Result<Server, StartError> {
    // What arrived is of interest to tests; a command that runs for days must not collect it.
    let server = builder.produce_log_limit(0).start().await?;
    for (partition, recovery) in server.recovered() {
        if recovery.truncated_bytes > 0 {
            terminal::warn(format!(
                "{partition}: {} bytes of a write that was cut short were removed",
                recovery.truncated_bytes
            ));
        }
    }
    Ok(server)
}

/// Stops a server.
pub(crate) async fn stop(server: Server) {
    if let Err(error) = server.shutdown().await {
        terminal::warn(format!("the broker's folder could not be closed cleanly: {error}"));
    }
}
