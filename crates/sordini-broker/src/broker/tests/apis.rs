//! Each API as a client sees it.

use super::*;

fn by_name(name: &str) -> MetadataRequest {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(name.to_owned()),
            ..Default::default()
        }]),
        ..MetadataRequest::default()
    }
}

#[test]
fn api_versions_offers_what_is_served() {
    let mut rig = Rig::new();
    let request = ApiVersionsRequest {
        client_software_name: "sordini".to_owned(),
        client_software_version: "0.1.0".to_owned(),
        ..Default::default()
    };
    for version in 0..=5 {
        let response = rig.ask(&request, version);
        assert_eq!(response.error_code, 0);
        let of = |key: ApiKey| {
            let found = response.api_keys.iter().find(|api| api.api_key == key.code());
            found.map(|api| (api.min_version, api.max_version))
        };
        assert_eq!(of(ApiKey::Produce), Some((0, 13)), "for old librdkafka (KAFKA-18659)");
        assert_eq!(of(ApiKey::Fetch), Some((4, 18)));
        assert_eq!(of(ApiKey::FindCoordinator), Some((0, 6)), "librdkafka ties lz4 to it");
        assert_eq!(of(ApiKey::InitProducerId), Some((0, 5)));
        assert_eq!(of(ApiKey::OffsetForLeaderEpoch), Some((2, 4)));
        assert_eq!(response.finalized_features.len(), usize::from(version >= 3));
    }
    let mut bad = request.clone();
    bad.client_software_name = "not a name!".to_owned();
    assert_eq!(rig.ask(&bad, 3).error_code, ErrorCode::InvalidRequest.code());
    let mut elsewhere = request.clone();
    elsewhere.cluster_id = Some("another".to_owned());
    assert_eq!(rig.ask(&elsewhere, 5).error_code, ErrorCode::RebootstrapRequired.code());
    elsewhere.cluster_id = Some(rig.broker.cluster_id());
    elsewhere.node_id = 1;
    assert_eq!(rig.ask(&elsewhere, 5).error_code, 0);
}

#[test]
fn a_client_that_is_too_new_learns_what_is_possible() {
    let mut rig = Rig::new();
    // A header of version 2 with an ApiVersions version that does not exist.
    let mut frame = 18i16.to_be_bytes().to_vec();
    frame.extend_from_slice(&99i16.to_be_bytes());
    frame.extend_from_slice(&7i32.to_be_bytes());
    frame.extend_from_slice(&[0, 1, b'x', 0, 1, 2, 3]);
    rig.broker.handle_frame(rig.now, CONN, Bytes::from(frame));
    let response = rig.response::<ApiVersionsRequest>(0);
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    let keys: Vec<_> =
        response.api_keys.iter().map(|a| (a.api_key, a.min_version, a.max_version)).collect();
    assert_eq!(keys, [(18, 0, 5)]);
}

#[test]
fn a_version_that_is_not_served_ends_the_connection() {
    let mut rig = Rig::new();
    rig.broker.config.versions = crate::Versions::of_release("2.1").expect("2.1");
    rig.send(CONN, &MetadataRequest::default(), 8);
    assert!(rig.close_reason().contains("Metadata version 8 is not served"));
}

#[test]
fn bytes_that_are_no_request_end_the_connection() {
    let mut frame = Vec::new();
    frame::put_request(&mut frame, &by_name("t"), 9, 1, Some("x")).expect("encode");
    let whole = Bytes::from(frame).slice(4..);
    for cut in 0..whole.len() {
        let mut rig = Rig::new();
        rig.broker.handle_frame(rig.now, CONN, whole.slice(..cut));
        rig.close_reason();
        rig.send(OTHER, &ApiVersionsRequest::default(), 0);
        rig.response::<ApiVersionsRequest>(0);
    }
    let mut rig = Rig::new();
    let longer = [&whole[..], &[0]].concat();
    rig.broker.handle_frame(rig.now, CONN, Bytes::from(longer));
    rig.close_reason();
}

