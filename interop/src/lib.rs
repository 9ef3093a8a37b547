//! Real Kafka and foreign clients as judges of sordini's binaries.
//!
//! The tests under `tests/` start the real programs and let others say what happened: the Java
//! client reads what `sordini produce` wrote, and kcat, franz-go and Java write to and read from
//! `sordini serve`. This library holds what they have in common. It uses no crate of sordini's;
//! the programs under `bin` do.

#![forbid(unsafe_code)]

pub mod dialogue;
pub mod foreign;
pub mod judge;
pub mod kafka;
pub mod lines;
pub mod numbers;
pub mod process;
pub mod sordini;
pub mod times;
pub mod transactions;
pub mod trouble;

/// A program that a test cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A JDK and Maven: real Kafka and the Java tools.
    Kafka,
    /// kcat, librdkafka's command line.
    Kcat,
    /// The Go toolchain: franz-go.
    Go,
    /// Python with pip: librdkafka's transactions.
    Python,
}

impl Need {
    fn missing(self) -> Option<&'static str> {
        let works = |name: &str, args: &[&str]| {
            let mut command = std::process::Command::new(name);
            command.args(args).stdin(std::process::Stdio::null());
            command.output().is_ok_and(|output| output.status.success())
        };
        let found = match self {
            Self::Kafka => works("javac", &["-version"]) && works("mvn", &["-v"]),
            Self::Kcat => works("kcat", &["-V"]),
            Self::Go => works("go", &["version"]),
            Self::Python => works("python3", &["-m", "pip", "--version"]),
        };
        let what = match self {
            Self::Kafka => "a JDK and Maven",
            Self::Kcat => "kcat",
            Self::Go => "Go",
            Self::Python => "Python with pip",
        };
        (!found).then_some(what)
    }
}

/// Can the test run here? If not it says so, loudly.
///
/// # Panics
/// With `SORDINI_REQUIRE_KAFKA=1`, if something is missing: CI has everything.
#[must_use]
pub fn can_run(test: &str, needs: &[Need]) -> bool {
    let missing: Vec<&str> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    let required = std::env::var_os("SORDINI_REQUIRE_KAFKA").is_some_and(|value| value == "1");
    assert!(!required, "SORDINI_REQUIRE_KAFKA=1, and {test} needs what is missing here: {missing}");
    eprintln!("SKIPPED: {test} needs what is missing here: {missing}");
    false
}

/// The project's folder.
#[must_use]
pub fn root() -> std::path::PathBuf {
    let interop = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    interop.parent().expect("interop lies in the project").to_owned()
}
