//! A Kafka producer for tokio that says what happened to each record.
