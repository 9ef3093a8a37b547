//! `cargo xtask kafka ..`: the script that brings up a real Apache Kafka.

use crate::{Result, shell};

pub(crate) fn run(args: &[String]) -> Result {
    let script = shell::root().join("interop/kafka/kafka");
    // The nodes outlive this command, so their folder must not depend on where it was called from.
    let mut command = shell::program("bash");
    command.arg(script).args(args);
    shell::run(&mut command)
}
