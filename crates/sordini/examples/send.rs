//! Sends one record and says where it went: `cargo run --example send -- localhost:9092 clicks hello`.

use sordini::{Producer, Record};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |default: &str| args.next().unwrap_or_else(|| default.to_owned());
    let (bootstrap, topic, value) = (next("localhost:9092"), next("clicks"), next("hello"));

    let producer = Producer::builder(&bootstrap).build().await?;
    println!("guarantee: {}", producer.guarantees());
    let written = producer.send(&topic, Record::new(&value).key("greeting")).await?;
    println!("partition {}, offset {:?}", written.partition, written.offset);
    Ok(())
}
