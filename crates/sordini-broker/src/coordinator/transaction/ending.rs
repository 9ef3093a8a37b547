//! What an EndTxn comes to, in both protocols.

use sordini_protocol::ErrorCode;

use super::{FreshId, Marking, Metadata, NO_EPOCH, NO_ID, Step, Transaction};
use super::{prepare, prepare_with_bump};
use crate::coordinator::state::State;
use crate::coordinator::version::TransactionVersion;
use crate::log::marker::TransactionResult;

impl Metadata {
    /// Whether the end that is prepared or complete gave out the epoch after `epoch`, so that an
    /// EndTxn of it is a retry. Kafka looks at the epochs alone (KIP-890): where
    /// `transaction.version` was lowered, it takes the end of one instance in the old protocol,
    /// which gives out none, for that of the instance before, and hands it the other's epoch.
    fn was_ended_from(&self, epoch: i16) -> bool {
        self.client_version.bumps_epochs() && epoch.checked_add(1) == Some(self.producer_epoch)
    }
}

impl Marking {
    /// What an EndTxn of the new protocol is told meanwhile. The epoch that this end gave out is
    /// refused like a fenced one: the next transaction can't be ended before this one is.
    fn refuse_end(&self, (id, epoch): (i64, i16), result: TransactionResult) -> ErrorCode {
        let now = &self.prepared;
        if now.producer_id != id {
            ErrorCode::InvalidProducerIdMapping
        } else if !now.was_ended_from(epoch) {
            ErrorCode::ProducerFenced
        } else if now.result() == result {
            ErrorCode::ConcurrentTransactions
        } else {
            ErrorCode::InvalidTxnState
        }
    }
}

impl Transaction {
    /// EndTxn; `client` tells which protocol it speaks.
    pub(crate) fn end(
        &self,
        producer: (i64, i16),
        result: TransactionResult,
        client: TransactionVersion,
        now_ms: i64,
        fresh: FreshId<'_>,
    ) -> Result<Step, ErrorCode> {
        if client.bumps_epochs() {
            self.end_with_bump(producer, result, client, now_ms, fresh)
        } else {
            self.end_without_bump(producer, result, now_ms)
        }
    }

    fn end_without_bump(
        &self,
        (id, epoch): (i64, i16),
        result: TransactionResult,
        now_ms: i64,
    ) -> Result<Step, ErrorCode> {
        let now = self.now();
        if now.producer_id != id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if now.producer_epoch != epoch {
            return Err(ErrorCode::ProducerFenced);
        }
        let now = &self.settled()?.now;
        match (now.state, result) {
            (State::Ongoing, TransactionResult::Commit) => {
                Ok(Step::Write(prepare(now, State::PrepareCommit, now_ms)))
            }
            (State::Ongoing, TransactionResult::Abort) => {
                Ok(Step::Write(prepare(now, State::PrepareAbort, now_ms)))
            }
            (State::CompleteCommit, TransactionResult::Commit)
            | (State::CompleteAbort, TransactionResult::Abort) => {
                Ok(Step::Already { producer_id: NO_ID, producer_epoch: NO_EPOCH })
            }
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }

    /// In the new protocol the same epoch means the next transaction; a retry is known by the
    /// epoch before it.
    fn end_with_bump(
        &self,
        (id, epoch): (i64, i16),
        result: TransactionResult,
        client: TransactionVersion,
        now_ms: i64,
        fresh: FreshId<'_>,
    ) -> Result<Step, ErrorCode> {
        if let Self::Marking(marking) = self {
            return Err(marking.refuse_end((id, epoch), result));
        }
        let now = &self.settled()?.now;
        let rotated =
            now.previous_producer_id == id && epoch == i16::MAX - 1 && now.producer_epoch == 0;
        let complete = matches!(now.state, State::CompleteCommit | State::CompleteAbort);
        let retry = complete && (rotated || now.was_ended_from(epoch));
        if now.producer_id != id && !rotated {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        if epoch != now.producer_epoch && !retry {
            return Err(ErrorCode::ProducerFenced);
        }
        match (now.state, result) {
            (State::Ongoing, TransactionResult::Commit) => {
                prepare_with_bump(now, State::PrepareCommit, client, now_ms, fresh).map(Step::Write)
            }
            (State::Ongoing, TransactionResult::Abort) => {
                prepare_with_bump(now, State::PrepareAbort, client, now_ms, fresh).map(Step::Write)
            }
            (State::CompleteCommit, TransactionResult::Commit)
            | (State::CompleteAbort, TransactionResult::Abort)
                if retry =>
            {
                let (producer_id, producer_epoch) = (now.producer_id, now.producer_epoch);
                Ok(Step::Already { producer_id, producer_epoch })
            }
            (_, TransactionResult::Abort) if !retry => {
                // The producer is not sure to have begun, and wants to be sure that it is over.
                let mut next = prepare_with_bump(now, State::PrepareAbort, client, now_ms, fresh)?;
                next.started_ms = now_ms;
                Ok(Step::Write(next))
            }
            _ => Err(ErrorCode::InvalidTxnState),
        }
    }
}
