//! Hostile compressed bytes: no panic, never more than the cap; where the C library accepts a
//! zstd frame that we accept, both yield the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sordini_protocol::records::{Compression, DecompressError, decompress};

fuzz_target!(|data: &[u8]| {
    let Some((code, data)) = data.split_first() else { return };
    let Some(codec) = Compression::from_code(code % 5) else { return };
    let cap = usize::from(code / 5) * 4096;
    match decompress(codec, data, cap) {
        Ok(out) => {
            assert!(out.len() <= cap);
            // A higher cap changes nothing.
            assert_eq!(decompress(codec, data, cap + 100_000).as_ref(), Ok(&out));
            if codec == Compression::Zstd
                && let Ok(theirs) = zstd::decode_all(data)
            {
                assert_eq!(theirs, out.as_ref());
            }
        }
        Err(DecompressError::TooLarge { .. }) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
