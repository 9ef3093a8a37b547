//! Who writes: the producer id and its epoch (KIP-98, KIP-360).

use std::time::Duration;

use sordini_protocol::ErrorCode;

use crate::acks::retry::{Rng, backoff};
use crate::sequencing::line::ProducerIdentity;
use crate::time::Instant;

/// The identity that partitions stamp their batches with.
#[derive(Debug)]
pub enum Identity {
    /// Not idempotent: none is needed.
    None,
    /// A producer id is asked for, or about to be.
    Acquiring(Acquisition),
    /// This one.
    Ready(ProducerIdentity),
    /// The coordinator of transactions gives it out, and has given none yet.
    Unassigned,
    /// The coordinator of transactions gave out this one: it is never raised here.
    Assigned(ProducerIdentity),
    /// None will ever be had.
    Fatal(ErrorCode),
}

/// The request for a producer id.
#[derive(Debug, Default)]
pub struct Acquisition {
    /// A request is under way.
    pub requested: bool,
    failures: u32,
    not_before: Instant,
    /// The last answer.
    pub last: Option<ErrorCode>,
}

impl Identity {
    /// Before the first request.
    #[must_use]
    pub fn new(idempotent: bool) -> Self {
        if idempotent { Self::Acquiring(Acquisition::default()) } else { Self::None }
    }

    /// Is it time to ask?
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.next_request().is_some_and(|at| at <= now)
    }

    /// When to ask, if no request is under way.
    #[must_use]
    pub fn next_request(&self) -> Option<Instant> {
        match self {
            Self::Acquiring(state) if !state.requested => Some(state.not_before),
            _ => None,
        }
    }

    /// A request was sent.
    pub fn requested(&mut self) {
        if let Self::Acquiring(state) = self {
            state.requested = true;
        }
    }

    /// The request failed, or its connection broke: ask again after a backoff.
    pub fn failed(
        &mut self,
        code: Option<ErrorCode>,
        now: Instant,
        bounds: (Duration, Duration),
        rng: &mut Rng,
    ) {
        if let Self::Acquiring(state) = self {
            state.requested = false;
            state.failures += 1;
            state.last = code.or(state.last);
            let pause = backoff(bounds.0, bounds.1, state.failures, rng);
            state.not_before = now.saturating_add(pause);
        }
    }

    /// The identity for a line that was stamped with `old` so far; `None` while there is none.
    ///
    /// A bump is local: the broker accepts a higher epoch of a known id, partition by partition.
    /// A line whose epoch another line's failure already left behind takes the present one: epochs
    /// are few. At the last epoch a new producer id is asked for.
    pub fn renewed(&mut self, old: Option<ProducerIdentity>) -> Option<ProducerIdentity> {
        if let Self::Assigned(current) = *self {
            return Some(current).filter(|current| old != Some(*current));
        }
        let Self::Ready(current) = *self else { return None };
        if old != Some(current) {
            return Some(current);
        }
        match current.epoch.checked_add(1) {
            Some(epoch) => {
                let next = ProducerIdentity { epoch, ..current };
                *self = Self::Ready(next);
                Some(next)
            }
            None => {
                *self = Self::Acquiring(Acquisition::default());
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1000));

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn an_idempotent_producer_asks_at_once_and_once_and_another_never() {
        let mut identity = Identity::new(true);
        assert!(identity.is_due(Instant::ZERO));
        identity.requested();
        assert_eq!((identity.next_request(), identity.is_due(at(99_999))), (None, false));
        let without = Identity::new(false);
        assert_eq!((without.next_request(), without.is_due(at(99_999))), (None, false));
        let ready = Identity::Ready(ProducerIdentity { id: 7, epoch: 0 });
        assert_eq!(ready.next_request(), None);
    }

    #[test]
    fn a_refused_producer_id_is_asked_for_again_after_ever_longer_pauses() {
        // KIP-580
        let (mut identity, mut rng) = (Identity::new(true), Rng::new(3));
        for longest in [120, 240, 480, 960, 1200] {
            identity.requested();
            identity.failed(None, at(5000), BOUNDS, &mut rng);
            let next = identity.next_request().expect("none is under way");
            assert!(at(5000 + longest * 2 / 3) <= next && next <= at(5000 + longest), "{next:?}");
            assert!(identity.is_due(next));
            assert!(!identity.is_due(at(5000 + longest * 2 / 3 - 1)));
        }
    }

    #[test]
    fn the_last_answer_is_remembered_through_failures_without_one() {
        let (mut identity, mut rng) = (Identity::new(true), Rng::new(3));
        let told = |identity: &Identity| match identity {
            Identity::Acquiring(state) => state.last,
            other => panic!("{other:?}"),
        };
        identity.failed(None, at(0), BOUNDS, &mut rng);
        assert_eq!(told(&identity), None);
        for code in [ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator] {
            identity.failed(Some(code), at(0), BOUNDS, &mut rng);
            identity.failed(None, at(0), BOUNDS, &mut rng);
            assert_eq!(told(&identity), Some(code));
        }
    }

    #[test]
    fn a_new_epoch_is_taken_once_by_all_lines_that_failed_under_the_old_one() {
        // A9, KIP-360
        let old = ProducerIdentity { id: 7, epoch: 4 };
        let new = ProducerIdentity { id: 7, epoch: 5 };
        let mut identity = Identity::Ready(old);
        assert_eq!(identity.renewed(None), Some(old), "a line's first stamp needs none");
        assert_eq!(identity.renewed(Some(old)), Some(new));
        assert_eq!(identity.renewed(Some(old)), Some(new), "another line's failure took it");
        assert_eq!(identity.renewed(None), Some(new));
    }

    #[test]
    fn behind_the_last_epoch_a_new_producer_id_is_asked_for() {
        let last = ProducerIdentity { id: 7, epoch: i16::MAX };
        let mut identity = Identity::Ready(last);
        assert_eq!(identity.renewed(Some(last)), None);
        assert!(identity.is_due(Instant::ZERO));
        assert_eq!(identity.renewed(None), None, "there is none yet");
    }

    #[test]
    fn a_producer_without_idempotence_never_has_an_identity() {
        assert_eq!(Identity::new(false).renewed(None), None);
        assert_eq!(Identity::Fatal(ErrorCode::ClusterAuthorizationFailed).renewed(None), None);
    }
}
