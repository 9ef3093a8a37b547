//! What `produce` says at its end.

use std::time::Duration;

use serde::Serialize;

use crate::terminal::grouped;

/// What became of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Transactions {
    /// All of it is visible.
    pub(crate) committed: u64,
    /// Nothing of it is visible.
    pub(crate) aborted: u64,
    /// One of the two.
    pub(crate) unknown: u64,
}

/// A line of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// The file's name, or `stdin`.
    pub(crate) input: String,
    /// Its number there, from 1.
    pub(crate) line: u64,
}

/// What became of the input's lines. The field names are those of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Lines that the producer took: `delivered` + `failed` + `unknown`.
    pub(crate) accepted: u64,
    /// Records that the cluster acknowledged as the settings ask for.
    pub(crate) delivered: u64,
    /// Records that are certainly in no log.
    pub(crate) failed: u64,
    /// Records that may be in a log or not.
    pub(crate) unknown: u64,
    /// Lines that the producer did not take.
    pub(crate) rejected: u64,
    /// What became of the transactions, where lines were appended in such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transactions: Option<Transactions>,
    /// Was the input read to its end?
    pub(crate) complete: bool,
    /// Where it was not: the last line that is counted here, if one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_line: Option<Line>,
    /// Batches that were sent again.
    pub(crate) retries: u64,
    /// Bytes of the keys and values that were accepted.
    pub(crate) bytes: u64,
    /// From the first line to the last outcome.
    pub(crate) seconds: f64,
    /// What the settings promise for a record that was delivered.
    pub(crate) guarantee: String,
}

impl Transactions {
    fn text(self) -> String {
        format!(
            "\ntransactions: {} committed, {} aborted, {} unknown",
            grouped(self.committed),
            grouped(self.aborted),
            grouped(self.unknown)
        )
    }
}

impl Summary {
    /// Is every line of the input where it should be?
    pub(crate) fn is_success(&self) -> bool {
        self.complete && self.delivered == self.accepted && self.rejected == 0
    }

    /// The summary for a person.
    pub(crate) fn text(&self, topic: &str) -> String {
        let seconds = self.seconds.max(0.000_001);
        let rate = (self.delivered as f64 / seconds) as u64;
        let megabytes = self.bytes as f64 / seconds / 1e6;
        let end = match (self.complete, &self.last_line) {
            (true, _) => String::new(),
            (false, None) => "; the input was not read to its end".to_owned(),
            (false, Some(Line { input, line })) => {
                format!(
                    "; the input was read to line {} of {input}, not to its end",
                    grouped(*line)
                )
            }
        };
        format!(
            "{topic}: {delivered} records delivered in {time} ({rate} records/s, {megabytes:.1} \
             MB/s){end}\naccepted {accepted}, delivered {delivered}, failed {failed}, unknown \
             {unknown}, rejected {rejected}, retries {retries}{transactions}\nguarantee: {guarantee}",
            time = shown(Duration::from_secs_f64(self.seconds.max(0.0))),
            rate = grouped(rate),
            accepted = grouped(self.accepted),
            delivered = grouped(self.delivered),
            failed = grouped(self.failed),
            unknown = grouped(self.unknown),
            rejected = grouped(self.rejected),
            retries = grouped(self.retries),
            transactions = self.transactions.map(Transactions::text).unwrap_or_default(),
            guarantee = self.guarantee,
        )
    }

    /// The summary as one line of JSON.
    pub(crate) fn json(&self) -> String {
        // Numbers and one string: nothing of it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A duration in a unit that suits it.
pub(crate) fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match duration.as_secs() {
        0 if duration.as_millis() < 10 => format!("{:.2} ms", seconds * 1e3),
        0 => format!("{} ms", duration.as_millis()),
        1..=119 => format!("{seconds:.1} s"),
        whole => format!("{} min {} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            accepted: 1_000_000,
            delivered: 999_998,
            failed: 1,
            unknown: 1,
            rejected: 2,
            transactions: None,
            complete: true,
            last_line: None,
            retries: 3,
            bytes: 100_000_000,
            seconds: 2.0,
            guarantee: "each record once".into(),
        }
    }

    #[test]
    fn the_json_line_has_the_keys_that_scripts_read() {
        assert_eq!(
            summary().json(),
            r#"{"accepted":1000000,"delivered":999998,"failed":1,"unknown":1,"rejected":2,"complete":true,"retries":3,"bytes":100000000,"seconds":2.0,"guarantee":"each record once"}"#
        );
    }

    #[test]
    fn transactions_are_told_of_where_there_were_any() {
        let transactions = Some(Transactions { committed: 1000, aborted: 2, unknown: 1 });
        let summary = Summary { transactions, ..summary() };
        let json = summary.json();
        let expected = r#","transactions":{"committed":1000,"aborted":2,"unknown":1},"complete""#;
        assert!(json.contains(expected), "{json}");
        let text = summary.text("clicks");
        let expected = "\ntransactions: 1,000 committed, 2 aborted, 1 unknown\nguarantee";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn the_text_says_each_number() {
        assert_eq!(
            summary().text("clicks"),
            "clicks: 999,998 records delivered in 2.0 s (499,999 records/s, 50.0 MB/s)\n\
             accepted 1,000,000, delivered 999,998, failed 1, unknown 1, rejected 2, retries 3\n\
             guarantee: each record once"
        );
    }

    #[test]
    fn where_reading_stopped_is_told() {
        let stopped = Summary { complete: false, ..summary() };
        assert!(stopped.text("clicks").contains("MB/s); the input was not read to its end\n"));
        let last_line = Some(Line { input: "in.txt".into(), line: 1234 });
        let stopped = Summary { last_line, ..stopped };
        let text = stopped.text("clicks");
        assert!(text.contains("; the input was read to line 1,234 of in.txt, not to"), "{text}");
        let json = stopped.json();
        let expected = r#""complete":false,"last_line":{"input":"in.txt","line":1234},"retries""#;
        assert!(json.contains(expected), "{json}");
    }

    #[test]
    fn success_is_every_line_delivered() {
        let success =
            Summary { accepted: 5, delivered: 5, failed: 0, unknown: 0, rejected: 0, ..summary() };
        assert!(success.is_success());
        assert!(!Summary { complete: false, ..success.clone() }.is_success());
        assert!(!Summary { rejected: 1, ..success.clone() }.is_success());
        assert!(!Summary { delivered: 4, failed: 1, ..success.clone() }.is_success());
        assert!(!Summary { delivered: 4, unknown: 1, ..success }.is_success());
    }

    #[test]
    fn durations_have_a_unit_that_suits_them() {
        for (millis, text) in
            [(0, "0.00 ms"), (420, "420 ms"), (61_500, "61.5 s"), (125_000, "2 min 5 s")]
        {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
