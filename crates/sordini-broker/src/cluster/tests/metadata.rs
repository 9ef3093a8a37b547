use super::*;

#[test]
fn every_node_names_all_nodes_and_leaders() {
    let mut world = World::new(config(3));
    world.create("t", 6, &[]);
    for node in 1..=3 {
        let metadata = world.metadata(node);
        let ids: Vec<_> = metadata.brokers.iter().map(|b| (b.node_id, b.port)).collect();
        assert_eq!(ids, [(1, 9092), (2, 9093), (3, 9094)]);
        let partitions = &metadata.topics[0].partitions;
        let leaders: Vec<_> = partitions.iter().map(|p| p.leader_id).collect();
        assert_eq!(leaders, [1, 2, 3, 1, 2, 3], "leaders are spread");
        assert!(partitions.iter().all(|p| p.isr_nodes.len() == 3 && p.replica_nodes.len() == 3));
    }
}

#[test]
fn a_node_that_does_not_lead_says_who_does() {
    let mut world = World::replicated();
    let request = world.produce_request("t", &batch(&["a"]), 1);
    let response = world.ask(2, &request, 13);
    let answer = first(&response);
    assert_eq!(code(&answer), ErrorCode::NotLeaderOrFollower);
    assert_eq!((answer.current_leader.leader_id, answer.current_leader.leader_epoch), (1, 0));
    let endpoints: Vec<_> = response.node_endpoints.iter().map(|e| (e.node_id, e.port)).collect();
    assert_eq!(endpoints, [(1, 9092)]);
    let fetched = world.fetch(3, 0);
    assert_eq!(fetched.error_code, ErrorCode::NotLeaderOrFollower.code());
    assert_eq!(fetched.current_leader.leader_id, 1);
}

#[test]
fn producer_ids_are_unique_over_the_cluster() {
    let mut world = World::new(config(3));
    let mut given = BTreeSet::new();
    let request =
        InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() };
    for round in 0..3 {
        for node in 1..=3 {
            // The first asks the controller for ids, and has none yet.
            let answer = world.ask(node, &request, 5);
            if round == 0 {
                assert_eq!(answer.error_code, ErrorCode::CoordinatorLoadInProgress.code());
            } else {
                assert_eq!(answer.error_code, 0);
                assert!(given.insert(answer.producer_id), "{}", answer.producer_id);
            }
        }
    }
    assert_eq!(given.len(), 6);
}

#[test]
fn all_nodes_name_the_same_coordinator_of_a_key() {
    let mut world = World::new(config(3));
    let coordinator_keys = vec!["a".to_owned(), "b".to_owned(), "group".to_owned()];
    let request = FindCoordinatorRequest { coordinator_keys, ..Default::default() };
    let answer = world.ask(1, &request, 6);
    let unavailable = ErrorCode::CoordinatorNotAvailable.code();
    assert!(answer.coordinators.iter().all(|c| c.error_code == unavailable), "not there yet");
    world.advance(1000);
    let answers: Vec<_> = (1..=3).map(|node| world.ask(node, &request, 6)).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert!(answers[0].coordinators.iter().all(|c| c.error_code == 0 && c.port >= 9092));
}

#[test]
fn a_node_that_is_cut_off_answers_from_its_old_view() {
    let mut world = World::replicated();
    world.isolate(1, true);
    world.advance(5000);
    assert_ne!(world.leader(), 1);
    assert_eq!(world.metadata(1).topics[0].partitions[0].leader_id, 1, "stale");
    assert_ne!(world.metadata(2).topics[0].partitions[0].leader_id, 1);
    world.isolate(1, false);
    world.advance(1000);
    assert_ne!(world.metadata(1).topics[0].partitions[0].leader_id, 1);
}
