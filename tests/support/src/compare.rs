//! Two walks compared, field by field, in words.

use crate::dump;
use crate::walk::{Manifest, Record};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Where inode numbers must be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inodes {
    /// Everywhere.
    Everywhere,
    /// In this subvolume only: a FUSE mount has one number space, and others are packed.
    Of(u64),
}

/// What is compared. Everything, unless said otherwise.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Where `ino` is compared.
    pub inodes: Inodes,
    /// Fields that are not.
    pub without: Vec<&'static str>,
    /// Only fields that were expected: a model knows nothing of blocks and inode numbers.
    pub only_expected: bool,
}

impl Rules {
    /// Every field: a kernel mount against a kernel mount.
    pub fn all() -> Self {
        Self {
            inodes: Inodes::Everywhere,
            without: Vec::new(),
            only_expected: false,
        }
    }

    /// A FUSE mount of the top level against a kernel's: no birth time (FUSE doesn't carry it),
    /// inode numbers in the mounted subvolume only.
    pub fn fuse() -> Self {
        Self {
            inodes: Inodes::Of(5),
            without: vec!["btime_ns"],
            only_expected: false,
        }
    }
}

/// The differences, one line each; empty when the walks agree.
pub fn differences(expected: &Manifest, actual: &Manifest, rules: &Rules) -> Vec<String> {
    let mut out = Vec::new();
    let expected: BTreeMap<_, _> = expected.0.iter().map(|r| (r.path.as_slice(), r)).collect();
    let found: BTreeMap<_, _> = actual.0.iter().map(|r| (r.path.as_slice(), r)).collect();
    if found.len() != actual.0.len() {
        out.push(format!(
            "{} paths were listed twice",
            actual.0.len() - found.len()
        ));
    }
    for (path, record) in &expected {
        match found.get(path) {
            Some(other) => compare(record, other, rules, &mut out),
            None => out.push(format!("{}: missing", shown(path))),
        }
    }
    for path in found.keys().filter(|path| !expected.contains_key(*path)) {
        out.push(format!("{}: not expected", shown(path)));
    }
    out
}

/// Demands that they agree; prints the first differences.
#[track_caller]
pub fn assert_same(what: &str, expected: &Manifest, actual: &Manifest, rules: &Rules) {
    assert!(!expected.0.is_empty(), "{what}: nothing was expected");
    let found = differences(expected, actual, rules);
    assert!(
        found.is_empty(),
        "{what}: {} differences (expected -> found):\n{}",
        found.len(),
        found[..found.len().min(40)].join("\n")
    );
}

/// Reading a compressed file answers `EOPNOTSUPP` today. Exactly the files that have a compressed
/// extent (by [`dump::compressed_files`]) must answer so; the answer and the fields that the walker
/// reads after the contents are then left out of the comparison. How many there were.
#[track_caller]
pub fn excuse_compressed(image: &Path, expected: &mut Manifest, walked: &mut Manifest) -> usize {
    let compressed = dump::compressed_files(image);
    let answer = serde_json::json!({"read": "EOPNOTSUPP"});
    let mut excused = 0;
    for twin in &mut expected.0 {
        let number = |field: &str| twin.fields.get(field).and_then(Value::as_u64);
        let Some(inode) = number("subvol").zip(number("ino")) else {
            continue;
        };
        if !compressed.contains(&inode) {
            continue;
        }
        let Ok(at) = walked.0.binary_search_by(|it| it.path.cmp(&twin.path)) else {
            continue;
        };
        let found = &mut walked.0[at].fields;
        assert_eq!(
            found.get("error"),
            Some(&answer),
            "{} is compressed, and its answer isn't today's",
            shown(&twin.path)
        );
        for field in ["error", "sha256", "sha256_blocks", "fsflags"] {
            twin.fields.remove(field);
            found.remove(field);
        }
        excused += 1;
    }
    excused
}

fn compare(expected: &Record, actual: &Record, rules: &Rules, out: &mut Vec<String>) {
    let undefined = expected.fields.get("content_undefined") == Some(&Value::Bool(true));
    let mut keys: Vec<&String> = expected.fields.keys().chain(actual.fields.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let skipped = rules.without.contains(&key.as_str())
            || key == "content_undefined"
            || undefined && key == "sha256"
            || rules.only_expected && !expected.fields.contains_key(key)
            || key == "ino" && !inode_counts(expected, rules);
        if skipped {
            continue;
        }
        let (was, is) = (expected.fields.get(key), actual.fields.get(key));
        if was != is {
            let path = shown(&expected.path);
            out.push(format!("{path}: {key}: {} -> {}", short(was), short(is)));
        }
    }
}

fn inode_counts(record: &Record, rules: &Rules) -> bool {
    match rules.inodes {
        Inodes::Everywhere => true,
        // A stub's inode number is 2 wherever it is seen.
        Inodes::Of(subvol) => {
            record.fields.get("subvol").and_then(Value::as_u64) == Some(subvol)
                || record.fields.contains_key("stub")
        }
    }
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        ".".into()
    } else {
        path.escape_ascii().to_string()
    }
}

fn short(value: Option<&Value>) -> String {
    let Some(value) = value else {
        return "nothing".into();
    };
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((at, _)) => format!("{}… ({} characters)", &text[..at], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"path":"a","type":"file","size":3,"ino":257,"subvol":5,"btime_ns":7}"#;

    fn changed(from: &str, to: &str) -> Vec<String> {
        let (expected, actual) = (
            Manifest::parse(LINE),
            Manifest::parse(&LINE.replace(from, to)),
        );
        differences(&expected, &actual, &Rules::fuse())
    }

    #[test]
    fn every_planted_difference_is_named() {
        assert_eq!(changed("3", "4"), ["a: size: 3 -> 4"]);
        assert_eq!(changed("257", "258"), ["a: ino: 257 -> 258"]);
        assert_eq!(
            changed(r#""a""#, r#""b""#),
            ["a: missing", "b: not expected"]
        );
        assert_eq!(changed(r#""size":3,"#, ""), ["a: size: 3 -> nothing"]);
        let extra = Manifest::parse(&LINE.replace(r#""size""#, r#""xattrs":{},"size""#));
        let found = differences(&Manifest::parse(LINE), &extra, &Rules::fuse());
        assert_eq!(found, ["a: xattrs: nothing -> {}"]);
    }

    #[test]
    fn fuse_is_excused_from_birth_times_and_other_subvolumes_inode_numbers() {
        assert!(changed(r#""btime_ns":7"#, r#""btime_ns":null"#).is_empty());
        let other = Manifest::parse(&LINE.replace("\"subvol\":5", "\"subvol\":256"));
        let packed = Manifest::parse(
            &LINE
                .replace("\"subvol\":5", "\"subvol\":256")
                .replace("257", "9223372036854775809"),
        );
        assert!(differences(&other, &packed, &Rules::fuse()).is_empty());
        assert_eq!(differences(&other, &packed, &Rules::all()).len(), 1);
    }
}