#[test]
fn random_bytes_never_panic_the_broker() {
    let mut state = 88_172_645_463_325_252u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut rig = Rig::new().with_topic(1);
    let request = rig.produce_request(&batch(&["v"]).producer(1, 0, 0), -1);
    let fetch = rig.fetch_request(0, 1, 0);
    let mut frames = Vec::new();
    for version in 3..=13 {
        let mut frame = Vec::new();
        frame::put_request(&mut frame, &request, version, 1, Some("x")).ok();
        frames.push(frame);
    }
    for version in 4..=18 {
        let mut frame = Vec::new();
        frame::put_request(&mut frame, &fetch, version, 1, Some("x")).ok();
        frames.push(frame);
    }
    for i in 0..20_000u64 {
        let mut frame = frames[random() as usize % frames.len()].clone();
        if frame.len() < 5 {
            continue;
        }
        frame.drain(..4);
        for _ in 0..random() % 5 {
            let at = random() as usize % frame.len();
            frame[at] = random() as u8;
        }
        if random() % 3 == 0 {
            frame[1] = (random() % 70) as u8;
        }
        let conn = ConnectionId(100 + i);
        rig.broker.connected(conn);
        rig.broker.handle_frame(rig.now, conn, Bytes::from(frame));
        rig.outputs();
        rig.broker.disconnected(conn);
    }
}

#[test]
fn a_topic_is_created_by_the_question_and_found_by_the_next() {
    let mut rig = Rig::new();
    let first = rig.ask(&by_name("fresh"), 13).topics[0].clone();
    assert_eq!(first.error_code, ErrorCode::UnknownTopicOrPartition.code());
    assert!(first.topic_id.is_zero());
    let second = rig.ask(&by_name("fresh"), 13).topics[0].clone();
    assert_eq!((second.error_code, second.partitions.len()), (0, 3));
    assert!(!second.topic_id.is_zero());
    assert!(second.partitions.iter().all(|p| p.leader_id == 1 && p.leader_epoch == 0));
}

#[test]
fn a_topic_is_not_created_where_either_side_forbids_it() {
    let mut rig = Rig::new();
    let forbidden = MetadataRequest { allow_auto_topic_creation: false, ..by_name("x") };
    let mut off = Rig::on(MemoryStorage::new(), |config| config.auto_create_topics = false);
    for _ in 0..2 {
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(rig.ask(&forbidden, 13).topics[0].error_code, unknown);
        assert_eq!(off.ask(&by_name("x"), 13).topics[0].error_code, unknown);
    }
    for bad in ["../x", "", "a b", &"x".repeat(250)] {
        let answer = rig.ask(&by_name(bad), 13).topics[0].clone();
        assert_eq!(answer.error_code, ErrorCode::InvalidTopicException.code(), "{bad}");
    }
    assert_eq!(rig.broker.topics().count(), 0);
}

#[test]
fn metadata_is_answered_in_every_version() {
    let mut rig = Rig::new().with_topic(2);
    for version in 0..=13 {
        let response = rig.ask(&by_name("t"), version);
        assert_eq!(response.topics[0].name.as_deref(), Some("t"));
        assert_eq!(response.topics[0].partitions.len(), 2);
        assert_eq!((response.brokers[0].node_id, response.brokers[0].port), (1, 9092));
        let all = MetadataRequest { topics: None, ..Default::default() };
        let all = if version == 0 { MetadataRequest::default() } else { all };
        assert_eq!(rig.ask(&all, version).topics.len(), 1);
        if version > 0 {
            assert_eq!(rig.ask(&MetadataRequest::default(), version).topics.len(), 0);
        }
    }
    let by_id = |topic_id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id, name: None }]),
        ..MetadataRequest::default()
    };
    let found = rig.ask(&by_id(rig.topic_id()), 12).topics[0].clone();
    assert_eq!(found.name.as_deref(), Some("t"));
    let lost = rig.ask(&by_id(Uuid([3; 16])), 12).topics[0].clone();
    assert_eq!((lost.error_code, lost.name), (ErrorCode::UnknownTopicId.code(), None));
}

