//! `cargo xtask examples`: the click events under examples/, made from a fixed seed.
//!
//! A day in a small shop of books and records: visitors arrive, look around for some pages, some
//! buy. The words are made up, the shape is not: sessions overlap, a few users come often, dwell
//! times have a long tail, text is in the visitor's script.

mod shop;

use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::fs;

use serde::Serialize;

use crate::{Result, shell};
use shop::{AGENTS, COUNTRIES, Country, PRODUCTS, REFERRERS};

const CLICKS: &str = "examples/clicks.jsonl";
const KEYED: &str = "examples/clicks-keyed.tsv";
const EVENTS: usize = 10_400;
const SEED: u64 = 0x50_72_64_69_6e_69;
/// 2026-03-02T06:00:00Z, a Monday.
const START_MS: u64 = 1_772_431_200_000;

/// Writes the files; with `--check` only compares them with what is committed.
pub(crate) fn run(args: &[String]) -> Result {
    let check = match args {
        [] => false,
        [arg] if arg == "--check" => true,
        _ => return Err(format!("what is {args:?}? Known: --check")),
    };
    let clicks = clicks();
    for (name, text) in [(CLICKS, jsonl(&clicks)?), (KEYED, keyed(&clicks)?)] {
        let path = shell::root().join(name);
        if check {
            if shell::read(&path)? != text {
                return Err(format!(
                    "{name} is not what this command makes: `cargo xtask examples`"
                ));
            }
        } else {
            fs::write(&path, &text).map_err(|e| format!("{name}: {e}"))?;
        }
        println!("{name}: {} lines, {} bytes", text.lines().count(), text.len());
    }
    Ok(())
}

/// One line of clicks.jsonl. The order of the fields is the order in the file.
#[derive(Serialize)]
struct Click {
    time: String,
    session: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    event: &'static str,
    page: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Price>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referrer: Option<&'static str>,
    country: &'static str,
    agent: &'static str,
}

#[derive(Serialize, Clone)]
struct Price {
    amount: f64,
    currency: &'static str,
}

/// What clicks-keyed.tsv keeps of a click; its key is the session.
#[derive(Serialize)]
struct Step<'a> {
    step: u32,
    time: &'a str,
    event: &'a str,
    page: &'a str,
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the items; the first ones come more often.
    fn favourite<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let bound = items.len() as u64;
        let index = self.below(bound).min(self.below(bound));
        &items[usize::try_from(index).expect("less than the length")]
    }

    /// Milliseconds with a long tail around `typical`: most are short, a few ten times as long.
    fn dwell(&mut self, typical: u64) -> u64 {
        let base = typical / 4 + self.below(typical);
        if self.chance(8) { base * (3 + self.below(8)) } else { base }
    }
}

/// A visitor between two clicks.
struct Session {
    id: String,
    user: Option<String>,
    country: &'static Country,
    agent: &'static str,
    referrer: Option<&'static str>,
    product: Option<usize>,
    in_cart: Option<usize>,
    clicks_left: u64,
}

fn arrive(random: &mut Random) -> Session {
    // Few users come often: the square of a uniform number crowds the low ones.
    let user = random.chance(62).then(|| {
        let r = random.below(1_000);
        format!("u-{}", 10_000 + r * r / 400)
    });
    let country = random.favourite(COUNTRIES);
    Session {
        id: format!("{:012x}", random.next() >> 16),
        user,
        country,
        agent: random.favourite::<&str>(AGENTS),
        referrer: random.chance(70).then(|| *random.favourite(REFERRERS)),
        product: None,
        in_cart: None,
        clicks_left: 1 + random.dwell(6),
    }
}

