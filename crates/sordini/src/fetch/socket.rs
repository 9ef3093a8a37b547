//! Sockets: connecting, and whole frames in and out.

use std::io;

use bytes::Bytes;
use tokio::net::{TcpStream, lookup_host};

use super::settings::Address;
use super::wire;

/// How much a frame's memory grows at a time, in bytes: a length alone costs no more than this.
const GROWTH: usize = 1 << 20;

/// Connects to the first of the host's addresses that answers.
///
/// # Errors
/// Why none did, for a person.
pub(super) async fn connect(address: &Address) -> Result<TcpStream, String> {
    let found = lookup_host((address.host.as_str(), address.port)).await;
    let found: Vec<_> = match found {
        Ok(found) => found.collect(),
        Err(error) => return Err(format!("the host {} can't be resolved: {error}", address.host)),
    };
    let mut last = format!("the host {} has no address", address.host);
    for socket_address in found {
        match TcpStream::connect(socket_address).await {
            Ok(stream) => {
                // Requests are small and waited for.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

/// Writes all of `bytes`.
///
/// # Cancellation
/// Not safe: part of the bytes may be written.
pub(super) async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What it looks like when a listener that wants TLS or SASL hears plaintext.
const WITHOUT_A_WORD: &str = "the peer closed it without a word, as a TLS or SASL listener does \
                              to a plaintext client";

/// Reads the first frame of a connection, as [`read_frame`].
pub(super) async fn read_first_frame(stream: &TcpStream) -> Result<Bytes, String> {
    read(stream, WITHOUT_A_WORD).await
}

/// Reads one frame, without its length.
///
/// # Errors
/// Why there is none, for a person.
///
/// # Cancellation
/// Not safe: part of a frame may be read and lost.
pub(super) async fn read_frame(stream: &TcpStream) -> Result<Bytes, String> {
    read(stream, CLOSED).await
}

const CLOSED: &str = "the broker closed it";

/// `silence`: what to say of a stream that ends before its first byte.
async fn read(stream: &TcpStream, silence: &str) -> Result<Bytes, String> {
    let mut length = [0; 4];
    read_exact(stream, &mut length[..1], silence).await?;
    read_exact(stream, &mut length[1..], CLOSED).await?;
    let length = wire::check_length(length)?;
    let mut frame = Vec::new();
    while frame.len() < length {
        let filled = frame.len();
        frame.resize((filled + GROWTH).min(length), 0);
        read_exact(stream, &mut frame[filled..], CLOSED).await?;
    }
    Ok(Bytes::from(frame))
}

async fn read_exact(
    stream: &TcpStream,
    mut into: &mut [u8],
    at_the_end: &str,
) -> Result<(), String> {
    while !into.is_empty() {
        stream.readable().await.map_err(|error| error.to_string())?;
        match stream.try_read(into) {
            Ok(0) => return Err(at_the_end.into()),
            Ok(count) => into = &mut into[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}