#[test]
fn produce_is_answered_in_every_version() {
    let mut rig = Rig::new().with_topic(1);
    for (offset, version) in (3..=13).enumerate() {
        let mut request = rig.produce_request(&batch(&["v"]), 1);
        if version < 13 {
            request.topic_data[0].topic_id = Uuid::ZERO;
            request.topic_data[0].name = "t".to_owned();
        }
        let stored = answer(&rig.ask(&request, version));
        assert_eq!((stored.error_code, stored.base_offset), (0, offset as i64));
        assert_eq!((stored.log_append_time_ms, stored.log_start_offset.max(0)), (-1, 0));
        request.topic_data[0].topic_id = if version < 13 { Uuid::ZERO } else { Uuid([9; 16]) };
        request.topic_data[0].name = if version < 13 { "x".to_owned() } else { String::new() };
        let unknown = answer(&rig.ask(&request, version));
        let expected = if version < 13 {
            ErrorCode::UnknownTopicOrPartition
        } else {
            ErrorCode::UnknownTopicId
        };
        assert_eq!((code(&unknown), unknown.base_offset), (expected, -1));
    }
}

#[test]
fn produce_names_what_is_wrong() {
    let mut rig = Rig::new().with_topic(1);
    let mut request = rig.produce_request(&batch(&["v"]), 2);
    assert_eq!(code(&answer(&rig.ask(&request, 13))), ErrorCode::InvalidRequiredAcks);
    request.acks = -1;
    request.topic_data[0].partition_data[0].index = 7;
    assert_eq!(code(&answer(&rig.ask(&request, 13))), ErrorCode::UnknownTopicOrPartition);
    request.topic_data[0].partition_data[0].index = -1;
    assert_eq!(code(&answer(&rig.ask(&request, 13))), ErrorCode::UnknownTopicOrPartition);
    request.topic_data[0].partition_data[0].index = 0;
    let transactional = batch(&["v"]).producer(1, 0, 0).attributes(1 << 4);
    assert_eq!(code(&rig.produce(&transactional)), ErrorCode::TransactionalIdAuthorizationFailed);
    request.topic_data[0].partition_data[0].records = None;
    assert_eq!(code(&answer(&rig.ask(&request, 13))), ErrorCode::InvalidRecord);
    let mut twice = rig.produce_request(&batch(&["v"]), -1);
    let again = twice.topic_data[0].partition_data[0].clone();
    twice.topic_data[0].partition_data.push(again);
    let response = rig.ask(&twice, 13);
    let codes: Vec<_> =
        response.responses[0].partition_responses.iter().map(|a| a.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::InvalidRequest.code()]);
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 1);
}

#[test]
fn no_more_replicas_are_asked_to_be_in_sync_than_there_are() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.set_topic_config("t", "min.insync.replicas", "2").expect("setting");
    assert_eq!(code(&rig.produce(&batch(&["v"]))), ErrorCode::None);
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 1);
}

#[test]
fn internal_topics_are_not_written_by_clients() {
    let mut rig = Rig::new();
    rig.broker.make_topic(rig.now, "__consumer_offsets", 1, &[]).expect("topic");
    let id = rig.broker.topics["__consumer_offsets"].id;
    let refused = answer(&rig.ask(&produce_to(id, 0, &batch(&["v"]), -1), 13));
    assert_eq!(code(&refused), ErrorCode::InvalidTopicException);
}

#[test]
fn acks_0_gets_silence_and_an_error_ends_the_connection() {
    let mut rig = Rig::new().with_topic(1);
    let request = rig.produce_request(&batch(&["v"]), 0);
    rig.send(CONN, &request, 13);
    assert_eq!(rig.outputs(), [Output::Done { connection: CONN }]);
    assert_eq!(rig.broker.records("t", 0).expect("records").len(), 1);
    let unknown = produce_to(rig.topic_id(), 9, &batch(&["v"]), 0);
    rig.send(CONN, &unknown, 13);
    assert!(rig.close_reason().contains("UNKNOWN_TOPIC_OR_PARTITION"));
}

