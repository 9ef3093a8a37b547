//! A deterministic world that tests each promise of the producer.
