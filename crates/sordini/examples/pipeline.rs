//! Sends lines of standard input without waiting for each: receipts are awaited by a task of their
//! own, so that batches fill while acknowledgements are on their way.
//!
//! `cargo run --example pipeline -- localhost:9092 clicks < events.jsonl`

use std::time::Duration;

use sordini::{Delivery, Producer};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = args.next().unwrap_or_else(|| "clicks".to_owned());

    let producer = Producer::builder(&bootstrap).set("compression.type", "zstd")?.build().await?;
    let topic = producer.topic(&topic)?;

    let (receipts, mut accepted) = mpsc::channel::<(usize, Delivery)>(10_000);
    let watch = tokio::spawn(async move {
        let mut failed = 0;
        while let Some((line, delivery)) = accepted.recv().await {
            if let Err(error) = delivery.await {
                eprintln!("line {line}: {error}");
                failed += 1;
            }
        }
        failed
    });
    for (number, line) in std::io::stdin().lines().enumerate() {
        receipts.send((number + 1, topic.enqueue(line?).await?)).await?;
    }
    drop(receipts);
    let failed = watch.await?;
    let report = producer.close(Duration::from_secs(30)).await;
    println!("{report}; {failed} lines failed");
    Ok(())
}
