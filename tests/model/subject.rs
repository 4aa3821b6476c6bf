//! What all subjects have in common: what they are asked, and how an answer is said.

use crate::step::Step;
use btrfuse_test_support::Manifest;
use btrfuse_test_support::walk::to_hex;
use rustix::io::Errno;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a step showed, or the errno.
pub type Answer = Result<Value, Errno>;

/// A filesystem that steps are done on.
pub trait Subject {
    /// What messages call it.
    fn name(&self) -> &'static str;
    /// A fresh folder for a case.
    fn begin(&mut self, case: &str);
    /// One step in it.
    fn step(&mut self, step: &Step) -> Answer;
    /// Closes what is open.
    fn end(&mut self);
    /// What is in the case's folder.
    fn walk(&mut self) -> Manifest;
    /// Bytes of a file, whatever a slot was opened for.
    fn peek(&mut self, on: &str, offset: u64, len: usize) -> Vec<u8>;
    /// The durable end.
    fn finish(self: Box<Self>);
}

/// The folders around a case: `..` leads into them, by way of symlinks also several times.
pub const AROUND: [&str; 3] = ["x", "y", "z"];

/// Another subvolume, beside the cases, and a file in it: nothing can be linked or moved across.
pub const BESIDE: [&str; 2] = ["subvolume", "file"];

/// A time as it is compared: to the nanosecond where somebody set it, else only that it is the clock's.
pub fn time(seconds: i64, nanoseconds: i64) -> Value {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let clock = clock.expect("after 1970").as_secs().cast_signed();
    // No step sets a time in this span.
    if (clock - 86_400..clock + 60).contains(&seconds) {
        "now".into()
    } else {
        json!([seconds, nanoseconds])
    }
}

/// Content as it is compared.
pub fn content(bytes: &[u8]) -> Value {
    if bytes.len() <= 8 {
        return json!({"len": bytes.len(), "bytes": to_hex(bytes)});
    }
    let digest = to_hex(&Sha256::digest(bytes));
    json!({"len": bytes.len(), "sha256": digest[..16]})
}

/// A walk without what each filesystem decides for itself: inode numbers (but which names are one inode),
/// blocks, birth times, and clocks.
pub fn comparable(mut walked: Manifest) -> Manifest {
    let mut first: BTreeMap<(Option<u64>, u64), String> = BTreeMap::new();
    for record in &mut walked.0 {
        let path = record.path.escape_ascii().to_string();
        let fields = &mut record.fields;
        if let Some(ino) = fields.remove("ino").and_then(|ino| ino.as_u64()) {
            let subvol = fields.get("subvol").and_then(Value::as_u64);
            let one = first.entry((subvol, ino)).or_insert(path);
            fields.insert("inode_of".into(), one.clone().into());
        }
        fields.remove("blocks");
        fields.remove("btime_ns");
        if let Some(ns) = fields.get("mtime_ns").and_then(Value::as_i64) {
            let (seconds, rest) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
            fields.insert("mtime_ns".into(), time(seconds, rest));
        }
    }
    walked
}
