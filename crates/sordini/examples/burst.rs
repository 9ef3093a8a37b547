//! Appends a million records in bursts and measures: `cargo run --release --example burst --
//! localhost:9092 bench`.

use std::time::{Duration, Instant};

use sordini::Producer;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = args.next().unwrap_or_else(|| "bench".to_owned());

    let producer = Producer::builder(&bootstrap).batch_size(64 << 10).build().await?;
    let mut appender = producer.topic(&topic)?.appender();
    let value = [b'x'; 100];
    let began = Instant::now();
    for _ in 0..1000 {
        appender.extend((0..1000).map(|_| &value)).await?.detach();
    }
    let report = producer.close(Duration::from_secs(60)).await;
    let seconds = began.elapsed().as_secs_f64();
    println!("{report} in {seconds:.2} s: {:.0} records a second", report.written as f64 / seconds);
    Ok(())
}
