//! What happens, and to whom.

use bytes::{Buf, Bytes};
use sordini_broker::ConnectionId;
use sordini_core::producer::io::Input;

use super::{Event, World};
use crate::checkers::Happening;
use crate::faults::Deed;
use crate::net::NetEvent;

impl World<'_> {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Net(event) => self.on_network(event),
            Event::Peer { from, to, message } => {
                self.hash.number(0xbe);
                self.hash.bytes(message.kind().as_bytes());
                let now = self.broker_now();
                self.cluster.handle_peer(now, from, to, message);
                self.drain_cluster();
            }
            Event::Compressed(client, compressed) => {
                if self.is_frozen(client) {
                    self.thaw_later(client, Event::Compressed(client, compressed));
                } else {
                    self.feed(client, Input::Compressed(compressed));
                }
            }
            Event::Work(client) => {
                if self.is_frozen(client) {
                    self.thaw_later(client, Event::Work(client));
                } else {
                    self.work(client);
                }
            }
            Event::GiveUp(client, id) => {
                if self.is_frozen(client) {
                    self.thaw_later(client, Event::GiveUp(client, id));
                } else {
                    self.give_up(client, id);
                }
            }
            Event::FaultBegins(number) => self.fault_begins(number),
            Event::FaultEnds(number) => self.fault_ends(number),
            Event::Heal => self.heal(),
            Event::StartNode(node) => self.start_node(node),
            Event::Glimpse => self.glimpse(),
        }
    }

    /// Takes what the network decided.
    pub(super) fn take_scheduled(&mut self) {
        for (at, event) in std::mem::take(&mut self.net.scheduled) {
            self.queue.push(at, Event::Net(event));
        }
    }

    fn on_network(&mut self, event: NetEvent) {
        let (tag, id) = match &event {
            NetEvent::Established(id) => (1, *id),
            NetEvent::ConnectFailed(id, _) => (2, *id),
            NetEvent::Write(id) => (3, *id),
            NetEvent::ToNode(id, _) => (4, *id),
            NetEvent::ToProducer(id, _) => (5, *id),
            NetEvent::NodeGone(id) => (6, *id),
            NetEvent::ProducerGone(id, _) => (7, *id),
        };
        self.hash.number(self.now.as_nanos() ^ (tag << 56));
        self.hash.number(id);
        let Some(conn) = self.net.conns.get(&id) else { return };
        let client = conn.producer;
        if !matches!(event, NetEvent::ToNode(..) | NetEvent::NodeGone(_)) && self.is_frozen(client)
        {
            return self.thaw_later(client, Event::Net(event));
        }
        match event {
            NetEvent::Established(id) => self.on_established(id),
            NetEvent::ConnectFailed(id, cause) => self.on_connect_failed(id, cause),
            NetEvent::Write(id) => self.on_write(id),
            NetEvent::ToNode(id, bytes) => self.on_bytes_to_node(id, &bytes),
            NetEvent::ToProducer(id, bytes) => self.on_bytes_to_producer(id, &bytes),
            NetEvent::NodeGone(id) => self.on_node_gone(id),
            NetEvent::ProducerGone(id, cause) => self.on_producer_gone(id, cause),
        }
        self.take_scheduled();
    }

    fn on_established(&mut self, id: u64) {
        let Some(conn) = self.net.conns.get(&id).filter(|conn| conn.producer_open) else { return };
        let (client, core, node) = (conn.producer, conn.core, conn.node);
        if !self.cluster.is_running(node) {
            return self.on_connect_failed(id, "connection refused");
        }
        self.net.established(id);
        self.accept(id);
        self.feed(client, Input::Connected { conn: core });
    }

    fn on_connect_failed(&mut self, id: u64, cause: &str) {
        let Some(conn) = self.net.conns.get_mut(&id).filter(|conn| conn.producer_open) else {
            return;
        };
        conn.producer_open = false;
        let (client, core, node) = (conn.producer, conn.core, conn.node);
        self.lost(client, core, id, node);
        self.feed(client, Input::ConnectFailed { conn: core, cause: cause.into() });
    }

    fn lost(&mut self, client: u16, core: sordini_core::connection::ConnId, id: u64, node: i32) {
        self.clients[usize::from(client)].forget(core, id);
        self.net.forget_if_over(id);
        let happening = Happening::ConnectionLost { producer: client, node };
        self.evidence.happenings.push((self.now, happening));
    }

    fn on_write(&mut self, id: u64) {
        let Some(took) = self.net.write(self.now, id) else { return };
        let Some(conn) = self.net.conns.get(&id) else { return };
        let (client, core) = (conn.producer, conn.core);
        self.feed(client, Input::Transmitted { conn: core, through: took.through });
        if took.broke {
            self.on_producer_gone(id, "reset while writing");
        }
    }

    fn on_producer_gone(&mut self, id: u64, cause: &str) {
        let Some(conn) = self.net.conns.get_mut(&id).filter(|conn| conn.producer_open) else {
            return;
        };
        conn.producer_open = false;
        let (client, core, node) = (conn.producer, conn.core, conn.node);
        self.lost(client, core, id, node);
        self.feed(client, Input::Disconnected { conn: core, cause: cause.into() });
    }

    fn on_node_gone(&mut self, id: u64) {
        let Some(conn) = self.net.conns.get_mut(&id).filter(|conn| conn.node_open) else { return };
        conn.node_open = false;
        let node = conn.node;
        self.net.forget_if_over(id);
        self.cluster.disconnected(node, ConnectionId(id));
        self.drain_cluster();
    }

    fn on_bytes_to_producer(&mut self, id: u64, bytes: &Bytes) {
        let Some(conn) = self.net.conns.get(&id).filter(|conn| conn.producer_open) else { return };
        let (client, core) = (conn.producer, conn.core);
        self.hash.bytes(bytes);
        let it = &mut self.clients[usize::from(client)];
        let answers = it.monitor.answers();
        let answered = it.monitor.receive(self.now, id, bytes);
        (answers..it.monitor.answers()).for_each(|_| it.pace.give(self.now));
        for answer in answered {
            self.coverage.code(answer.code);
            self.tell_answer(client, &answer);
            let code = answer.code.code();
            if code != 0 {
                let happening = Happening::Refused {
                    producer: client,
                    tp: answer.tp,
                    code,
                    node: answer.node,
                    id: answer.id,
                    led: answer.led,
                };
                self.evidence.happenings.push((self.now, happening));
            }
        }
        self.feed(client, Input::Received { conn: core, bytes });
    }

    fn on_bytes_to_node(&mut self, id: u64, bytes: &Bytes) {
        let Some(conn) = self.net.conns.get_mut(&id).filter(|conn| conn.node_open) else { return };
        self.hash.bytes(bytes);
        conn.inbox.extend_from_slice(bytes);
        if !conn.producer_open && self.net.is_superseded(id) {
            self.coverage.late_deliveries += 1;
        }
        self.accept(id);
    }

    /// Tells the node of the connection and hands it the frames that are whole, unless it is
    /// paused.
    pub(super) fn accept(&mut self, id: u64) {
        loop {
            let Some(conn) = self.net.conns.get_mut(&id).filter(|conn| conn.node_open) else {
                return;
            };
            let node = conn.node;
            if self.paused.contains(&node) {
                return;
            }
            if !std::mem::replace(&mut conn.accepted, true) {
                self.cluster.connected(node, ConnectionId(id));
            }
            let Some(prefix) = conn.inbox.first_chunk::<4>() else { return };
            let size = usize::try_from(i32::from_be_bytes(*prefix)).unwrap_or(0);
            if conn.inbox.len() < size + 4 {
                return;
            }
            conn.inbox.advance(4);
            let frame = conn.inbox.split_to(size).freeze();
            let deed = self.deed(&frame);
            if let Some((number, Deed::KillBefore)) = deed {
                return self.do_deed(number, Deed::KillBefore, id, node);
            }
            let now = self.broker_now();
            self.cluster.handle_frame(now, node, ConnectionId(id), frame);
            self.drain_cluster();
            if let Some((number, deed)) = deed {
                self.do_deed(number, deed, id, node);
            }
        }
    }
}
