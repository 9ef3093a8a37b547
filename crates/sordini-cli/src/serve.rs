//! `sordini serve`: the embedded broker for other programs.

use std::path::PathBuf;

use sordini_broker::server::{ClusterServer, StartError};
use sordini_broker::{ClusterConfig, Server};

use crate::connect::DEFAULT_DATA;
use crate::embedded::{self, Copies};
use crate::exit::{Failure, Outcome};
use crate::output::print_line;
use crate::signals::Signals;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  sordini serve                                 on 127.0.0.1:9092, data in ./sordini-data
  sordini serve --listen 127.0.0.1:0 --data /tmp/events --partitions 6
  sordini serve --listen 0.0.0.0:9092 --advertise build-host:9092 --allow-remote
  sordini serve --nodes 3                       a cluster on ports 9092, 9093 and 9094

When it is ready it prints one line to stdout: the address for bootstrap.servers, or those of all
nodes. Ctrl-C or SIGTERM stop it cleanly, with exit code 0; a second one ends it at once (130 or 143).
Exit code 2: an address or the folder can't be used; 1: stdout can't be written.

Records survive when this process is killed. With --fsync they survive a power cut too, and each
acknowledgement waits for the disk. There is no authentication and no encryption yet.

With --nodes N a program meets a real cluster without a JVM: a listener for each node, partitions led
by different nodes, followers that replicate, replication factors and min.insync.replicas
(`sordini topic create t --replication 3 -b ..`). Topics have 3 replicas unless asked otherwise, or N
if that is less. Node K listens on PORT+K-1 and keeps its data in DIR/node-K; a folder stays with its
number of nodes. It is for tests: all nodes are one process on one disk, so the replicas protect from
no failure of this machine, and it listens on this machine only.";

/// Replicas of a topic that is created without a number, where there are as many nodes.
const REPLICAS: i16 = 3;

/// Run the embedded Kafka-protocol broker
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The address to listen on, of the first node; port 0 takes free ones
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    #[arg(value_parser = parse_address)]
    listen: String,

    /// The address that clients are told to connect to [default: the one that is listened on]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,

    /// The folder for the data
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    data: PathBuf,

    /// How many nodes; more than one are a cluster
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=9))]
    nodes: i32,

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

/// An address to listen on; for clap. Whether the host is one of this machine is seen later.
fn parse_address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(text.to_owned())
        }
        _ => Err("it is not HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:9092".into()),
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args) -> Outcome {
    let mut signals = Signals::listen(|| {}).map_err(Failure::failed)?;
    if args.nodes > 1 {
        let cluster = start_cluster(&args).await?;
        let told = ready(&args, &cluster.bootstrap(), &cluster.bootstrap());
        if told.is_ok() {
            signals.wait().await;
        }
        cluster.shutdown().await;
        return told;
    }
    let server = start_single(&args).await?;
    if !server.addr().ip().is_loopback() {
        terminal::warn(format!(
            "anybody who reaches {} can read, write and delete: there is no authentication yet",
            server.addr()
        ));
    }
    let told = ready(&args, &server.bootstrap(), &server.addr().to_string());
    if told.is_ok() {
        signals.wait().await;
    }
    embedded::stop(server).await;
    told
}

async fn start_single(args: &Args) -> Result<Server, Failure> {
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
    server.map_err(|error| embedded::refused(&args.data, &error))
}

async fn start_cluster(args: &Args) -> Result<ClusterServer, Failure> {
    let only_here = "a cluster (--nodes) is for clients on this machine";
    if args.allow_remote || args.advertise.is_some() {
        return Err(Failure::usage(format!(
            "{only_here}: leave out --allow-remote and --advertise, or --nodes"
        )));
    }
    let mut config = ClusterConfig::default();
    config.nodes = args.nodes;
    config.default_replication = i16::try_from(args.nodes).unwrap_or(i16::MAX).min(REPLICAS);
    config.broker.default_partitions = args.partitions;
    config.broker.auto_create_topics = !args.no_auto_create;
    config.broker.fsync = args.fsync;
    // What arrived is of interest to tests; a command that runs for days must not collect it.
    config.broker.produce_log_limit = 0;
    let started = ClusterServer::start(config, &args.listen, Some(args.data.clone())).await;
    let cluster = started.map_err(|error| match error {
        StartError::Remote { address } => {
            Failure::usage(format!("{only_here}, so it can't listen on {address}; use 127.0.0.1"))
        }
        error => embedded::refused(&args.data, &error),
    })?;
    warn_of_repairs(&cluster, args.nodes).await;
    Ok(cluster)
}

async fn warn_of_repairs(cluster: &ClusterServer, nodes: i32) {
    for node in 1..=nodes {
        let recovered = cluster
            .with(move |cluster, _| cluster.broker(node).map(|broker| broker.recovered().to_vec()))
            .await;
        for (partition, recovery) in recovered.ok().flatten().unwrap_or_default() {
            let partition = format!("node {node}: {partition}");
            embedded::warn_of_repair(&partition, &recovery, Copies::OtherNodes);
        }
    }
}

/// Tells the addresses to whoever started it, who may not read them: that is no reason to stop, but
/// a reader that can't get them is.
fn ready(args: &Args, bootstrap: &str, listens_on: &str) -> Outcome {
    match print_line(bootstrap) {
        Err(failure) if failure != Failure::quiet(0) => return Err(failure),
        _ => {}
    }
    terminal::note(format!("serving {} on {listens_on}; Ctrl-C stops it", args.data.display()));
    Ok(())
}
