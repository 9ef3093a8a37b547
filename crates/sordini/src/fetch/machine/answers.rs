//! What the machine makes of answers.

use bytes::Bytes;
use sordini_protocol::ErrorCode;
use sordini_protocol::messages::fetch::{FetchRequest, FetchResponse, PartitionData};
use sordini_protocol::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
};
use sordini_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};

use super::{Ask, FetchError, LinkId, Machine, Millis, Output, Start};
use crate::fetch::batches::{self, VisibleBatch};
use crate::fetch::partition::Partition;
use crate::fetch::settings::{Address, Isolation};
use crate::fetch::wire::{self, WireError};

/// No broker's throttling is obeyed for longer than this.
const THROTTLE_MAX: Millis = 60_000;

impl Machine {
    pub(super) fn on_answer(
        &mut self,
        now: Millis,
        id: LinkId,
        ask: &Ask,
        version: i16,
        correlation: i32,
        frame: Bytes,
    ) -> Result<(), WireError> {
        let throttle = match ask {
            Ask::Metadata => {
                let answer = wire::decode::<MetadataRequest>(frame, version, correlation)?;
                let throttle = answer.throttle_time_ms;
                self.told_by = self.links.get(&id).map(|link| link.address.clone());
                self.on_metadata(now, answer)?;
                throttle
            }
            Ask::Offsets(asked) => {
                let answer = wire::decode::<ListOffsetsRequest>(frame, version, correlation)?;
                let throttle = answer.throttle_time_ms;
                self.on_offsets(now, asked, answer);
                throttle
            }
            Ask::Records(asked) => {
                let answer = wire::decode::<FetchRequest>(frame, version, correlation)?;
                let throttle = answer.throttle_time_ms;
                self.on_records(now, asked, answer)?;
                throttle
            }
        };
        if let (Some(link), Ok(pause @ 1..)) = (self.links.get_mut(&id), Millis::try_from(throttle))
        {
            link.muted_until = now + pause.min(THROTTLE_MAX);
        }
        Ok(())
    }

