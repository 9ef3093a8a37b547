//! A buffered reader over the socket that can drop bytes without copying them to user space.

use std::io::{self, Read};
use std::net::TcpStream;

use rustix::net::{RecvFlags, recv};

/// Fewer bytes than this are read and passed over.
const WORTH_DROPPING: usize = 8192;

/// How much is dropped by one call.
const DROP: usize = 1 << 20;

pub(crate) struct Input {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Never written to: it says how much to drop.
    dropped: Vec<u8>,
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

impl Input {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let (buffer, dropped) = (vec![0; 128 << 10], vec![0; DROP]);
        Self { stream, buffer, start: 0, end: 0, dropped }
    }

    /// The next `count` bytes, which stay.
    pub(crate) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.end - self.start < count {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.buffer.len() < count {
                self.buffer.resize(count.next_power_of_two(), 0);
            }
        }
        while self.end - self.start < count {
            match self.stream.read(&mut self.buffer[self.end..])? {
                0 => return Err(ended()),
                read => self.end += read,
            }
        }
        Ok(&self.buffer[self.start..self.start + count])
    }

    pub(crate) fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let bytes = self.peek(N)?.first_chunk().copied().ok_or_else(ended)?;
        self.start += N;
        Ok(bytes)
    }

    pub(crate) fn i16(&mut self) -> io::Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> io::Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn uvarint(&mut self) -> io::Result<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    pub(crate) fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let bytes = self.peek(count)?.to_vec();
        self.start += count;
        Ok(bytes)
    }

    pub(crate) fn tags(&mut self) -> io::Result<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let count = self.uvarint()? as usize;
            self.skip(count)?;
        }
        Ok(())
    }

    /// A nullable string, compact or classic.
    pub(crate) fn string(&mut self, compact: bool) -> io::Result<Option<String>> {
        let count = if compact { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i16()?) };
        let Ok(count) = usize::try_from(count) else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(&self.bytes(count)?).into_owned()))
    }

    /// The length of an array, or of bytes; 0 for null.
    pub(crate) fn count(&mut self, compact: bool) -> io::Result<usize> {
        let count = if compact { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        Ok(usize::try_from(count).unwrap_or_default())
    }

    pub(crate) fn skip(&mut self, mut count: usize) -> io::Result<()> {
        let here = (self.end - self.start).min(count);
        self.start += here;
        count -= here;
        while count > 0 {
            if count < WORTH_DROPPING {
                self.peek(count)?;
                self.start += count;
                return Ok(());
            }
            // On a TCP socket MSG_TRUNC drops the bytes without a copy.
            let most = count.min(DROP);
            match recv(&self.stream, &mut self.dropped[..most], RecvFlags::TRUNC) {
                Ok((_, 0)) => return Err(ended()),
                Ok((_, dropped)) => count -= dropped,
                Err(error) if error == rustix::io::Errno::INTR => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
