//! What the producer has done so far, counted per batch, never per record.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The live counters, shared by both planes.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)* }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Metrics { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Reads all counters, each at its own moment.
            #[must_use]
            pub fn snapshot(&self) -> Metrics {
                Metrics { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Batches opened, each with at least one accepted record.
    batches_opened,
    /// Records in batches that were taken from their lanes (records still open are not counted).
    records_taken,
    /// Records acknowledged (with `acks=0`: handed to the network).
    records_written,
    /// Records that failed and are in no log.
    records_not_written,
    /// Records that failed and may be in the log.
    records_unknown,
    /// Batches acknowledged.
    batches_written,
    /// Batches sent again.
    retries,
    /// Batches split because the broker found them too large.
    splits,
    /// Batches that the broker recognised as duplicates (DUPLICATE_SEQUENCE_NUMBER).
    duplicates,
    /// Epochs taken after a batch failed for good (KIP-360).
    epoch_bumps,
    /// Times the broker's log was found not to continue where this producer's records ended.
    data_loss_events,
    /// Produce requests sent.
    produce_requests,
    /// Bytes handed to connections, framing included.
    bytes_sent,
    /// Bytes of records before compression, of batches taken.
    bytes_uncompressed,
    /// Bytes of records after compression, of batches made ready.
    bytes_compressed,
    /// Connections that came up.
    connections_made,
    /// Connections that failed or broke.
    connections_lost,
    /// Metadata responses taken in.
    metadata_refreshes,
    /// Milliseconds for which brokers asked this client to pause (KIP-219).
    throttled_ms,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
