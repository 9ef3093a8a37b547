//! What every Rust peer shares: the command line, the payload pool, pacing, the latency histogram
//! and the one line of JSON. The Java and Go peers do the same in their own language.
#![forbid(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Args {
    pub mode: String,
    pub bootstrap: String,
    pub topic: String,
    pub records: u64,
    pub warmup: u64,
    pub size: usize,
    pub acks: String,
    pub idempotent: bool,
    pub compression: String,
    /// Below 0: the client's default.
    pub linger_ms: f64,
    /// 0: the client's default.
    pub batch_bytes: usize,
    /// 0: the client's default.
    pub buffer_bytes: usize,
    pub rate: f64,
    pub keys: bool,
    /// The latency of every n-th record is measured.
    pub sample: u64,
    /// Partitions of the topic, for clients that do not partition.
    pub partitions: usize,
    /// The client's own default settings; only what the case needs is set.
    pub defaults: bool,
    pub inflight: usize,
}

impl Args {
    pub fn parse() -> Self {
        let given: Vec<String> = std::env::args().skip(1).collect();
        let text = |name: &str, default: &str| -> String {
            let at = given.iter().position(|option| option == name);
            at.and_then(|at| given.get(at + 1).cloned()).unwrap_or_else(|| default.to_owned())
        };
        let number =
            |name: &str, default: &str| text(name, default).parse::<f64>().expect("a number");
        Self {
            mode: text("--mode", ""),
            bootstrap: text("--bootstrap", "127.0.0.1:29092"),
            topic: text("--topic", "bench"),
            records: number("--records", "1000000") as u64,
            warmup: number("--warmup", "0") as u64,
            size: number("--size", "100") as usize,
            acks: text("--acks", "all"),
            idempotent: text("--idempotent", "true") == "true",
            compression: text("--compression", "none"),
            linger_ms: number("--linger-ms", "-1"),
            batch_bytes: number("--batch-bytes", "0") as usize,
            buffer_bytes: number("--buffer-bytes", "0") as usize,
            rate: number("--rate", "0"),
            keys: text("--key-mode", "none") == "random",
            sample: number("--sample", "1") as u64,
            partitions: number("--partitions", "6") as usize,
            defaults: text("--defaults", "false") == "true",
            inflight: number("--inflight", "0") as usize,
        }
    }
}

/// SplitMix64.
pub fn splitmix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d049bb133111eb);
    x ^ (x >> 31)
}

pub const POOL: usize = 4096;
pub const KEYS: usize = 65536;

const LEVELS: [&str; 4] = ["INFO", "WARN", "DEBUG", "ERROR"];
const PATHS: [&str; 8] = [
    "/api/v1/orders",
    "/api/v1/users",
    "/login",
    "/health",
    "/api/v1/cart/items",
    "/search",
    "/static/app.js",
    "/api/v1/payments",
];
const WORDS: [&str; 16] = [
    "request",
    "completed",
    "timeout",
    "retrying",
    "upstream",
    "cache",
    "miss",
    "hit",
    "user",
    "session",
    "token",
    "expired",
    "database",
    "query",
    "slow",
    "accepted",
];

/// Payload k of the pool: a JSON log line cut to `size` bytes. The same bytes in every peer.
pub fn payload(k: usize, size: usize) -> Vec<u8> {
    let mut r = splitmix(k as u64 + 1);
    let mut next = move || {
        r = splitmix(r);
        r
    };
    let mut s = format!(
        "{{\"ts\":{},\"lvl\":\"{}\",\"path\":\"{}\",\"ms\":{},\"id\":\"{:08x}\",\"msg\":\"",
        1_760_000_000_000u64 + next() % 100_000_000,
        LEVELS[(next() % 4) as usize],
        PATHS[(next() % 8) as usize],
        next() % 1000,
        next() as u32
    );
    while s.len() < size {
        s += WORDS[(next() % 16) as usize];
        s.push(' ');
        if next() % 4 == 0 {
            s += &format!("{} ", next() % 100_000);
        }
    }
    s.truncate(size.saturating_sub(2));
    s += "\"}";
    s.truncate(size);
    s.into_bytes()
}

pub fn pool(size: usize) -> Vec<Vec<u8>> {
    (0..POOL).map(|k| payload(k, size)).collect()
}

pub fn keys() -> Vec<Vec<u8>> {
    (0..KEYS).map(|k| format!("{:016x}", splitmix(k as u64)).into_bytes()).collect()
}

/// Histogram of nanoseconds: 64 buckets to each power of two.
pub struct Hist {
    counts: Vec<AtomicU64>,
    max: AtomicU64,
}

impl Default for Hist {
    fn default() -> Self {
        Self { counts: (0..64 * 64).map(|_| AtomicU64::new(0)).collect(), max: AtomicU64::new(0) }
    }
}

