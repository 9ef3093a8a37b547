//! An embedded Kafka-protocol broker for development and tests.
