//! Watches the wire, from the bytes alone: requests as they leave a producer, answers as they
//! reach it. What it knows owes nothing to what the producer believes (P7, S2, S3, S4).

mod offer;
mod parse;
mod streams;
mod transactions;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use sordini_core::config::{Acks, Config};
use sordini_core::time::Instant;
use sordini_protocol::messages::produce::ProduceResponse;
use sordini_protocol::{ApiKey, ErrorCode, Message, Reader, Uuid, frame};

use crate::checkers::Violation;
use crate::history::{History, Tp};

use offer::Offer;
pub(crate) use parse::Sent;
use streams::Streams;
use transactions::Order;

/// A topic by its id; several may have had one name.
pub(crate) type Topics = BTreeMap<Uuid, u16>;

/// A batch that was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) tp: Tp,
    pub(crate) code: ErrorCode,
    pub(crate) node: i32,
    /// The batch's first record.
    pub(crate) id: u64,
    pub(crate) led: bool,
    /// All of its records.
    pub(crate) ids: Vec<u64>,
}

/// One request that waits for its answer.
struct Waiting {
    api: ApiKey,
    version: i16,
    batches: Vec<Sent>,
}

/// A connection, as its bytes show it.
#[derive(Default)]
struct Wire {
    node: i32,
    offer: Offer,
    waiting: BTreeMap<i32, Waiting>,
    produces: usize,
    inbox: BytesMut,
    muted_until: Instant,
    /// Bytes came that no broker sends; whatever follows is meaningless.
    spoiled: bool,
}

/// Watches one producer.
pub(crate) struct Monitor {
    acks: i16,
    max_request: usize,
    backoff: Duration,
    wires: BTreeMap<u64, Wire>,
    streams: Streams,
    pub(crate) violations: Vec<Violation>,
    pub(crate) most_in_flight: usize,
    pub(crate) retransmissions: u64,
    pub(crate) children: u64,
    /// What else was seen on the wire, by its name in the coverage.
    pub(crate) met: BTreeMap<&'static str, u64>,
    pub(crate) epochs: BTreeSet<(i64, i16)>,
    requests: u64,
    /// Of a producer with transactions.
    order: Option<Order>,
    /// What coordinators answered.
    pub(crate) coordinated: BTreeMap<(&'static str, &'static str), u64>,
    answers: u64,
    /// Batches that left, where somebody wants them told.
    sent: Option<Vec<Sent>>,
}

impl Monitor {
    /// `first`: what a producer's first sequence of a partition begins at.
    pub(crate) fn new(config: &Config, first: i32) -> Self {
        Self {
            acks: match config.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            max_request: config.max_request_size,
            backoff: config.retry_backoff,
            wires: BTreeMap::new(),
            streams: Streams::beginning_at(first),
            violations: Vec::new(),
            most_in_flight: 0,
            retransmissions: 0,
            children: 0,
            met: BTreeMap::new(),
            epochs: BTreeSet::new(),
            requests: 0,
            order: config.transactional_id.as_ref().map(|_| Order::default()),
            coordinated: BTreeMap::new(),
            answers: 0,
            sent: None,
        }
    }

