//! The command line of Sordini: `sordini produce`, `serve`, `tail`, `topic`, `perf` and `sim`.
#![forbid(unsafe_code)]

mod base64;
mod connect;
mod embedded;
mod exit;
mod input;
mod json;
mod logging;
mod output;
mod perf;
mod produce;
mod separator;
mod serve;
mod signals;
mod sim;
mod summary;
mod tail;
mod terminal;
mod topic;

use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};

use crate::exit::{Failure, Outcome};

/// Append events to Kafka, and see what became of each.
///
/// Without -b, `produce` and `tail` bring their own broker, which keeps its data in ./sordini-data:
///
///     sordini produce clicks clicks.jsonl          one record per line
///     sordini tail clicks --exit-at-end            the same lines again
///
/// Every setting of Kafka's Java producer can be given by its name: -X acks=all -X linger.ms=5.
#[derive(Debug, Parser)]
#[command(name = "sordini", version, verbatim_doc_comment, arg_required_else_help = true)]
struct Cli {
    /// Say more on stderr: -v what happens, -vv details, -vvv everything (or set SORDINI_LOG)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Produce(produce::Args),
    Tail(tail::Args),
    Topic(topic::Args),
    Serve(serve::Args),
    Perf(perf::Args),
    Sim(sim::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(asked) if !asked.use_stderr() => output::print_help(&asked),
        Err(error) => error.exit(),
    };
    terminal::clear();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                terminal::error(&failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn run(cli: Cli) -> Outcome {
    let told = match &cli.command {
        Command::Produce(_) => logging::Told::Failures,
        Command::Sim(_) => logging::Told::Everything,
        _ => logging::Told::Nothing,
    };
    logging::start(cli.verbose, told)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("the runtime can't be started: {error}")))?;
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Produce(args) => produce::run(args).await,
            Command::Tail(args) => tail::run(args).await,
            Command::Topic(args) => topic::run(args).await,
            Command::Serve(args) => serve::run(args).await,
            Command::Perf(args) => perf::run(args).await,
            Command::Sim(args) => sim::run(args).await,
        }
    });
    // A thread may still wait for a terminal's next line; nothing of it is wanted any more.
    runtime.shutdown_background();
    outcome
}
