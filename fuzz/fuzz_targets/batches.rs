//! A range of record batches, as a log or a Fetch response holds it, compressed or not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sordini_fuzz::{CAP, read_all};
use sordini_protocol::records::{Batch, BatchHeader, Batches};

fuzz_target!(|data: &[u8]| {
    let mut batches = Batches::new(data);
    let mut used = 0;
    for batch in batches.by_ref() {
        let Ok(batch) = batch else { return };
        used += batch.bytes().len();
        assert_eq!(batch.bytes().len(), batch.header().batch_size());
        assert_eq!(batch.header().to_bytes(), batch.bytes()[..BatchHeader::SIZE]);
        assert_eq!(Batch::parse(batch.bytes()), Ok(batch));
        let _ = batch.verify_crc();
        if let Ok(records) = batch.decompress(CAP) {
            assert!(records.body().len() <= CAP);
            let _ = read_all(&records);
        }
    }
    assert_eq!(used + batches.partial().len(), data.len());
});
