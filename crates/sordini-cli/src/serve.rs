//! `sordini serve`: the embedded broker for other programs.

use std::path::PathBuf;

use sordini_broker::Server;

use crate::connect::DEFAULT_DATA;
use crate::embedded;
use crate::exit::{Failure, Outcome};
use crate::output::print_line;
use crate::signals::Signals;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  sordini serve                                 on 127.0.0.1:9092, data in ./sordini-data
  sordini serve --listen 127.0.0.1:0 --data /tmp/events --partitions 6
  sordini serve --listen 0.0.0.0:9092 --advertise build-host:9092 --allow-remote

When it is ready it prints one line to stdout: the address for bootstrap.servers. Ctrl-C or SIGTERM
stop it cleanly, with exit code 0; a second one ends it at once (130 or 143). Exit code 2: the address
or the folder can't be used.

Records survive when this process is killed. With --fsync they survive a power cut too, and each
acknowledgement waits for the disk. There is no authentication and no encryption yet.";

/// Run the embedded Kafka-protocol broker
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    listen: String,

    /// The address that clients are told to connect to [default: the one that is listened on]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,

    /// The folder for the data
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    data: PathBuf,

    /// Partitions of a topic that is created without a number
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,

    /// Don't create topics that clients ask for
    #[arg(long)]
    no_auto_create: bool,

    /// Acknowledge a record only once it has survived a sync to the disk
    #[arg(long)]
    fsync: bool,

    /// Let other machines connect, although there is no authentication yet
    #[arg(long)]
    allow_remote: bool,
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    let mut signals = Signals::listen(|| {}).map_err(Failure::failed)?;
    let mut builder = Server::builder()
        .listen(&args.listen)
        .data_dir(&args.data)
        .partitions(args.partitions)
        .auto_create(!args.no_auto_create)
        .fsync(args.fsync)
        .allow_remote(args.allow_remote);
    if let Some(advertise) = &args.advertise {
        builder = builder.advertise(advertise);
    }
    let server = embedded::start(builder).await;
    let server = server.map_err(|error| embedded::refused(&args.data, &error))?;
    if !server.addr().ip().is_loopback() {
        terminal::warn(format!(
            "anybody who reaches {} can read, write and delete: there is no authentication yet",
            server.addr()
        ));
    }
    // Whoever started it may not read its output; that is no reason to stop.
    let _ = print_line(&server.bootstrap());
    terminal::note(format!(
        "serving {} on {}; Ctrl-C stops it",
        args.data.display(),
        server.addr()
    ));
    signals.wait().await;
    embedded::stop(server).await;
    Ok(())
}
