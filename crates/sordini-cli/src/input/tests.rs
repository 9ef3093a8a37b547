use proptest::prelude::*;

use super::*;

/// A reader that gives its bytes in the portions it was made with.
struct Portions(Vec<Vec<u8>>);

impl Read for Portions {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.0.first().is_some_and(Vec::is_empty) {
            self.0.remove(0);
        }
        let Some(portion) = self.0.first_mut() else { return Ok(0) };
        let count = portion.len().min(out.len());
        out[..count].copy_from_slice(&portion[..count]);
        portion.drain(..count);
        Ok(count)
    }
}

/// Each line of the input with `true` where it came as an overlong one.
fn read_all(portions: Vec<Vec<u8>>, limit: usize, block: usize) -> Vec<(Vec<u8>, bool)> {
    let mut reader = LineReader::with_block(Portions(portions), limit, block);
    let mut out = Vec::new();
    let mut overlong = Vec::new();
    while let Some(piece) = reader.next_piece().expect("no error") {
        match piece {
            Piece::Lines(block) => {
                assert!(overlong.is_empty(), "lines in the middle of an overlong one");
                out.extend(lines(&block).map(|line| (line.to_vec(), false)));
            }
            Piece::Overlong { bytes, last } => {
                overlong.extend_from_slice(&bytes);
                if last {
                    let mut line = std::mem::take(&mut overlong);
                    if line.last() == Some(&b'\n') {
                        line.pop();
                    }
                    out.push((line, true));
                }
            }
        }
    }
    assert!(overlong.is_empty(), "an overlong line without an end");
    out
}

/// What the input says, told by the definition: split at each LF, and nothing behind the last one.
fn expected(input: &[u8], limit: usize) -> Vec<(Vec<u8>, bool)> {
    let mut all: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    if all.last().is_some_and(|last| last.is_empty()) {
        all.pop();
    }
    all.into_iter().map(|line| (line.to_vec(), line.len() > limit)).collect()
}

#[test]
fn lines_are_the_same_wherever_the_reads_end() {
    let input = b"one\r\n\ntwo\xff\xfe\n   \n\r\n\nno line feed at the end";
    for first in 0..=input.len() {
        for second in first..=input.len() {
            let portions = vec![
                input[..first].to_vec(),
                input[first..second].to_vec(),
                input[second..].to_vec(),
            ];
            for block in [1, 2, 7, 1024] {
                assert_eq!(read_all(portions.clone(), 1000, block), expected(input, 1000));
            }
        }
    }
}

#[test]
fn an_empty_input_has_no_line_and_a_line_feed_is_one_empty_line() {
    assert_eq!(read_all(vec![], 10, 8), []);
    assert_eq!(read_all(vec![b"\n".to_vec()], 10, 8), [(vec![], false)]);
    assert_eq!(read_all(vec![b"\n\n".to_vec()], 10, 8), [(vec![], false), (vec![], false)]);
    assert_eq!(read_all(vec![b"\r".to_vec()], 10, 8), [(b"\r".to_vec(), false)]);
}

#[test]
fn a_line_of_exactly_the_limit_is_not_overlong() {
    for line_feed in ["", "\n"] {
        let input = format!("{}{line_feed}", "x".repeat(10)).into_bytes();
        assert_eq!(read_all(vec![input.clone()], 10, 4), [(vec![b'x'; 10], false)]);
        assert_eq!(read_all(vec![input], 9, 4), [(vec![b'x'; 10], true)]);
    }
}

#[test]
fn a_last_line_that_is_too_long_is_overlong_behind_others_too() {
    let input = b"\nxxx".to_vec();
    assert_eq!(read_all(vec![input], 2, 4), [(vec![], false), (b"xxx".to_vec(), true)]);
}

#[test]
fn what_a_pipe_has_is_handed_out_without_waiting_for_more() {
    struct Pipe(u32);
    impl Read for Pipe {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            assert_eq!(self.0, 1, "asked again although whole lines were there");
            out[..4].copy_from_slice(b"a\nb\n");
            Ok(4)
        }
    }
    let mut reader = LineReader::new(Pipe(0), 100);
    assert_eq!(
        reader.next_piece().expect("no error"),
        Some(Piece::Lines(Bytes::from_static(b"a\nb\n")))
    );
}

#[test]
fn an_overlong_line_is_passed_on_in_parts_and_not_held() {
    let input = vec![vec![b'x'; 100_000], b"\nshort\n".to_vec()];
    let mut reader = LineReader::with_block(Portions(input), 100, 64);
    let mut held = 0;
    while reader.next_piece().expect("no error").is_some() {
        held = held.max(reader.scratch.len());
    }
    assert!(held <= 256, "{held} bytes were held for a limit of 100");
}

proptest! {
    #[test]
    fn every_input_is_cut_by_its_line_feeds_alone(
        portions in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..20),
            0..12,
        ),
        limit in 0usize..24,
        block in 1usize..40,
    ) {
        let input = portions.concat();
        prop_assert_eq!(read_all(portions, limit, block), expected(&input, limit));
    }
}