    fn wrong(&mut self, invariant: &'static str, at: Instant, text: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation { invariant, text, at });
        }
    }

    pub(crate) fn opened(&mut self, conn: u64, node: i32) {
        self.wires.insert(conn, Wire { node, ..Wire::default() });
    }

    /// A topic was deleted.
    pub(crate) fn deleted(&mut self, topic: u16) {
        if let Some(order) = &mut self.order {
            order.deleted.insert(topic);
            self.streams.deleted(topic);
        }
    }

    pub(crate) fn gone(&mut self, conn: u64) {
        self.wires.remove(&conn);
        self.streams.gone(conn);
        self.order.iter_mut().for_each(|order| order.gone(conn));
    }

    /// How many requests left the producer.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Keeps the batches that leave from now on, to be told.
    pub(crate) fn keep_sent(&mut self) {
        self.sent = Some(Vec::new());
    }

    /// The batches that left since the last call.
    pub(crate) fn take_sent(&mut self) -> Vec<Sent> {
        self.sent.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many answers reached the producer whole.
    pub(crate) fn answers(&self) -> u64 {
        self.answers
    }

    /// A frame leaves the producer, its size before it.
    pub(crate) fn transmit(
        &mut self,
        now: Instant,
        conn: u64,
        bytes: &Bytes,
        topics: &Topics,
        history: &mut History,
    ) {
        self.requests += 1;
        let size = bytes.first_chunk::<4>().map_or(-1, |it| i32::from_be_bytes(*it));
        if size != bytes.len() as i32 - 4 {
            return self.wrong("P7", now, format!("a frame of {} says {size}", bytes.len()));
        }
        match frame::request_header(bytes.slice(4..)) {
            Ok((api, header, reader)) => {
                let (version, correlation) = (header.request_api_version, header.correlation_id);
                self.watch_version(now, conn, api, version);
                let mut batches = Vec::new();
                if api == ApiKey::Produce {
                    match parse::produce(reader, version, topics, history) {
                        Ok((acks, sent)) => {
                            if acks != self.acks {
                                self.wrong("P7", now, format!("a request with acks={acks}"));
                            }
                            batches = sent;
                        }
                        Err(text) => return self.wrong("P7", now, text),
                    }
                    self.watch_produce(now, conn, bytes.len(), &batches, history);
                    self.watch_order(now, version, &batches);
                    if let Some(sent) = &mut self.sent {
                        sent.extend(batches.iter().cloned());
                    }
                } else {
                    self.watch_ask(now, (conn, correlation), (api, version), reader);
                }
                self.wait_for(now, conn, correlation, Waiting { api, version, batches });
            }
            Err(error) => self.wrong("P7", now, format!("no request: {error}")),
        }
    }

    fn watch_order(&mut self, now: Instant, version: i16, batches: &[Sent]) {
        let Some(order) = &mut self.order else { return };
        let mut wrong = Vec::new();
        batches.iter().for_each(|batch| order.produce(version, batch, &mut wrong));
        wrong.into_iter().for_each(|text| self.wrong("P7", now, text));
    }

    fn watch_ask(&mut self, now: Instant, key: (u64, i32), what: (ApiKey, i16), reader: Reader) {
        let Some(order) = &mut self.order else { return };
        let mut wrong = Vec::new();
        let waiting = self.wires.values().flat_map(|wire| wire.waiting.values());
        let flying = waiting.flat_map(|waiting| &waiting.batches);
        order.asked(key, what.0, what.1, reader, flying, &mut wrong);
        wrong.into_iter().for_each(|text| self.wrong("P7", now, text));
    }

    fn watch_version(&mut self, now: Instant, conn: u64, api: ApiKey, version: i16) {
        if api == ApiKey::Produce && version < 13 {
            *self.met.entry("wire: an older version of Produce").or_default() += 1;
        }
        let Some(wire) = self.wires.get(&conn) else { return };
        if matches!(wire.offer, Offer::TooNew(..)) {
            *self.met.entry("wire: versions asked for again").or_default() += 1;
        }
        if let Err(text) = wire.offer.allows(api, version) {
            self.wrong("P7", now, text);
        }
    }

    fn watch_produce(
        &mut self,
        now: Instant,
        conn: u64,
        len: usize,
        batches: &[Sent],
        history: &mut History,
    ) {
        if batches.len() > 1 && len > self.max_request + 128 {
            self.wrong("P7", now, format!("a request of {len} bytes"));
        }
        let Some(wire) = self.wires.get(&conn) else {
            return self.wrong(
                "P7",
                now,
                format!("a frame for connection {conn}, which is closed"),
            );
        };
        if wire.muted_until > now {
            let until = wire.muted_until;
            self.wrong("P7", now, format!("Produce on a connection that is muted until {until:?}"));
        }
        let node = self.wires.get(&conn).map_or(0, |wire| wire.node);
        let mut here = BTreeSet::new();
        for batch in batches {
            if !here.insert(batch.tp) {
                let text = format!("two batches of {:?} in a request", batch.tp);
                self.wrong("P7", now, text);
            }
            if batch.producer_id >= 0 {
                self.epochs.insert((batch.producer_id, batch.epoch));
            }
            let seen = self.streams.sent(now, node, self.backoff, batch, history);
            self.retransmissions += u64::from(seen.again);
            self.children += u64::from(seen.child);
            for what in seen.met {
                *self.met.entry(what).or_default() += 1;
            }
            for (invariant, text) in seen.wrong {
                self.wrong(invariant, now, text);
            }
            for id in &batch.ids {
                if let Some(record) = history.get_mut(*id) {
                    record.sent += 1;
                    record.sent_to = Some(node);
                }
            }
        }
    }

    fn wait_for(&mut self, now: Instant, conn: u64, correlation: i32, mut waiting: Waiting) {
        if self.acks == 0 && waiting.api == ApiKey::Produce {
            return;
        }
        self.streams.in_flight((conn, correlation), &mut waiting.batches);
        let Some(wire) = self.wires.get_mut(&conn) else { return };
        wire.produces += usize::from(waiting.api == ApiKey::Produce);
        self.most_in_flight = self.most_in_flight.max(wire.produces);
        if waiting.api == ApiKey::Produce && wire.produces >= 5 {
            *self.met.entry("wire: five in flight").or_default() += 1;
        }
        if wire.waiting.insert(correlation, waiting).is_some() {
            let text = format!("correlation id {correlation} is used twice on a connection");
            self.wrong("P7", now, text);
        }
    }

    /// Bytes reach the producer. Returns what they say of batches.
    pub(crate) fn receive(&mut self, now: Instant, conn: u64, bytes: &[u8]) -> Vec<Answered> {
        let mut answered = Vec::new();
        let Some(wire) = self.wires.get_mut(&conn).filter(|wire| !wire.spoiled) else {
            return answered;
        };
        wire.inbox.extend_from_slice(bytes);
        while let Some(prefix) = wire.inbox.first_chunk::<4>() {
            let Ok(size) = usize::try_from(i32::from_be_bytes(*prefix)) else {
                wire.spoiled = true;
                break;
            };
            if wire.inbox.len() < size + 4 {
                break;
            }
            wire.inbox.advance(4);
            let body = wire.inbox.split_to(size).freeze();
            let correlation = body.first_chunk::<4>().map(|it| i32::from_be_bytes(*it));
            let Some(waiting) = correlation.and_then(|id| wire.waiting.remove(&id)) else {
                // With acks=0 an answer that nobody asked for does no harm, and is passed over.
                if self.acks == 0 {
                    continue;
                }
                wire.spoiled = true;
                break;
            };
            self.answers += 1;
            if waiting.api == ApiKey::ApiVersions {
                wire.offer.read(&body, waiting.version);
            }
            if waiting.api != ApiKey::Produce {
                let key = (conn, correlation.unwrap_or(0));
                let codes = self.order.as_mut().map(|order| order.answered(key, &body));
                for (api, code) in codes.into_iter().flatten() {
                    *self.coordinated.entry((api.name(), code.name())).or_default() += 1;
                }
                continue;
            }
            wire.produces -= 1;
            let key = (conn, correlation.unwrap_or(0));
            match read_answers(body, &waiting) {
                Some((throttle, codes)) => {
                    let pause = Duration::from_millis(u64::try_from(throttle).unwrap_or(0));
                    if !pause.is_zero() {
                        *self.met.entry("wire: throttled").or_default() += 1;
                    }
                    wire.muted_until = wire.muted_until.max(now.saturating_add(pause));
                    let first = self.streams.answered(now, key, &waiting.batches, &codes);
                    *self.met.entry("wire: a first batch refused").or_default() += first;
                    let all = waiting.batches.into_iter().zip(codes);
                    answered.extend(all.map(|(batch, code)| Answered {
                        tp: batch.tp,
                        code,
                        node: wire.node,
                        id: batch.ids.first().copied().unwrap_or(u64::MAX),
                        led: batch.led,
                        ids: batch.ids,
                    }));
                }
                None => wire.spoiled = true,
            }
        }
        answered
    }
}

/// The throttle time and, in the order of the batches, their codes. `None` if the answer is no
/// answer to them.
fn read_answers(body: Bytes, waiting: &Waiting) -> Option<(i32, Vec<ErrorCode>)> {
    let (_, mut reader) = frame::response_header::<
        sordini_protocol::messages::produce::ProduceRequest,
    >(body, waiting.version)
    .ok()?;
    let response = ProduceResponse::decode(&mut reader, waiting.version).ok()?;
    let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let codes: Vec<_> = answers.map(|it| ErrorCode::from_code(it.error_code)).collect();
    (codes.len() == waiting.batches.len()).then_some((response.throttle_time_ms, codes))
}

#[cfg(test)]
mod tests;
