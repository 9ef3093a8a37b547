//! Fetches that wait, delays, order on a connection, and acknowledgements after a sync.

use super::*;

#[test]
fn a_fetch_waits_for_its_bytes() {
    let mut rig = Rig::new().with_topic(1);
    let size = batch(&["v"]).encode().len() as i32;
    let request = rig.fetch_request(0, 2 * size, 500);
    rig.send(CONN, &request, 18);
    assert_eq!(rig.outputs(), []);
    let produce = rig.produce_request(&batch(&["v"]), 1);
    rig.send(OTHER, &produce, 13);
    let outputs = rig.outputs();
    assert!(matches!(outputs.as_slice(), [Output::Send { connection: OTHER, .. }]), "half of it");
    rig.send(OTHER, &produce, 13);
    let outputs = rig.outputs();
    let [_, Output::Send { connection: CONN, frame }] = outputs.as_slice() else {
        panic!("the fetch is answered: {outputs:?}");
    };
    let response = decode::<FetchRequest>(frame, 18);
    assert_eq!(fetched(&response).records.as_ref().map(Bytes::len), Some(2 * size as usize));
}

#[test]
fn a_fetch_waits_no_longer_than_it_said() {
    let mut rig = Rig::new().with_topic(1);
    let request = rig.fetch_request(0, 1, 500);
    rig.send(CONN, &request, 18);
    rig.advance(499);
    assert_eq!(rig.outputs(), []);
    rig.advance(1);
    let response = rig.response::<FetchRequest>(18);
    assert_eq!((fetched(&response).error_code, response.session_id), (0, 0));
    assert_eq!(fetched(&response).records, Some(Bytes::new()));
}

#[test]
fn a_fetch_that_cannot_be_served_is_answered_at_once() {
    let mut rig = Rig::new().with_topic(1);
    let behind = rig.fetch_request(5, 1, 60_000);
    let response = rig.ask(&behind, 18);
    assert_eq!(fetched(&response).error_code, ErrorCode::OffsetOutOfRange.code());
    let mut fenced = rig.fetch_request(0, 1, 60_000);
    fenced.topics[0].partitions[0].current_leader_epoch = 7;
    let response = rig.ask(&fenced, 18);
    assert_eq!(fetched(&response).error_code, ErrorCode::UnknownLeaderEpoch.code());
    let mut unknown = rig.fetch_request(0, 1, 60_000);
    unknown.topics[0].topic_id = Uuid([9; 16]);
    let response = rig.ask(&unknown, 18);
    assert_eq!(fetched(&response).error_code, ErrorCode::UnknownTopicId.code());
    let nothing = FetchRequest { max_wait_ms: 60_000, min_bytes: 1, ..FetchRequest::default() };
    assert_eq!(rig.ask(&nothing, 18).responses, []);
    let mut session = rig.fetch_request(0, 1, 60_000);
    (session.session_id, session.session_epoch) = (3, 1);
    let response = rig.ask(&session, 18);
    assert_eq!(response.error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[test]
fn a_deleted_topic_ends_the_wait() {
    let mut rig = Rig::new().with_topic(1);
    let request = rig.fetch_request(0, 1, 60_000);
    rig.send(CONN, &request, 18);
    let delete = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("t".to_owned()), ..Default::default() }],
        ..DeleteTopicsRequest::default()
    };
    rig.send(OTHER, &delete, 6);
    let outputs = rig.outputs();
    let frame = outputs.iter().find_map(|output| match output {
        Output::Send { connection: CONN, frame } => Some(frame),
        _ => None,
    });
    let response = decode::<FetchRequest>(frame.expect("answered"), 18);
    assert_eq!(fetched(&response).error_code, ErrorCode::UnknownTopicId.code());
}

#[test]
fn answers_keep_the_order_of_the_requests() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.faults().on(ApiKey::Produce).delay(Duration::from_millis(30));
    let produce = rig.produce_request(&batch(&["v"]), 1);
    rig.send(CONN, &produce, 13);
    rig.send(CONN, &produce, 13);
    rig.send(CONN, &ApiVersionsRequest::default(), 0);
    assert_eq!(rig.outputs(), [], "all wait behind the delayed one");
    rig.send(OTHER, &ApiVersionsRequest::default(), 0);
    assert_eq!(rig.outputs().len(), 1, "other connections do not");
    rig.advance(30);
    let ids: Vec<i32> = rig
        .outputs()
        .iter()
        .map(|output| match output {
            Output::Send { frame, .. } => i32::from_be_bytes(frame[4..8].try_into().expect("id")),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(rig.broker.monitor().max_in_flight("t", 0), 2);
    assert_eq!(rig.broker.monitor().max_requests_in_flight(), 3);
}

#[test]
fn a_client_that_is_gone_is_forgotten() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.faults().on(ApiKey::Produce).always().delay(Duration::from_millis(30));
    let produce = rig.produce_request(&batch(&["v"]), 1);
    rig.send(CONN, &produce, 13);
    rig.send(CONN, &produce, 13);
    rig.broker.disconnected(CONN);
    rig.advance(100);
    assert_eq!(rig.outputs(), []);
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 1, "the second was not begun");
    rig.broker.monitor().clear();
    assert_eq!(rig.broker.monitor().max_in_flight("t", 0), 0);
}

