//! A batch's records as they were encoded at append, whatever codec they went through since.

use sordini_protocol::records::{Compression, decompress};

use crate::batch::body::Body;
use crate::config::Codec;

/// The records section of `body`, decompressed; `None` if it does not decompress.
pub(crate) fn plain(codec: Codec, body: &Body) -> Option<Vec<u8>> {
    let packed = body.to_vec();
    match u8::try_from(codec.code()).ok().and_then(Compression::from_code)? {
        Compression::None => Some(packed),
        // No batch of ours is ever larger than a request can be.
        codec => decompress(codec, &packed, i32::MAX as usize).ok().map(|plain| plain.to_vec()),
    }
}
