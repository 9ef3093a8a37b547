//! `serve --nodes`: several nodes in one process, as a user meets them.

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;

use serde_json::Value;
use support::{Desk, lines, numbers, sorted};

/// `topic describe TOPIC --json`, through one address.
fn described(desk: &Desk, topic: &str, address: &str) -> Value {
    desk.run(&["topic", "describe", topic, "--json", "-b", address]).expect(0).json()
}

fn leaders(described: &Value) -> Vec<i64> {
    let partitions = described["partitions"].as_array().expect("partitions");
    partitions.iter().map(|partition| partition["leader"].as_i64().expect("a leader")).collect()
}

#[test]
fn what_goes_into_three_nodes_comes_out_and_survives_their_restart() {
    let desk = Desk::new();
    let input = numbers(3000);
    let cluster = desk.serve(&["--nodes", "3", "--partitions", "6"]);
    let nodes: Vec<String> = cluster.address.split(',').map(str::to_owned).collect();
    assert_eq!(nodes.len(), 3, "{}", cluster.address);
    // Auto-created with as many partitions and replicas as the cluster was told.
    desk.run_with(&["produce", "auto", "-b", &nodes[1]], input.as_bytes()).expect(0);
    let create = ["topic", "create", "two", "--replication", "2", "--partitions", "3", "-b"];
    desk.run(&[&create[..], &[nodes[2].as_str()]].concat()).expect(0);
    desk.run_with(&["produce", "two", "-b", &cluster.address], input.as_bytes()).expect(0);
    let seen = |addresses: &[String]| {
        let mut all = Vec::new();
        for (topic, partitions, replicas) in [("auto", 6, 3), ("two", 3, 2)] {
            // Each node tells the same, and leads to all records.
            let told: Vec<Value> =
                addresses.iter().map(|address| described(&desk, topic, address)).collect();
            assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
            let leaders = leaders(&told[0]);
            assert_eq!(leaders.len(), partitions);
            assert_eq!(leaders.iter().collect::<BTreeSet<_>>().len(), 3, "led by all nodes");
            let of = |partition: &Value| partition["replicas"].as_array().map(Vec::len);
            let all_partitions = told[0]["partitions"].as_array().expect("partitions");
            assert!(all_partitions.iter().all(|partition| of(partition) == Some(replicas)));
            let read = desk.run(&["tail", topic, "--exit-at-end", "-b", &addresses[0]]).expect(0);
            assert_eq!(sorted(read.lines()), sorted(lines(input.as_bytes())), "{topic}");
            all.push(leaders);
        }
        all
    };
    let before = seen(&nodes);
    // Right after what was written last: nothing waits for a clean stop.
    cluster.kill();
    let cluster = desk.serve(&["--nodes", "3"]);
    let nodes: Vec<String> = cluster.address.split(',').map(str::to_owned).collect();
    assert_eq!(seen(&nodes), before, "who led leads again");
    cluster.terminate().expect(0);
    let cluster = desk.serve(&["--nodes", "3"]);
    let nodes: Vec<String> = cluster.address.split(',').map(str::to_owned).collect();
    assert_eq!(seen(&nodes), before);
    // What was deleted stays away.
    desk.run(&["topic", "delete", "two", "-b", &nodes[0]]).expect(0);
    cluster.terminate().expect(0);
    let cluster = desk.serve(&["--nodes", "3"]);
    let listed = desk.run(&["topic", "list", "-b", &cluster.address]).expect(0);
    assert_eq!(listed.stdout(), b"auto\n");
    cluster.terminate().expect(0);
}

#[test]
fn more_replicas_than_nodes_are_refused_and_two_nodes_make_two() {
    let desk = Desk::new();
    let cluster = desk.serve(&["--nodes", "2", "--no-auto-create", "--fsync"]);
    let b = cluster.address.as_str();
    let create = ["topic", "create", "t", "--replication", "3", "-b", b];
    desk.run(&create).expect_error(1, &["INVALID_REPLICATION_FACTOR", "replication factor 3"]);
    desk.run_with(&["produce", "t", "-b", b, "-X", "max.block.ms=1000"], b"1\n")
        .expect_error(1, &["\"t\"", "topic create t"]);
    desk.run(&["topic", "create", "t", "-b", b]).expect(0);
    let told = described(&desk, "t", b);
    assert_eq!(told["partitions"][0]["replicas"].as_array().map(Vec::len), Some(2), "{told}");
    desk.run_with(&["produce", "t", "-b", b], b"1\n").expect(0);
    cluster.terminate().expect(0);
}

