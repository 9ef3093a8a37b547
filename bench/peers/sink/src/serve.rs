//! Connections: one thread each, and one more that writes the answers where those are late.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Instant;

use rustix::thread::set_current_timer_slack;

use crate::broker::Broker;
use crate::input::Input;
use crate::{control, produce};

/// A request of more bytes than this is none.
const MOST: i32 = 1 << 30;

/// Nanoseconds by which the system may let a late answer be later.
const SLACK: Option<NonZeroU64> = NonZeroU64::new(1000);

pub(crate) fn accept(broker: &Arc<Broker>, listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        let broker = Arc::clone(broker);
        thread::spawn(move || {
            let ended = serve(&broker, stream);
            let error = ended.err().filter(|error| error.kind() != io::ErrorKind::UnexpectedEof);
            if let Some(error) = error {
                eprintln!("connection: {error}");
            }
        });
    }
}

fn serve(broker: &Broker, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    broker.stats.connections.fetch_add(1, Relaxed);
    let mut answers = Answers::new(broker, &stream)?;
    let mut input = Input::new(stream);
    loop {
        let length = input.i32()?;
        if !(8..=MOST).contains(&length) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        broker.stats.requests.fetch_add(1, Relaxed);
        broker.stats.wire_bytes.fetch_add(length as u64 + 4, Relaxed);
        let head = input.peek(4)?;
        let (key, version) =
            (i16::from_be_bytes([head[0], head[1]]), i16::from_be_bytes([head[2], head[3]]));
        let answer = if key == 0 {
            input.skip(4)?;
            if !(3..=broker.produce_max).contains(&version) {
                return Err(io::Error::other(format!("Produce v{version} is not offered")));
            }
            produce::answer(broker, &mut input, version)?
        } else {
            Some(control::answer(broker, input.bytes(length as usize)?)?)
        };
        if let Some(answer) = answer {
            answers.send(broker, answer)?;
        }
    }
}

enum Answers {
    AtOnce(TcpStream),
    /// In order, each so long after its request.
    Late(Sender<(Instant, Vec<u8>)>),
}

impl Answers {
    fn new(broker: &Broker, stream: &TcpStream) -> io::Result<Self> {
        let mut stream = stream.try_clone()?;
        if broker.latency.is_zero() {
            return Ok(Self::AtOnce(stream));
        }
        let (sender, answers) = mpsc::channel::<(Instant, Vec<u8>)>();
        thread::spawn(move || {
            let _ = set_current_timer_slack(SLACK);
            for (due, answer) in answers {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        });
        Ok(Self::Late(sender))
    }

    fn send(&mut self, broker: &Broker, answer: Vec<u8>) -> io::Result<()> {
        match self {
            Self::AtOnce(stream) => stream.write_all(&answer),
            Self::Late(sender) => sender
                .send((Instant::now() + broker.latency, answer))
                .map_err(|_| io::ErrorKind::BrokenPipe.into()),
        }
    }
}
