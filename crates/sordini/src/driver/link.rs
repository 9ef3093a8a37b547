//! One connection: connecting, then frames out and bytes in.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use sordini_core::config::Address;
use sordini_core::connection::ConnId;
use sordini_core::connection::produce::Frame;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::driver::connect::{SocketOptions, connect};
use crate::driver::wakers::{ConnWaker, ReadyList};

/// Slices of one write: a megabyte in segments of 16 KiB, far below the system's limit of 1024.
const SLICES: usize = 64;

/// What happened on a connection.
pub(super) enum Event {
    Up,
    ConnectFailed(Arc<str>),
    /// The network took bytes: how many since the beginning.
    Transmitted(u64),
    /// This many bytes are in the buffer.
    Received(usize),
    Down(Arc<str>),
}

type Connecting = Pin<Box<dyn Future<Output = Result<TcpStream, String>> + Send>>;

enum State {
    Connecting(Connecting),
    Up(TcpStream),
    Down,
}

/// Where a connection is to go.
pub(super) struct Attempt {
    pub(super) address: Address,
    /// How often in a row the address failed before.
    pub(super) failures: u32,
    /// Added to the cause if it fails again.
    pub(super) advice: Option<String>,
}

/// A connection as the driver holds it. Dropping it closes the socket.
pub(super) struct Link {
    state: State,
    outbox: Outbox,
    /// The system took less than it was offered; it says when it takes more.
    clogged: bool,
    /// Anything came from the peer.
    heard: bool,
    signal: Arc<ConnWaker>,
    waker: Waker,
}

impl Link {
    pub(super) fn connecting(
        conn: ConnId,
        attempt: Attempt,
        options: SocketOptions,
        ready: &Arc<ReadyList>,
    ) -> Self {
        let signal = ConnWaker::new(conn, ready);
        let waker = signal.waker();
        let connecting = async move {
            let Attempt { address, failures, advice } = attempt;
            let connected = connect(&address, failures, options).await;
            connected.map_err(|cause| cause + advice.as_deref().unwrap_or_default())
        };
        // The first look starts the attempt.
        waker.wake_by_ref();
        Self {
            state: State::Connecting(Box::pin(connecting)),
            outbox: Outbox::default(),
            clogged: false,
            heard: false,
            signal,
            waker,
        }
    }

    pub(super) fn queue(&mut self, frame: Frame) {
        self.outbox.frames.push_back(frame);
    }

    /// Writes what is queued, unless the system is known to take nothing: the position reached if
    /// it moved, and why the connection broke if it did.
    pub(super) fn write(&mut self) -> (Option<u64>, Option<Arc<str>>) {
        let State::Up(stream) = &self.state else { return (None, None) };
        if self.clogged {
            return (None, None);
        }
        let before = self.outbox.written;
        let result = self.outbox.write(stream);
        let moved = (self.outbox.written > before).then_some(self.outbox.written);
        match result {
            Ok(clogged) => {
                self.clogged = clogged;
                if clogged {
                    // The next look asks to be told.
                    self.waker.wake_by_ref();
                }
                (moved, None)
            }
            Err(error) => (moved, Some(format!("writing failed: {error}").into())),
        }
    }

    /// The next thing that happened; `None` once there is nothing more and a wake-up is arranged.
    pub(super) fn poll(&mut self, buffer: &mut [u8]) -> Option<Event> {
        self.signal.arm();
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        match &mut self.state {
            State::Down => None,
            State::Connecting(connecting) => match connecting.as_mut().poll(&mut cx) {
                Poll::Pending => None,
                Poll::Ready(Ok(stream)) => {
                    self.state = State::Up(stream);
                    Some(Event::Up)
                }
                Poll::Ready(Err(cause)) => {
                    self.state = State::Down;
                    Some(Event::ConnectFailed(cause.into()))
                }
            },
            State::Up(_) => self.poll_write(&mut cx).or_else(|| self.poll_read(&mut cx, buffer)),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Option<Event> {
        let State::Up(stream) = &self.state else { return None };
        if !self.clogged {
            return None;
        }
        match stream.poll_write_ready(cx) {
            Poll::Pending => return None,
            Poll::Ready(Ok(())) => self.clogged = false,
            Poll::Ready(Err(error)) => return Some(self.down(&format!("writing failed: {error}"))),
        }
        match self.write() {
            // What was written before it broke counts first; the next look finds it broken.
            (Some(through), _) => Some(Event::Transmitted(through)),
            (None, Some(cause)) => Some(self.down(&cause)),
            (None, None) => None,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Option<Event> {
        let State::Up(stream) = &mut self.state else { return None };
        let mut read = ReadBuf::new(buffer);
        // Of all ways to read this one knows that a short read has emptied the socket.
        match Pin::new(stream).poll_read(cx, &mut read) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => match read.filled().len() {
                0 if self.heard => Some(self.down("the peer closed it")),
                0 => Some(self.down(
                    "the peer closed it without a word, as a TLS or SASL listener does to a \
                     plaintext client",
                )),
                count => {
                    self.heard = true;
                    Some(Event::Received(count))
                }
            },
            Poll::Ready(Err(error)) => Some(self.down(&format!("reading failed: {error}"))),
        }
    }

    fn down(&mut self, cause: &str) -> Event {
        self.state = State::Down;
        Event::Down(cause.into())
    }
}

/// Frames to be written, in order.
#[derive(Debug, Default)]
struct Outbox {
    frames: VecDeque<Frame>,
    /// How much of the first frame is written.
    offset: usize,
    /// Bytes written since the beginning.
    written: u64,
}

impl Outbox {
    /// Writes until nothing is left, or the system takes no more: then true.
    fn write(&mut self, stream: &TcpStream) -> io::Result<bool> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.fill(&mut slices);
            match stream.try_write_vectored(&slices[..filled]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let mut skip = self.offset;
        let parts = self.frames.iter().flat_map(Frame::slices);
        let unwritten = parts.filter_map(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            Some(&part[skipped..]).filter(|rest| !rest.is_empty())
        });
        slices.iter_mut().zip(unwritten).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    /// Notes that `count` bytes were written, and lets go of frames that are done.
    fn advance(&mut self, count: usize) {
        self.written += count as u64;
        self.offset += count;
        while let Some(first) = self.frames.front()
            && self.offset >= first.len()
        {
            self.offset -= first.len();
            self.frames.pop_front();
        }
    }
}
