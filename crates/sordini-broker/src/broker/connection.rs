//! One connection's requests: received, queued, processed one at a time, answered in order.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use sordini_protocol::messages::produce::ProduceRequest;
use sordini_protocol::{ApiKey, DecodeError, ErrorCode, frame};

use super::{Broker, ConnectionId, Output, WaitingCommit, WaitingFetch, WaitingProduce};
use crate::api::{self, Handled, Reply, Request, Response, produce};
use crate::coordinator::Token;
use crate::coordinator::answers::Found;
use crate::faults::Strike;
use crate::log::batch::Header;
use crate::monitor::SeenBatch;
use crate::time::{Instant, Now};

/// A connection's state.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub queue: VecDeque<Received>,
    pub current: Option<Current>,
    /// Gone silent by order: requests are applied, answers never sent.
    pub muted: bool,
    /// Its next request waits until then, because of the quota.
    throttled_until: Instant,
    /// Bytes of answers that were not confirmed as written.
    unsent: usize,
}

/// What an answer needs to know of its request.
#[derive(Debug)]
pub(super) struct Meta {
    pub key: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    /// Batches that the monitor counts as in flight: their order, topic and partition.
    batches: Vec<(u64, String, i32)>,
    /// How long the client is told to wait.
    throttle_ms: i32,
}

#[derive(Debug)]
pub(super) struct Received {
    pub meta: Meta,
    pub request: Request,
}

/// The request in process, where that takes time.
#[derive(Debug)]
pub(super) struct Current {
    pub meta: Meta,
    pub strike: Strike,
    pub state: Waiting,
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Enough bytes, or the end of its patience.
    Fetch(WaitingFetch),
    /// A sync.
    Sync(WaitingProduce),
    /// The replicas that are in sync.
    Commit(WaitingCommit),
    /// The controller's answer to the request of this number.
    Controller { seq: u64, request: Request, deadline: Instant },
    /// What a coordinator finds under this name.
    Coordinator(Token, Box<Request>),
    /// A coordinator's word on the transaction; then it is applied.
    Check(Token, Box<ProduceRequest>),
    /// The end of a delay on order.
    Delay(Reply),
}

impl Broker {
    /// A client has connected.
    pub fn connected(&mut self, connection: ConnectionId) {
        self.monitor.connected();
        self.connections.insert(connection, Connection::default());
    }

    /// A client is gone; its requests that wait are dropped.
    pub fn disconnected(&mut self, connection: ConnectionId) {
        self.forget(connection);
    }

    /// A whole request has arrived: a frame without its size.
    pub fn handle_frame(&mut self, now: Now, connection: ConnectionId, frame: Bytes) {
        let Some(state) = self.connections.get(&connection) else { return };
        let queued = state.queue.len() + usize::from(state.current.is_some());
        if queued > self.config.max_queued_requests {
            let reason = format!("{queued} requests wait for their answers; read those first");
            return self.close_connection(connection, reason);
        }
        match self.receive(now, connection, frame, queued + 1) {
            Ok(received) => {
                if let Some(state) = self.connections.get_mut(&connection) {
                    state.queue.push_back(received);
                    self.runnable.push_back(connection);
                }
                self.run(now);
            }
            Err(reason) => self.close_connection(connection, reason),
        }
    }

