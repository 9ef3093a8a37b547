//! What survives: a clean end, a kill, a loss of power.

use super::*;

fn restart(memory: &MemoryStorage, rig: Rig, clean: bool) -> Rig {
    let mut rig = rig;
    if clean {
        rig.broker.close().expect("close");
    }
    drop(rig);
    Rig::on(memory.clone(), |_| {})
}

#[test]
fn ids_topics_settings_and_records_survive() {
    for clean in [true, false] {
        let memory = MemoryStorage::new();
        let mut rig = Rig::on(memory.clone(), |_| {});
        let settings = [("retention.ms".to_owned(), "12345".to_owned())];
        rig.broker.make_topic(rig.now, "t", 2, &settings).expect("topic");
        rig.produce(&batch(&["a", "b"]).producer(7, 0, 0));
        let (cluster, topic) = (rig.broker.cluster_id(), rig.topic_id());
        let mut rig = restart(&memory, rig, clean);
        assert_eq!(rig.broker.cluster_id(), cluster);
        assert_eq!(rig.topic_id(), topic);
        assert_eq!(rig.broker.topics().collect::<Vec<_>>(), [("t", 2)]);
        let values: Vec<_> = rig.broker.records("t", 0).expect("records");
        assert_eq!(
            values.iter().map(|r| r.value.as_deref()).collect::<Vec<_>>(),
            [Some(&b"a"[..]), Some(b"b")]
        );
        let config = rig.broker.catalog.topics["t"].config.clone();
        assert_eq!(config.retention_ms(), Some(12_345));
        let retried = rig.produce(&batch(&["a", "b"]).producer(7, 0, 0));
        assert_eq!((retried.error_code, retried.base_offset), (0, 0), "clean: {clean}");
    }
}

#[test]
fn producer_ids_are_never_given_out_twice() {
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), |_| {});
    let mut given = Vec::new();
    for clean in [true, false, true, false] {
        given.extend([rig.new_producer(), rig.new_producer()]);
        rig = restart(&memory, rig, clean);
    }
    let mut distinct = given.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), given.len(), "{given:?}");
}

#[test]
fn a_restarted_broker_leads_anew() {
    let memory = MemoryStorage::new();
    let rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
    let mut rig = restart(&memory, rig, true);
    assert_eq!(rig.broker.partition_state("t", 0).expect("partition").leader_epoch, 1);
    rig.produce(&batch(&["v"]));
    let mut rig = restart(&memory, rig, false);
    rig.produce(&batch(&["v"]));
    let wanted = OffsetForLeaderEpochRequest {
        topics: vec![OffsetForLeaderTopic {
            topic: "t".to_owned(),
            partitions: vec![OffsetForLeaderPartition {
                partition: 0,
                current_leader_epoch: 2,
                leader_epoch: 1,
            }],
        }],
        ..Default::default()
    };
    let found = rig.ask(&wanted, 4).topics[0].partitions[0].clone();
    assert_eq!((found.leader_epoch, found.end_offset), (1, 1));
}

#[test]
fn only_a_kill_makes_the_next_start_scan() {
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
    rig.produce(&batch(&["v"]));
    let rig = restart(&memory, rig, true);
    assert_eq!(rig.broker.recovered(), []);
    let rig = restart(&memory, rig, false);
    assert_eq!(rig.broker.recovered().len(), 1);
    assert_eq!(rig.broker.recovered()[0].1.scanned, 1);
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_free() {
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(2);
    rig.produce(&batch(&["v"]));
    let first = rig.topic_id();
    rig.broker.delete_topic("t").expect("delete");
    assert!(memory.paths().iter().all(|path| !path.starts_with("t-")), "{:?}", memory.paths());
    let rig = restart(&memory, rig, false).with_topic(1);
    assert_ne!(rig.topic_id(), first);
    let state = restart(&memory, rig, false).broker.partition_state("t", 0).expect("there");
    assert_eq!(state.log_end, 0);
}

#[test]
fn a_folder_of_no_known_topic_is_set_aside() {
    let memory = MemoryStorage::new();
    let mut storage = memory.clone();
    storage.create_dir("t-0").expect("create");
    memory.overwrite("t-0/00000000000000000000.log", batch(&["old"]).encode());
    let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
    assert_eq!(rig.broker.records("t", 0).expect("records"), []);
    let stray = |path: &String| path.contains("-stray/") && path.ends_with(".log");
    assert!(memory.paths().iter().any(stray), "{:?}", memory.paths());
}

#[test]
fn acknowledged_batches_survive_a_loss_of_power_at_any_time_with_fsync() {
    let fsync = |config: &mut BrokerConfig| config.fsync = true;
    for batches in 0..12 {
        let memory = MemoryStorage::new();
        let mut rig = Rig::on(memory.clone(), fsync);
        let small = [("segment.bytes".to_owned(), "300".to_owned())];
        rig.broker.make_topic(rig.now, "t", 1, &small).expect("topic");
        for i in 0..batches {
            assert_eq!(rig.produce(&batch(&["v"]).producer(7, 0, i)).error_code, 0);
        }
        // One more is appended but not synced when the power fails.
        let request = rig.produce_request(&batch(&["v"]).producer(7, 0, batches), -1);
        rig.send(CONN, &request, 13);
        memory.lose_power(|_, tail| tail * batches as usize / 12);
        let mut rig = Rig::on(memory, fsync);
        let stored = rig.broker.records("t", 0).expect("records").len() as i32;
        assert!(stored == batches || stored == batches + 1, "{stored} of {batches}");
        for i in (batches - 5).max(0)..=batches {
            let retried = rig.produce(&batch(&["v"]).producer(7, 0, i));
            let forgotten = i < stored - 5;
            assert!(forgotten || retried.base_offset == i64::from(i), "{retried:?}");
        }
    }
}

#[test]
fn a_full_disk_is_an_error_never_a_false_success() {
    let memory = MemoryStorage::new();
    let faults = StorageFaults::new();
    let mut rig = Rig::on(FaultyStorage::new(memory.clone(), faults.clone()), |_| {}).with_topic(1);
    let mut acknowledged = 0;
    for room in [1000, 10, 0, 77, 300, 5] {
        faults.full_after(room);
        for _ in 0..10 {
            let answer = rig.produce(&batch(&["some value"]).producer(7, 0, acknowledged));
            match code(&answer) {
                ErrorCode::None => acknowledged += 1,
                other => assert_eq!(other, ErrorCode::KafkaStorageError),
            }
        }
    }
    assert!(acknowledged > 5);
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "other".to_owned(),
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        ..Default::default()
    };
    faults.full_after(3);
    let answer = rig.ask(&create, 7).topics[0].clone();
    assert_eq!(answer.error_code, ErrorCode::KafkaStorageError.code());
    drop(rig);
    let mut rig = Rig::on(memory, |_| {});
    assert_eq!(rig.broker.records("t", 0).expect("records").len() as i32, acknowledged);
    assert_eq!(rig.broker.topics().count(), 1);
}

