//! A broker on a port, until Ctrl-C: `cargo run -p sordini-broker --example serve -- [FOLDER] [PORT]`.
#![allow(clippy::disallowed_macros, reason = "a program prints")]

use sordini_broker::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next();
    let port = args.next().unwrap_or_else(|| "0".to_owned());
    let builder = Server::builder().listen(format!("127.0.0.1:{port}"));
    let builder = match folder {
        Some(folder) => builder.data_dir(folder),
        None => builder.in_memory(),
    };
    let server = builder.start().await?;
    for (dir, recovery) in server.recovered() {
        eprintln!("recovered {dir}: {recovery:?}");
    }
    println!("{}", server.bootstrap());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await?;
    Ok(())
}