    /// So many bytes of answers were written to the client. Needed only with
    /// [`max_unsent_bytes`](crate::BrokerConfig::max_unsent_bytes).
    pub fn transmitted(&mut self, now: Now, connection: ConnectionId, bytes: usize) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        state.unsent = state.unsent.saturating_sub(bytes);
        self.runnable.push_back(connection);
        self.run(now);
    }

    fn receive(
        &mut self,
        now: Now,
        connection: ConnectionId,
        frame: Bytes,
        queued: usize,
    ) -> Result<Received, String> {
        let malformed = |error: DecodeError| format!("malformed request: {error}");
        let (key, header, mut reader) = frame::request_header(frame).map_err(malformed)?;
        let version = header.request_api_version;
        let correlation_id = header.correlation_id;
        let mut meta = Meta { key, version, correlation_id, batches: Vec::new(), throttle_ms: 0 };
        self.monitor.received(key, queued);
        let served = self.config.versions.served(key);
        let request = if served.as_ref().is_some_and(|served| served.contains(&version)) {
            let request = Request::decode(key, &mut reader, version).map_err(malformed)?;
            reader.finish().map_err(malformed)?;
            request
        } else if key == ApiKey::ApiVersions {
            // KIP-511: a client that is too new learns what is possible, in the oldest form.
            meta.version = 0;
            Request::UnsupportedApiVersions
        } else {
            let served = served.map_or("no version".to_owned(), |served| format!("{served:?}"));
            return Err(format!("{key:?} version {version} is not served, {served} is"));
        };
        if let Request::Produce(produce) = &request {
            meta.batches = self.note_batches(now, connection, &meta, produce);
        }
        Ok(Received { meta, request })
    }

    fn note_batches(
        &self,
        now: Now,
        connection: ConnectionId,
        meta: &Meta,
        request: &ProduceRequest,
    ) -> Vec<(u64, String, i32)> {
        let mut noted = Vec::new();
        for topic in &request.topic_data {
            let name = match self.topic_name(&topic.topic_id) {
                Some(name) => name.to_owned(),
                None if topic.name.is_empty() => topic.topic_id.to_string(),
                None => topic.name.clone(),
            };
            for data in &topic.partition_data {
                let records = data.records.clone().unwrap_or_default();
                let header = Header::new(&records);
                let order = self.monitor.batch(SeenBatch {
                    order: 0,
                    at: now.mono,
                    connection,
                    correlation_id: meta.correlation_id,
                    version: meta.version,
                    acks: request.acks,
                    topic: name.clone(),
                    partition: data.index,
                    producer_id: header.map_or(-1, |h| h.producer_id()),
                    producer_epoch: header.map_or(-1, |h| h.producer_epoch()),
                    base_sequence: header.map_or(-1, |h| h.base_sequence()),
                    records: header.map_or(0, |h| h.count()),
                    crc: header.map_or(0, |h| h.crc()),
                    size: records.len(),
                    outcome: None,
                });
                noted.push((order, name.clone(), data.index));
            }
        }
        noted
    }

    /// Processes what can be processed.
    pub(crate) fn run(&mut self, now: Now) {
        loop {
            while let Some(connection) = self.runnable.pop_front() {
                self.process_next(now, connection);
            }
            let woken = self.wake_fetches(now)
                | self.settle_produces(now)
                | self.follow_leadership(now)
                | self.settle_writes(now)
                | self.deliver_answers(now);
            if !woken && self.runnable.is_empty() {
                return self.tell_followers(now);
            }
        }
    }

    fn process_next(&mut self, now: Now, connection: ConnectionId) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let throttled = state.throttled_until > now.mono;
        if state.current.is_some() || state.unsent > self.config.max_unsent_bytes || throttled {
            return;
        }
        let Some(Received { mut meta, request }) = state.queue.pop_front() else { return };
        meta.throttle_ms = self.throttle(now, connection, &request);
        let about = request.partitions(self);
        let strike = self.faults.strike(meta.key, connection, &about);
        if strike.close_before {
            self.land(&meta);
            return self.close_connection(connection, "closed by order".to_owned());
        }
        let handled = match self.must_forward(&request, &strike) {
            true => self.pass_on(now, connection, meta.version, request.clone()),
            false => api::handle(self, now, meta.version, &request, &strike),
        };
        self.dispose(now, connection, meta, strike, &request, handled);
    }

    /// Answers a request, or lets it wait.
    fn dispose(
        &mut self,
        now: Now,
        connection: ConnectionId,
        meta: Meta,
        strike: Strike,
        request: &Request,
        handled: Handled,
    ) {
        match handled {
            Handled::Respond(response) => {
                let response = after_strike(&strike, meta.version, request, response);
                self.answer(now, connection, meta, strike, response);
            }
            Handled::Silence => self.conclude(now, connection, &meta, strike, Reply::Silence),
            Handled::Close(reason) => {
                self.land(&meta);
                self.close_connection(connection, reason);
            }
            Handled::WaitFetch(fetch) => {
                self.timers.insert((fetch.deadline, connection));
                self.wait(connection, meta, strike, Waiting::Fetch(fetch));
            }
            Handled::WaitCommit(produce) => {
                self.timers.insert((produce.deadline, connection));
                self.wait(connection, meta, strike, Waiting::Commit(produce));
            }
            Handled::WaitController { seq, request, deadline } => {
                self.timers.insert((deadline, connection));
                let state = Waiting::Controller { seq, request, deadline };
                self.wait(connection, meta, strike, state);
            }
            Handled::WaitSync(produce) => {
                self.awaiting_sync.insert(connection);
                self.wait(connection, meta, strike, Waiting::Sync(produce));
            }
            Handled::WaitCoordinator(token, request) => {
                self.coordinator.answers.wait(token, connection);
                self.wait(connection, meta, strike, Waiting::Coordinator(token, request));
            }
            Handled::WaitCheck(token, request) => {
                self.coordinator.answers.wait(token, connection);
                self.wait(connection, meta, strike, Waiting::Check(token, request));
            }
        }
    }

    /// Goes on with requests for which coordinators found something. Returns whether there was
    /// any.
    fn deliver_answers(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some((connection, token, found)) = self.coordinator.answers.next() {
            let Some(state) = self.connections.get_mut(&connection) else { continue };
            let Some(Current { meta, strike, state }) = state.current.take() else { continue };
            let (request, handled) = match (state, found) {
                (Waiting::Coordinator(own, request), Found::Response(response)) if own == token => {
                    (*request, Handled::Respond(response))
                }
                (Waiting::Coordinator(own, request), Found::Refused(code)) if own == token => {
                    let response = request.refuse(meta.version, code);
                    (*request, Handled::Respond(response))
                }
                (Waiting::Check(own, request), Found::Checked(verdicts)) if own == token => {
                    let version = meta.version;
                    let handled = produce::handle_verified(
                        self,
                        now,
                        version,
                        &request,
                        &strike,
                        Some(&verdicts),
                    );
                    (Request::Produce(*request), handled)
                }
                (state, _) => {
                    self.wait(connection, meta, strike, state);
                    continue;
                }
            };
            any = true;
            self.dispose(now, connection, meta, strike, &request, handled);
        }
        any
    }

    /// Charges a request to the quota. Returns the milliseconds that its client is to wait.
    fn throttle(&mut self, now: Now, connection: ConnectionId, request: &Request) -> i32 {
        let Some(quota) = self.config.produce_quota else { return 0 };
        let wait = self.produced.charge(now, &quota, request);
        if quota.mutes
            && wait > Duration::ZERO
            && let Some(state) = self.connections.get_mut(&connection)
        {
            state.throttled_until = now.mono.after(wait);
            self.timers.insert((state.throttled_until, connection));
        }
        i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
    }

    fn wait(&mut self, connection: ConnectionId, meta: Meta, strike: Strike, state: Waiting) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.current = Some(Current { meta, strike, state });
        }
    }

    /// Encodes a response and sends it, or what was ordered instead.
    pub(super) fn answer(
        &mut self,
        now: Now,
        connection: ConnectionId,
        meta: Meta,
        strike: Strike,
        mut response: Response,
    ) {
        let named = meta.batches.iter().map(|(_, topic, partition)| (topic.as_str(), *partition));
        response.patch(meta.version, &strike.after, named);
        if let Response::Produce(produce) = &mut response {
            produce.throttle_time_ms = meta.throttle_ms;
        }
        self.note_outcomes(&meta, &response);
        let reply = match response.encode(meta.key, meta.version, meta.correlation_id) {
            Ok(frame) => Reply::Frame(frame),
            Err(error) => {
                tracing::error!(key = meta.key.name(), version = meta.version, %error, "encoding");
                Reply::Close(format!("the answer can't be encoded: {error}"))
            }
        };
        self.conclude(now, connection, &meta, strike, reply);
    }

    fn note_outcomes(&self, meta: &Meta, response: &Response) {
        let Response::Produce(produce) = response else { return };
        let answers = produce.responses.iter().flat_map(|topic| &topic.partition_responses);
        for ((order, _, _), answer) in meta.batches.iter().zip(answers) {
            let offset = (answer.base_offset >= 0).then_some(answer.base_offset);
            self.monitor.outcome(*order, ErrorCode::from_code(answer.error_code), offset);
        }
    }

    /// Ends a request whose answer is known, after the delay on order if there is one.
    fn conclude(
        &mut self,
        now: Now,
        connection: ConnectionId,
        meta: &Meta,
        mut strike: Strike,
        reply: Reply,
    ) {
        let delay = std::mem::take(&mut strike.delay);
        if delay > Duration::ZERO {
            self.timers.insert((now.mono.after(delay), connection));
            let meta = Meta { batches: meta.batches.clone(), ..*meta };
            return self.wait(connection, meta, strike, Waiting::Delay(reply));
        }
        self.land(meta);
        self.emit(connection, strike, reply);
    }

    fn emit(&mut self, connection: ConnectionId, strike: Strike, reply: Reply) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        state.current = None;
        state.muted |= strike.drop_response;
        let muted = state.muted;
        let reply = match strike.raw {
            Some(raw) => Reply::Frame(raw),
            None => reply,
        };
        if strike.close_after {
            return self.close_connection(connection, "closed by order".to_owned());
        }
        match reply {
            Reply::Frame(frame) if !muted => {
                state.unsent = state.unsent.saturating_add(frame.len());
                self.outputs.push_back(Output::Send { connection, frame });
            }
            Reply::Frame(_) | Reply::Silence => self.outputs.push_back(Output::Done { connection }),
            Reply::Close(reason) => return self.close_connection(connection, reason),
        }
        self.runnable.push_back(connection);
    }

    /// A timer of this connection has run out.
    pub(super) fn expire(&mut self, now: Now, connection: ConnectionId) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        match state.current.take() {
            Some(Current { meta, strike, state: Waiting::Delay(reply) }) => {
                self.land(&meta);
                self.emit(connection, strike, reply);
            }
            Some(Current { meta, strike, state: Waiting::Fetch(fetch) })
                if fetch.deadline <= now.mono =>
            {
                self.finish_fetch(now, connection, meta, strike, &fetch);
            }
            Some(Current { meta, strike, state: Waiting::Commit(produce) })
                if produce.deadline <= now.mono =>
            {
                self.give_up_commit(now, connection, meta, strike, produce);
            }
            Some(Current {
                meta,
                strike,
                state: Waiting::Controller { seq, request, deadline },
            }) if deadline <= now.mono => {
                if let Some(node) = self.node_mut() {
                    node.give_up_forwarded(seq);
                }
                let response = request.refuse(meta.version, ErrorCode::RequestTimedOut);
                self.answer(now, connection, meta, strike, response);
            }
            // It may go on, if it was throttled.
            other => {
                state.current = other;
                self.runnable.push_back(connection);
            }
        }
    }

    /// Whether only the controller can answer a request.
    fn must_forward(&self, request: &Request, strike: &Strike) -> bool {
        self.node.is_some() && strike.before.is_empty() && request.is_for_controller()
    }

    fn pass_on(
        &mut self,
        now: Now,
        connection: ConnectionId,
        version: i16,
        request: Request,
    ) -> Handled {
        match self.forward(now, connection, version, request.clone()) {
            Ok((seq, deadline)) => Handled::WaitController { seq, request, deadline },
            Err(code) => Handled::Respond(request.refuse(version, code)),
        }
    }

    /// The controller has answered a request that was passed on.
    pub(crate) fn forwarded(
        &mut self,
        now: Now,
        connection: ConnectionId,
        seq: u64,
        response: Response,
    ) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        match state.current.take() {
            Some(Current {
                meta,
                strike,
                state: Waiting::Controller { seq: own, deadline, .. },
            }) if own == seq => {
                self.timers.remove(&(deadline, connection));
                self.answer(now, connection, meta, strike, response);
            }
            other => state.current = other,
        }
    }

    /// All clients are gone; the result names them.
    pub(crate) fn drop_connections(&mut self) -> Vec<ConnectionId> {
        let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
        all.iter().for_each(|connection| self.disconnected(*connection));
        all
    }

    pub(super) fn close_connection(&mut self, connection: ConnectionId, reason: String) {
        if self.forget(connection) {
            self.outputs.push_back(Output::Close { connection, reason });
        }
    }

    fn forget(&mut self, connection: ConnectionId) -> bool {
        let Some(state) = self.connections.remove(&connection) else { return false };
        self.awaiting_sync.remove(&connection);
        self.coordinator.answers.forget(connection);
        self.timers.retain(|(_, of)| *of != connection);
        for received in &state.queue {
            self.land(&received.meta);
        }
        if let Some(current) = &state.current {
            self.land(&current.meta);
        }
        true
    }

    /// The batches of a request are no longer in flight.
    fn land(&self, meta: &Meta) {
        for (_, topic, partition) in &meta.batches {
            self.monitor.landed(topic, *partition);
        }
    }
}

/// Replaces a response by an error, where that is ordered for after applying. Produce errors are
/// patched in by partition instead.
fn after_strike(strike: &Strike, version: i16, request: &Request, response: Response) -> Response {
    match strike.after.first() {
        Some(error) if !matches!(response, Response::Produce(_)) => {
            request.refuse(version, error.code)
        }
        _ => response,
    }
}
