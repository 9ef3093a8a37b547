//! What a broker reads first: a frame's size, a header, and the request behind it.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sordini_protocol::frame;
use sordini_protocol::messages::AnyRequest;
use sordini_protocol::messages::fetch::FetchRequest;
use sordini_protocol::messages::produce::ProduceRequest;

fuzz_target!(|data: &[u8]| {
    if let Some(prefix) = data.first_chunk() {
        match frame::size(*prefix, data.len()) {
            Ok(size) => assert!(size <= data.len()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    let bytes = Bytes::copy_from_slice(data);
    for version in [8, 9] {
        let _ = frame::response_header::<ProduceRequest>(bytes.clone(), version);
        let _ = frame::response_header::<FetchRequest>(bytes.clone(), version + 3);
    }
    if let Ok((api, header, mut r)) = frame::request_header(bytes) {
        assert_eq!(api.code(), header.request_api_key);
        let before = r.remaining();
        if AnyRequest::decode(api, &mut r, header.request_api_version).is_ok() {
            assert!(r.remaining() <= before);
        }
    }
});
