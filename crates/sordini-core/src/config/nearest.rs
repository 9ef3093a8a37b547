//! The known name that a misspelled one most likely meant.

/// The candidate at the least edit distance, if it is near enough to be a guess at all.
///
/// Case and the choice of separator (`linger_ms`, `linger-ms`, `lingerMs`) do not count.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = letters(name);
    let (distance, best) =
        candidates.map(|known| (distance(&wanted, &letters(known)), known)).min()?;
    (distance <= (wanted.len() / 3).max(1)).then_some(best)
}

fn letters(name: &str) -> Vec<char> {
    name.chars()
        .take(128)
        .filter(|c| !matches!(c, '.' | '_' | '-' | ' '))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &cb) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(ca != cb)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && ca == b[j - 1] && a[i - 1] == cb {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{distance, letters, nearest};

    #[test]
    fn a_distance_counts_edits_and_swaps() {
        let d = |a: &str, b: &str| distance(&letters(a), &letters(b));
        assert_eq!(d("linger.ms", "linger.ms"), 0);
        assert_eq!(d("linger_MS", "linger.ms"), 0);
        assert_eq!(d("ligner.ms", "linger.ms"), 1);
        assert_eq!(d("acs", "acks"), 1);
        assert_eq!(d("", "acks"), 4);
        assert_eq!(d("kitten", "sitting"), 3);
    }

    #[test]
    fn what_resembles_nothing_has_no_nearest_name() {
        let names = ["acks", "linger.ms"];
        assert_eq!(nearest("lingerms", names.into_iter()), Some("linger.ms"));
        assert_eq!(nearest("colour", names.into_iter()), None);
    }
}