impl Hist {
    pub fn add(&self, ns: u64) {
        let ns = ns.max(64);
        let power = u64::from(ns.ilog2());
        let at = (power * 64 + ((ns >> (power - 6)) & 63)) as usize;
        self.counts[at].fetch_add(1, Relaxed);
        self.max.fetch_max(ns, Relaxed);
    }

    pub fn quantile_ms(&self, q: f64) -> f64 {
        let total: u64 = self.counts.iter().map(|b| b.load(Relaxed)).sum();
        let want = ((total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (k, count) in self.counts.iter().enumerate() {
            seen += count.load(Relaxed);
            if seen >= want {
                let (power, fine) = ((k / 64) as u32, (k % 64) as u64);
                return ((1u64 << power) + (fine << (power - 6))) as f64 / 1e6;
            }
        }
        0.0
    }
}

pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// User and system seconds of the whole process, and its largest size in KiB.
pub fn usage() -> (f64, f64, i64) {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("the process may ask for its own usage");
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    (seconds(usage.user_time()), seconds(usage.system_time()), usage.max_rss())
}

/// Delivery counts of one phase.
#[derive(Default)]
pub struct Acks {
    pub ok: AtomicU64,
    pub errors: AtomicU64,
    pub hist: Hist,
}

impl Acks {
    /// `sent_ns` is 0 for a record whose latency is not sampled.
    pub fn done(&self, ok: bool, sent_ns: u64) {
        let count = if ok { &self.ok } else { &self.errors };
        count.fetch_add(1, Relaxed);
        if sent_ns != 0 {
            self.hist.add(now_ns().saturating_sub(sent_ns));
        }
    }

    pub fn total(&self) -> u64 {
        self.ok.load(Relaxed) + self.errors.load(Relaxed)
    }
}

/// Releases records: at a rate in bursts, one each millisecond, the same for every peer.
pub struct Pace {
    start: u64,
    per_tick: f64,
    tick: u64,
    allowed: u64,
    released: u64,
    sample: u64,
}

const TICK_NS: u64 = 1_000_000;

impl Pace {
    pub fn new(args: &Args) -> Self {
        let start = now_ns();
        let allowed = if args.rate > 0.0 { 0 } else { u64::MAX };
        let (per_tick, sample) = (args.rate / 1000.0, args.sample.max(1));
        Self { start, per_tick, tick: 0, allowed, released: 0, sample }
    }

    /// Blocks the calling thread until record `i` is due, and says from when its latency counts;
    /// 0 if it is not sampled.
    ///
    /// At a rate that is when its burst was released: what a sender that was held up sends late
    /// counts from when it should have been sent (coordinated omission). That the system lets the
    /// thread sleep too long is not the client's doing.
    pub fn wait(&mut self, i: u64) -> u64 {
        while i >= self.allowed {
            self.tick += 1;
            let due = self.start + self.tick * TICK_NS;
            let now = now_ns();
            self.released = due;
            if due > now {
                std::thread::sleep(Duration::from_nanos(due - now));
                self.released = now_ns();
            }
            self.allowed = (self.tick as f64 * self.per_tick) as u64;
        }
        if !i.is_multiple_of(self.sample) {
            0
        } else if self.released > 0 {
            self.released
        } else {
            now_ns()
        }
    }
}

pub struct Phase {
    start: Instant,
    before: (f64, f64, i64),
}

impl Phase {
    pub fn start() -> Self {
        now_ns();
        Self { start: Instant::now(), before: usage() }
    }

    pub fn report(self, peer: &str, args: &Args, acks: &Acks) {
        let s = self.start.elapsed().as_secs_f64();
        let after = usage();
        let (user, system) = (after.0 - self.before.0, after.1 - self.before.1);
        let n = acks.ok.load(Relaxed);
        println!(
            "{{\"peer\":\"{peer}\",\"records\":{n},\"seconds\":{s:.4},\"records_per_s\":{:.0},\
             \"mb_per_s\":{:.2},\"user_s\":{user:.4},\"sys_s\":{system:.4},\
             \"cpu_us_per_record\":{:.4},\"total_user_s\":{:.3},\"total_sys_s\":{:.3},\
             \"max_rss_kb\":{},\"p50_ms\":{:.3},\"p99_ms\":{:.3},\"p999_ms\":{:.3},\
             \"max_ms\":{:.3},\"errors\":{}}}",
            n as f64 / s,
            n as f64 * args.size as f64 / s / 1e6,
            (user + system) * 1e6 / n.max(1) as f64,
            after.0,
            after.1,
            after.2,
            acks.hist.quantile_ms(0.5),
            acks.hist.quantile_ms(0.99),
            acks.hist.quantile_ms(0.999),
            acks.hist.max.load(Relaxed) as f64 / 1e6,
            acks.errors.load(Relaxed),
        );
    }
}
