use std::sync::Arc;

use sordini_broker::cluster::PartitionId;
use sordini_protocol::Uuid;

use super::*;

fn of(topic: &str) -> PartitionId {
    PartitionId { id: Uuid::default(), topic: Arc::from(topic), partition: 0 }
}

fn leads(topic: &str, leader_epoch: i32, start: i64) -> ClusterTrace {
    ClusterTrace::Leads { node: 1, at: of(topic), leader_epoch, start }
}

fn committed(topic: &str, leader_epoch: i32, offset: i64) -> ClusterTrace {
    let at = of(topic);
    ClusterTrace::HighWatermark { node: 1, at, offset, leader_epoch, as_leader: true }
}

/// What stands at offsets 0, 1 and 2, of which what is before 2 is committed.
fn memories(topic: &str, entries: [Entry; 3]) -> Memories {
    let mut memories = Memories::default();
    let memory = memories.logs.entry(of(topic)).or_default();
    memory.entries.extend((0..).zip(entries));
    memories.note(Instant::ZERO, &leads(topic, 1, 3));
    memories.note(Instant::ZERO, &committed(topic, 1, 2));
    memories
}

fn states() -> Memories {
    memories(TRANSACTION_STATE, ["a", "b", "c"].map(|id| Entry::State(id.to_owned())))
}

fn lost(memories: &Memories) -> Vec<&str> {
    memories.forgotten.iter().map(|(id, _)| id.as_str()).collect()
}

#[test]
fn only_whose_committed_records_are_lost_is_forgotten() {
    for (start, expected) in [(3, &[][..]), (2, &[]), (1, &["b"]), (0, &["a", "b"])] {
        let mut memories = states();
        let now = Instant::from_millis(7);
        memories.note(now, &leads(TRANSACTION_STATE, 2, start));
        assert_eq!(lost(&memories), expected, "a term that begins at {start}");
        assert!(expected.iter().all(|id| memories.lost(id).eq([now])));
        assert!(memories.unended.is_empty());
    }
}

#[test]
fn only_a_committed_marker_is_lost_and_only_where_it_stood() {
    for (start, expected) in [(2, [false, false]), (1, [false, true]), (0, [true, true])] {
        let mut memories = memories("t0", [7, 8, 9].map(Entry::End));
        let now = Instant::from_millis(7);
        memories.note(now, &leads("t0", 2, start));
        let lost = [7, 8].map(|id| memories.lost_end("t0", 0, id) == Some(now));
        assert_eq!(lost, expected, "a term that begins at {start}");
        assert_eq!(memories.lost_end("t0", 0, 9), None, "it was not committed");
        assert_eq!(memories.lost_end("t0", 1, 8), None);
        assert_eq!(memories.lost_end("t1", 0, 8), None);
        assert!(memories.forgotten.is_empty());
    }
}

#[test]
fn an_older_term_that_is_heard_of_late_loses_nothing() {
    let mut memories = states();
    memories.note(Instant::ZERO, &leads(TRANSACTION_STATE, 0, 0));
    memories.note(Instant::ZERO, &committed(TRANSACTION_STATE, 0, 3));
    memories.note(Instant::ZERO, &leads(TRANSACTION_STATE, 2, 2));
    assert_eq!(lost(&memories), [""; 0]);
}

#[test]
fn states_and_markers_are_read_from_what_brokers_write() {
    let plan = crate::plan(1, &crate::Profile::default(), &[]).expect("a plan");
    let habits = crate::Transacting::plain(2);
    let mut plan = crate::Plan { faults: Vec::new(), chaos: 1500, ..plan };
    plan.settings = habits.settings();
    plan.transactions = Some(habits);
    for survivable in [false, true] {
        plan.survivable = survivable;
        let config = crate::settings::configure(&plan.settings, plan.nodes).expect("settings");
        let mut world = World::new(&plan, config);
        world.run();
        assert_eq!(world.forgotten(0), None);
        let logs = world.memories.logs.values();
        if survivable {
            assert_eq!(logs.count(), 0, "nothing is to be excused");
            continue;
        }
        let entries: BTreeSet<&Entry> = logs.flat_map(|log| log.entries.values()).collect();
        let states = entries.iter().filter_map(|entry| match entry {
            Entry::State(id) => Some(id.clone()),
            Entry::End(_) => None,
        });
        let expected = (0..plan.workload.producers).map(|kin| format!("t-{kin}"));
        assert!(states.eq(expected), "{entries:?}");
        assert!(entries.iter().any(|entry| matches!(entry, Entry::End(_))), "{entries:?}");
        let mut written = world.memories.logs.values().filter(|log| !log.entries.is_empty());
        assert!(written.all(|log| log.committed > 0));
    }
}
