//! The thread that owns the broker: commands in, frames out.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::machine::Machine;
use crate::broker::{ConnectionId, OpenError, Output};
use crate::time::{Instant, Now};

/// Commands taken before the clock is looked at again.
const BURST: usize = 256;

/// What the thread is told.
pub(super) enum Command {
    /// A client has connected; its answers go to this channel.
    Connected(ConnectionId, mpsc::UnboundedSender<ToClient>),
    /// A client is gone.
    Disconnected(ConnectionId),
    /// A whole request has arrived.
    Frame(ConnectionId, Bytes),
    /// So many bytes of answers were written.
    Written(ConnectionId, usize),
    /// Somebody wants to look at the broker.
    Run(Box<dyn FnOnce(&mut Machine) + Send>),
    /// The end, with or without closing the logs.
    Stop { clean: bool, done: Option<oneshot::Sender<Result<(), OpenError>>> },
}

/// What a connection's writer is told.
pub(super) enum ToClient {
    /// A request is answered with these bytes.
    Frame(Bytes),
    /// A request is done without an answer.
    Done,
    /// Close the connection, for this reason.
    Close(String),
}

/// Both clocks.
pub(super) fn now() -> Now {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    let elapsed = START.get_or_init(std::time::Instant::now).elapsed();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        // Instants begin at 1: 0 is always in the past.
        mono: Instant(1).after(elapsed),
        wall_ms: i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX),
    }
}

type Clients = BTreeMap<ConnectionId, mpsc::UnboundedSender<ToClient>>;

/// Runs the broker until it is stopped or nobody can command it any more.
pub(super) fn run(mut broker: Machine, commands: &Receiver<Command>) {
    let mut clients = Clients::new();
    loop {
        let mut next = wait(&broker, commands);
        for _ in 0..BURST {
            match next {
                Next::Command(Command::Stop { clean, done }) => return stop(broker, clean, done),
                Next::Command(command) => apply(&mut broker, &mut clients, command),
                Next::Nothing => break,
                Next::Never => return stop(broker, true, None),
            }
            next = poll(commands);
        }
        if let Next::Command(command) = next {
            if let Command::Stop { clean, done } = command {
                return stop(broker, clean, done);
            }
            apply(&mut broker, &mut clients, command);
        }
        let now = now();
        if broker.poll_timeout().is_some_and(|due| due <= now.mono) {
            broker.handle_timeout(now);
            deliver(&mut broker, &mut clients);
        }
    }
}

enum Next {
    Command(Command),
    Nothing,
    Never,
}

fn wait(broker: &Machine, commands: &Receiver<Command>) -> Next {
    let patience = match broker.poll_timeout() {
        Some(due) => due.since(now().mono),
        None => Duration::from_secs(3600),
    };
    if patience.is_zero() {
        return poll(commands);
    }
    match commands.recv_timeout(patience) {
        Ok(command) => Next::Command(command),
        Err(RecvTimeoutError::Timeout) => Next::Nothing,
        Err(RecvTimeoutError::Disconnected) => Next::Never,
    }
}

fn poll(commands: &Receiver<Command>) -> Next {
    match commands.try_recv() {
        Ok(command) => Next::Command(command),
        Err(TryRecvError::Empty) => Next::Nothing,
        Err(TryRecvError::Disconnected) => Next::Never,
    }
}

fn apply(broker: &mut Machine, clients: &mut Clients, command: Command) {
    let now = now();
    match command {
        Command::Connected(id, client) => {
            clients.insert(id, client);
            broker.connected(id);
        }
        Command::Disconnected(id) => {
            clients.remove(&id);
            broker.disconnected(id);
        }
        Command::Frame(id, frame) => broker.handle_frame(now, id, frame),
        Command::Written(id, bytes) => broker.transmitted(now, id, bytes),
        Command::Run(ask) => ask(broker),
        Command::Stop { .. } => {}
    }
    deliver(broker, clients);
}

fn deliver(broker: &mut Machine, clients: &mut Clients) {
    while let Some(output) = broker.poll_output() {
        let (id, message) = match output {
            Output::Send { connection, frame } => (connection, ToClient::Frame(frame)),
            Output::Done { connection } => (connection, ToClient::Done),
            Output::Close { connection, reason } => {
                if let Some(client) = clients.remove(&connection) {
                    let _ = client.send(ToClient::Close(reason));
                }
                continue;
            }
        };
        if let Some(client) = clients.get(&id) {
            let _ = client.send(message);
        }
    }
}

fn stop(mut broker: Machine, clean: bool, done: Option<oneshot::Sender<Result<(), OpenError>>>) {
    let result = if clean { broker.close(now()) } else { Ok(()) };
    if let Err(error) = &result {
        tracing::warn!(%error, "the embedded broker could not close its logs");
    }
    // The folder's lock is released before anybody is told.
    drop(broker);
    if let Some(done) = done {
        let _ = done.send(result);
    }
}
