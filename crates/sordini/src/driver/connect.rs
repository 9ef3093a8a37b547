//! From a host name to a connected socket: every address is tried.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use sordini_core::config::Address;
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::sleep;

/// An attempt that has not ended after this long gets company from the next address (RFC 8305,
/// section 5): one address behind a silent firewall does not use up the setup timeout.
const HEAD_START: Duration = Duration::from_millis(250);

/// Probes begin after a minute of silence: well before the idle limit of the load balancers that
/// drop connections without a word (four minutes is the shortest that is common).
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(10));

/// `send.buffer.bytes` and `receive.buffer.bytes`; `None` leaves the system's choice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOptions {
    pub(crate) send_buffer: Option<usize>,
    pub(crate) receive_buffer: Option<usize>,
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Resolves the host and connects to the first of its addresses that answers; `failures` in a row
/// begin at another of them each time.
///
/// The error names every address that was tried and what it answered. There is no time limit
/// here; the caller has one for the whole bring-up of a connection.
pub(crate) async fn connect(
    address: &Address,
    failures: u32,
    options: SocketOptions,
) -> Result<TcpStream, String> {
    let host = address.host.as_str();
    let addresses: Vec<SocketAddr> = match lookup_host((host, address.port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            return Err(format!("the host name {host:?} can't be resolved ({error})"));
        }
    };
    if addresses.is_empty() {
        return Err(format!("the host name {host:?} has no address"));
    }
    let mut addresses = interleaved(addresses);
    // An address that accepts connections and then fails them does not keep the others from
    // being tried.
    let first = failures as usize % addresses.len();
    addresses.rotate_left(first);
    let failed = race(addresses, options).await;
    // The error goes behind the address as it was given.
    failed.map_err(|why| match why.strip_prefix(&format!("{address}: ")) {
        Some(alone) if !why.contains("; ") => alone.to_owned(),
        _ => why,
    })
}

/// Alternates the families, the one that the resolver put first leading.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    let mut second = second.into_iter();
    for address in first {
        ordered.push(address);
        ordered.extend(second.next());
    }
    ordered.extend(second);
    ordered.dedup();
    ordered
}

/// Starts one attempt after the other, without waiting longer than [`HEAD_START`] for any.
async fn race(addresses: Vec<SocketAddr>, options: SocketOptions) -> Result<TcpStream, String> {
    let mut waiting = addresses.into_iter();
    let mut running: Vec<(SocketAddr, Attempt)> = Vec::new();
    let mut failures = String::new();
    loop {
        match waiting.next() {
            Some(address) => running.push((address, Box::pin(attempt(address, options)))),
            None if running.is_empty() => return Err(failures),
            None => {}
        }
        let mut patience = Box::pin(sleep(HEAD_START));
        let last = waiting.len() == 0;
        let ended = poll_fn(|cx| {
            for at in 0..running.len() {
                if let Poll::Ready(result) = running[at].1.as_mut().poll(cx) {
                    return Poll::Ready(Some((running.swap_remove(at).0, result)));
                }
            }
            if last { Poll::Pending } else { patience.as_mut().poll(cx).map(|()| None) }
        });
        match ended.await {
            Some((_, Ok(stream))) => return Ok(stream),
            Some((address, Err(error))) => {
                let separator = if failures.is_empty() { "" } else { "; " };
                let _ = write!(failures, "{separator}{address}: {error}");
            }
            None => {}
        }
    }
}

async fn attempt(address: SocketAddr, options: SocketOptions) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Latency: a request is always written as a whole, so there is nothing to coalesce.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&KEEPALIVE)?;
    // Before connect, since the window scale is agreed in the handshake.
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
    if SockRef::from(&stream).local_addr()?.as_socket() == Some(address) {
        // A port of the ephemeral range that nobody listens on can connect to itself.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use socket2::SockRef;
    use sordini_core::config::Address;
    use tokio::net::TcpListener;

    use super::{SocketOptions, connect, interleaved, race};

    const NONE: SocketOptions = SocketOptions { send_buffer: None, receive_buffer: None };

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    async fn closed_port() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("its address")
    }

    #[test]
    fn families_take_turns() {
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"].map(address);
        let expected = ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"].map(address);
        assert_eq!(interleaved(given.to_vec()), expected);
    }

    #[tokio::test]
    async fn every_address_of_a_host_is_tried() {
        let dead = closed_port().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let alive = listener.local_addr().expect("its address");
        let stream = race(vec![dead, alive], NONE).await.expect("the second one listens");
        assert_eq!(stream.peer_addr().expect("connected"), alive);
    }

    #[tokio::test]
    async fn when_no_address_answers_the_error_names_all() {
        let (one, two) = (closed_port().await, closed_port().await);
        let error = race(vec![one, two], NONE).await.expect_err("nobody listens");
        assert!(
            error.contains(&format!("{one}: ")) && error.contains(&format!("{two}: ")),
            "{error}"
        );
    }

    #[tokio::test]
    async fn an_address_that_was_given_is_not_repeated() {
        let dead = closed_port().await;
        let error = connect(&Address::new("127.0.0.1", dead.port()), 0, NONE)
            .await
            .expect_err("nobody listens");
        assert!(error.starts_with("Connection refused"), "{error}");
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_named() {
        let error = connect(&Address::new("no-such-host.invalid", 9092), 0, NONE)
            .await
            .expect_err("RFC 2606");
        assert!(error.contains("\"no-such-host.invalid\" can't be resolved"), "{error}");
    }

    #[tokio::test]
    async fn sockets_are_set_up_as_the_settings_say() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let options = SocketOptions { send_buffer: Some(65_536), receive_buffer: Some(32_768) };
        let stream =
            connect(&Address::new("127.0.0.1", port), 7, options).await.expect("it listens");
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("readable"));
        assert!(socket.keepalive().expect("readable"));
        // Linux reports twice what was asked for, to account for its own overhead.
        assert!([65_536, 131_072].contains(&socket.send_buffer_size().expect("readable")));
        assert!([32_768, 65_536].contains(&socket.recv_buffer_size().expect("readable")));
    }
}