/// What a life of a broker acknowledged.
#[derive(Default)]
struct Acknowledged {
    /// Sequences of the batches of producer 7, each of one record.
    batches: i32,
    producer_ids: Vec<i64>,
    topics: usize,
}

/// Lives until the machine stops: topics, ids, batches over several segments, a retention, a
/// clean end and a second start.
fn live(storage: FaultyStorage<MemoryStorage>, fsync: bool, seen: &mut Acknowledged) -> Option<()> {
    let config = BrokerConfig { id_seed: 42, fsync, ..BrokerConfig::default() };
    let now = Now { mono: Instant(1_000_000_000), wall_ms: 1_700_000_000_000 };
    let mut broker = Broker::open(config, Box::new(storage), now).ok()?;
    broker.connected(CONN);
    let mut rig = Rig { broker, now, correlation_id: 0 };
    if rig.broker.topics.is_empty() {
        let small = [("segment.bytes".to_owned(), "250".to_owned())];
        rig.broker.make_topic(rig.now, "t", 1, &small).ok()?;
        seen.topics = 1;
    }
    for _ in 0..9 {
        let request = rig.produce_request(&batch(&["v"]).producer(7, 0, seen.batches), -1);
        let stored = answer(&rig.ask(&request, 13));
        if code(&stored) != ErrorCode::None {
            return None;
        }
        assert_eq!(stored.base_offset, i64::from(seen.batches), "offsets and sequences agree");
        seen.batches += 1;
    }
    let request =
        InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() };
    let response = rig.ask(&request, 5);
    if response.error_code != 0 {
        return None;
    }
    seen.producer_ids.push(response.producer_id);
    rig.broker.close().ok()
}

fn crash_at(steps: u64, fsync: bool, power: bool) -> bool {
    let memory = MemoryStorage::new();
    let faults = StorageFaults::new();
    faults.stop_after(steps);
    let mut seen = Acknowledged::default();
    let mut finished = true;
    for _ in 0..2 {
        let storage = FaultyStorage::new(memory.clone(), faults.clone());
        finished &= live(storage, fsync, &mut seen).is_some();
    }
    if power {
        memory.lose_power(|path, tail| (path.len() * 7 + steps as usize) % (tail + 1));
    }
    let change = |config: &mut BrokerConfig| config.fsync = fsync;
    let mut rig = Rig::on(memory.clone(), change);
    assert!(rig.broker.topics().count() >= seen.topics, "step {steps}");
    if seen.topics > 0 {
        let records = rig.broker.records("t", 0).expect("records");
        let sequences: Vec<i32> = records.iter().map(|record| record.sequence).collect();
        let stored = sequences.len() as i32;
        assert_eq!(sequences, (0..stored).collect::<Vec<_>>(), "step {steps}: a prefix, once each");
        assert!(stored >= seen.batches, "step {steps}: {stored} of {}", seen.batches);
        assert!(stored <= seen.batches + 1, "step {steps}");
        for sequence in (stored - 5).max(0)..stored {
            let retried = rig.produce(&batch(&["v"]).producer(7, 0, sequence));
            let place = (retried.error_code, retried.base_offset);
            assert_eq!(place, (0, i64::from(sequence)), "step {steps}: a retry is recognised");
        }
        let next = rig.produce(&batch(&["v"]).producer(7, 0, stored));
        assert_eq!((next.error_code, next.base_offset), (0, i64::from(stored)), "step {steps}");
    }
    let id = rig.new_producer();
    assert!(!seen.producer_ids.contains(&id), "step {steps}: {id} was given out before");
    finished
}

#[test]
fn a_kill_at_any_step_loses_nothing_acknowledged_and_doubles_nothing() {
    let finished = (0..).find(|steps| crash_at(*steps, false, false));
    assert!(finished.expect("the story ends") > 100, "every step of it was struck");
}

#[test]
fn a_loss_of_power_at_any_step_loses_nothing_acknowledged_with_fsync() {
    let finished = (0..).find(|steps| crash_at(*steps, true, true));
    assert!(finished.expect("the story ends") > 150, "every step of it was struck");
}

#[test]
fn without_fsync_a_loss_of_power_takes_acknowledged_records() {
    // The control of the test above: the faults it rests on do take records.
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), |_| {}).with_topic(1);
    assert_eq!(rig.produce(&batch(&["v"])).error_code, 0);
    memory.lose_power(|_, _| 0);
    let mut rig = Rig::on(memory, |_| {});
    assert_eq!(rig.broker.records("t", 0).expect("records"), []);
}
