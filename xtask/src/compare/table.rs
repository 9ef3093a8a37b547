//! The tables: one for the README, and one for each case.

use std::fmt::Write;

use serde_json::Value;

use super::cases::{CASES, Case};
use super::machine;
use crate::Result;

/// One run, as it ends.
pub(super) fn line(result: &Value) -> String {
    let (case, peer) = (text(result, "case"), text(result, "peer"));
    match number(result, "records_per_s") {
        Some(rate) => format!(
            "{case:8} {peer:20} {rate:>12.0} rec/s {:>8.3} us/rec, p99 {:.2} ms",
            number(result, "cpu_us_per_record").unwrap_or_default(),
            number(result, "p99_ms").unwrap_or_default()
        ),
        None => format!("{case:8} {peer:20} failed: {}", text(result, "failed")),
    }
}

/// Everything, medians over the rounds.
pub(super) fn all(results: &[Value]) -> Result<String> {
    let mut out = format!("\n{}\n", machine::describe()?);
    summary(&mut out, results);
    for case in CASES {
        let mine: Vec<&Value> = of_case(results, case).collect();
        if !mine.is_empty() {
            details(&mut out, case, &mine);
        }
    }
    Ok(out)
}

fn of_case<'a>(results: &'a [Value], case: &Case) -> impl Iterator<Item = &'a Value> {
    let name = case.name;
    results.iter().filter(move |result| text(result, "case") == name)
}

/// The names of the peers, in the order in which they ran.
fn peers(results: &[&Value]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for result in results {
        let name = text(result, "peer");
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// A column for each peer, a line for each case.
fn summary(out: &mut String, results: &[Value]) {
    let all: Vec<&Value> = results.iter().collect();
    let names = peers(&all);
    let rounds = results.iter().filter_map(|result| number(result, "round")).fold(0.0, f64::max);
    let _ = writeln!(
        out,
        "Medians of {} rounds: thousand records a second / processor time in us a record, all \
         threads; at a fixed rate p50 / p99 in ms / us.\n",
        rounds + 1.0
    );
    let _ = writeln!(out, "| case | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|{}", "---|".repeat(names.len()));
    for case in CASES {
        let mine: Vec<&Value> = of_case(results, case).collect();
        if mine.is_empty() {
            continue;
        }
        let cells: Vec<String> = names.iter().map(|name| cell(case, &mine, name)).collect();
        let _ = writeln!(out, "| ({}) {} | {} |", case.name, case.title, cells.join(" | "));
    }
}

fn cell(case: &Case, results: &[&Value], peer: &str) -> String {
    let runs = of_peer(results, peer);
    if runs.is_empty() {
        return "-".to_owned();
    }
    let Some(micros) = median(&runs, "cpu_us_per_record") else { return "failed".to_owned() };
    let middle = |name| median(&runs, name).unwrap_or_default();
    if case.is_paced() {
        format!("{:.2} / {:.2} / {micros:.1}", middle("p50_ms"), middle("p99_ms"))
    } else {
        format!("{:.0} / {micros:.3}", middle("records_per_s") / 1e3)
    }
}

fn of_peer<'a>(results: &[&'a Value], peer: &str) -> Vec<&'a Value> {
    results.iter().copied().filter(|result| text(result, "peer") == peer).collect()
}

const COLUMNS: &str = "| peer | runs | rec/s | spread | us/rec | user / system | peak MB | MB, 2nd \
                       and last quarter | p50 ms | p99 | p99.9 | max | rec/batch | batch/req | \
                       B/rec | sink us/rec | errors |";

