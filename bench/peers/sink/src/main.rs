//! A Kafka-protocol sink: it answers a producer as a broker would and stores nothing, so that the
//! broker is not what a comparison of producers measures.
//!
//! One blocking thread per connection. A Produce request is parsed as it streams in: only topic,
//! partition and the 61-byte batch header are looked at, and the record bytes are dropped inside
//! the kernel (recv with MSG_TRUNC) unless `--verify` asks for their CRC.
//!
//! Topic `NAME-<n>` has n partitions, any other topic `--partitions`. Any topic exists. The first
//! line of output says where it listens.
#![forbid(unsafe_code)]

mod broker;
mod control;
mod input;
mod produce;
mod serve;

use std::io::{self, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use broker::Broker;

const USAGE: &str = "bench-sink [--port 0] [--brokers 1] [--partitions 6] [--latency-ms 0] \
                     [--produce-max 12] [--verify]";

struct Options {
    port: u16,
    brokers: u16,
    partitions: usize,
    latency: Duration,
    produce_max: i16,
    verify: bool,
}

fn main() -> io::Result<()> {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => return Err(io::Error::other(format!("{why}\n{USAGE}"))),
    };
    let listeners = (0..options.brokers)
        .map(|number| {
            // With port 0 the system chooses every one.
            let port = if options.port == 0 { 0 } else { options.port + number };
            TcpListener::bind(("127.0.0.1", port))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let stats = TcpListener::bind("127.0.0.1:0")?;
    let addresses: io::Result<Vec<_>> = listeners.iter().map(TcpListener::local_addr).collect();
    let addresses = addresses?;
    println!(
        "{{\"bootstrap\":\"{}\",\"stats\":\"{}\"}}",
        addresses.first().ok_or_else(|| io::Error::other("no broker"))?,
        stats.local_addr()?
    );
    let broker = Arc::new(Broker {
        ports: addresses.iter().map(std::net::SocketAddr::port).collect(),
        default_partitions: options.partitions,
        latency: options.latency,
        verify: options.verify,
        produce_max: options.produce_max,
        ..Broker::default()
    });
    for listener in listeners {
        let broker = Arc::clone(&broker);
        std::thread::spawn(move || serve::accept(&broker, &listener));
    }
    // Each connection gets one line of JSON and is closed.
    for mut stream in stats.incoming().flatten() {
        let _ = stream.write_all(broker.stats_line().as_bytes());
    }
    Ok(())
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            port: 0,
            brokers: 1,
            partitions: 6,
            latency: Duration::ZERO,
            produce_max: 12,
            verify: false,
        };
        while let Some(option) = args.next() {
            if option == "--verify" {
                options.verify = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{option} lacks its value"))?;
            let number: f64 = value.parse().map_err(|e| format!("{option} {value}: {e}"))?;
            match option.as_str() {
                "--port" => options.port = number as u16,
                "--brokers" => options.brokers = (number as u16).max(1),
                "--partitions" => options.partitions = (number as usize).max(1),
                "--latency-ms" => options.latency = Duration::from_secs_f64(number.max(0.0) / 1e3),
                "--produce-max" => options.produce_max = number as i16,
                _ => return Err(format!("what is {option}?")),
            }
        }
        Ok(options)
    }
}
