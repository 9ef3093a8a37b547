//! Record batches as a script wants them, sound or damaged in one named way, encoded from the
//! format alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time that a record claims.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stamp {
    Now,
    /// No timestamp: -1.
    None,
    Ago(Duration),
    Ahead(Duration),
}

impl Stamp {
    fn ms(self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let ms = |time: Duration| i64::try_from(time.as_millis()).expect("a time of this age");
        match self {
            Self::Now => ms(now),
            Self::None => -1,
            Self::Ago(by) => ms(now) - ms(by),
            Self::Ahead(by) => ms(now) + ms(by),
        }
    }
}

/// What is wrong with a batch. The checksum is right unless it is the damage.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Damage {
    Checksum,
    Magic(u8),
    BaseOffset(i64),
    /// Added to the length that the batch states.
    Length(i32),
    Count(i32),
    LastOffsetDelta(i32),
    /// Added to the offset delta of the last record.
    RecordDelta(i64),
    /// Added to the length that the last record states.
    RecordLength(i64),
    /// Bytes cut off at the end, the length unchanged.
    Cut(usize),
    /// Bytes behind the batch.
    Trailing(usize),
    /// Bytes behind the last record, inside the batch.
    Inside(usize),
    /// The whole batch twice.
    Twice,
    /// A body that the stated codec can't have made.
    Garbage,
    MaxTimestamp(i64),
}

/// Where a batch's producer id comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Id {
    /// The n-th that this script was given; asked for when first used.
    Own(usize),
    Fixed(i64),
}

#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) id: Id,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
    pub(crate) records: usize,
    pub(crate) value_len: usize,
    pub(crate) keyed: bool,
    pub(crate) attributes: i16,
    pub(crate) stamp: Stamp,
    pub(crate) damage: Option<Damage>,
}

impl Batch {
    /// A batch without a producer id.
    pub(crate) fn plain(records: usize) -> Self {
        Self {
            id: Id::Fixed(-1),
            epoch: -1,
            sequence: -1,
            records,
            value_len: 10,
            keyed: false,
            attributes: 0,
            stamp: Stamp::Now,
            damage: None,
        }
    }

    /// A batch of the script's first producer.
    pub(crate) fn of(epoch: i16, sequence: i32, records: usize) -> Self {
        Self { id: Id::Own(0), epoch, sequence, ..Self::plain(records) }
    }

    pub(crate) fn by(self, id: Id) -> Self {
        Self { id, ..self }
    }

    pub(crate) fn damaged(self, damage: Damage) -> Self {
        Self { damage: Some(damage), ..self }
    }

    pub(crate) fn attributes(self, attributes: i16) -> Self {
        Self { attributes, ..self }
    }

    pub(crate) fn keyed(self) -> Self {
        Self { keyed: true, ..self }
    }

    pub(crate) fn values(self, value_len: usize) -> Self {
        Self { value_len, ..self }
    }

    pub(crate) fn stamped(self, stamp: Stamp) -> Self {
        Self { stamp, ..self }
    }

    /// The bytes, under the producer id that was given.
    pub(crate) fn encode(&self, id: i64) -> Vec<u8> {
        let stamp = self.stamp.ms();
        let body = match self.damage {
            Some(Damage::Garbage) => vec![0xA5; 40],
            _ => self.body(),
        };
        let count = i32::try_from(self.records).expect("few records");
        let length = i32::try_from(49 + body.len()).expect("a small batch");
        let mut out = match self.damage {
            Some(Damage::BaseOffset(offset)) => offset,
            _ => 0i64,
        }
        .to_be_bytes()
        .to_vec();
        let wrong = if let Some(Damage::Length(by)) = self.damage { by } else { 0 };
        out.extend_from_slice(&(length + wrong).to_be_bytes());
        out.extend_from_slice(&(-1i32).to_be_bytes());
        out.push(if let Some(Damage::Magic(magic)) = self.damage { magic } else { 2 });
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.attributes.to_be_bytes());
        let delta =
            if let Some(Damage::LastOffsetDelta(it)) = self.damage { it } else { count - 1 };
        out.extend_from_slice(&delta.to_be_bytes());
        out.extend_from_slice(&stamp.to_be_bytes());
        let max = if let Some(Damage::MaxTimestamp(max)) = self.damage { max } else { stamp };
        out.extend_from_slice(&max.to_be_bytes());
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        let stated = if let Some(Damage::Count(count)) = self.damage { count } else { count };
        out.extend_from_slice(&stated.to_be_bytes());
        out.extend_from_slice(&body);
        self.finish(out)
    }

    fn finish(&self, mut out: Vec<u8>) -> Vec<u8> {
        let mut crc = crc32c::crc32c(&out[21..]);
        if let Some(Damage::Checksum) = self.damage {
            crc ^= 1;
        }
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        match self.damage {
            Some(Damage::Cut(bytes)) => out.truncate(out.len() - bytes),
            Some(Damage::Trailing(bytes)) => out.resize(out.len() + bytes, 0),
            Some(Damage::Twice) => out.extend_from_within(..),
            _ => {}
        }
        out
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for index in 0..self.records {
            let last = index + 1 == self.records;
            let (mut delta, mut longer) = (index as i64, 0);
            match self.damage {
                Some(Damage::RecordDelta(by)) if last => delta += by,
                Some(Damage::RecordLength(by)) if last => longer = by,
                _ => {}
            }
            let mut record = vec![0];
            put_varint(&mut record, 0);
            put_varint(&mut record, delta);
            if self.keyed {
                put_bytes(&mut record, b"key");
            } else {
                put_varint(&mut record, -1);
            }
            put_bytes(&mut record, &vec![b'v'; self.value_len]);
            put_varint(&mut record, 0);
            put_varint(&mut body, record.len() as i64 + longer);
            body.extend_from_slice(&record);
        }
        if let Some(Damage::Inside(bytes)) = self.damage {
            body.resize(body.len() + bytes, 0);
        }
        body
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push((zigzag & 0x7f) as u8);
}