#[test]
fn the_topics_timestamp_and_codec_are_what_is_stored() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.set_topic_config("t", "message.timestamp.type", "LogAppendTime").expect("set");
    rig.broker.set_topic_config("t", "compression.type", "zstd").expect("set");
    let stored = rig.produce(&TestBatch::of(&["v", "w"]).timestamp(5));
    assert_eq!(stored.log_append_time_ms, rig.now.wall_ms);
    let records = rig.broker.records("t", 0).expect("records");
    assert!(records.iter().all(|r| r.timestamp == rig.now.wall_ms && r.codec == 4));
}

#[test]
fn fetch_is_answered_in_every_version() {
    let mut rig = Rig::new().with_topic(1);
    rig.produce(&batch(&["a"]));
    rig.produce(&batch(&["b"]));
    for version in 4..=18 {
        for isolation_level in [0, 1] {
            let mut request = rig.fetch_request(1, 1, 0);
            request.isolation_level = isolation_level;
            if version < 13 {
                request.topics[0].topic_id = Uuid::ZERO;
                request.topics[0].topic = "t".to_owned();
            }
            let response = rig.ask(&request, version);
            let data = fetched(&response);
            assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, 2, 2));
            let aborted = data.aborted_transactions.as_ref().map(Vec::len);
            assert_eq!(aborted, (isolation_level == 1).then_some(0));
            let records = data.records.clone().expect("records");
            assert_eq!(i64::from_be_bytes(records[..8].try_into().expect("offset")), 1);
        }
    }
}

#[test]
fn the_first_batch_comes_whatever_its_size_and_limits_hold_for_the_rest() {
    let mut rig = Rig::new().with_topic(2);
    let topic = rig.topic_id();
    for index in [0, 1] {
        rig.ask(&produce_to(topic, index, &batch(&["value"]), -1), 13);
        rig.ask(&produce_to(topic, index, &batch(&["value"]), -1), 13);
    }
    let mut request = rig.fetch_request(0, 1, 0);
    let second = FetchPartition { partition: 1, ..request.topics[0].partitions[0].clone() };
    request.topics[0].partitions.push(second);
    let size = batch(&["value"]).encode().len();
    let mut sizes = |max_bytes, partition_max_bytes| {
        request.max_bytes = max_bytes;
        request.topics[0]
            .partitions
            .iter_mut()
            .for_each(|p| p.partition_max_bytes = partition_max_bytes);
        let response = rig.ask(&request, 18);
        let lengths = response.responses[0].partitions.iter();
        lengths.map(|p| p.records.as_ref().map_or(0, Bytes::len) / size).collect::<Vec<_>>()
    };
    let size = size as i32;
    assert_eq!(sizes(1, 1), [1, 0]);
    assert_eq!(sizes(10 * size, 10 * size), [2, 2]);
    assert_eq!(sizes(3 * size, 10 * size), [2, 1]);
    assert_eq!(sizes(10 * size, size), [1, 1]);
    assert_eq!(sizes(10 * size, size - 1), [1, 0]);
    assert_eq!(sizes(-5, -5), [1, 0]);
}

#[test]
fn a_fetch_that_diverged_is_told_where() {
    let mut rig = Rig::new().with_topic(1);
    rig.produce(&batch(&["a"]));
    rig.broker.set_leader_epoch("t", 0, 4).expect("epoch");
    rig.produce(&batch(&["b"]));
    let mut request = rig.fetch_request(2, 1, 1000);
    request.topics[0].partitions[0].last_fetched_epoch = 2;
    let response = rig.ask(&request, 12 + 3);
    let data = fetched(&response);
    assert_eq!((data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, 1));
    assert_eq!(data.records, Some(Bytes::new()));
}

