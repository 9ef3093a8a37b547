//! Transactions with sordini's own producer. Its verbs, arguments, logs and exit codes are those of
//! interop/kafka/txn/Txn.java, which says them.

#![forbid(unsafe_code)]

mod api;
mod args;
mod bench;
mod copy;
mod failed;
mod group;
mod log;
mod read;
mod steps;
mod write;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use args::Args;
use failed::Failed;
use tokio::sync::Notify;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("txn: {failed}");
            ExitCode::from(failed.code())
        }
    }
}

async fn run() -> Result<(), Failed> {
    let mut args = std::env::args().skip(1);
    let verb = args.next().unwrap_or_default();
    let args = Args::parse(args)?;
    match verb.as_str() {
        "write" => write::run(&args).await,
        "steps" => steps::run(&args).await,
        "copy" => copy::run(&args).await,
        "bench" => bench::run(&args).await,
        _ => Err(Failed::Other("want: write, steps, copy or bench, as Txn.java says".to_owned())),
    }
}

/// Notified once standard input ends.
fn input_end() -> Arc<Notify> {
    let end = Arc::new(Notify::new());
    let noticed = Arc::clone(&end);
    // A thread, since the runtime would wait for a blocked read at its end.
    drop(thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        noticed.notify_one();
    }));
    end
}
