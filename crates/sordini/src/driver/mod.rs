//! Moves what the core decides: sockets, timers, compression. Decides nothing itself.
//!
//! One task owns everything. Writes happen inline, as soon as the core hands out a frame, and
//! interest is registered only where the system takes no more. Each connection has a waker of its
//! own, so that a wake-up names the connection that is ready.

mod compress;
mod connect;
mod link;
mod log;
mod trouble;
mod wakers;

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sordini_core::accumulator::counters::Metrics;
use sordini_core::batch::sealed::Returned;
use sordini_core::config::Address;
use sordini_core::connection::ConnId;
use sordini_core::producer::Producer as Machine;
use sordini_core::producer::io::{Command, Delivered, Finished, Input, Output, Token, Trace};
use sordini_core::time::{Clock, Instant, Now};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep_until};

use crate::driver::compress::Compressors;
use crate::driver::connect::SocketOptions;
use crate::driver::link::{Attempt, Event, Link};
use crate::driver::log::Log;
use crate::driver::wakers::ReadyList;
use crate::shared::{Request, Shared};

/// How long one wake-up may go on before other tasks of the thread get their turn.
const ROUNDS: usize = 32;

/// What one read takes at most.
const READ: usize = 64 << 10;

/// While a batch is open, records without a timestamp carry a time at most this old.
const TICK: Duration = Duration::from_millis(1);

/// How often the number of sticky partitions follows the rate.
const RATE_PERIOD: Duration = Duration::from_millis(250);

/// Drives one producer: a future that ends when the producer is closed and everything it accepted
/// has its outcome. Dropping it fails the rest, and blocks nobody.
#[must_use = "nothing is sent unless the driver is polled"]
pub struct Driver {
    shared: Arc<Shared>,
    /// Fields of its own, so that a step can borrow parts of it at once.
    io: Io,
    machine: Machine,
    tokens: BTreeMap<Token, oneshot::Sender<Finished>>,
    /// The last handle was dropped: nobody will see a report.
    unattended: bool,
    closed: bool,
    rate: Rate,
}

struct Io {
    links: BTreeMap<ConnId, Link>,
    ready: Arc<ReadyList>,
    compressors: Compressors,
    options: SocketOptions,
    log: Log,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
    buffer: Box<[u8]>,
}

/// The counters, looked at now and then for how fast they move.
#[derive(Default)]
struct Rate {
    since: Instant,
    last: Metrics,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("links", &self.io.links.len()).finish_non_exhaustive()
    }
}

impl Driver {
    pub(crate) fn new(machine: Machine, shared: Arc<Shared>) -> Self {
        let options = SocketOptions {
            send_buffer: shared.config.send_buffer_bytes,
            receive_buffer: shared.config.receive_buffer_bytes,
        };
        let io = Io {
            links: BTreeMap::new(),
            ready: Arc::new(ReadyList::new(shared.bell.clone())),
            compressors: Compressors::new(shared.bell.clone()),
            options,
            log: Log::new(&shared.config.client_id, shared.config.delivery_timeout),
            timer: None,
            buffer: vec![0; READ].into_boxed_slice(),
        };
        Self {
            shared,
            io,
            machine,
            tokens: BTreeMap::new(),
            unattended: false,
            closed: false,
            rate: Rate::default(),
        }
    }

    /// Hands an input to the core and carries out what follows, writes included, until the core
    /// asks for nothing more.
    fn feed(&mut self, input: Input<'_>) {
        let mut news = VecDeque::new();
        self.hand_in(input, &mut news);
        self.carry_out(news);
    }

    /// Lets pass what is due.
    fn pass_time(&mut self) {
        let mut news = VecDeque::new();
        self.pass_deadlines(self.shared.clock.now(), &mut news);
        self.carry_out(news);
    }

    /// Hands in what the writes of earlier outputs have to report, until there is nothing more.
    fn carry_out(&mut self, mut news: VecDeque<Input<'static>>) {
        while let Some(input) = news.pop_front() {
            self.hand_in(input, &mut news);
        }
    }

    /// One input, behind the deadlines that passed before it: the core's time only goes on, and a
    /// deadline that an input overtook would wait for the next.
    fn hand_in(&mut self, input: Input<'_>, news: &mut VecDeque<Input<'static>>) {
        let now = self.shared.clock.now();
        if !matches!(input, Input::Transmitted { .. }) {
            self.pass_deadlines(now, news);
        }
        self.tell(now, input, news);
    }

