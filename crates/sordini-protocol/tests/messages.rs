//! What the generated messages promise beyond a round trip.

use bytes::Bytes;
use sordini_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use sordini_protocol::messages::fetch::{FetchRequest, ForgottenTopic};
use sordini_protocol::messages::init_producer_id::InitProducerIdRequest;
use sordini_protocol::messages::metadata::{MetadataResponse, MetadataResponseTopic};
use sordini_protocol::messages::produce::{
    LeaderIdAndEpoch, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use sordini_protocol::messages::{AnyRequest, SUPPORTED, versions};
use sordini_protocol::{
    ApiKey, DecodeErrorKind, EncodeErrorKind, ErrorCode, Message, Reader, Request, decode, frame,
};

fn produce(records: Bytes) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: 3, records: Some(records) }];
    let topic = TopicProduceData { name: "t".into(), partition_data, ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 1_000, topic_data: vec![topic], ..Default::default() }
}

#[test]
fn produced_records_are_not_copied() {
    let records = Bytes::from(vec![7; 10_000]);
    let mut bytes = Vec::new();
    produce(records.clone()).encode(&mut bytes, 9).unwrap();
    let bytes = Bytes::from(bytes);
    let request: ProduceRequest = decode(bytes.clone(), 9).unwrap();
    let read = request.topic_data[0].partition_data[0].records.clone().unwrap();
    assert_eq!(read, records);
    assert!(bytes.as_ptr_range().contains(&read.as_ptr()));
}

#[test]
fn debug_output_holds_no_payload() {
    let shown = format!("{:?}", produce(Bytes::from_static(b"secret payload")));
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("records: Some(14)"), "{shown}");
}

#[test]
fn a_field_that_the_version_lacks_is_an_error_unless_kafka_says_ignorable() {
    let forgotten = FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic::default()],
        ..FetchRequest::default()
    };
    let error = forgotten.encode(&mut Vec::new(), 6).unwrap_err();
    assert_eq!(error.field, "FetchRequest.ForgottenTopicsData");
    assert_eq!(error.kind, EncodeErrorKind::NotInVersion { version: 6 });
    assert_eq!(forgotten.encode(&mut Vec::new(), 7), Ok(()));
    // A tagged field.
    let current_leader = LeaderIdAndEpoch { leader_id: 1, leader_epoch: 2 };
    let partition_responses =
        vec![PartitionProduceResponse { current_leader, ..Default::default() }];
    let responses = vec![TopicProduceResponse { partition_responses, ..Default::default() }];
    let redirect = ProduceResponse { responses, ..Default::default() };
    let error = redirect.encode(&mut Vec::new(), 9).unwrap_err();
    assert_eq!(error.field, "PartitionProduceResponse.CurrentLeader");
    assert_eq!(redirect.encode(&mut Vec::new(), 10), Ok(()));
    // The session's epoch is ignorable.
    let epoch = FetchRequest { session_epoch: 5, ..FetchRequest::default() };
    assert_eq!(epoch.encode(&mut Vec::new(), 6), Ok(()));
}

#[test]
fn null_and_length_have_limits_that_are_told() {
    let unnamed = MetadataResponse {
        topics: vec![MetadataResponseTopic::default()],
        ..MetadataResponse::default()
    };
    let error = unnamed.encode(&mut Vec::new(), 11).unwrap_err();
    assert_eq!(error.kind, EncodeErrorKind::NullNotAllowed { version: 11 });
    assert_eq!(unnamed.encode(&mut Vec::new(), 12), Ok(()));
    let mut bytes = Vec::new();
    unnamed.encode(&mut bytes, 12).unwrap();
    // Version 11 has no null name, but otherwise the same fields up to there.
    let error = decode::<MetadataResponse>(bytes.into(), 11).unwrap_err();
    assert_eq!(error.field, "MetadataResponseTopic.Name");
    assert_eq!(error.kind, DecodeErrorKind::UnexpectedNull);

    let mut long = produce(Bytes::new());
    long.topic_data[0].name = "x".repeat(32_768);
    for version in [8, 9] {
        let error = long.encode(&mut Vec::new(), version).unwrap_err();
        let kind = EncodeErrorKind::TooLong { length: 32_768, max: 32_767 };
        assert_eq!((error.field, error.kind), ("TopicProduceData.Name", kind));
    }
    long.topic_data[0].name.pop();
    let mut bytes = Vec::new();
    long.encode(&mut bytes, 9).unwrap();
    assert_eq!(decode(bytes.into(), 9), Ok(long));
}

