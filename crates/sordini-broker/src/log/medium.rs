//! Whether a log's files take what is written to them: told of when it changes, so that a disk that
//! stays full is one line and not one for each request.

use std::io;

use crate::storage;

/// The target of these events: the turn for the better is of interest to whoever heard of the
/// trouble, whatever else is logged.
const TARGET: &str = "sordini_broker::trouble";

/// How the last write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    Works,
    Fails,
}

impl Medium {
    /// A write to the log in `dir` failed.
    pub(super) fn failed(&mut self, dir: &str, error: &io::Error) {
        if *self == Self::Fails {
            return;
        }
        *self = Self::Fails;
        let remedy = if storage::is_full(error) { ": free some space" } else { "" };
        tracing::warn!(
            target: TARGET,
            partition = dir,
            %error,
            "the log can't be written, and its producers are answered KAFKA_STORAGE_ERROR{remedy}"
        );
    }

    /// Records were written to the log in `dir`.
    pub(super) fn works(&mut self, dir: &str) {
        if *self == Self::Fails {
            *self = Self::Works;
            tracing::info!(target: TARGET, partition = dir, "the log is written again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::{Arc, Mutex};

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::super::tests::{append, open};
    use crate::storage::{FaultyStorage, MemoryStorage, StorageFaults, StorageOp};
    use crate::test_batch::TestBatch;

    /// The levels of what was told of trouble.
    #[derive(Clone, Default)]
    struct Levels(Arc<Mutex<Vec<Level>>>);

    impl Subscriber for Levels {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == super::TARGET
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.0.lock().expect("no panic").push(*event.metadata().level());
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_log_that_can_not_be_written_is_told_of_once_until_it_works_again() {
        let levels = Levels::default();
        let _here = tracing::subscriber::set_default(levels.clone());
        let told = || std::mem::take(&mut *levels.0.lock().expect("no panic"));
        let faults = StorageFaults::new();
        let mut storage = FaultyStorage::new(MemoryStorage::new(), faults.clone());
        let mut log = open(&mut storage, &[]);
        let mut write = |storage: &mut FaultyStorage<_>| {
            append(&mut log, storage, &TestBatch::of(&["v"])).is_ok()
        };
        for _ in 0..2 {
            faults.full_after(0);
            assert!(!write(&mut storage) && !write(&mut storage));
            assert_eq!(told(), [Level::WARN], "once");
            faults.make_room();
            assert!(write(&mut storage) && write(&mut storage));
            assert_eq!(told(), [Level::INFO], "once");
        }
        faults.fail(StorageOp::Append, ".log", 0, 1, 30, ErrorKind::Other);
        faults.fail(StorageOp::Truncate, ".log", 0, 1, 0, ErrorKind::Other);
        assert!(!write(&mut storage) && !write(&mut storage), "offline");
        assert_eq!(told(), [Level::WARN], "once");
    }
}
