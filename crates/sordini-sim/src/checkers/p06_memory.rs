//! P6: what is buffered stays within `buffer.memory` and comes back; requests in flight stay
//! within their cap.

use super::{Evidence, Findings, Places};

pub(super) fn check(evidence: &Evidence, _: &Places, findings: &mut Findings) {
    for (producer, memory) in evidence.memory.iter().enumerate() {
        let mut wrong = |text: String| {
            findings.violation("P6", evidence.ended, format!("producer {producer}: {text}"));
        };
        if memory.peak > memory.limit {
            wrong(format!("{} bytes were reserved of {}", memory.peak, memory.limit));
        }
        if memory.at_end > 0 {
            wrong(format!("{} bytes are still reserved at the end", memory.at_end));
        }
        if memory.most_in_flight > evidence.promise.in_flight as usize {
            wrong(format!("{} Produce requests in flight on a connection", memory.most_in_flight));
        }
    }
}
