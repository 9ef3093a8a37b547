//! The log on stderr: warnings, or what `-v` and SORDINI_LOG ask for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;

use crate::exit::Failure;
use crate::terminal::LogLine;

/// The variable that holds directives as tracing's `EnvFilter` reads them.
const VARIABLE: &str = "SORDINI_LOG";

/// Which of the log's lines the command says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// None.
    Nothing,
    /// Why records failed.
    Failures,
    /// All: what goes wrong in a simulated world is its purpose.
    Everything,
}

/// Starts the log. `verbosity` counts the `-v`; SORDINI_LOG outranks it. Without both, what is
/// `told` by the command itself is left out.
///
/// # Errors
/// If SORDINI_LOG can't be read.
pub(crate) fn start(verbosity: u8, told: Told) -> Result<(), Failure> {
    let asked = std::env::var(VARIABLE).ok().filter(|directives| !directives.trim().is_empty());
    let left_out = told == Told::Failures && verbosity == 0 && asked.is_none();
    let directives = asked.unwrap_or_else(|| {
        let level = match verbosity {
            0 if told == Told::Everything => "off",
            // Who was warned of a trouble is told that it is over.
            0 => "warn,sordini::trouble=info,sordini_broker::trouble=info",
            1 => "info",
            2 => "debug",
            _ => "trace",
        };
        level.to_owned()
    });
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        Failure::usage(format!(
            "{VARIABLE}={directives:?} is no filter ({error}); try info, or sordini=debug"
        ))
    })?;
    // LogLine strips colours where stderr is no terminal; asking here keeps them from being made.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    // What became of records is said with a field of this name.
    let rest = filter_fn(move |metadata| !(left_out && metadata.fields().field("fate").is_some()));
    let set = if verbosity == 0 {
        // Warnings for somebody who asked for no log: each once in a while, without its origin.
        let subscriber = subscriber.without_time().with_target(false).with_writer(LogLine::once);
        tracing::subscriber::set_global_default(subscriber.finish().with(rest))
    } else {
        let subscriber = subscriber.with_writer(LogLine::every);
        tracing::subscriber::set_global_default(subscriber.finish().with(rest))
    };
    set.map_err(Failure::failed)
}
