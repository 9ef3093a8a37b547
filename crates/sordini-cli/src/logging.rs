//! The log on stderr: warnings, or what `-v` and SORDINI_LOG ask for.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::exit::Failure;
use crate::terminal::LogLine;

/// The variable that holds directives as tracing's `EnvFilter` reads them.
const VARIABLE: &str = "SORDINI_LOG";

/// Starts the log. `verbosity` counts the `-v`; SORDINI_LOG outranks it.
///
/// # Errors
/// If SORDINI_LOG can't be read.
pub(crate) fn start(verbosity: u8) -> Result<(), Failure> {
    let directives = match std::env::var(VARIABLE) {
        Ok(directives) if !directives.trim().is_empty() => directives,
        _ => match verbosity {
            0 => "warn",
            1 => "info",
            2 => "debug",
            _ => "trace",
        }
        .to_owned(),
    };
    let filter = EnvFilter::try_new(&directives).map_err(|error| {
        Failure::usage(format!(
            "{VARIABLE}={directives:?} is no filter ({error}); try info, or sordini=debug"
        ))
    })?;
    // LogLine strips colours where stderr is no terminal; asking here keeps them from being made.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    let set = if verbosity == 0 {
        // Warnings for somebody who asked for no log: each once in a while, without its origin.
        let subscriber = subscriber.without_time().with_target(false).with_writer(LogLine::once);
        tracing::subscriber::set_global_default(subscriber.finish())
    } else {
        let subscriber = subscriber.with_writer(LogLine::every);
        tracing::subscriber::set_global_default(subscriber.finish())
    };
    set.map_err(Failure::failed)
}
