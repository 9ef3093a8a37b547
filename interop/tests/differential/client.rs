//! One connection to a broker, one request at a time.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sordini_protocol::{Reader, Request, frame};

/// Longer than any answer takes: what does not come by then was never sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The broker closed the connection instead.
    Closed,
    /// Nothing came.
    Forgotten,
}

pub(crate) struct Client {
    address: String,
    stream: Option<TcpStream>,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned(), stream: None, correlation_id: 0 }
    }

    pub(crate) fn ask<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<R::Response, Unanswered> {
        self.send(request, version);
        self.receive::<R>(version).map_err(|error| {
            self.stream = None;
            match error.kind() {
                io::ErrorKind::WouldBlock => Unanswered::Forgotten,
                _ => Unanswered::Closed,
            }
        })
    }

    /// Sends what gets no answer.
    pub(crate) fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.correlation_id += 1;
        let mut out = Vec::new();
        frame::put_request(&mut out, request, version, self.correlation_id, Some("differential"))
            .unwrap_or_else(|error| panic!("{error}: {request:?}"));
        let address = &self.address;
        let stream = self.stream.get_or_insert_with(|| {
            let stream = TcpStream::connect(address).expect("the broker listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.set_nodelay(true).expect("no delay");
            stream
        });
        // A connection that is closed already shows when the answer is read.
        let _ = stream.write_all(&out);
    }

    fn receive<R: Request>(&mut self, version: i16) -> io::Result<R::Response> {
        let stream = self.stream.as_mut().expect("a request was sent");
        let mut prefix = [0; 4];
        stream.read_exact(&mut prefix)?;
        let size = frame::size(prefix, 1 << 26).expect("a sound frame");
        let mut bytes = vec![0; size];
        stream.read_exact(&mut bytes)?;
        let (header, mut reader): (_, Reader) =
            frame::response_header::<R>(bytes.into(), version).expect("a response header");
        assert_eq!(header.correlation_id, self.correlation_id);
        let response = sordini_protocol::Message::decode(&mut reader, version);
        Ok(response.unwrap_or_else(|error| panic!("{}: {error}", R::KEY.name())))
    }
}
