//! What the machine asks, of whom, and when.

use sordini_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use sordini_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use sordini_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use sordini_protocol::{Request, Uuid};

use super::{Ask, FetchError, LinkId, Machine, Millis, Output};
use crate::fetch::link::Link;
use crate::fetch::partition::Need;
use crate::fetch::settings::Address;
use crate::fetch::wire;

impl Machine {
    /// Asks for metadata where it is wanted, over any connection that is free.
    pub(super) fn refresh_metadata(&mut self, now: Millis) {
        if now >= self.refresh.due {
            self.refresh.wanted = true;
            self.refresh.due = Millis::MAX;
        }
        let refresh = &self.refresh;
        if !refresh.wanted || refresh.asked || now < refresh.retry.not_before {
            return;
        }
        let free = self.links.iter().find(|(_, link)| link.idle(now).is_some()).map(|(id, _)| *id);
        if let Some(id) = free {
            let topic = Some(self.plan.topic.clone());
            let request = MetadataRequest {
                topics: Some(vec![MetadataRequestTopic { topic_id: Uuid::ZERO, name: topic }]),
                allow_auto_topic_creation: false,
                ..MetadataRequest::default()
            };
            let deadline = now + self.settings.request_timeout_ms();
            // Below 4 a request can't forbid that the topic is created.
            self.refresh.asked = self.send(now, id, &request, (4, 13), Ask::Metadata, deadline);
        } else if self.links.is_empty() || self.links.values().all(|link| link.pending().is_none())
        {
            let opening = self.links.values().any(Link::is_opening);
            if let Some(address) = self.next_address(now).filter(|_| !opening) {
                let node = self.brokers.iter().find(|(_, known)| **known == address);
                let node = node.map(|(id, _)| *id);
                self.open(now, address, node);
            }
        }
    }

    /// The next address to ask, those of `bootstrap.servers` first; none while all are pausing.
    fn next_address(&mut self, now: Millis) -> Option<Address> {
        let all: Vec<_> =
            self.settings.bootstrap.iter().chain(self.brokers.values()).cloned().collect();
        for _ in 0..all.len() {
            let address = &all[self.bootstrap_turn % all.len()];
            self.bootstrap_turn = self.bootstrap_turn.wrapping_add(1);
            if self.may_connect(now, address) {
                return Some(address.clone());
            }
        }
        None
    }

    fn may_connect(&self, now: Millis, address: &Address) -> bool {
        self.retries.get(address).is_none_or(|retry| retry.not_before <= now)
    }

    /// Asks each leader for what its partitions need.
    pub(super) fn serve_leaders(&mut self, now: Millis) {
        let mut leaders: Vec<i32> = self
            .partitions
            .values()
            .filter(|partition| !partition.asked && partition.not_before <= now)
            .filter(|partition| partition.need().is_some())
            .filter_map(|partition| partition.leader)
            .collect();
        leaders.sort_unstable();
        leaders.dedup();
        for node in leaders {
            match self.links.iter().find(|(_, link)| link.node == Some(node)) {
                Some((id, link)) if link.idle(now).is_some() => self.serve(now, *id, node),
                Some(_) => {}
                None => {
                    let address = self.brokers.get(&node).cloned();
                    if let Some(address) = address.filter(|to| self.may_connect(now, to)) {
                        self.open(now, address, Some(node));
                    }
                }
            }
        }
    }

    /// One request to `node`: offsets while any are needed, then records.
    fn serve(&mut self, now: Millis, id: LinkId, node: i32) {
        let ready = self.partitions.values().filter(|partition| {
            partition.leader == Some(node) && !partition.asked && partition.not_before <= now
        });
        let (mut offsets, mut records) = (Vec::new(), Vec::new());
        for partition in ready {
            match partition.need() {
                Some(Need::Offset(timestamp)) => offsets.push((partition.index, timestamp)),
                Some(Need::Records(offset)) => records.push((partition.index, offset)),
                None => {}
            }
        }
        if !offsets.is_empty() {
            self.ask_offsets(now, id, offsets);
        } else if !records.is_empty() {
            // A broker fills its answer in this order: each partition must come first at times.
            let first = self.turn % records.len();
            records.rotate_left(first);
            self.turn = self.turn.wrapping_add(1);
            self.ask_records(now, id, records);
        }
    }

