//! Where a cluster's controller keeps what it decided: one file in the folder that has the nodes'
//! folders. It also says what the folder is, so that no broker on its own is started there.

use std::io;
use std::path::{Path, PathBuf};

use super::builder::StartError;
use crate::broker::OpenError;
use crate::catalog;
use crate::cluster::{Cluster, Revision};
use crate::storage::{self, DiskStorage, Storage};

const FILE: &str = "sordini.cluster";
/// What says of a folder that it is one node's.
const NODE_FILE: &str = "sordini.node";
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// The controller's file; nothing where all is kept in memory.
pub(super) struct ControllerLog {
    disk: Option<(DiskStorage, PathBuf)>,
    saved: Option<Revision>,
    ended: bool,
}

impl ControllerLog {
    /// Opens the folder, and takes up what an earlier cluster left there.
    pub(super) fn open(folder: Option<PathBuf>, cluster: &mut Cluster) -> Result<Self, StartError> {
        let Some(folder) = folder else {
            return Ok(Self { disk: None, saved: None, ended: false });
        };
        let mut disk = DiskStorage::open(&folder)?;
        if let Some(text) = read(&mut disk).map_err(OpenError::Storage)? {
            let nodes = Cluster::saved_nodes(&text).ok_or_else(damaged)?;
            if nodes != cluster.nodes() {
                return Err(StartError::OtherCluster { folder, nodes });
            }
            cluster.restore(&text).ok_or_else(damaged)?;
        } else if disk.len(catalog::FILE).map_err(OpenError::Storage)?.is_some() {
            return Err(StartError::Sole { folder });
        } else if has_nodes(&mut disk).map_err(OpenError::Storage)? {
            return Err(missing().into());
        }
        let mut log = Self { disk: Some((disk, folder)), saved: None, ended: false };
        log.keep(cluster).map_err(OpenError::Storage)?;
        Ok(log)
    }

    /// Writes what the controller decided, if that is new, so that it survives a loss of power.
    pub(super) fn keep(&mut self, cluster: &Cluster) -> io::Result<()> {
        let Some((disk, _)) = &mut self.disk else { return Ok(()) };
        let revision = Some(cluster.revision());
        if self.saved != revision && !self.ended {
            storage::replace(disk, "", FILE, cluster.saved().as_bytes(), true)?;
            self.saved = revision;
        }
        Ok(())
    }

    /// Keeps no further decisions.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The folder that has the nodes' folders.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.disk.as_ref().map(|(_, folder)| folder.as_path())
    }
}

/// Says of a folder that it is one node's.
pub(super) fn mark(disk: &mut DiskStorage, node: i32) -> io::Result<()> {
    if disk.len(NODE_FILE)?.is_some() {
        return Ok(());
    }
    storage::replace(disk, "", NODE_FILE, format!("node.id={node}\n").as_bytes(), true)
}

/// That a broker on its own may not use a cluster's folder, or a node's.
pub(super) fn refuse(disk: &mut DiskStorage, folder: &Path) -> Result<(), StartError> {
    if disk.len(NODE_FILE).map_err(OpenError::Storage)?.is_some() {
        return Err(StartError::Node { folder: folder.to_owned() });
    }
    let Some(text) = read(disk).map_err(OpenError::Storage)? else { return Ok(()) };
    let nodes = Cluster::saved_nodes(&text).ok_or_else(damaged)?;
    Err(StartError::OtherCluster { folder: folder.to_owned(), nodes })
}

fn read(disk: &mut DiskStorage) -> io::Result<Option<String>> {
    if disk.len(FILE)?.is_none() {
        return Ok(None);
    }
    let bytes = storage::read_all(disk, FILE, FILE_MAX)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Whether nodes' folders are there: without the controller's file they would be begun anew, and
/// their records removed.
fn has_nodes(disk: &mut DiskStorage) -> io::Result<bool> {
    Ok(disk.list("")?.iter().any(|entry| entry.is_dir && entry.name.starts_with("node-")))
}

fn missing() -> OpenError {
    let message = format!(
        "it holds a cluster's nodes, but the cluster's file {FILE} is missing; restore it from a \
         copy, or choose another folder"
    );
    OpenError::Storage(io::Error::new(io::ErrorKind::InvalidData, message))
}

fn damaged() -> OpenError {
    let message = format!(
        "the cluster's file {FILE} is damaged; restore it from a copy, or choose another folder"
    );
    OpenError::Storage(io::Error::new(io::ErrorKind::InvalidData, message))
}
