//! The records, and when each is due: the same bytes and the same bursts in every program of the
//! comparison.

use std::time::{Duration, Instant};

const LINES: usize = 4096;
const KEYS: usize = 65_536;

/// Lines of a log, cut to one size, and keys for them.
pub(crate) struct Load {
    lines: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

impl Load {
    pub(crate) fn new(size: usize, keyed: bool) -> Self {
        let keys = if keyed { KEYS } else { 0 };
        let key = |at| format!("{:016x}", mix(at as u64)).into_bytes();
        Self {
            lines: (0..LINES).map(|at| line(at, size)).collect(),
            keys: (0..keys).map(key).collect(),
        }
    }

    pub(crate) fn value(&self, number: u64) -> &[u8] {
        &self.lines[number as usize % LINES]
    }

    pub(crate) fn key(&self, number: u64) -> Option<&[u8]> {
        let at = (number as usize).checked_rem(self.keys.len())?;
        Some(&self.keys[at])
    }
}

/// SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn line(at: usize, size: usize) -> Vec<u8> {
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
    let mut state = mix(at as u64 + 1);
    let mut next = move || {
        state = mix(state);
        state
    };
    let mut text = format!(
        "{{\"ts\":{},\"lvl\":\"{}\",\"path\":\"{}\",\"ms\":{},\"id\":\"{:08x}\",\"msg\":\"",
        1_760_000_000_000 + next() % 100_000_000,
        LEVELS[(next() % 4) as usize],
        PATHS[(next() % 8) as usize],
        next() % 1000,
        next() as u32
    );
    while text.len() < size {
        text += WORDS[(next() % 16) as usize];
        text.push(' ');
        if next() % 4 == 0 {
            text += &format!("{} ", next() % 100_000);
        }
    }
    text.truncate(size.saturating_sub(2));
    text += "\"}";
    text.truncate(size);
    text.into_bytes()
}

/// Releases records in bursts, one each millisecond.
pub(crate) struct Pace {
    start: Instant,
    per_tick: f64,
    tick: u64,
    allowed: u64,
    released: Instant,
}

impl Pace {
    pub(crate) fn new(rate: f64) -> Self {
        let start = Instant::now();
        Self { start, per_tick: rate / 1000.0, tick: 0, allowed: 0, released: start }
    }

    /// Blocks the thread until the record is due, and says since when it is: what a sender that
    /// was held up sends late counts from when it should have been sent (coordinated omission).
    /// That the system lets the thread sleep too long is not the producer's doing.
    pub(crate) fn wait(&mut self, number: u64) -> Instant {
        while number >= self.allowed {
            self.tick += 1;
            let due = self.start + Duration::from_millis(self.tick);
            let now = Instant::now();
            self.released = due;
            if due > now {
                std::thread::sleep(due - now);
                self.released = Instant::now();
            }
            self.allowed = (self.tick as f64 * self.per_tick) as u64;
        }
        self.released
    }

    /// Are all records of the burst on their way, `number` being the next?
    pub(crate) fn is_over(&self, number: u64) -> bool {
        number >= self.allowed
    }
}