    fn ask_offsets(&mut self, now: Millis, id: LinkId, asked: Vec<(i32, i64)>) {
        let partition = |(partition_index, timestamp): &(i32, i64)| ListOffsetsPartition {
            partition_index: *partition_index,
            timestamp: *timestamp,
            ..ListOffsetsPartition::default()
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.settings.isolation.code(),
            topics: vec![ListOffsetsTopic {
                name: self.plan.topic.clone(),
                partitions: asked.iter().map(partition).collect(),
            }],
            ..ListOffsetsRequest::default()
        };
        let deadline = now + self.settings.request_timeout_ms();
        // From 2 on the request has an isolation level; beyond 9 there is nothing for us.
        self.send_for(now, id, &request, (2, 9), Ask::Offsets(asked), deadline);
    }

    fn ask_records(&mut self, now: Millis, id: LinkId, asked: Vec<(i32, i64)>) {
        let partition_max_bytes = self.settings.partition_max_bytes;
        let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes,
            ..FetchPartition::default()
        };
        let partitions: Vec<_> = asked.iter().map(partition).collect();
        let wait = self.settings.fetch_max_wait;
        let mut request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: self.settings.fetch_max_bytes,
            isolation_level: self.settings.isolation.code(),
            // No session: each request names all that it wants.
            session_id: 0,
            session_epoch: -1,
            ..FetchRequest::default()
        };
        // From 13 on a topic is named by its id alone.
        let versions = if self.topic.id.is_zero() { (4, 12) } else { (4, 18) };
        let by_id = self
            .links
            .get(&id)
            .and_then(|link| link.idle(now))
            .and_then(|offered| offered.pick::<FetchRequest>(versions.0..=versions.1))
            .is_some_and(|version| version >= 13);
        let (topic, topic_id) = match by_id {
            true => (String::new(), self.topic.id),
            false => (self.plan.topic.clone(), Uuid::ZERO),
        };
        request.topics = vec![FetchTopic { topic, topic_id, partitions }];
        let deadline = now + self.settings.request_timeout_ms() + self.settings.fetch_max_wait_ms();
        self.send_for(now, id, &request, versions, Ask::Records(asked), deadline);
    }

    /// Sends a request about partitions, and marks them as asked about.
    fn send_for<R: Request>(
        &mut self,
        now: Millis,
        id: LinkId,
        request: &R,
        versions: (i16, i16),
        ask: Ask,
        deadline: Millis,
    ) {
        let (Ask::Offsets(asked) | Ask::Records(asked)) = &ask else { return };
        let asked = asked.clone();
        if self.send(now, id, request, versions, ask, deadline) {
            for (index, _) in asked {
                if let Some(partition) = self.partitions.get_mut(&index) {
                    partition.asked = true;
                }
            }
        }
    }

    /// Sends `request` over an idle link; false where it could not.
    fn send<R: Request>(
        &mut self,
        now: Millis,
        id: LinkId,
        request: &R,
        versions: (i16, i16),
        ask: Ask,
        deadline: Millis,
    ) -> bool {
        let Some(link) = self.links.get_mut(&id) else { return false };
        let Some(offered) = link.idle(now) else { return false };
        let Some(version) = offered.pick::<R>(versions.0..=versions.1) else {
            let (address, api) = (link.address.to_string(), R::KEY.name().to_owned());
            self.fail(FetchError::TooOld { address, api });
            return false;
        };
        let correlation = link.begin(ask, version, deadline);
        match wire::encode(request, version, correlation, &self.settings.client_id) {
            Ok(frame) => {
                self.outputs.push_back(Output::Send { link: id, frame });
                true
            }
            Err(error) => {
                self.close(now, id, &error.to_string());
                false
            }
        }
    }
}
