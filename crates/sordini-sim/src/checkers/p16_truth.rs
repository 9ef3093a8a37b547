//! P16: a transaction that was told to be committed has all its records written and its offsets
//! sent; and nothing is told both ways.

use super::{Evidence, Findings, Places};
use crate::book::Told;

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    let book = &evidence.book;
    for transaction in &book.transactions {
        if !transaction.was_told(&Told::Committed) {
            continue;
        }
        let name =
            format!("transaction {} of producer {}", transaction.number, transaction.producer);
        if transaction.was_told(&Told::Aborted) {
            let text =
                format!("{name} was told to be committed and aborted: {:?}", transaction.told);
            findings.violation("P16", transaction.at, text);
        }
        if transaction.commit.is_none() {
            findings.violation("P16", transaction.at, format!("{name}: nobody asked to commit it"));
        }
        for id in &transaction.records {
            let record = usize::try_from(*id).ok().and_then(|id| evidence.records.get(id));
            let Some(record) = record.filter(|record| record.accepted.is_some()) else { continue };
            if !record.is_ok() {
                let text = format!("{name} was committed, and record {id} is {:?}", record.done);
                findings.violation("P16", transaction.at, text);
            }
        }
        for sent in &transaction.offsets {
            let answer = book.calls.get(sent.call).and_then(|call| call.answer.as_ref());
            if answer.is_some_and(|answer| answer.told == Told::MustAbort) {
                let text = format!("{name} was committed, and its offsets were to be aborted");
                findings.violation("P16", transaction.at, text);
            }
        }
    }
}