    fn tell(&mut self, now: Now, input: Input<'_>, news: &mut VecDeque<Input<'static>>) {
        // A connection that the core has given up meanwhile is none of its concern any more.
        let wanted = match &input {
            Input::ConnectFailed { conn, .. } | Input::Disconnected { conn, .. } => {
                self.io.links.remove(conn).is_some()
            }
            Input::Connected { conn }
            | Input::Received { conn, .. }
            | Input::Transmitted { conn, .. } => self.io.links.contains_key(conn),
            Input::LanesDue | Input::Compressed(_) | Input::Command(_) => true,
        };
        if wanted {
            self.machine.handle_input(now, input);
            self.drain(news);
        }
    }

    /// What the network took is told first: after a pause of the whole process a deadline may give
    /// up a connection, and what was written on it would count as never sent (S7).
    fn pass_deadlines(&mut self, now: Now, news: &mut VecDeque<Input<'static>>) {
        let is_due = |machine: &Machine| machine.poll_timeout().is_some_and(|due| due <= now.mono);
        while is_due(&self.machine)
            && let Some(at) = news.iter().position(|it| matches!(it, Input::Transmitted { .. }))
            && let Some(written) = news.remove(at)
        {
            self.tell(now, written, news);
        }
        if is_due(&self.machine) {
            self.machine.handle_timeout(now);
            self.drain(news);
        }
    }

    /// Carries out all outputs (S8), and then writes what they queued.
    fn drain(&mut self, news: &mut VecDeque<Input<'static>>) {
        let mut queued: Vec<ConnId> = Vec::new();
        while let Some(output) = self.machine.poll_output() {
            self.execute(output, &mut queued);
        }
        for conn in queued {
            let Some(link) = self.io.links.get_mut(&conn) else { continue };
            let (through, broken) = link.write();
            news.extend(through.map(|through| Input::Transmitted { conn, through }));
            news.extend(broken.map(|cause| Input::Disconnected { conn, cause }));
        }
    }

    fn execute(&mut self, output: Output, queued: &mut Vec<ConnId>) {
        match output {
            Output::Connect { conn, address, failures } => {
                let attempt = Attempt { advice: self.advice(&address), address, failures };
                let link = Link::connecting(conn, attempt, self.io.options, &self.io.ready);
                self.io.links.insert(conn, link);
            }
            Output::Disconnect { conn } => {
                self.io.links.remove(&conn);
            }
            Output::Transmit { conn, frame } => {
                if let Some(link) = self.io.links.get_mut(&conn) {
                    link.queue(frame);
                    if !queued.contains(&conn) {
                        queued.push(conn);
                    }
                }
            }
            Output::Compress(job) => self.io.compressors.start(job),
            Output::Deliver(delivered) => self.deliver(delivered),
            Output::HandBack(returned) => self.hand_back(returned),
            Output::Finish { token, result } => {
                self.closed |= result == Finished::Closed;
                self.answer(token, result);
            }
            Output::Trace(trace) => {
                self.remember(&trace);
                self.io.log.trace(&trace);
            }
        }
    }

    fn answer(&mut self, token: Token, result: Finished) {
        if let Some(done) = self.tokens.remove(&token) {
            // Who has stopped to wait has taken nothing back by that.
            let _ = done.send(result);
        }
    }

    /// Keeps what became of transactions, for who asks later.
    fn remember(&self, trace: &Trace) {
        match trace {
            Trace::TransactionBegun(transaction) => self.shared.history.begun(*transaction),
            Trace::TransactionEnded { transaction, outcome } => {
                self.shared.history.ended(*transaction, outcome);
            }
            _ => {}
        }
    }

    /// What to add to the error if this address can't be reached: the user never wrote it.
    fn advice(&self, address: &Address) -> Option<String> {
        let bootstrap = &self.shared.config.bootstrap_servers;
        if bootstrap.contains(address) {
            return None;
        }
        const NAMED: usize = 5;
        let named: Vec<String> = bootstrap.iter().take(NAMED).map(Address::to_string).collect();
        Some(format!(
            "; the cluster at {}{} advertises this address, which its setting advertised.listeners \
             decides",
            named.join(","),
            if bootstrap.len() > NAMED { ",..." } else { "" }
        ))
    }

    fn deliver(&mut self, delivered: Delivered) {
        if let Some(returned) = delivered.resolve() {
            self.hand_back(returned);
        }
    }

    fn hand_back(&self, returned: Returned) {
        if !self.unattended {
            self.shared.keep_failed(returned);
        }
    }

    fn serve_requests(&mut self) -> bool {
        let mut any = false;
        while let Some(request) = self.shared.next_request() {
            any = true;
            let Request { token, command, done } = request;
            if let (Command::Close { .. }, None) = (&command, &done) {
                // Whoever has the report of a close drops its handle before this task goes on.
                self.unattended |= !self.closed;
            }
            self.tokens.extend(done.map(|done| (token, done)));
            self.feed(Input::Command(command));
        }
        any
    }

