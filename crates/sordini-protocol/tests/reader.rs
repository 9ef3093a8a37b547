//! The rules of Kafka's primitive types, one by one.

use bytes::Bytes;
use sordini_protocol::{DecodeError, DecodeErrorKind as Kind, Reader};

fn reader(bytes: &[u8]) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes))
}

fn kind<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> Kind {
    result.expect_err("hostile bytes").kind
}

#[test]
fn numbers_are_big_endian_and_bounded() {
    let mut r = reader(&[1, 0xff, 0xff, 0xfe, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(r.bool("f"), Ok(true));
    assert_eq!(r.i8("f"), Ok(-1));
    assert_eq!(r.i16("f"), Ok(-2));
    assert_eq!(r.u16("f"), Ok(1));
    assert_eq!(r.i32("f"), Ok(i32::MIN));
    assert_eq!(r.i64("f"), Ok(9));
    assert_eq!((r.remaining(), r.position()), (0, 18));
    assert_eq!(r.finish(), Ok(()));
    let error = r.i64("Message.Field").unwrap_err();
    let expected = DecodeError {
        field: "Message.Field",
        offset: 18,
        kind: Kind::Truncated { needed: 8, left: 0 },
    };
    assert_eq!(error, expected);
    assert_eq!(
        error.to_string(),
        "cannot decode Message.Field at byte 18: it needs 8 bytes, 0 are left"
    );
}

#[test]
fn unsigned_varints_have_at_most_five_bytes_and_32_bits() {
    for (bytes, value) in [
        (&[0x00][..], 0),
        (&[0x7f], 127),
        (&[0x80, 0x01], 128),
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], u32::MAX),
        (&[0x80, 0x80, 0x80, 0x80, 0x00], 0),
    ] {
        assert_eq!(reader(bytes).uvarint("f"), Ok(value), "{bytes:02x?}");
    }
    for bytes in
        [&[0xff, 0xff, 0xff, 0xff, 0x1f][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], &[0xff; 10]]
    {
        assert_eq!(kind(reader(bytes).uvarint("f")), Kind::MalformedVarint, "{bytes:02x?}");
    }
    assert_eq!(kind(reader(&[0x80]).uvarint("f")), Kind::Truncated { needed: 1, left: 0 });
}

#[test]
fn strings_are_checked() {
    assert_eq!(reader(&[0, 2, 0xc3, 0xbc]).string("f", false), Ok("ü".to_owned()));
    assert_eq!(reader(&[3, 0xc3, 0xbc]).string("f", true), Ok("ü".to_owned()));
    assert_eq!(reader(&[0xff, 0xff]).nullable_string("f", false), Ok(None));
    assert_eq!(reader(&[0]).nullable_string("f", true), Ok(None));
    assert_eq!(kind(reader(&[0xff, 0xff]).string("f", false)), Kind::UnexpectedNull);
    assert_eq!(kind(reader(&[0]).string("f", true)), Kind::UnexpectedNull);
    assert_eq!(kind(reader(&[0xff, 0xfe]).nullable_string("f", false)), Kind::NegativeLength(-2));
    assert_eq!(
        kind(reader(&[0, 3, b'a', 0xff, b'b']).string("f", false)),
        Kind::InvalidUtf8 { valid_up_to: 1 }
    );
    assert_eq!(
        kind(reader(&[0, 3, b'a']).string("f", false)),
        Kind::Truncated { needed: 3, left: 1 }
    );
    let long = [&[0x81, 0x80, 0x02][..], &[b'x'; 32_768]].concat();
    assert_eq!(kind(reader(&long).string("f", true)), Kind::StringTooLong { length: 32_768 });
}

#[test]
fn bytes_are_slices_of_the_frame() {
    let frame = Bytes::from_static(&[0, 0, 0, 3, 1, 2, 3, 9]);
    let mut r = Reader::new(frame.clone());
    let slice = r.bytes("f", false).unwrap();
    assert_eq!(slice.as_ptr(), frame[4..].as_ptr());
    assert_eq!(slice, [1, 2, 3][..]);
    assert_eq!(r.into_rest(), frame.slice(7..));
    assert_eq!(reader(&[0xff; 4]).nullable_bytes("f", false), Ok(None));
    let huge = [0x7f, 0xff, 0xff, 0xff, 0];
    assert_eq!(
        kind(reader(&huge).bytes("f", false)),
        Kind::Truncated { needed: 0x7fff_ffff, left: 1 }
    );
    assert_eq!(
        kind(reader(&[0x80, 0, 0, 0]).bytes("f", false)),
        Kind::NegativeLength(i32::MIN.into())
    );
}