#[test]
fn versions_outside_the_range_are_refused_by_name() {
    let request = produce(Bytes::new());
    for version in [i16::MIN, -1, 2, 14, i16::MAX] {
        let error = request.encode(&mut Vec::new(), version).unwrap_err();
        assert_eq!(error.kind, EncodeErrorKind::UnsupportedVersion { version, supported: 3..=13 });
        let error = decode::<ProduceRequest>(Bytes::new(), version).unwrap_err();
        assert_eq!(error.kind, DecodeErrorKind::UnsupportedVersion { version, supported: 3..=13 });
    }
    assert_eq!(versions(ApiKey::Produce), Some(3..=13));
    assert_eq!(versions(ApiKey::JoinGroup), None);
    assert_eq!(InitProducerIdRequest::VERSIONS, 0..=6);
    assert_eq!(InitProducerIdRequest::LATEST_STABLE, 5);
    assert_eq!(ProduceRequest::LATEST_STABLE, 13);
}

#[test]
fn header_versions_follow_from_the_api_and_its_version() {
    assert_eq!((ProduceRequest::header_version(8), ProduceRequest::header_version(9)), (1, 2));
    assert_eq!(ProduceRequest::response_header_version(8), 0);
    assert_eq!(ProduceRequest::response_header_version(9), 1);
    assert_eq!(ApiVersionsRequest::header_version(2), 1);
    assert_eq!(ApiVersionsRequest::header_version(3), 2);
    for version in 0..=5 {
        assert_eq!(ApiVersionsRequest::response_header_version(version), 0);
    }
    assert_eq!(ApiKey::SaslHandshake.request_header_version(1), 1);
    assert_eq!(ApiKey::DescribeCluster.request_header_version(0), 2);
}

#[test]
fn error_codes_keep_their_numbers_and_names() {
    for code in i16::MIN..=i16::MAX {
        assert_eq!(ErrorCode::from_code(code).code(), code);
    }
    assert_eq!(ErrorCode::ALL.len(), 138);
    for code in ErrorCode::ALL {
        assert!(!matches!(ErrorCode::from_code(code.code()), ErrorCode::Unrecognized(_)));
    }
    assert_eq!(ErrorCode::from_code(19), ErrorCode::NotEnoughReplicas);
    assert_eq!(ErrorCode::NotEnoughReplicas.name(), "NOT_ENOUGH_REPLICAS");
    assert!(ErrorCode::NotEnoughReplicas.is_retriable());
    assert!(!ErrorCode::NotEnoughReplicas.is_invalid_metadata());
    assert!(ErrorCode::NotLeaderOrFollower.is_invalid_metadata());
    assert!(!ErrorCode::Unrecognized(999).is_retriable());
    assert_eq!(ErrorCode::from_code(999).to_string(), "unrecognized error code 999");
    assert_eq!(ErrorCode::from_code(-1), ErrorCode::UnknownServerError);
    assert_eq!(ErrorCode::default(), ErrorCode::None);
}

#[test]
fn api_keys_keep_their_numbers() {
    let known = (i16::MIN..=i16::MAX).filter_map(ApiKey::from_code);
    assert!(known.eq(ApiKey::ALL.iter().copied()));
    for api in ApiKey::ALL {
        assert_eq!(ApiKey::from_code(api.code()), Some(*api));
    }
    assert_eq!(ApiKey::from_code(22), Some(ApiKey::InitProducerId));
    // Gone since Kafka 4.0.
    assert_eq!(ApiKey::from_code(4), None);
}

