//! What must not stand in any file: places that exist on one machine only.

use super::Finding;

/// Each with its reason; written in pieces so that this file does not contain them.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a folder of one machine; write a path within the project"),
    (concat!("/ro", "ot/"), "a home folder of one machine; use $HOME, or a path of the project"),
    (concat!("../sha", "red"), "a folder outside the project; a clone does not have it"),
    (concat!("sha", "red/"), "a folder outside the project; a clone does not have it"),
];

pub(super) fn check(name: &str, text: &str) -> Vec<Finding> {
    // Lock files list what others are called, licences are others' words.
    if name.ends_with(".lock") || name.ends_with(".sum") || name.starts_with("LICENSE") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (word, reason) in FORBIDDEN {
            if line.contains(word) {
                findings.push(Finding {
                    file: name.to_owned(),
                    line: number + 1,
                    rule: "forbidden-word",
                    message: format!("`{word}` is {reason}"),
                });
                break;
            }
        }
    }
    findings
}
