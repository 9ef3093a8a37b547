//! What a run used and what became of it: one line of JSON.

use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::args::{Args, Failure};

/// Buckets to each power of two of nanoseconds: 1.6 % apart.
const FINE: u64 = 64;

/// Latencies, counted in buckets.
pub(crate) struct Latencies {
    counts: Vec<u64>,
    max: Duration,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; 64 * FINE as usize], max: Duration::ZERO }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let nanos = (latency.as_nanos() as u64).max(FINE);
        let power = u64::from(nanos.ilog2());
        self.counts[(power * FINE + ((nanos >> (power - 6)) & (FINE - 1))) as usize] += 1;
        self.max = self.max.max(latency);
    }

    /// In milliseconds; 0 where nothing was measured.
    fn quantile(&self, quantile: f64) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let wanted = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in (0u64..).zip(&self.counts) {
            seen += count;
            if seen >= wanted {
                let (power, fine) = (at / FINE, at % FINE);
                return ((1u64 << power) + (fine << (power - 6))) as f64 / 1e6;
            }
        }
        0.0
    }
}

/// What became of the records of a run.
pub(crate) struct Tally {
    pub(crate) written: u64,
    pub(crate) failed: u64,
    /// Of all offsets, so that none is left unread.
    pub(crate) offsets: u64,
    pub(crate) latencies: Latencies,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { written: 0, failed: 0, offsets: 0, latencies: Latencies::new() }
    }

    pub(crate) fn written(&mut self, offset: Option<i64>) {
        self.written += 1;
        self.offsets = self.offsets.wrapping_add(offset.unwrap_or_default().cast_unsigned());
    }
}

/// Of the whole process, all threads.
fn usage() -> Result<Usage, Failure> {
    Ok(getrusage(UsageWho::RUSAGE_SELF)?)
}

fn user(usage: &Usage) -> f64 {
    usage.user_time().num_microseconds() as f64 / 1e6
}

fn system(usage: &Usage) -> f64 {
    usage.system_time().num_microseconds() as f64 / 1e6
}

/// The part of the run that counts.
pub(crate) struct Phase {
    start: Instant,
    before: Usage,
}

impl Phase {
    pub(crate) fn begin() -> Result<Self, Failure> {
        Ok(Self { start: Instant::now(), before: usage()? })
    }

    /// The line that the comparison reads.
    pub(crate) fn line(&self, args: &Args, tally: &Tally) -> Result<String, Failure> {
        let seconds = self.start.elapsed().as_secs_f64();
        let after = usage()?;
        let (user_s, sys_s) =
            (user(&after) - user(&self.before), system(&after) - system(&self.before));
        let records = tally.written;
        let latencies = &tally.latencies;
        Ok(format!(
            "{{\"peer\":\"sordini\",\"api\":\"{:?}\",\"records\":{records},\
             \"seconds\":{seconds:.4},\"records_per_s\":{:.0},\"mb_per_s\":{:.2},\
             \"user_s\":{user_s:.4},\"sys_s\":{sys_s:.4},\"cpu_us_per_record\":{:.4},\
             \"total_user_s\":{:.3},\"total_sys_s\":{:.3},\"max_rss_kb\":{},\"p50_ms\":{:.3},\
             \"p99_ms\":{:.3},\"p999_ms\":{:.3},\"max_ms\":{:.3},\"errors\":{},\"offsets\":{}}}",
            args.mode,
            records as f64 / seconds,
            records as f64 * args.size as f64 / seconds / 1e6,
            (user_s + sys_s) * 1e6 / records.max(1) as f64,
            user(&after),
            system(&after),
            after.max_rss(),
            latencies.quantile(0.5),
            latencies.quantile(0.99),
            latencies.quantile(0.999),
            latencies.max.as_secs_f64() * 1e3,
            tally.failed,
            tally.offsets,
        ))
    }
}
