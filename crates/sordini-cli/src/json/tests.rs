use proptest::prelude::*;

use super::*;

fn shown(record: &JsonRecord, headers: &[(String, Option<Bytes>)]) -> String {
    let mut out = Vec::new();
    let record = Shown {
        partition: record.partition.unwrap_or(0),
        offset: 7,
        timestamp: record.timestamp.unwrap_or(-1),
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers,
    };
    write(record, &mut out).expect("a Vec takes all");
    String::from_utf8(out).expect("JSON is UTF-8")
}

#[test]
fn the_fields_have_their_names_and_order() {
    let record = JsonRecord {
        partition: Some(2),
        timestamp: Some(1000),
        key: Some(b"k\xff".to_vec()),
        value: Some("é\n".into()),
        headers: vec![],
    };
    let headers = [
        ("h".to_owned(), Some(Bytes::from_static(b"v"))),
        ("h".to_owned(), None),
        ("b".to_owned(), Some(Bytes::from_static(b"\xff"))),
    ];
    assert_eq!(
        shown(&record, &headers),
        r#"{"partition":2,"offset":7,"timestamp":1000,"key_base64":"a/8=","headers":[{"key":"h","value":"v"},{"key":"h","value":null},{"key":"b","value_base64":"/w=="}],"value":"é\n"}"#
    );
}

#[test]
fn a_value_alone_is_a_record_and_null_is_a_tombstone() {
    let record = read(br#"{"value":"v"}"#).expect("a record");
    assert_eq!(record, JsonRecord { value: Some(b"v".to_vec()), ..JsonRecord::default() });
    assert_eq!(read(br#"{"key":"k","value":null}"#).expect("a record").value, None);
    assert_eq!(read(br#"{"value":"","timestamp":-1}"#).expect("a record").timestamp, None);
}

#[test]
fn a_line_that_is_no_record_says_why() {
    for (line, why) in [
        ("", "JSON"),
        ("[]", "JSON"),
        ("hello", "JSON"),
        (r#"{"key":"k"}"#, "value is missing"),
        (r#"{"value":1}"#, "JSON"),
        (r#"{"value":"a","value_base64":"YQ=="}"#, "twice"),
        (r#"{"value_base64":"YQ"}"#, "base64"),
        (r#"{"value":"a","key_base64":"*"}"#, "key in base64"),
        (r#"{"value":"a","headers":[{"key":"h"}]}"#, "a header's value is missing"),
        (r#"{"value":"a","partition":3000000000}"#, "JSON"),
        (r#"{"value":"a"} x"#, "JSON"),
        (r#"{"value":"a","ky":"k"}"#, "unknown field `ky`, expected one of `partition`, `offset`"),
        (r#"{"value":"a","headers":[{"key":"h","value":"v","x":1}]}"#, "unknown field `x`"),
        (r#"{"value":"a","ky":"k"}"#, "(column 17)"),
    ] {
        let error = read(line.as_bytes()).expect_err(line);
        assert!(error.contains(why), "{line}: {error}");
    }
}

fn some_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..20),
        any::<String>().prop_map(String::into_bytes),
    ])
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        partition in 0i32..100,
        timestamp in 0i64..i64::MAX,
        key in some_bytes(),
        value in some_bytes(),
        headers in proptest::collection::vec((any::<String>(), some_bytes()), 0..4),
    ) {
        let record = JsonRecord {
            partition: Some(partition),
            timestamp: Some(timestamp),
            key,
            value,
            headers,
        };
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().map(Bytes::from)))
            .collect();
        let line = shown(&record, &headers);
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(read(line.as_bytes()), Ok(record));
    }
}