fn details(out: &mut String, case: &Case, results: &[&Value]) {
    let _ = writeln!(out, "\n### ({}) {}\n\n{COLUMNS}", case.name, case.title);
    let _ = writeln!(out, "|{}", "---|".repeat(COLUMNS.matches('|').count() - 1));
    let mut rows: Vec<(f64, String)> = peers(results)
        .iter()
        .map(|peer| {
            let runs = of_peer(results, peer);
            let key = if case.is_paced() { "p99_ms" } else { "cpu_us_per_record" };
            (median(&runs, key).unwrap_or(f64::MAX), row(peer, &runs))
        })
        .collect();
    rows.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    rows.iter().for_each(|(_, row)| {
        let _ = writeln!(out, "{row}");
    });
}

fn row(peer: &str, runs: &[&Value]) -> String {
    let good: Vec<&Value> =
        runs.iter().copied().filter(|run| number(run, "records").is_some()).collect();
    let middle = |name| median(&good, name).unwrap_or_default();
    if good.is_empty() {
        let why = runs.first().map(|run| text(run, "failed")).unwrap_or_default();
        return format!("| {peer} | 0/{} | failed: {why} |", runs.len());
    }
    let rates = good.iter().filter_map(|run| number(run, "records_per_s"));
    let (low, high) =
        rates.fold((f64::MAX, 0.0f64), |(low, high), rate| (low.min(rate), high.max(rate)));
    let micros = |name| middle(name) * 1e6 / middle("records").max(1.0);
    let sink = |over: &str, under: &str| {
        let ratio = |run: &&Value| {
            let below = number(&run["sink"], under).filter(|below| *below > 0.0)?;
            Some(number(&run["sink"], over)? / below)
        };
        middle_of(good.iter().filter_map(ratio).collect()).unwrap_or_default()
    };
    let errors: f64 = good.iter().filter_map(|run| number(run, "errors")).sum();
    format!(
        "| {peer} | {}/{} | {:.0} | {:.0}k-{:.0}k | {:.3} | {:.3} / {:.3} | {:.0} | {:.0}, {:.0} \
         | {:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.2} | {:.2} | {:.3} | {errors} |",
        good.len(),
        runs.len(),
        middle("records_per_s"),
        low / 1e3,
        high / 1e3,
        middle("cpu_us_per_record"),
        micros("user_s"),
        micros("sys_s"),
        middle("max_rss_kb") / 1024.0,
        middle("early_kb") / 1024.0,
        middle("late_kb") / 1024.0,
        middle("p50_ms"),
        middle("p99_ms"),
        middle("p999_ms"),
        middle("max_ms"),
        sink("records", "batches"),
        sink("batches", "produce_requests"),
        sink("wire_bytes", "records"),
        sink("cpu_s", "records") * 1e6,
    )
}

fn text<'a>(result: &'a Value, name: &str) -> &'a str {
    result[name].as_str().unwrap_or_default()
}

fn number(result: &Value, name: &str) -> Option<f64> {
    result[name].as_f64()
}

fn median(runs: &[&Value], name: &str) -> Option<f64> {
    middle_of(runs.iter().filter_map(|run| number(run, name)).collect())
}

fn middle_of(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) =
        (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{middle_of, summary};

    #[test]
    fn the_middle_of_an_even_number_is_between_the_two() {
        assert_eq!(middle_of(vec![]), None);
        assert_eq!(middle_of(vec![7.0]), Some(7.0));
        assert_eq!(middle_of(vec![9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(middle_of(vec![9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn a_failed_run_is_no_record_at_no_cost() {
        let run = |peer: &str, micros: Value| {
            json!({
                "case": "a", "peer": peer, "round": 0, "records_per_s": 1_000_000,
                "cpu_us_per_record": micros,
            })
        };
        let failed = json!({ "case": "a", "peer": "slow", "round": 0, "failed": "killed" });
        let mut out = String::new();
        summary(&mut out, &[run("quick", json!(0.5)), failed, run("quick", json!(0.7))]);
        let line = out.lines().find(|line| line.starts_with("| (a)")).expect("the case's line");
        assert!(line.ends_with("| 1000 / 0.600 | failed |"), "{line}");
    }
}