#[test]
fn a_folder_stays_with_its_number_of_nodes() {
    let desk = Desk::new();
    desk.serve(&["--nodes", "2"]).terminate().expect(0);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data"];
    let with = |more: &[&'static str]| [&serve[..], more].concat();
    let remedy = ["a cluster of 2 nodes", "--nodes 2", "choose another folder"];
    desk.run(&with(&["data"])).expect_error(2, &remedy);
    desk.run(&with(&["data", "--nodes", "3"])).expect_error(2, &remedy);
    desk.run(&["tail", "t", "--data", "data"]).expect_error(2, &remedy);
    desk.run(&["topic", "create", "t", "--data", "alone"]).expect(0);
    let remedy = ["alone", "a single broker", "without --nodes", "choose another folder"];
    desk.run(&with(&["alone", "--nodes", "2"])).expect_error(2, &remedy);
    let listed = desk.run(&["topic", "list", "--data", "alone"]).expect(0);
    assert_eq!(listed.stdout(), b"t\n", "nothing was done to it");
    let running = desk.serve(&["--nodes", "2"]);
    desk.run(&with(&["data", "--nodes", "2"])).expect_error(2, &["data", "in use"]);
    running.terminate().expect(0);
    // A damaged file is no reason to begin anew.
    let mut file = desk.read("data/sordini.cluster");
    file[20] ^= 1;
    desk.write("data/sordini.cluster", &file);
    let remedy = ["sordini.cluster", "damaged", "choose another folder"];
    desk.run(&with(&["data", "--nodes", "2"])).expect_error(2, &remedy);
    desk.run(&with(&["data"])).expect_error(2, &remedy);
}

#[test]
fn a_nodes_folder_is_not_opened_by_itself_and_nodes_without_their_cluster_are_not_begun_anew() {
    let desk = Desk::new();
    let input = numbers(500);
    let read = |address: &str| {
        let read = desk.run(&["tail", "t", "--exit-at-end", "-b", address]).expect(0);
        assert_eq!(sorted(read.lines()), sorted(lines(input.as_bytes())));
    };
    let cluster = desk.serve(&["--nodes", "3"]);
    desk.run_with(&["produce", "t", "-b", &cluster.address], input.as_bytes()).expect(0);
    cluster.terminate().expect(0);
    for node in ["data/node-1", "data/node-2", "data/node-3"] {
        let remedy = [node, "one node of a cluster", "choose another folder"];
        desk.run(&["topic", "list", "--data", node]).expect_error(2, &remedy);
        desk.run(&["tail", "t", "--data", node]).expect_error(2, &remedy);
        desk.run_with(&["produce", "t", "--data", node], b"1\n").expect_error(2, &remedy);
    }
    let cluster = desk.serve(&["--nodes", "3"]);
    read(&cluster.address);
    cluster.terminate().expect(0);
    let file = desk.read("data/sordini.cluster");
    std::fs::remove_file(desk.path("data/sordini.cluster")).expect("removed");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", "data", "--nodes", "3"];
    desk.run(&serve).expect_error(2, &["sordini.cluster", "missing", "restore it"]);
    desk.write("data/sordini.cluster", &file);
    let cluster = desk.serve(&["--nodes", "3"]);
    read(&cluster.address);
    cluster.terminate().expect(0);
}

#[test]
fn a_node_listens_behind_the_one_before_it_and_a_port_that_is_in_use_is_named() {
    let desk = Desk::new();
    // The system hands out neighbours seldom: look until two ports behind each other are free.
    let (first, second) = (0..1000)
        .find_map(|_| {
            let first = TcpListener::bind("127.0.0.1:0").ok()?;
            let port = first.local_addr().ok()?.port();
            Some((first, TcpListener::bind(("127.0.0.1", port.checked_add(1)?)).ok()?))
        })
        .expect("two ports");
    let address = first.local_addr().expect("its address");
    let in_use = second.local_addr().expect("its address").to_string();
    let listen = format!("--listen={address}");
    drop(first);
    let serve = ["serve", &listen, "--nodes", "2"];
    desk.run(&serve).expect_error(2, &[&in_use, "choose another address"]);
    assert!(!desk.path("sordini-data").exists(), "nothing was made");
    drop(second);
    let mut cluster = desk.start(&serve);
    let expected = format!("{address},{in_use}");
    support::read_until(cluster.stdout(), move |line| line == expected);
    cluster.signal("TERM");
    cluster.end().expect(0);
    let beyond = desk.run(&["serve", "--listen", "127.0.0.1:65535", "--nodes", "2"]);
    beyond.expect_error(2, &["127.0.0.1:65536", "there is no such port"]);
}

#[test]
fn a_cluster_is_for_this_machine_and_says_so() {
    let desk = Desk::new();
    for (more, word) in [
        (&["--allow-remote"][..], "--allow-remote"),
        (&["--advertise", "host:9092"], "--advertise"),
        (&["--listen", "0.0.0.0:0"], "use 127.0.0.1"),
    ] {
        let args = [&["serve", "--nodes", "3", "--data", "d"][..], more].concat();
        desk.run(&args).expect_error(2, &["on this machine", word]);
    }
    for nodes in ["0", "10"] {
        desk.run(&["serve", "--nodes", nodes]).expect_error(2, &["--nodes"]);
    }
    assert!(!desk.path("d").exists(), "nothing was made");
}
