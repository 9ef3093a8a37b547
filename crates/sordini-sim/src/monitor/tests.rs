//! The wire by itself, as bytes: versions that were not offered are flagged.

use sordini_protocol::Request;
use sordini_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse,
};
use sordini_protocol::messages::metadata::MetadataRequest;

use super::*;

struct Story {
    monitor: Monitor,
    history: History,
}

impl Story {
    /// A producer with one connection, number 1.
    fn new() -> Self {
        let config = crate::settings::configure(&[], 1).expect("sound settings");
        let mut monitor = Monitor::new(&config, 0);
        monitor.opened(1, 1);
        Self { monitor, history: History::default() }
    }

    /// Asks on a connection; what was wrong so far.
    fn ask<R: Request>(
        &mut self,
        conn: u64,
        request: &R,
        version: i16,
        correlation: i32,
    ) -> Vec<String> {
        let mut frame = Vec::new();
        frame::put_request(&mut frame, request, version, correlation, None).expect("a request");
        let (now, topics) = (Instant::from_millis(5), Topics::new());
        self.monitor.transmit(now, conn, &frame.into(), &topics, &mut self.history);
        let wrong = self.monitor.violations.iter();
        wrong.map(|it| format!("{}: {}", it.invariant, it.text)).collect()
    }

    /// The broker answers ApiVersions with these ranges.
    fn offer(&mut self, version: i16, correlation: i32, code: ErrorCode, ranges: &[(ApiKey, i16)]) {
        let range = |(api, max): &(ApiKey, i16)| ApiVersion {
            api_key: api.code(),
            min_version: 0,
            max_version: *max,
        };
        let response = ApiVersionsResponse {
            error_code: code.code(),
            api_keys: ranges.iter().map(range).collect(),
            ..ApiVersionsResponse::default()
        };
        let mut frame = Vec::new();
        let api = ApiKey::ApiVersions;
        frame::put_response(&mut frame, api, &response, version, correlation).expect("an answer");
        assert!(self.monitor.receive(Instant::from_millis(6), 1, &frame).is_empty());
    }
}

fn versions() -> ApiVersionsRequest {
    ApiVersionsRequest::default()
}

#[test]
fn p7_only_what_this_connection_was_offered_is_spoken() {
    let mut story = Story::new();
    assert_eq!(story.ask(1, &versions(), 4, 0), [""; 0]);
    story.offer(4, 0, ErrorCode::None, &[(ApiKey::Metadata, 9), (ApiKey::ApiVersions, 3)]);
    let metadata = MetadataRequest::default();
    assert_eq!(story.ask(1, &metadata, 9, 1), [""; 0]);
    assert_eq!(story.ask(1, &metadata, 10, 2), ["P7: Metadata 10, and 0 to 9 were offered here"]);

    // Another connection to the same node was offered nothing.
    story.monitor.opened(2, 1);
    let wrong = story.ask(2, &metadata, 9, 0);
    assert_eq!(wrong[1], "P7: Metadata 9 on a connection that has no versions yet");
}

#[test]
fn p7_what_is_not_offered_is_not_asked() {
    let mut story = Story::new();
    story.ask(1, &versions(), 4, 0);
    story.offer(4, 0, ErrorCode::None, &[(ApiKey::ApiVersions, 4)]);
    let wrong = story.ask(1, &MetadataRequest::default(), 9, 1);
    assert_eq!(wrong, ["P7: Metadata 9, which was not offered here"]);
}

#[test]
fn p7_versions_that_were_refused_are_asked_for_in_a_lower_one() {
    let mut story = Story::new();
    story.ask(1, &versions(), 4, 0);
    story.offer(0, 0, ErrorCode::UnsupportedVersion, &[(ApiKey::ApiVersions, 2)]);
    assert_eq!(story.ask(1, &versions(), 2, 1), [""; 0]);
    let wrong = story.ask(1, &versions(), 3, 2);
    assert_eq!(wrong, ["P7: ApiVersions 3 after 4 was refused, up to 2"]);
}
