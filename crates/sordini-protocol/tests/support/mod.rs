//! What the tests of the messages share: values for every message, and the golden files.
#![allow(dead_code, reason = "each test uses a part of it")]

mod samples;

use std::path::Path;

use sordini_protocol::{Message, Uuid};

pub(crate) use samples::every_message;

/// Sees every message of the crate, one after the other.
pub(crate) trait Visitor {
    fn message<M: Message + Sample>(&mut self, name: &'static str);
}

/// A struct of the protocol that can be filled with what one version can carry.
pub(crate) trait Sample: Sized {
    fn sample(source: &mut dyn Source, version: i16) -> Self;
}

/// Where the values of a sample come from. Fields go by Kafka's snake_case names.
pub(crate) trait Source {
    fn number(&mut self, field: &str) -> i64;
    fn flag(&mut self, field: &str) -> bool;
    fn text(&mut self, field: &str) -> String;
    fn bytes(&mut self, field: &str) -> Vec<u8>;
    fn uuid(&mut self, field: &str) -> Uuid;
    fn count(&mut self, field: &str) -> usize;
    /// Is a field null that may be?
    fn is_null(&mut self, field: &str) -> bool;
    /// Has a tagged field a value of its own?
    fn is_set(&mut self, field: &str) -> bool;
}

/// Anything that is legal, from a seed.
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

impl Source for Seeded {
    fn number(&mut self, _: &str) -> i64 {
        match self.below(6) {
            0 => 0,
            1 => -1,
            2 => i64::MAX,
            3 => i64::MIN,
            4 => self.below(1000) as i64,
            _ => self.next() as i64,
        }
    }

    fn flag(&mut self, _: &str) -> bool {
        self.below(2) == 1
    }

    fn text(&mut self, _: &str) -> String {
        let length = [0, 1, 5, 126, 127, 128, 300][self.below(7) as usize];
        let letters = ['a', 'Z', '-', 'ü', '→', '🦀', '\0', '\n'];
        (0..length).map(|_| letters[self.below(8) as usize]).collect()
    }

    fn bytes(&mut self, _: &str) -> Vec<u8> {
        let length = [0, 1, 100, 126, 127, 20_000][self.below(6) as usize];
        (0..length).map(|i| (i as u8) ^ 0x5a).collect()
    }

    fn uuid(&mut self, _: &str) -> Uuid {
        if self.flag("") {
            Uuid::ZERO
        } else {
            Uuid(self.next().to_be_bytes().repeat(2).try_into().unwrap())
        }
    }

    fn count(&mut self, _: &str) -> usize {
        [0, 1, 1, 2, 3][self.below(5) as usize]
    }

    fn is_null(&mut self, _: &str) -> bool {
        self.below(3) == 0
    }

    fn is_set(&mut self, _: &str) -> bool {
        self.flag("")
    }
}

/// What `Messages.java` calls "named": every value follows from the field's name.
pub(crate) struct Named;

impl Source for Named {
    fn number(&mut self, field: &str) -> i64 {
        let mut hash: u32 = 0x811c_9dc5;
        for byte in field.bytes() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64
    }

    fn flag(&mut self, _: &str) -> bool {
        true
    }

    fn text(&mut self, field: &str) -> String {
        format!("{field}-ü")
    }

    fn bytes(&mut self, field: &str) -> Vec<u8> {
        self.number(field).to_be_bytes().to_vec()
    }

    fn uuid(&mut self, field: &str) -> Uuid {
        let number = self.number(field);
        Uuid([number.to_be_bytes(), (!number).to_be_bytes()].concat().try_into().unwrap())
    }

    fn count(&mut self, _: &str) -> usize {
        2
    }

    fn is_null(&mut self, _: &str) -> bool {
        false
    }

    fn is_set(&mut self, _: &str) -> bool {
        true
    }
}

/// What `Messages.java` calls "empty": zeros, nulls, and nothing in arrays.
pub(crate) struct Empty;

impl Source for Empty {
    fn number(&mut self, _: &str) -> i64 {
        0
    }

    fn flag(&mut self, _: &str) -> bool {
        false
    }

    fn text(&mut self, _: &str) -> String {
        String::new()
    }

    fn bytes(&mut self, _: &str) -> Vec<u8> {
        Vec::new()
    }

    fn uuid(&mut self, _: &str) -> Uuid {
        Uuid::ZERO
    }

    fn count(&mut self, _: &str) -> usize {
        0
    }

    fn is_null(&mut self, _: &str) -> bool {
        true
    }

    fn is_set(&mut self, _: &str) -> bool {
        false
    }
}

/// A line of a golden file: words, then bytes in hex.
pub(crate) struct Golden {
    pub(crate) words: Vec<String>,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn golden(file: &str) -> Vec<Golden> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let lines = text.lines().map(|line| {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let hex = words.pop().expect("a line has bytes");
        let bytes = hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hex"));
        Golden { bytes: bytes.collect(), words }
    });
    lines.collect()
}