#[test]
fn an_arrays_count_is_checked_before_anything_is_allocated() {
    let read = |bytes: &[u8], min: usize| reader(bytes).array("f", false, min, |r| r.i16("f"));
    assert_eq!(read(&[0, 0, 0, 2, 0, 1, 0, 2], 2), Ok(vec![1, 2]));
    assert_eq!(
        kind(read(&[0, 0, 0, 3, 0, 1, 0, 2], 2)),
        Kind::ImpossibleCount { count: 3, fits: 2 }
    );
    assert_eq!(
        kind(read(&[0x7f, 0xff, 0xff, 0xff, 0, 1], 0)),
        Kind::ImpossibleCount { count: 0x7fff_ffff, fits: 2 }
    );
    assert_eq!(kind(read(&[0xff, 0xff, 0xff, 0xff], 2)), Kind::UnexpectedNull);
    assert_eq!(kind(read(&[0xff, 0xff, 0xff, 0xfe], 2)), Kind::NegativeLength(-2));
    let compact = reader(&[2, 0, 7]).nullable_array("f", true, 2, |r| r.i16("f"));
    assert_eq!(compact, Ok(Some(vec![7])));
    assert_eq!(reader(&[0]).nullable_array("f", true, 2, |r| r.i16("f")), Ok(None));
}

#[test]
fn what_decoding_may_allocate_is_in_proportion_to_the_frame() {
    // 100 elements fit into the bytes, but not 100 times 40 bytes into 32 times 104.
    let frame = [&100i32.to_be_bytes()[..], &[0; 100]].concat();
    let mut r = reader(&frame);
    let read = r.array("f", false, 1, |r| r.i8("f").map(|b| [i64::from(b); 5]));
    assert_eq!(kind(read), Kind::OverBudget { asked: 4_000, left: 104 * 32 });
    // The budget is the whole frame's, not each array's.
    let frame = [&frame[..], &frame].concat();
    let mut r = reader(&frame);
    assert!(r.array("f", false, 1, |r| r.i8("f").map(|b| [i64::from(b); 5])).is_ok());
    let again = r.array("f", false, 1, |r| r.i8("f").map(|b| [i64::from(b); 5]));
    assert_eq!(kind(again), Kind::OverBudget { asked: 4_000, left: 208 * 32 - 4_000 });
}

/// Reads tag 1 as an int16, and skips all others.
fn tagged(bytes: &[u8]) -> Result<Option<i16>, DecodeError> {
    let mut r = reader(bytes);
    let mut value = None;
    r.tagged_fields("f", |r, tag| {
        if tag == 1 {
            value = Some(r.i16("f")?);
        }
        Ok(tag == 1)
    })?;
    r.finish()?;
    Ok(value)
}

#[test]
fn unknown_tags_are_skipped_and_sizes_kept() {
    assert_eq!(tagged(&[0]), Ok(None));
    assert_eq!(tagged(&[1, 1, 2, 0, 7]), Ok(Some(7)));
    assert_eq!(tagged(&[3, 0, 1, 0xff, 1, 2, 0, 7, 9, 0]), Ok(Some(7)));
    assert_eq!(kind(tagged(&[1, 1, 3, 0, 7, 0])), Kind::TagSize { tag: 1, stated: 3, used: 2 });
    // The value may not read beyond its size, into what follows.
    assert_eq!(kind(tagged(&[1, 1, 1, 0, 7])), Kind::Truncated { needed: 2, left: 1 });
    assert_eq!(kind(tagged(&[1, 5, 9, 0])), Kind::Truncated { needed: 9, left: 1 });
    assert_eq!(
        kind(tagged(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0])),
        Kind::ImpossibleCount { count: u32::MAX.into(), fits: 1 }
    );
}

#[test]
fn a_nullable_structs_marker_is_one_of_two() {
    assert_eq!(reader(&[1]).struct_marker("f"), Ok(true));
    assert_eq!(reader(&[0xff]).struct_marker("f"), Ok(false));
    assert_eq!(kind(reader(&[0]).struct_marker("f")), Kind::InvalidStructMarker(0));
}

#[test]
fn bytes_behind_a_message_are_an_error() {
    let mut r = reader(&[1, 2, 3]);
    r.i8("f").unwrap();
    assert_eq!(kind(r.finish()), Kind::Trailing { left: 2 });
}
