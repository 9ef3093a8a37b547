//! Produce requests, parsed off the wire.

use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;

use sordini_protocol::{ErrorCode, Uuid};

use crate::broker::{Broker, Partition};
use crate::input::Input;

/// The length of a batch's header.
const HEADER: usize = 61;

/// A response as it is written.
struct Output {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Output {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn count(&mut self, count: usize) {
        if !self.flexible {
            self.put(&(count as i32).to_be_bytes());
            return;
        }
        let mut rest = count + 1;
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            self.count(text.len());
        } else {
            self.put(&(text.len() as i16).to_be_bytes());
        }
        self.put(text.as_bytes());
    }

    fn tags(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }
}

/// The whole answer; `None` with acks=0.
pub(crate) fn answer(
    broker: &Broker,
    input: &mut Input,
    version: i16,
) -> io::Result<Option<Vec<u8>>> {
    let flexible = version >= 9;
    let correlation = input.i32()?;
    input.string(false)?; // client id
    if flexible {
        input.tags()?;
    }
    input.string(flexible)?; // transactional id
    let acks = input.i16()?;
    input.i32()?; // timeout
    let mut out = Output { bytes: Vec::with_capacity(256), flexible };
    out.put(&[0; 4]);
    out.put(&correlation.to_be_bytes());
    out.tags();
    let topics = input.count(flexible)?;
    out.count(topics);
    for _ in 0..topics {
        topic(broker, input, version, &mut out)?;
    }
    if flexible {
        input.tags()?;
    }
    out.put(&0i32.to_be_bytes()); // throttle
    out.tags();
    let length = out.bytes.len() as i32 - 4;
    out.bytes[..4].copy_from_slice(&length.to_be_bytes());
    broker.stats.produce_requests.fetch_add(1, Relaxed);
    Ok((acks != 0).then_some(out.bytes))
}

fn topic(broker: &Broker, input: &mut Input, version: i16, out: &mut Output) -> io::Result<()> {
    let flexible = out.flexible;
    let topic = if version >= 13 {
        let id = Uuid(input.take()?);
        out.put(&id.0);
        broker.topic_by_id(id)
    } else {
        let name = input.string(flexible)?.unwrap_or_default();
        out.string(&name);
        Some(broker.topic(&name))
    };
    let partitions = input.count(flexible)?;
    out.count(partitions);
    for _ in 0..partitions {
        let index = input.i32()?;
        let length = input.count(flexible)?;
        let partition = topic.as_ref().and_then(|topic| topic.partitions.get(index as usize));
        let (error, offset) = batch(broker, input, partition, length)?;
        if flexible {
            input.tags()?;
        }
        out.put(&index.to_be_bytes());
        out.put(&error.map_or(0, ErrorCode::code).to_be_bytes());
        out.put(&offset.to_be_bytes());
        out.put(&(-1i64).to_be_bytes()); // log append time
        if version >= 5 {
            out.put(&0i64.to_be_bytes()); // log start offset
        }
        if version >= 8 {
            out.count(0); // record errors
            out.put(if flexible { &[0] } else { &[0xff, 0xff] }); // no message
        }
        out.tags();
    }
    if flexible {
        input.tags()?;
    }
    out.tags();
    Ok(())
}

/// One batch: its error, and the offset that it got.
fn batch(
    broker: &Broker,
    input: &mut Input,
    partition: Option<&Partition>,
    length: usize,
) -> io::Result<(Option<ErrorCode>, i64)> {
    let stats = &broker.stats;
    let corrupt = (Some(ErrorCode::CorruptMessage), -1);
    if length < HEADER {
        input.skip(length)?;
        stats.bad_batches.fetch_add(1, Relaxed);
        return Ok(corrupt);
    }
    let mut header = [0; HEADER];
    header.copy_from_slice(input.peek(HEADER)?);
    let field = |at: usize| {
        i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let count = field(57);
    let sound = header[16] == 2 && field(8) as usize == length - 12 && field(23) == count - 1;
    if !sound || count < 1 {
        input.skip(length)?;
        stats.bad_batches.fetch_add(1, Relaxed);
        return Ok(corrupt);
    }
    if broker.verify && crc32c::crc32c(&input.peek(length)?[21..]) as i32 != field(17) {
        input.skip(length)?;
        stats.crc_errors.fetch_add(1, Relaxed);
        return Ok(corrupt);
    }
    input.skip(length)?;
    let Some(partition) = partition else {
        return Ok((Some(ErrorCode::UnknownTopicOrPartition), -1));
    };
    let mut id = [0; 8];
    id.copy_from_slice(&header[43..51]);
    let producer = (i64::from_be_bytes(id), i16::from_be_bytes([header[51], header[52]]));
    if producer.0 >= 0 {
        let mut known = partition.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = if known.producer == producer { known.next } else { 0 };
        if field(53) != expected {
            stats.seq_errors.fetch_add(1, Relaxed);
        }
        known.producer = producer;
        known.next = ((i64::from(field(53)) + i64::from(count)) % (1 << 31)) as i32;
    }
    stats.batches.fetch_add(1, Relaxed);
    stats.records.fetch_add(count as u64, Relaxed);
    stats.batch_bytes.fetch_add(length as u64, Relaxed);
    Ok((None, partition.next_offset.fetch_add(i64::from(count), Relaxed)))
}