    fn serve_lanes(&mut self) -> bool {
        let due = self.shared.accumulator.ready().is_due();
        if due {
            self.feed(Input::LanesDue);
        }
        due
    }

    fn serve_compressors(&mut self) -> bool {
        let done = self.io.compressors.done();
        let any = !done.is_empty();
        for compressed in done {
            self.feed(Input::Compressed(compressed));
        }
        any
    }

    fn serve_links(&mut self) -> bool {
        let ready = self.io.ready.take();
        for &conn in &ready {
            self.serve_link(conn);
        }
        !ready.is_empty()
    }

    /// Carries one connection on until it has nothing more, or has had its share.
    fn serve_link(&mut self, conn: ConnId) {
        let mut buffer = std::mem::take(&mut self.io.buffer);
        for _ in 0..ROUNDS {
            let event = self.io.links.get_mut(&conn).and_then(|link| link.poll(&mut buffer));
            match event {
                None => {
                    self.io.buffer = buffer;
                    return;
                }
                Some(Event::Up) => self.feed(Input::Connected { conn }),
                Some(Event::ConnectFailed(cause)) => {
                    self.feed(Input::ConnectFailed { conn, cause });
                }
                Some(Event::Transmitted(through)) => {
                    self.feed(Input::Transmitted { conn, through });
                }
                Some(Event::Received(count)) => {
                    self.feed(Input::Received { conn, bytes: &buffer[..count] });
                }
                Some(Event::Down(cause)) => self.feed(Input::Disconnected { conn, cause }),
            }
        }
        self.io.buffer = buffer;
        self.io.ready.push(conn);
    }

    /// Lets pass what is due, and sees to it that the next deadline wakes this task.
    fn serve_timers(&mut self, cx: &mut Context<'_>) -> bool {
        let now = self.shared.clock.now();
        self.shared.alarms.ring(now.mono);
        let due = self.machine.poll_timeout();
        if due.is_some_and(|due| due <= now.mono) {
            self.pass_time();
            return true;
        }
        let tick = self.tick(now.mono);
        let alarm = self.shared.alarms.next();
        let Some(next) = [due, tick, alarm].into_iter().flatten().min() else {
            self.io.timer = None;
            return false;
        };
        let Some(at) = self.shared.clock.to_tokio(next) else { return false };
        match &mut self.io.timer {
            Some((set, _)) if *set == next => {}
            Some((set, timer)) => {
                *set = next;
                timer.as_mut().reset(at);
            }
            timer => *timer = Some((next, Box::pin(sleep_until(at)))),
        }
        let timer = self.io.timer.as_mut().map(|(_, timer)| timer.as_mut());
        timer.is_some_and(|timer| timer.poll(cx).is_ready())
    }

    /// Keeps the coarse clock of the appends, and the number of stripes, up to date.
    fn tick(&mut self, now: Instant) -> Option<Instant> {
        let elapsed = now.saturating_since(self.rate.since);
        if elapsed >= RATE_PERIOD {
            let metrics = self.shared.accumulator.counters().snapshot();
            let bytes = metrics.bytes_uncompressed - self.rate.last.bytes_uncompressed;
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
            self.shared.set_rate(bytes.saturating_mul(1000) / millis);
            if self.shared.config.batch_size > 0 {
                self.io.log.batches(&self.rate.last, &metrics);
            }
            self.rate = Rate { since: now, last: metrics };
        }
        if !self.machine.is_busy() {
            return None;
        }
        self.shared.accumulator.set_coarse_time(self.shared.clock.now().wall);
        Some(now.saturating_add(TICK))
    }

    fn finish(&mut self) {
        if self.unattended {
            let metrics = self.shared.accumulator.counters().snapshot();
            self.io.log.unattended_end(&metrics);
        }
        self.shared.end();
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.bell.register(cx.waker());
        for _ in 0..ROUNDS {
            let mut busy = this.serve_requests();
            busy |= this.serve_lanes();
            busy |= this.serve_compressors();
            busy |= this.serve_links();
            busy |= this.serve_timers(cx);
            if this.closed {
                this.finish();
                return Poll::Ready(());
            }
            if !busy {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        // The runtime shuts down, the driver was dropped, or it panicked: nobody may wait for it.
        // After a panic the machine may be in any state, and a second panic while the first one
        // unwinds would end the process.
        let machine = &mut self.machine;
        let _ = catch_unwind(AssertUnwindSafe(|| machine.abandon()));
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Deliver(delivered) => self.deliver(delivered),
                Output::HandBack(returned) => self.hand_back(returned),
                Output::Finish { token, result } => self.answer(token, result),
                Output::Trace(trace) => self.remember(&trace),
                _ => {}
            }
        }
        self.finish();
    }
}
