//! Faults on order, and what the monitor saw.

use super::*;

#[test]
fn an_error_before_applying_appends_nothing() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.faults().on(ApiKey::Produce).nth(2).error(ErrorCode::NotLeaderOrFollower);
    let codes: Vec<_> = (0..3).map(|_| code(&rig.produce(&batch(&["v"])))).collect();
    assert_eq!(codes, [ErrorCode::None, ErrorCode::NotLeaderOrFollower, ErrorCode::None]);
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 2);
}

#[test]
fn an_error_after_applying_appends_all_the_same() {
    let mut rig = Rig::new().with_topic(2);
    let faults = rig.broker.faults();
    let error = ErrorCode::NotEnoughReplicasAfterAppend;
    faults.on(ApiKey::Produce).partition("t", 0).after_append().error(error);
    let mut request = rig.produce_request(&batch(&["v"]), -1);
    let mut second = request.topic_data[0].partition_data[0].clone();
    second.index = 1;
    request.topic_data[0].partition_data.push(second);
    let response = rig.ask(&request, 13);
    let codes: Vec<_> =
        response.responses[0].partition_responses.iter().map(|a| a.error_code).collect();
    assert_eq!(codes, [error.code(), 0]);
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 1);
    let log = rig.broker.monitor().produce_log();
    assert_eq!(log[0].outcome, Some((error, None)));
    assert_eq!(log[1].outcome, Some((ErrorCode::None, Some(0))));
}

#[test]
fn an_error_names_the_leader_where_the_version_can() {
    let mut rig = Rig::new().with_topic(1);
    let faults = rig.broker.faults();
    for version in [9, 13] {
        let order = faults.on(ApiKey::Produce).leader(5, 8, Some(("elsewhere", 99)));
        order.error(ErrorCode::NotLeaderOrFollower);
        let mut request = rig.produce_request(&batch(&["v"]), -1);
        if version < 13 {
            request.topic_data[0].topic_id = Uuid::ZERO;
            request.topic_data[0].name = "t".to_owned();
        }
        let response = rig.ask(&request, version);
        let leader = &answer(&response).current_leader;
        let expected = if version == 13 { (5, 8) } else { (-1, -1) };
        assert_eq!((leader.leader_id, leader.leader_epoch), expected);
        assert_eq!(response.node_endpoints.len(), usize::from(version == 13));
    }
}

#[test]
fn a_dropped_response_leaves_the_batch_and_a_silent_connection() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.faults().on(ApiKey::Produce).drop_response_after_append();
    let request = rig.produce_request(&batch(&["v"]).producer(1, 0, 0), -1);
    rig.send(CONN, &request, 13);
    assert_eq!(rig.outputs(), [Output::Done { connection: CONN }]);
    rig.send(CONN, &ApiVersionsRequest::default(), 0);
    assert_eq!(rig.outputs(), [Output::Done { connection: CONN }]);
    rig.send(OTHER, &request, 13);
    let response = rig.response::<ProduceRequest>(13);
    assert_eq!((answer(&response).error_code, answer(&response).base_offset), (0, 0));
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 1);
}

#[test]
fn a_connection_closes_before_or_after_the_append() {
    let mut rig = Rig::new().with_topic(1);
    let faults = rig.broker.faults();
    faults.on(ApiKey::Produce).close_connection();
    let request = rig.produce_request(&batch(&["v"]), -1);
    rig.send(CONN, &request, 13);
    assert_eq!(rig.close_reason(), "closed by order");
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 0);
    faults.on(ApiKey::Produce).after_append().close_connection();
    rig.send(OTHER, &request, 13);
    assert_eq!(rig.close_reason(), "closed by order");
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 1);
    rig.send(OTHER, &request, 13);
    assert_eq!(rig.outputs(), [], "a closed connection is heard no more");
}

#[test]
fn garbage_is_sent_as_it_was_ordered() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.faults().on(ApiKey::Metadata).respond_raw(&b"\x7f\xff\xff\xffgarbage"[..]);
    rig.send(CONN, &MetadataRequest::default(), 13);
    let frame = Bytes::from_static(b"\x7f\xff\xff\xffgarbage");
    assert_eq!(rig.outputs(), [Output::Send { connection: CONN, frame }]);
}

#[test]
fn every_api_can_be_refused_in_every_version() {
    fn refuse<R: Request>(rig: &mut Rig, request: &R) {
        let served = rig.broker.config.versions.served(R::KEY).expect("served");
        for version in served {
            for after in [false, true] {
                let order = rig.broker.faults().on(R::KEY);
                let order = if after { order.after_append() } else { order };
                order.error(ErrorCode::UnknownServerError);
                rig.ask(request, version);
            }
        }
    }
    let mut rig = Rig::new().with_topic(1);
    refuse(&mut rig, &ProduceRequest { acks: -1, ..Default::default() });
    refuse(&mut rig, &FetchRequest::default());
    refuse(&mut rig, &ListOffsetsRequest::default());
    refuse(&mut rig, &MetadataRequest::default());
    refuse(&mut rig, &FindCoordinatorRequest::default());
    let named = ApiVersionsRequest {
        client_software_name: "test".to_owned(),
        client_software_version: "1".to_owned(),
        ..Default::default()
    };
    refuse(&mut rig, &named);
    refuse(&mut rig, &CreateTopicsRequest::default());
    refuse(&mut rig, &DeleteTopicsRequest::default());
    refuse(&mut rig, &InitProducerIdRequest::default());
    refuse(&mut rig, &OffsetForLeaderEpochRequest::default());
    refuse(&mut rig, &DescribeConfigsRequest::default());
    refuse(&mut rig, &CreatePartitionsRequest::default());
    refuse(&mut rig, &DescribeClusterRequest::default());
}

#[test]
fn the_monitor_tells_what_each_batch_was() {
    let mut rig = Rig::new().with_topic(1);
    let sent = batch(&["a", "b"]).producer(7, 1, 0);
    rig.produce(&sent);
    rig.produce(&batch(&["c"]).producer(7, 1, 9));
    let log = rig.broker.monitor().produce_log();
    let seen = &log[0];
    assert_eq!((seen.topic.as_str(), seen.partition, seen.records), ("t", 0, 2));
    assert_eq!((seen.producer_id, seen.producer_epoch, seen.base_sequence), (7, 1, 0));
    assert_eq!((seen.version, seen.acks, seen.connection), (13, -1, CONN));
    let crc = u32::from_be_bytes(sent.encode()[17..21].try_into().expect("crc"));
    assert_eq!((seen.crc, seen.size), (crc, sent.encode().len()));
    assert_eq!(seen.outcome, Some((ErrorCode::None, Some(0))));
    assert_eq!(log[1].outcome, Some((ErrorCode::OutOfOrderSequenceNumber, None)));
    assert!(log[0].order < log[1].order);
    assert_eq!(rig.broker.monitor().requests(ApiKey::Produce), 2);
}
