//! On what, when and with which versions it was measured.

use crate::{Result, shell};

/// Day, machine and versions, as the first lines of the tables.
pub(super) fn describe() -> Result<String> {
    let day = shell::output(shell::program("date").args(["-u", "+%Y-%m-%d"]))?;
    let kernel = shell::output(shell::program("uname").args(["-sr"]))?;
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = cpus.lines().filter_map(|line| field(line, "model name")).collect();
    let model = models.first().copied().unwrap_or("unknown processor");
    let commit = shell::output(shell::program("git").args(["describe", "--always", "--dirty"]))?;
    Ok(format!(
        "{}, {} x {model}, {}. Sordini {}; {}.",
        day.trim(),
        models.len().max(1),
        kernel.trim(),
        commit.trim(),
        versions()?.join(", ")
    ))
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    (found.trim() == name).then(|| value.trim())
}

/// As the peers' own lock files and manifests say.
fn versions() -> Result<Vec<String>> {
    let peers = shell::root().join("bench/peers");
    let mut versions = Vec::new();
    let java = shell::read(&peers.join("java/pom.xml"))?;
    let client = java.split_once("<artifactId>kafka-clients</artifactId><version>");
    if let Some((version, _)) = client.and_then(|(_, rest)| rest.split_once('<')) {
        versions.push(format!("kafka-clients {version}"));
    }
    let go = shell::read(&peers.join("franz/go.mod"))?;
    let franz = go.lines().find_map(|line| {
        let (_, version) = line.split_once("github.com/twmb/franz-go v")?;
        version.split_whitespace().next()
    });
    versions.extend(franz.map(|version| format!("franz-go {version}")));
    let lock = shell::read(&peers.join("Cargo.lock"))?;
    for name in ["rdkafka", "rdkafka-sys", "krafka", "rskafka", "barnabas-client"] {
        let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""));
        if let Some((version, _)) = entry.and_then(|(_, rest)| rest.split_once('"')) {
            versions.push(format!("{name} {version}"));
        }
    }
    Ok(versions)
}
