//! Every decoder in every version: no panic, bounded memory, and what was accepted survives
//! encoding and decoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sordini_fuzz::choose;
use sordini_protocol::messages::{AnyRequest, AnyResponse};
use sordini_protocol::{ApiKey, DecodeError, EncodeError, Reader};

type Decode<T> = fn(ApiKey, &mut Reader, i16) -> Result<T, DecodeError>;
type Encode<T> = fn(&T, &mut Vec<u8>, i16) -> Result<(), EncodeError>;

fn fixpoint<T: PartialEq + std::fmt::Debug>(
    decode: Decode<T>,
    encode: Encode<T>,
    api: ApiKey,
    version: i16,
    bytes: bytes::Bytes,
) {
    let Ok(message) = decode(api, &mut Reader::new(bytes), version) else { return };
    let mut first = Vec::new();
    encode(&message, &mut first, version).expect("what was decoded can be encoded");
    let mut r = Reader::new(first.clone());
    let again = decode(api, &mut r, version).expect("what was encoded can be decoded");
    assert_eq!(r.finish(), Ok(()));
    assert_eq!(again, message);
    let mut second = Vec::new();
    encode(&again, &mut second, version).expect("encoded before");
    assert_eq!(first, second);
}

fuzz_target!(|data: &[u8]| {
    let Some((api, version, is_request, bytes)) = choose(data) else { return };
    if is_request {
        fixpoint(AnyRequest::decode, AnyRequest::encode, api, version, bytes);
    } else {
        fixpoint(AnyResponse::decode, AnyResponse::encode, api, version, bytes);
    }
});
