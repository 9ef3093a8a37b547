//! A Kafka producer as a state machine: no clock, thread or socket.
