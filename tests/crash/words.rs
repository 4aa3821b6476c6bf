//! What was done, in JSON, as the model reads it.

use crate::player::find;
use crate::step::key;
use btrfuse::fs::{Filesystem, NodeId};
use btrfuse_test_support::script::{Allocate, Operation, RenameKind};
use btrfuse_test_support::walk::to_hex;
use rustix::fs::FileType;
use serde_json::{Map, Value, json};

/// How the model names what a path leads to.
pub fn inode(fs: &Filesystem, path: &[u8]) -> Value {
    let node = find(fs, NodeId::ROOT, path).expect("it is there");
    let attr = fs.getattr(node).expect("attributes");
    if node != NodeId::ROOT {
        fs.forget(node, 1);
    }
    key(&attr)
}

/// A path of a workload.
pub fn text(path: &[u8]) -> Value {
    std::str::from_utf8(path).expect("UTF-8").into()
}

/// An operation that was done, as the model reads it.
pub fn in_words(fs: &Filesystem, operation: &Operation) -> Value {
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        out.insert(key.into(), value);
    };
    let mut made = |op: &str, path: &[u8], mode: u32| {
        put("op", op.into());
        put("path", text(path));
        put("mode", mode.into());
        put("ino", inode(fs, path));
    };
    match operation {
        Operation::Create { path, mode } => made("create", path, *mode),
        Operation::Mkdir { path, mode } => made("mkdir", path, *mode),
        Operation::Symlink { path, target } => {
            made("symlink", path, 0o777);
            put("target", text(target));
        }
        Operation::Mknod {
            path, mode, kind, ..
        } => {
            made("mknod", path, *mode);
            assert_eq!(*kind, FileType::Fifo, "the set has no others");
            put("kind", "fifo".into());
        }
        Operation::Link { from, to } => {
            put("op", "link".into());
            put("from", text(from));
            put("to", text(to));
        }
        Operation::Unlink { path } | Operation::Rmdir { path } => {
            put("op", "unlink".into());
            put("path", text(path));
        }
        Operation::Rename { from, to, kind } => {
            put("op", "rename".into());
            put("from", text(from));
            put("to", text(to));
            let exchange = *kind == RenameKind::Exchange;
            put("kind", if exchange { "exchange" } else { "plain" }.into());
        }
        Operation::Fsync { path } => {
            put("op", "fsync".into());
            put("ino", inode(fs, path));
        }
        _ => out = change(operation),
    }
    Value::Object(out)
}

/// A change of one inode.
fn change(operation: &Operation) -> Map<String, Value> {
    let (Operation::Truncate { path, .. }
    | Operation::Fallocate { path, .. }
    | Operation::SetXattr { path, .. }
    | Operation::RemoveXattr { path, .. }
    | Operation::Chmod { path, .. }
    | Operation::Chown { path, .. }
    | Operation::SetTimes { path, .. }) = operation
    else {
        unreachable!("{operation:?} makes, moves or removes names")
    };
    let value = match operation {
        Operation::Truncate { size, .. } => json!({ "op": "truncate", "size": size }),
        Operation::Fallocate {
            what, offset, len, ..
        } => {
            let what = match what {
                Allocate::Grow => "grow",
                Allocate::KeepSize => "keep",
                Allocate::Punch => "punch",
                Allocate::Zero => "zero",
                Allocate::ZeroKeepSize => "zero-keep",
            };
            json!({ "op": "fallocate", "what": what, "offset": offset, "len": len })
        }
        Operation::SetXattr { name, value, .. } => {
            json!({ "op": "setxattr", "name": name, "value": to_hex(value) })
        }
        Operation::RemoveXattr { name, .. } => json!({ "op": "removexattr", "name": name }),
        Operation::Chmod { mode, .. } => json!({ "op": "chmod", "mode": mode }),
        Operation::Chown { uid, gid, .. } => json!({ "op": "chown", "uid": uid, "gid": gid }),
        _ => json!({ "op": "utimes" }),
    };
    let Value::Object(mut out) = value else {
        unreachable!("it is an object")
    };
    out.insert("path".into(), text(path));
    out
}
