//! The records of one batch behind a sound header, so that no input is spent on headers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sordini_fuzz::{CAP, read_all};
use sordini_protocol::records::{Batch, BatchHeader};

fuzz_target!(|data: &[u8]| {
    let Some(([count, last], body)) = data.split_first_chunk() else { return };
    let Ok(length) = i32::try_from(body.len() + BatchHeader::SIZE - BatchHeader::LENGTH_END) else {
        return;
    };
    let header = BatchHeader {
        batch_length: length,
        magic: 2,
        last_offset_delta: i32::from(*last) - 1,
        records_count: i32::from(*count),
        ..BatchHeader::default()
    };
    let bytes = [&header.to_bytes()[..], body].concat();
    let batch = Batch::parse(&bytes).expect("the header is sound");
    if let Ok(records) = batch.decompress(CAP) {
        let _ = read_all(&records);
    }
});