fn clicks() -> Vec<Click> {
    let mut random = Random(SEED);
    let mut sessions: Vec<Session> = Vec::new();
    // (time, session), earliest first; the session's number settles ties.
    let mut due: BinaryHeap<std::cmp::Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut next_arrival = START_MS;
    let mut clicks = Vec::with_capacity(EVENTS);
    while clicks.len() < EVENTS {
        while due.peek().is_none_or(|std::cmp::Reverse((time, _))| next_arrival <= *time) {
            due.push(std::cmp::Reverse((next_arrival, sessions.len())));
            sessions.push(arrive(&mut random));
            next_arrival += random.dwell(9_000);
        }
        let std::cmp::Reverse((time, index)) = due.pop().expect("an arrival was just pushed");
        clicks.push(sessions[index].click(time, &mut random));
        if sessions[index].clicks_left > 0 {
            due.push(std::cmp::Reverse((time + random.dwell(24_000), index)));
        }
    }
    clicks
}

impl Session {
    fn click(&mut self, time: u64, random: &mut Random) -> Click {
        self.clicks_left -= 1;
        let mut click = Click {
            time: rfc3339(time),
            session: self.id.clone(),
            user: self.user.clone(),
            event: "view",
            page: "/".to_owned(),
            title: None,
            query: None,
            price: None,
            referrer: self.referrer.take(),
            country: self.country.code,
            agent: self.agent,
        };
        match (self.in_cart, self.product) {
            (Some(product), _) if random.chance(45) => {
                click.event = "purchase";
                click.page = format!("/orders/{}", 700_000 + random.below(90_000));
                click.price = Some(self.price(product));
                self.in_cart = None;
            }
            (Some(_), _) => click.page = "/cart".to_owned(),
            (None, Some(product)) if random.chance(22) => {
                click.event = "add_to_cart";
                click.page = format!("/items/{}", PRODUCTS[product].slug);
                click.price = Some(self.price(product));
                self.in_cart = Some(product);
            }
            _ if random.chance(24) => {
                click.event = "search";
                click.page = "/search".to_owned();
                click.query = Some(*random.favourite::<&str>(self.country.queries));
            }
            _ if random.chance(78) => self.look(&mut click, random),
            _ => {}
        }
        click
    }

    fn look(&mut self, click: &mut Click, random: &mut Random) {
        let bound = PRODUCTS.len() as u64;
        let index = random.below(bound).min(random.below(bound));
        let product = usize::try_from(index).expect("less than the length");
        click.page = format!("/items/{}", PRODUCTS[product].slug);
        click.title = Some(PRODUCTS[product].title);
        click.price = Some(self.price(product));
        self.product = Some(product);
    }

    fn price(&self, product: usize) -> Price {
        let cents = PRODUCTS[product].cents;
        let amount = match self.country.currency {
            "JPY" => (cents * 163 / 100) as f64,
            "INR" => (cents * 91 / 100) as f64,
            _ => cents as f64 / 100.0,
        };
        Price { amount, currency: self.country.currency }
    }
}

/// The time of day in UTC; the whole file lies within a few days of one month.
fn rfc3339(ms: u64) -> String {
    let since = ms - START_MS + 6 * 3_600_000;
    let (day, of_day) = (2 + since / 86_400_000, since % 86_400_000);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("2026-03-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

fn jsonl(clicks: &[Click]) -> Result<String> {
    let mut text = String::new();
    for click in clicks {
        text.push_str(&serde_json::to_string(click).map_err(|e| format!("{CLICKS}: {e}"))?);
        text.push('\n');
    }
    Ok(text)
}

fn keyed(clicks: &[Click]) -> Result<String> {
    let mut steps: std::collections::HashMap<&str, u32> = std::collections::HashMap::new();
    let mut text = String::new();
    for click in clicks {
        let step = steps.entry(&click.session).or_default();
        *step += 1;
        let value = Step { step: *step, time: &click.time, event: click.event, page: &click.page };
        let json = serde_json::to_string(&value).map_err(|e| format!("{KEYED}: {e}"))?;
        let _ = writeln!(text, "{}\t{json}", click.session);
    }
    Ok(text)
}
