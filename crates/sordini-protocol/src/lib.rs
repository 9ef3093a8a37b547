//! Kafka's messages, generated; a bounded record-batch reader and the decompressors.