#[test]
fn offsets_are_listed_by_every_question() {
    let mut rig = Rig::new().with_topic(1);
    for (i, value) in ["a", "b", "c"].into_iter().enumerate() {
        rig.produce(&TestBatch::of(&[value]).timestamp(1000 * (i as i64 + 1)));
    }
    let request = |timestamp, partition_index| ListOffsetsRequest {
        topics: vec![ListOffsetsTopic {
            name: "t".to_owned(),
            partitions: vec![ListOffsetsPartition {
                partition_index,
                timestamp,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let mut list = |timestamp, version| {
        let answer = rig.ask(&request(timestamp, 0), version).topics[0].partitions[0].clone();
        (answer.error_code, answer.timestamp, answer.offset)
    };
    for version in 1..=11 {
        assert_eq!(list(-1, version), (0, -1, 3));
        assert_eq!(list(-2, version), (0, -1, 0));
        assert_eq!(list(1500, version), (0, 2000, 1));
        assert_eq!(list(3001, version), (0, -1, -1));
        let unsupported = (ErrorCode::UnsupportedVersion.code(), -1, -1);
        assert_eq!(list(-3, version), if version >= 7 { (0, 3000, 2) } else { unsupported });
        assert_eq!(list(-4, version), if version >= 8 { (0, -1, 0) } else { unsupported });
        assert_eq!(list(-5, version), if version >= 9 { (0, -1, -1) } else { unsupported });
        assert_eq!(list(-6, version), if version >= 11 { (0, -1, -1) } else { unsupported });
        assert_eq!(list(-7, version), unsupported);
    }
    let unknown = rig.ask(&request(-1, 5), 11).topics[0].partitions[0].error_code;
    assert_eq!(unknown, ErrorCode::UnknownTopicOrPartition.code());
    let mut twice = request(-1, 0);
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    let response = rig.ask(&twice, 11);
    let codes = response.topics[0].partitions.iter().map(|p| p.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [ErrorCode::InvalidRequest.code(); 2]);
}

#[test]
fn producer_ids_are_given_out_in_every_version() {
    let mut rig = Rig::new();
    let (first, second) = (rig.new_producer(), rig.new_producer());
    assert_ne!(first, second);
    for version in 0..=5 {
        let plain =
            InitProducerIdRequest { producer_id: -1, producer_epoch: -1, ..Default::default() };
        assert_eq!(rig.ask(&plain, version).error_code, 0);
    }
    let half = InitProducerIdRequest { producer_id: 5, producer_epoch: -1, ..Default::default() };
    assert_eq!(rig.ask(&half, 5).error_code, ErrorCode::InvalidRequest.code());
}

#[test]
fn the_coordinator_is_this_broker() {
    let mut rig = Rig::new();
    for version in 0..=6 {
        let keys = ["g".to_owned(), "h".to_owned()];
        let request = FindCoordinatorRequest {
            key: if version < 4 { "g".to_owned() } else { String::new() },
            coordinator_keys: if version < 4 { Vec::new() } else { keys.to_vec() },
            ..Default::default()
        };
        let response = rig.ask(&request, version);
        if version < 4 {
            assert_eq!((response.error_code, response.node_id, response.port), (0, 1, 9092));
        } else {
            let nodes = response.coordinators.iter().map(|c| (c.key.as_str(), c.node_id, c.port));
            assert_eq!(nodes.collect::<Vec<_>>(), [("g", 1, 9092), ("h", 1, 9092)]);
        }
    }
}

fn new_topic(
    name: &str,
    partitions: i32,
    replicas: i16,
    settings: &[(&str, &str)],
) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: replicas,
        configs: settings
            .iter()
            .map(|(name, value)| CreatableTopicConfig {
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
            })
            .collect(),
        ..Default::default()
    }
}

#[test]
fn topics_are_created_with_their_settings_or_refused_with_the_reason() {
    let mut rig = Rig::new();
    let mut create = |topic: CreatableTopic, version| {
        let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
        let answer = rig.ask(&request, version).topics[0].clone();
        (ErrorCode::from_code(answer.error_code), answer)
    };
    let (code, made) = create(new_topic("a", 2, 1, &[("retention.ms", "5")]), 7);
    assert_eq!(code, ErrorCode::None);
    assert_eq!((made.num_partitions, made.replication_factor), (2, 1));
    let configs = made.configs.expect("configs");
    let retention = configs.iter().find(|c| c.name == "retention.ms").expect("listed");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("5"), 1));
    assert_eq!(create(new_topic("b", -1, -1, &[]), 4).0, ErrorCode::None);
    assert_eq!(create(new_topic("a", 1, 1, &[]), 5).0, ErrorCode::TopicAlreadyExists);
    assert_eq!(create(new_topic("x/y", 1, 1, &[]), 5).0, ErrorCode::InvalidTopicException);
    assert_eq!(create(new_topic("c", 0, 1, &[]), 5).0, ErrorCode::InvalidPartitions);
    assert_eq!(create(new_topic("c", -1, 1, &[]), 3).0, ErrorCode::InvalidPartitions);
    assert_eq!(create(new_topic("c", i32::MAX, 1, &[]), 5).0, ErrorCode::InvalidPartitions);
    assert_eq!(create(new_topic("c", 1, 3, &[]), 5).0, ErrorCode::InvalidReplicationFactor);
    let (code, refused) = create(new_topic("c", 1, 1, &[("nonsense", "5")]), 5);
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(refused.error_message.expect("message").contains("nonsense"));
    assert_eq!(create(new_topic("c", 1, 1, &[("segment.ms", "x")]), 5).0, ErrorCode::InvalidConfig);
    let mut assigned = new_topic("d", -1, -1, &[]);
    let to = |partition_index, broker| CreatableReplicaAssignment {
        partition_index,
        broker_ids: vec![broker],
    };
    assigned.assignments = vec![to(1, 1), to(0, 1)];
    assert_eq!(create(assigned.clone(), 5).0, ErrorCode::None);
    assigned.name = "e".to_owned();
    assigned.assignments = vec![to(0, 2)];
    assert_eq!(create(assigned, 5).0, ErrorCode::InvalidReplicaAssignment);
    assert_eq!(create(new_topic("x.y", 1, 1, &[]), 5).0, ErrorCode::None);
    let (code, _) = create(new_topic("x_y", 1, 1, &[]), 5);
    assert_eq!(code, ErrorCode::InvalidTopicException, "it collides in metric names");
    let twice = vec![new_topic("f", 1, 1, &[]), new_topic("f", 1, 1, &[])];
    let request = CreateTopicsRequest { topics: twice, ..Default::default() };
    let codes: Vec<_> = rig.ask(&request, 5).topics.iter().map(|t| t.error_code).collect();
    assert_eq!(codes, [ErrorCode::InvalidRequest.code(); 2]);
    let only = CreateTopicsRequest {
        topics: vec![new_topic("g", 1, 1, &[])],
        validate_only: true,
        ..Default::default()
    };
    assert_eq!(rig.ask(&only, 5).topics[0].error_code, 0);
    let names: Vec<_> = rig.broker.topics().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(names, ["a", "b", "d", "x.y"]);
}

#[test]
fn topics_are_deleted_by_name_or_id() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.make_topic(rig.now, "u", 1, &[]).expect("topic");
    let named = |name: &str| DeleteTopicsRequest {
        topic_names: vec![name.to_owned()],
        ..Default::default()
    };
    for (version, expected) in [(1, ErrorCode::None), (5, ErrorCode::UnknownTopicOrPartition)] {
        let code = rig.ask(&named("u"), version).responses[0].error_code;
        assert_eq!(code, expected.code());
    }
    let id = rig.topic_id();
    let target = |name: Option<&str>, topic_id| DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: name.map(str::to_owned), topic_id }],
        ..Default::default()
    };
    let mut delete = |request: DeleteTopicsRequest| {
        ErrorCode::from_code(rig.ask(&request, 6).responses[0].error_code)
    };
    assert_eq!(delete(target(Some("t"), id)), ErrorCode::InvalidRequest);
    assert_eq!(delete(target(None, Uuid([5; 16]))), ErrorCode::UnknownTopicId);
    assert_eq!(delete(target(None, id)), ErrorCode::None);
    assert_eq!(delete(target(None, id)), ErrorCode::UnknownTopicId);
}

