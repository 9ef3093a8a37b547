//! Sends again what failed for certain, and keeps apart what may have been written: the decision
//! that only the application can take.

use std::time::Duration;

use sordini::{Fate, Producer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().unwrap_or_else(|| "localhost:9092".to_owned());
    let topic = args.next().unwrap_or_else(|| "clicks".to_owned());

    let producer = Producer::builder(&bootstrap)
        .return_failed(true)
        .delivery_timeout(Duration::from_secs(5))
        .request_timeout(Duration::from_secs(2))
        .max_block(Duration::from_secs(5))
        .build()
        .await?;
    for number in 0..1000 {
        producer.topic(&topic)?.enqueue_detached(format!("event {number}")).await?;
    }
    let report = producer.flush().await;
    println!("{report:?}");
    for failed in producer.take_failed() {
        match failed.error.fate {
            Fate::NotWritten => {
                producer.send(&topic, failed.to_record()).await?;
            }
            Fate::Unknown => eprintln!("look whether this is there: {:?}", failed.value),
        }
    }
    println!("{}", producer.close(Duration::from_secs(10)).await);
    Ok(())
}
