//! Plays workloads over a device that remembers, and says in JSON what was done.

use crate::player::{answer, find};
use crate::recording::{Recorder, Recording};
use crate::workloads::{Step, preparation};
use btrfuse::fs::{Filesystem, MountOptions, NodeId};
use btrfuse::volume::MemoryDevice;
use btrfuse_test_support::script::{Allocate, Operation, RenameKind, bytes};
use btrfuse_test_support::walk::to_hex;
use btrfuse_test_support::{Image, LoopMount, Manifest, walk::walk};
use rustix::fs::FileType;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::sync::Arc;

/// What all workloads of a kind of image begin with.
pub struct Start {
    device: MemoryDevice,
    /// As the kernel shows it.
    pub manifest: Manifest,
    /// What files hold, in hexadecimal, by inode.
    pub bytes: Value,
}

/// A workload that was played.
pub struct Played {
    /// Its writes and flushes.
    pub recording: Recording,
    /// What was done, for the model; what failed isn't in it.
    pub operations: Vec<Value>,
}

fn options() -> MountOptions {
    MountOptions {
        subvolid: Some(5),
        background: false,
        ..MountOptions::default()
    }
}

impl Start {
    /// On an image of this kind.
    pub fn on(image: &Image) -> Self {
        let base = MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap();
        let device = Arc::new(base);
        let fs = Filesystem::mount(vec![device.clone()], &options()).expect("mounts");
        for operation in preparation() {
            answer(&fs, NodeId::ROOT, &operation).expect("a preparation");
        }
        fs.unmount().expect("unmounts");
        drop(fs);
        let device = MemoryDevice::clone(&device);
        let file = File::options().write(true).open(image.path()).unwrap();
        device.copy_to(&file).unwrap();
        let kernel = LoopMount::read_only(image.path());
        let manifest = walk(kernel.path());
        let files = manifest.0.iter().filter(|it| it.fields["type"] == "file");
        let bytes = files.map(|it| {
            let path = kernel.path().join(std::str::from_utf8(&it.path).unwrap());
            let bytes = std::fs::read(path).expect("readable");
            (it.fields["ino"].to_string(), to_hex(&bytes).into())
        });
        let bytes = Value::Object(bytes.collect());
        kernel.unmount();
        Self {
            device,
            manifest,
            bytes,
        }
    }

    /// A workload on a copy; the power goes some time before its end.
    pub fn play(&self, steps: &[Step]) -> Played {
        let recorder = Arc::new(Recorder::over(&self.device));
        let fs = Filesystem::mount(vec![recorder.clone()], &options()).expect("mounts");
        let mut operations = Vec::new();
        for step in steps {
            let done = match step {
                Step::Commit => {
                    fs.sync().expect("commits");
                    Some(json!({ "op": "sync" }))
                }
                Step::Do(operation) => {
                    let told = answer(&fs, NodeId::ROOT, operation);
                    told.is_ok().then(|| in_words(&fs, operation))
                }
            };
            if let Some(done) = done {
                operations.push(done);
                recorder.acknowledge(operations.len() as u64);
            }
        }
        drop(fs);
        let recorder = Arc::into_inner(recorder).expect("the mount is gone");
        Played {
            recording: recorder.finish(self.device.clone()),
            operations,
        }
    }
}

/// The inode number that programs see.
fn ino(fs: &Filesystem, path: &[u8]) -> Value {
    let node = find(fs, NodeId::ROOT, path).expect("it is there");
    let ino = fs.getattr(node).expect("attributes").ino;
    if node != NodeId::ROOT {
        fs.forget(node, 1);
    }
    ino.into()
}

/// An operation that was done, as the model reads it.
fn in_words(fs: &Filesystem, operation: &Operation) -> Value {
    let text = |bytes: &[u8]| -> Value { std::str::from_utf8(bytes).expect("UTF-8").into() };
    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        out.insert(key.into(), value);
    };
    let mut made = |op: &str, path: &[u8], mode: u32| {
        put("op", op.into());
        put("path", text(path));
        put("mode", mode.into());
        put("ino", ino(fs, path));
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
            put("ino", ino(fs, path));
        }
        _ => out = change(operation),
    }
    Value::Object(out)
}

/// A change of one inode.
fn change(operation: &Operation) -> Map<String, Value> {
    let (Operation::Write { path, .. }
    | Operation::Append { path, .. }
    | Operation::Truncate { path, .. }
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
        Operation::Write {
            offset, len, seed, ..
        } => json!({ "op": "write", "offset": offset, "bytes": to_hex(&bytes(*seed, *len)) }),
        Operation::Append { len, seed, .. } => {
            json!({ "op": "append", "bytes": to_hex(&bytes(*seed, *len)) })
        }
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
    out.insert(
        "path".into(),
        std::str::from_utf8(path).expect("UTF-8").into(),
    );
    out
}