#[test]
fn a_frame_is_a_size_a_header_and_a_message() {
    let request = produce(Bytes::from_static(b"batch"));
    let mut out = b"sent before".to_vec();
    frame::put_request(&mut out, &request, 9, 77, Some("me")).unwrap();
    let out = out.split_off(b"sent before".len());
    let (prefix, rest) = out.split_first_chunk().unwrap();
    assert_eq!(frame::size(*prefix, 1 << 20), Ok(rest.len()));
    let (api, header, mut r) = frame::request_header(Bytes::copy_from_slice(rest)).unwrap();
    assert_eq!((api, header.request_api_version), (ApiKey::Produce, 9));
    assert_eq!((header.correlation_id, header.client_id.as_deref()), (77, Some("me")));
    let any = AnyRequest::decode(api, &mut r, 9).unwrap();
    assert_eq!(r.finish(), Ok(()));
    assert_eq!((any.api(), &any), (ApiKey::Produce, &AnyRequest::from(request)));

    let mut out = Vec::new();
    let response = ApiVersionsResponse { error_code: 35, ..Default::default() };
    frame::put_response(&mut out, ApiKey::ApiVersions, &response, 3, 78).unwrap();
    let body = Bytes::copy_from_slice(&out[4..]);
    let (header, mut r) = frame::response_header::<ApiVersionsRequest>(body, 3).unwrap();
    assert_eq!(header.correlation_id, 78);
    assert_eq!(ApiVersionsResponse::decode(&mut r, 3), Ok(response));
}

#[test]
fn a_request_that_does_not_fit_leaves_nothing_behind() {
    let mut request = produce(Bytes::new());
    request.topic_data[0].name = "x".repeat(40_000);
    let mut out = b"sent before".to_vec();
    assert!(frame::put_request(&mut out, &request, 9, 1, None).is_err());
    assert_eq!(out, b"sent before");
}

#[test]
fn a_header_of_a_version_unknown_to_us_is_still_read() {
    let header = sordini_protocol::messages::header::RequestHeader {
        request_api_key: 18,
        request_api_version: 99,
        correlation_id: 5,
        client_id: None,
    };
    let mut bytes = Vec::new();
    header.encode(&mut bytes, 2).unwrap();
    bytes.extend(b"whatever version 99 holds");
    let (api, read, mut r) = frame::request_header(bytes.into()).unwrap();
    assert_eq!((api, read), (ApiKey::ApiVersions, header));
    let error = AnyRequest::decode(api, &mut r, 99).unwrap_err();
    assert!(matches!(error.kind, DecodeErrorKind::UnsupportedVersion { version: 99, .. }));
}

#[test]
fn apis_without_messages_and_unknown_keys_are_told_apart() {
    let mut r = Reader::new(Bytes::new());
    let error = AnyRequest::decode(ApiKey::JoinGroup, &mut r, 0).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::UnknownApiKey(11));
    assert!(!SUPPORTED.contains(&ApiKey::JoinGroup));
    let error = frame::request_header(Bytes::from_static(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1]));
    assert_eq!(error.unwrap_err().kind, DecodeErrorKind::UnknownApiKey(0x7fff));
}

#[test]
fn sizes_beyond_the_limit_are_refused_and_foreign_protocols_named() {
    assert_eq!(frame::size([0, 0, 0, 100], 100), Ok(100));
    assert!(frame::size([0, 0, 0, 101], 100).is_err());
    assert!(frame::size([0xff, 0xff, 0xff, 0xff], usize::MAX).is_err());
    for (prefix, name) in [
        (*b"HTTP", Some("HTTP")),
        ([21, 3, 1, 0], Some("TLS")),
        ([22, 3, 3, 4], Some("TLS")),
        (*b"SSH-", Some("SSH")),
        ([0x7f, 0xff, 0xff, 0xff], None),
    ] {
        let error = frame::size(prefix, 1 << 20).unwrap_err();
        assert_eq!(error.looks_like(), name);
    }
    let error = frame::size(*b"HTTP", 1_000).unwrap_err();
    let expected = "a frame of 1213486160 bytes was announced, 0 to 1000 are allowed; \
                    the peer seems to speak HTTP";
    assert_eq!(error.to_string(), expected);
}