    fn on_metadata(&mut self, now: Millis, answer: MetadataResponse) -> Result<(), WireError> {
        self.refresh.asked = false;
        self.refresh.wanted = false;
        if answer.error_code != 0 {
            let code = ErrorCode::from_code(answer.error_code);
            return Err(WireError(format!("Metadata was answered with {}", code.name())));
        }
        let brokers = answer.brokers.into_iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok().filter(|port| *port > 0)?;
            Some((broker.node_id, Address::new(broker.host, port)))
        });
        self.brokers = brokers.collect();
        for link in self.links.values_mut() {
            let known = self.brokers.iter().find(|(_, address)| **address == link.address);
            link.node = known.map(|(node, _)| *node);
        }
        let mut topics = answer.topics.into_iter();
        match topics.find(|topic| topic.name.as_deref() == Some(self.plan.topic.as_str())) {
            Some(topic) => self.on_topic(now, topic),
            None => return Err(WireError("Metadata says nothing about the topic".into())),
        }
        Ok(())
    }

    fn on_topic(&mut self, now: Millis, topic: MetadataResponseTopic) {
        let code = ErrorCode::from_code(topic.error_code);
        match code {
            ErrorCode::None => {}
            ErrorCode::UnknownTopicOrPartition => {
                self.topic.known = false;
                self.topic.unknown_since.get_or_insert(now);
                return self.want_metadata(now);
            }
            _ if code.is_retriable() => {
                let trouble = format!("topic {:?}: {}", self.plan.topic, code.name());
                self.note_trouble(trouble);
                return self.want_metadata(now);
            }
            _ => {
                let what = format!("metadata of topic {:?}", self.plan.topic);
                return self.fail(FetchError::Refused { what, code, message: None });
            }
        }
        let remade = !self.topic.id.is_zero() && topic.topic_id != self.topic.id;
        if remade && !topic.topic_id.is_zero() {
            return self.fail(FetchError::TopicRemade { topic: self.plan.topic.clone() });
        }
        self.topic.id = topic.topic_id;
        self.topic.unknown_since = None;
        self.refresh.due = now + self.settings.metadata_max_age_ms();
        if self.take_partitions(now, topic.partitions) {
            self.refresh.retry.failures = 0;
        } else {
            self.want_metadata(now);
        }
    }

    /// Takes over leaders; true where each partition that is read has one.
    fn take_partitions(&mut self, now: Millis, found: Vec<MetadataResponsePartition>) -> bool {
        let first_time = !self.topic.known && self.partitions.is_empty();
        if let Some(wanted) = self.plan.partition
            && !found.iter().any(|one| one.partition_index == wanted)
        {
            let (topic, count) = (self.plan.topic.clone(), found.len());
            self.fail(FetchError::UnknownPartition { topic, partition: wanted, count });
            return true;
        }
        self.topic.known = true;
        let plan = &self.plan;
        let mut complete = true;
        for one in found {
            let index = one.partition_index;
            if plan.partition.is_some_and(|wanted| wanted != index) {
                continue;
            }
            let known = self.partitions.contains_key(&index);
            // A partition that was added later is read whole, unless reading stops at the ends as
            // they were.
            if !known && !first_time && plan.stop_at_end {
                continue;
            }
            let start = if first_time { plan.start } else { Start::Earliest };
            let partition = self
                .partitions
                .entry(index)
                .or_insert_with(|| Partition::new(index, start, plan.stop_at_end, now));
            partition.leader = Some(one.leader_id).filter(|node| self.brokers.contains_key(node));
            if partition.leader.is_none() {
                complete = false;
                let code = ErrorCode::from_code(one.error_code);
                partition.trouble = Some(format!("it has no leader ({})", code.name()));
            }
        }
        complete
    }

    fn on_offsets(&mut self, now: Millis, asked: &[(i32, i64)], answer: ListOffsetsResponse) {
        let mut found: Vec<ListOffsetsPartitionResponse> = Vec::new();
        for topic in answer.topics.into_iter().filter(|topic| topic.name == self.plan.topic) {
            found.extend(topic.partitions);
        }
        for (index, timestamp) in asked {
            let one = found.iter().find(|one| one.partition_index == *index);
            let code = one.map(|one| ErrorCode::from_code(one.error_code));
            let Some(partition) = self.partitions.get_mut(index) else { continue };
            partition.asked = false;
            match (code, one) {
                (Some(ErrorCode::None), Some(one)) if one.offset >= 0 => {
                    partition.on_good(now);
                    if let Some(notice) = partition.on_offset(*timestamp, one.offset) {
                        self.outputs.push_back(Output::Notice(notice));
                    }
                    self.trouble = None;
                }
                (Some(ErrorCode::None), _) => {
                    self.on_partition_error(now, *index, None, "the broker knows no offset");
                }
                (Some(code), _) => self.on_partition_error(now, *index, Some(code), "ListOffsets"),
                (None, _) => {
                    self.on_partition_error(now, *index, None, "ListOffsets left it out");
                }
            }
        }
    }

    fn on_records(
        &mut self,
        now: Millis,
        asked: &[(i32, i64)],
        answer: FetchResponse,
    ) -> Result<(), WireError> {
        if answer.error_code != 0 {
            let code = ErrorCode::from_code(answer.error_code);
            return Err(WireError(format!("Fetch was answered with {}", code.name())));
        }
        let mut found: Vec<PartitionData> = Vec::new();
        for topic in answer.responses {
            found.extend(topic.partitions);
        }
        for (index, offset) in asked {
            if let Some(partition) = self.partitions.get_mut(index) {
                partition.asked = false;
            }
            let place = found.iter().position(|one| one.partition_index == *index);
            match place.map(|at| found.swap_remove(at)) {
                Some(data) => self.on_partition_data(now, *offset, data),
                None => self.on_partition_error(now, *index, None, "Fetch left it out"),
            }
        }
        Ok(())
    }

    fn on_partition_data(&mut self, now: Millis, offset: i64, data: PartitionData) {
        let index = data.partition_index;
        let code = ErrorCode::from_code(data.error_code);
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        match code {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => {
                partition.on_good(now);
                return partition.on_out_of_range();
            }
            _ => return self.on_partition_error(now, index, Some(code), "Fetch"),
        }
        let aborted = match self.settings.isolation {
            Isolation::ReadCommitted => data.aborted_transactions.unwrap_or_default(),
            Isolation::ReadUncommitted => Vec::new(),
        };
        let records = data.records.unwrap_or_default();
        let end = partition.end();
        match batches::scan(&records, offset, end, aborted) {
            Ok(scan) => {
                partition.on_good(now);
                partition.on_records(scan.next);
                self.trouble = None;
                let visible = scan.visible.into_iter();
                self.outputs.extend(visible.map(|span| {
                    Output::Batch(VisibleBatch { partition: index, from: offset, end, span })
                }));
            }
            Err(error) => {
                let (topic, offset) = (self.plan.topic.clone(), error.offset);
                let cause = error.cause;
                self.fail(FetchError::Corrupt { topic, partition: index, offset, cause });
            }
        }
    }

    /// A partition could not be served: it is tried again, or that ends reading.
    fn on_partition_error(&mut self, now: Millis, index: i32, code: Option<ErrorCode>, what: &str) {
        let name = format!("{}-{index}", self.plan.topic);
        if let Some(code) = code
            && !tried_again(code)
        {
            let what = format!("{what} of {name}");
            return self.fail(FetchError::Refused { what, code, message: None });
        }
        let cause = match code {
            Some(code) => format!("{name}: {what} was answered with {}", code.name()),
            None => format!("{name}: {what}"),
        };
        let settings = self.settings.clone();
        if let Some(partition) = self.partitions.get_mut(&index) {
            partition.on_failure(now, cause, |failures| settings.pause(failures));
        }
        self.want_metadata(now);
    }
}

/// Does a new leader, or time, heal it? An unknown partition or topic id is what a broker answers
/// that has not heard of it yet, or no more; metadata tells which.
fn tried_again(code: ErrorCode) -> bool {
    code.is_retriable()
        || matches!(
            code,
            ErrorCode::UnknownServerError
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::InconsistentTopicId
        )
}
