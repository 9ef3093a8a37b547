//! One client's connection: a task that cuts frames out of what it reads, and one that writes
//! the answers. Every wait has a deadline, every size a limit.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sordini_protocol::frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::builder::Limits;
use super::core::{Command, ToClient};
use crate::broker::ConnectionId;

/// Bytes that one semaphore permit stands for.
const PERMIT_BYTES: usize = 1024;
/// Bytes that a frame's buffer grows by: a size that was announced is not believed.
const GROW_BY: usize = 64 * 1024;

/// Requests of one connection that are read ahead at most: fewer than the broker queues, so that
/// a client with more of them waits instead of being turned out.
const REQUESTS_AHEAD: usize = 900;

/// Room for requests that wait, of one connection or of all.
fn room(bytes: usize) -> Arc<Semaphore> {
    let permits = (bytes / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(permits.min(u32::MAX as usize)))
}

/// What a connection shares with the others.
#[derive(Clone)]
pub(super) struct Shared {
    pub commands: Sender<Command>,
    pub limits: Limits,
    /// Room for the requests of all connections.
    pub room: Arc<Semaphore>,
    /// Places for connections.
    pub places: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new(commands: Sender<Command>, limits: Limits) -> Self {
        let room = room(limits.total_queued_bytes);
        let places = Arc::new(Semaphore::new(limits.connections));
        Self { commands, limits, room, places }
    }
}

/// Room that a request takes until it is answered.
type Taken = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Serves a connection until either side ends it.
pub(super) async fn serve(
    shared: Shared,
    id: ConnectionId,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
) {
    // Small answers must not wait for a delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let peer = stream.peer_addr().map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
    let (reads, writes) = stream.into_split();
    let (to_client, answers) = mpsc::unbounded_channel();
    if shared.commands.send(Command::Connected(id, to_client)).is_err() {
        return;
    }
    let (taken_tx, taken_rx) = mpsc::unbounded_channel();
    let commands = shared.commands.clone();
    let limits = shared.limits.clone();
    let mut reader = tokio::spawn(read(shared, id, reads, taken_tx));
    let mut writer = tokio::spawn(write(commands.clone(), limits, id, writes, answers, taken_rx));
    let reason = tokio::select! {
        ended = &mut reader => ended.unwrap_or_else(|_| "the reader was cancelled".to_owned()),
        ended = &mut writer => ended.unwrap_or_else(|_| "the writer was cancelled".to_owned()),
    };
    reader.abort();
    writer.abort();
    let _ = commands.send(Command::Disconnected(id));
    tracing::debug!(connection = id.0, %peer, reason = %reason.escape_debug(), "closed");
    drop(place);
}

/// Reads requests; the result says why it ended.
async fn read(
    shared: Shared,
    id: ConnectionId,
    mut reads: OwnedReadHalf,
    taken: mpsc::UnboundedSender<Taken>,
) -> String {
    let own_room = room(shared.limits.queued_bytes);
    let all_room = own_room.available_permits();
    let mut first = true;
    loop {
        let patience = if first { shared.limits.handshake } else { shared.limits.idle };
        let mut prefix = [0; 4];
        // A read of one byte: cancelling it loses nothing.
        match timeout(patience, reads.read(&mut prefix[..1])).await {
            Ok(Ok(0)) => return "the client closed the connection".to_owned(),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return error.to_string(),
            // A connection whose requests are being served is not idle.
            Err(_) if !first && own_room.available_permits() < all_room => continue,
            Err(_) => return format!("no request within {patience:?}"),
        }
        let rest = reads.read_exact(&mut prefix[1..]);
        match timeout(shared.limits.deadline(0), rest).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return format!("a request broke off: {error}"),
            Err(_) => return "a request's size was not complete in time".to_owned(),
        }
        let size = match frame::size(prefix, shared.limits.frame_bytes) {
            Ok(size) => size,
            Err(error) if looks_like_http(&prefix) => {
                return format!("{error}; the client seems to speak HTTP");
            }
            Err(error) => return error.to_string(),
        };
        let room = match take_room(&shared, &own_room, all_room, size).await {
            Some(room) => room,
            None => return "the server is stopping".to_owned(),
        };
        let deadline = shared.limits.deadline(size);
        let frame = match timeout(deadline, read_frame(&mut reads, size)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) => return format!("a request broke off: {error}"),
            Err(_) => return format!("a request of {size} bytes took longer than {deadline:?}"),
        };
        first = false;
        let sent = taken.send(room).is_ok();
        if !sent || shared.commands.send(Command::Frame(id, frame)).is_err() {
            return "the server is stopping".to_owned();
        }
    }
}

async fn take_room(
    shared: &Shared,
    own: &Arc<Semaphore>,
    own_total: usize,
    size: usize,
) -> Option<Taken> {
    // Small requests take as much as keeps their number below what the broker queues.
    let wanted = (size / PERMIT_BYTES + 1).max(own_total / REQUESTS_AHEAD);
    let total = shared.limits.total_queued_bytes / PERMIT_BYTES;
    let of_own = u32::try_from(wanted.min(own_total)).ok()?;
    let of_all = u32::try_from(wanted.clamp(1, total.max(1))).ok()?;
    let own = own.clone().acquire_many_owned(of_own).await.ok()?;
    let all = shared.room.clone().acquire_many_owned(of_all).await.ok()?;
    Some((own, all))
}

async fn read_frame(reads: &mut OwnedReadHalf, size: usize) -> io::Result<Bytes> {
    let mut frame = BytesMut::with_capacity(size.min(GROW_BY));
    while frame.len() < size {
        let left = size - frame.len();
        frame.reserve(left.min(GROW_BY));
        let mut limited = (&mut *reads).take(left as u64);
        if limited.read_buf(&mut frame).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
    }
    Ok(frame.freeze())
}

fn looks_like_http(prefix: &[u8; 4]) -> bool {
    matches!(
        prefix,
        b"GET "
            | b"POST"
            | b"PUT "
            | b"HEAD"
            | b"OPTI"
            | b"DELE"
            | b"PATC"
            | b"CONN"
            | b"PRI "
            | b"TRAC"
    )
}

/// Writes answers; the result says why it ended.
async fn write(
    commands: Sender<Command>,
    limits: Limits,
    id: ConnectionId,
    mut writes: OwnedWriteHalf,
    mut answers: mpsc::UnboundedReceiver<ToClient>,
    mut taken: mpsc::UnboundedReceiver<Taken>,
) -> String {
    while let Some(answer) = answers.recv().await {
        let frame = match answer {
            ToClient::Frame(frame) => frame,
            ToClient::Done => Bytes::new(),
            ToClient::Close(reason) => return reason,
        };
        let deadline = limits.deadline(frame.len());
        match timeout(deadline, writes.write_all(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("an answer could not be written: {error}"),
            Err(_) => return format!("an answer was not taken within {deadline:?}"),
        }
        drop(taken.recv().await);
        if !frame.is_empty() && commands.send(Command::Written(id, frame.len())).is_err() {
            break;
        }
    }
    "the server is stopping".to_owned()
}

impl Limits {
    /// How long `bytes` may take at the slowest rate that is put up with.
    fn deadline(&self, bytes: usize) -> Duration {
        let rate = self.slowest_bytes_per_second.max(1);
        self.transfer.saturating_add(Duration::from_secs(bytes as u64 / rate))
    }
}
