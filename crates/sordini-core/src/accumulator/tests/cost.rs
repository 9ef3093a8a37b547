//! What an append costs. By hand, on a quiet machine:
//! `cargo test --release -p sordini-core append_costs -- --ignored --nocapture`

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "it measures, by the system's clock, and prints"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use super::{World, take_all, value};
use crate::accumulator::Provision;
use crate::accumulator::topic::Topic;
use crate::batch::completion::{BatchDeliveries, Deduplicated, Outcome};

const ROUNDS: usize = 200;
const RECORDS: usize = 32 * 500;

/// The time of the appends alone, in ns a record: the median of the rounds.
fn measure(partitions: u32, append: impl Fn(&World, &Arc<Topic>)) -> f64 {
    let world = World::new(|_| {});
    let topic = world.topic(partitions);
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            append(&world, &topic);
            let time = start.elapsed();
            drop(world.events());
            for batch in topic.lanes().flat_map(|lane| take_all(lane)) {
                let deduplicated = Deduplicated::No;
                let written =
                    Outcome::Written { base_offset: None, log_append_time: None, deduplicated };
                batch.completion.resolve(0..batch.count(), written);
            }
            time.as_nanos() as f64 / RECORDS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

#[test]
#[ignore = "a measurement"]
fn append_costs() {
    for partitions in [1, 6] {
        let single = |receipt| {
            measure(partitions, move |world, topic| {
                let mut provision = Provision::default();
                for _ in 0..RECORDS {
                    let intent = black_box(value(&[7; 100]));
                    let appended =
                        world.accumulator.try_append(topic, &intent, receipt, &mut provision);
                    drop(black_box(appended));
                }
            })
        };
        let burst = |receipts: bool| {
            measure(partitions, move |world, topic| {
                let mut provision = Provision::default();
                for _ in 0..RECORDS / 32 {
                    let intents = black_box([value(&[7; 100]); 32]);
                    let mut all = BatchDeliveries::default();
                    let receipts = receipts.then_some(&mut all);
                    let appended =
                        world.accumulator.append_run(topic, &intents, receipts, &mut provision);
                    assert_eq!(black_box(appended), (32, Ok(())));
                    drop(black_box(all));
                }
            })
        };
        println!("{partitions} partitions, ns a record of 100 bytes:");
        println!("  detached             {:6.1}", single(false));
        println!("  with a Delivery      {:6.1}", single(true));
        println!("  bursts of 32         {:6.1}", burst(false));
        println!("  bursts with receipts {:6.1}", burst(true));
    }
}