#[test]
fn topics_grow_and_never_shrink() {
    let mut rig = Rig::new().with_topic(2);
    let mut grow = |name: &str, count, validate_only| {
        let topic = CreatePartitionsTopic { name: name.to_owned(), count, ..Default::default() };
        let request =
            CreatePartitionsRequest { topics: vec![topic], validate_only, ..Default::default() };
        ErrorCode::from_code(rig.ask(&request, 3).results[0].error_code)
    };
    assert_eq!(grow("t", 5, true), ErrorCode::None);
    assert_eq!(grow("t", 2, false), ErrorCode::InvalidPartitions);
    assert_eq!(grow("t", 4, false), ErrorCode::None);
    assert_eq!(grow("t", 3, false), ErrorCode::InvalidPartitions);
    assert_eq!(grow("x", 3, false), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(rig.broker.topics().collect::<Vec<_>>(), [("t", 4)]);
    let last = produce_to(rig.topic_id(), 3, &batch(&["v"]), -1);
    assert_eq!(answer(&rig.ask(&last, 13)).error_code, 0);
}

#[test]
fn settings_are_described() {
    let mut rig = Rig::new().with_topic(1);
    rig.broker.set_topic_config("t", "segment.bytes", "4096").expect("set");
    let describe = |resource_type, name: &str, keys: Option<Vec<String>>| DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name: name.to_owned(),
            configuration_keys: keys,
        }],
        include_synonyms: true,
        ..Default::default()
    };
    for version in 1..=4 {
        let all = rig.ask(&describe(2, "t", None), version).results[0].clone();
        assert_eq!(all.error_code, 0);
        let segment = all.configs.iter().find(|c| c.name == "segment.bytes").expect("listed");
        assert_eq!((segment.value.as_deref(), segment.config_source), (Some("4096"), 1));
        assert_eq!(segment.synonyms.len(), 2);
        let codec = all.configs.iter().find(|c| c.name == "compression.type").expect("listed");
        assert_eq!((codec.value.as_deref(), codec.config_source), (Some("producer"), 5));
    }
    let one = rig.ask(&describe(2, "t", Some(vec!["retention.ms".to_owned()])), 4);
    assert_eq!(one.results[0].configs.len(), 1);
    let mut code = |request: DescribeConfigsRequest| {
        ErrorCode::from_code(rig.ask(&request, 4).results[0].error_code)
    };
    assert_eq!(code(describe(2, "x", None)), ErrorCode::UnknownTopicOrPartition);
    assert_eq!(code(describe(4, "1", None)), ErrorCode::None);
    assert_eq!(code(describe(4, "2", None)), ErrorCode::InvalidRequest);
    assert_eq!(code(describe(16, "1", None)), ErrorCode::InvalidRequest);
}

#[test]
fn the_cluster_is_this_broker() {
    let mut rig = Rig::new();
    for version in 0..=2 {
        let response = rig.ask(&DescribeClusterRequest::default(), version);
        assert_eq!((response.error_code, response.controller_id), (0, 1));
        assert_eq!(response.cluster_id, rig.broker.cluster_id());
        assert_eq!(response.brokers.len(), 1);
    }
    let controllers = DescribeClusterRequest { endpoint_type: 2, ..Default::default() };
    assert_eq!(rig.ask(&controllers, 1).error_code, ErrorCode::MismatchedEndpointType.code());
}
