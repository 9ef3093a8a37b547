//! The reader under tokio: sockets and the clock for [`Machine`].

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::batches::{self, FetchedRecord};
use super::error::{FetchError, SettingError};
use super::link::LinkId;
use super::machine::{Input, Machine, Millis, Notice, Output, Plan};
use super::settings::{Address, Settings};
use super::socket;

/// Frames that may wait to be handled, over all connections. Each connection holds one more.
const FRAMES_WAITING: usize = 1;

/// What reading yields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Records of one partition, in the order of their offsets.
    Records {
        /// The partition.
        partition: i32,
        /// At least one.
        records: Vec<FetchedRecord>,
    },
    /// Something to tell; reading goes on.
    Notice(Notice),
}

/// A connection's task; it ends with its owner.
#[derive(Debug)]
struct Socket {
    frames: mpsc::UnboundedSender<Vec<u8>>,
    task: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads a topic. It asks for more only while [`Tail::next`] is awaited, plus one answer ahead.
#[derive(Debug)]
pub struct Tail {
    topic: String,
    machine: Machine,
    sockets: BTreeMap<LinkId, Socket>,
    sender: mpsc::Sender<Input>,
    inputs: mpsc::Receiver<Input>,
    /// Time spent in `next` alone: a caller that takes long must not look like a broker that does.
    clock: Duration,
}

impl Tail {
    /// A reader for `plan`. Nothing is sent before [`Tail::next`] is awaited.
    ///
    /// # Errors
    /// If the settings name no address.
    pub fn new(plan: Plan, settings: Settings) -> Result<Self, SettingError> {
        settings.check()?;
        let (sender, inputs) = mpsc::channel(FRAMES_WAITING);
        let topic = plan.topic.clone();
        let machine = Machine::new(plan, settings);
        let (sockets, clock) = (BTreeMap::new(), Duration::ZERO);
        Ok(Self { topic, machine, sockets, sender, inputs, clock })
    }

    /// The next records or notice; `None` at the end, where the plan has one.
    ///
    /// # Errors
    /// Why reading can't go on. It says so again when it is asked again.
    ///
    /// # Cancellation
    /// Safe: nothing that was read is lost.
    pub async fn next(&mut self) -> Result<Option<Event>, FetchError> {
        let (base, entered) = (self.clock, Instant::now());
        loop {
            self.clock = base + entered.elapsed();
            let now = Millis::try_from(self.clock.as_millis()).unwrap_or(Millis::MAX);
            if let Some(event) = self.run_outputs()? {
                return Ok(Some(event));
            }
            if let Some(result) = self.machine.result() {
                self.sockets.clear();
                return result.clone().map(|()| None);
            }
            if let Ok(input) = self.inputs.try_recv() {
                self.machine.handle(now, input);
                continue;
            }
            // Time passes only once all that has come is handled: what came in time is not late.
            self.machine.tick(now);
            if self.machine.has_output() || self.machine.result().is_some() {
                continue;
            }
            let until = self.machine.poll_timeout(now);
            let wait = until.map_or(Duration::from_secs(60), |at| {
                Duration::from_millis(at.saturating_sub(now))
            });
            if let Ok(Some(input)) = tokio::time::timeout(wait, self.inputs.recv()).await {
                self.clock = base + entered.elapsed();
                let now = Millis::try_from(self.clock.as_millis()).unwrap_or(Millis::MAX);
                self.machine.handle(now, input);
            }
        }
    }

    /// Does what the machine asks, up to the first event.
    fn run_outputs(&mut self) -> Result<Option<Event>, FetchError> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Connect { link, address } => self.connect(link, address),
                Output::Send { link, frame } => {
                    if let Some(socket) = self.sockets.get(&link) {
                        // A task that is gone has said so: its input is on its way.
                        let _ = socket.frames.send(frame);
                    }
                }
                Output::Close { link } => drop(self.sockets.remove(&link)),
                Output::Notice(notice) => return Ok(Some(Event::Notice(notice))),
                Output::Batch(batch) => {
                    let partition = batch.partition;
                    let records = batches::decode(&batch).map_err(|error| FetchError::Corrupt {
                        topic: self.topic.clone(),
                        partition,
                        offset: error.offset,
                        cause: error.cause,
                    })?;
                    if !records.is_empty() {
                        return Ok(Some(Event::Records { partition, records }));
                    }
                }
            }
        }
        Ok(None)
    }

    fn connect(&mut self, link: LinkId, address: Address) {
        let (frames, outgoing) = mpsc::unbounded_channel();
        let inputs = self.sender.clone();
        let task = tokio::spawn(async move {
            let cause = match socket::connect(&address).await {
                Ok(stream) => run(link, &stream, outgoing, &inputs).await,
                Err(cause) => cause,
            };
            let _ = inputs.send(Input::Closed { link, cause }).await;
        });
        self.sockets.insert(link, Socket { frames, task });
    }
}

/// One connection's life: why it ended.
async fn run(
    link: LinkId,
    stream: &TcpStream,
    mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>,
    inputs: &mpsc::Sender<Input>,
) -> String {
    if inputs.send(Input::Connected { link }).await.is_err() {
        return String::new();
    }
    let write = async {
        while let Some(frame) = outgoing.recv().await {
            if let Err(error) = socket::write_all(stream, &frame).await {
                return error.to_string();
            }
        }
        String::new()
    };
    let read = async {
        let mut frame = socket::read_first_frame(stream).await;
        loop {
            match frame {
                Ok(frame) => {
                    if inputs.send(Input::Received { link, frame }).await.is_err() {
                        return String::new();
                    }
                }
                Err(cause) => return cause,
            }
            frame = socket::read_frame(stream).await;
        }
    };
    tokio::select! {
        cause = write => cause,
        cause = read => cause,
    }
}