#[test]
fn too_many_waiting_requests_end_the_connection() {
    let few = |config: &mut BrokerConfig| config.max_queued_requests = 3;
    let mut rig = Rig::on(MemoryStorage::new(), few).with_topic(1);
    let request = rig.fetch_request(0, 1, 60_000);
    for _ in 0..4 {
        rig.send(CONN, &request, 18);
    }
    assert_eq!(rig.outputs(), []);
    rig.send(CONN, &request, 18);
    assert!(rig.close_reason().contains("wait for their answers"));
}

#[test]
fn a_client_that_does_not_read_gets_no_further_answers() {
    let little = |config: &mut BrokerConfig| config.max_unsent_bytes = 100;
    let mut rig = Rig::on(MemoryStorage::new(), little).with_topic(1);
    for _ in 0..5 {
        rig.send(CONN, &MetadataRequest { topics: None, ..Default::default() }, 13);
    }
    let outputs = rig.outputs();
    let [Output::Send { frame, .. }] = outputs.as_slice() else { panic!("one: {outputs:?}") };
    rig.broker.transmitted(rig.now, CONN, frame.len());
    assert_eq!(rig.outputs().len(), 1, "the next, when the first was written");
}

fn fsync(config: &mut BrokerConfig) {
    config.fsync = true;
}

#[test]
fn with_fsync_a_batch_is_acknowledged_and_visible_after_the_sync() {
    let memory = MemoryStorage::new();
    let mut rig = Rig::on(memory.clone(), fsync).with_topic(1);
    let produce = rig.produce_request(&batch(&["v"]), -1);
    rig.send(CONN, &produce, 13);
    rig.send(OTHER, &produce, 13);
    assert_eq!(rig.outputs(), [], "nothing is synced yet");
    let state = rig.broker.partition_state("t", 0).expect("partition");
    assert_eq!((state.log_end, state.high_watermark), (2, 0));
    rig.due();
    assert_eq!(rig.outputs().len(), 2, "one sync answers both");
    let state = rig.broker.partition_state("t", 0).expect("partition");
    assert_eq!(state.high_watermark, 2);
    memory.lose_power(|_, _| 0);
    let mut rig = Rig::on(memory, fsync);
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 2);
}

#[test]
fn with_fsync_a_duplicate_waits_for_the_sync_of_its_original() {
    let mut rig = Rig::on(MemoryStorage::new(), fsync).with_topic(1);
    let produce = rig.produce_request(&batch(&["v"]).producer(1, 0, 0), -1);
    rig.send(CONN, &produce, 13);
    rig.broker.disconnected(CONN);
    rig.send(OTHER, &produce, 13);
    assert_eq!(rig.outputs(), []);
    rig.due();
    let response = rig.response::<ProduceRequest>(13);
    assert_eq!((answer(&response).error_code, answer(&response).base_offset), (0, 0));
}

#[test]
fn with_fsync_batches_nobody_waits_for_become_visible_too() {
    let mut rig = Rig::on(MemoryStorage::new(), fsync).with_topic(1);
    let produce = rig.produce_request(&batch(&["v"]), 0);
    rig.send(CONN, &produce, 13);
    rig.due();
    assert_eq!(rig.broker.partition_state("t", 0).expect("partition").high_watermark, 1);
}

#[test]
fn a_failed_sync_is_never_a_success() {
    let faults = StorageFaults::new();
    let storage = FaultyStorage::new(MemoryStorage::new(), faults.clone());
    let mut rig = Rig::on(storage, fsync).with_topic(1);
    faults.fail(StorageOp::Sync, ".log", 0, 1, 0, io::ErrorKind::Other);
    let failed = rig.produce(&batch(&["v"]).producer(1, 0, 0));
    assert_eq!(code(&failed), ErrorCode::KafkaStorageError);
    // The disk seems well again, but what it holds is not known.
    let retried = rig.produce(&batch(&["v"]).producer(1, 0, 0));
    assert_eq!(code(&retried), ErrorCode::KafkaStorageError);
    let fetch = rig.fetch_request(0, 1, 0);
    let response = rig.ask(&fetch, 18);
    assert_eq!(fetched(&response).error_code, ErrorCode::KafkaStorageError.code());
}

#[test]
fn with_fsync_a_waiting_fetch_sees_records_when_they_are_synced() {
    let mut rig = Rig::on(MemoryStorage::new(), fsync).with_topic(1);
    let fetch = rig.fetch_request(0, 1, 60_000);
    rig.send(OTHER, &fetch, 18);
    let produce = rig.produce_request(&batch(&["v"]), -1);
    rig.send(CONN, &produce, 13);
    assert_eq!(rig.outputs(), []);
    rig.due();
    assert_eq!(rig.outputs().len(), 2);
}
