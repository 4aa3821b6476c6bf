//! Plays workloads over a device that remembers.

use crate::model::lines;
use crate::recording::{Recorder, Recording};
use crate::step::{Hand, Step};
use btrfuse::fs::{Filesystem, MountOptions};
use btrfuse::volume::MemoryDevice;
use btrfuse_test_support::walk::{to_hex, walk};
use btrfuse_test_support::{Image, LoopMount, Manifest};
use serde_json::{Value, json};
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

/// What all workloads of a kind of image begin with.
pub struct Start {
    pub device: MemoryDevice,
    /// As the kernel shows it.
    pub manifest: Manifest,
    /// What files hold, in hexadecimal, by inode.
    bytes: Value,
}

/// A workload that was played.
pub struct Played {
    /// Its writes and flushes.
    pub recording: Recording,
    /// What the model is told of it: what was done; what was refused isn't in it.
    pub history: Rc<Value>,
    /// How many steps met ENOSPC, or could be done in part.
    pub without_space: usize,
}

pub fn mount(device: Arc<dyn btrfuse::volume::BlockDevice>) -> Arc<Filesystem> {
    let options = MountOptions {
        subvolid: Some(5),
        background: false,
        ..MountOptions::default()
    };
    Filesystem::mount(vec![device], &options).expect("mounts")
}

impl Start {
    /// On an image of this kind, after these steps, which all succeed.
    pub fn on(image: &Image, preparation: &[Step]) -> Self {
        Self::made_by(image, |fs| {
            let mut hand = Hand::on(fs);
            for step in preparation {
                let done = hand.take(step);
                assert!(done.is_some(), "{step:?} is refused");
            }
        })
    }

    pub fn made_by(image: &Image, prepare: impl FnOnce(&Filesystem)) -> Self {
        let base = MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap();
        let device = Arc::new(base);
        let fs = mount(device.clone());
        prepare(&fs);
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
            let inode = format!("{}:{}", it.fields["subvol"], it.fields["ino"]);
            (inode, to_hex(&bytes).into())
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
        let fs = mount(recorder.clone());
        let mut operations = Vec::new();
        let mut hand = Hand::on(&fs);
        for step in steps {
            if let Some(done) = hand.take(step) {
                operations.push(done);
                recorder.acknowledge(operations.len() as u64);
            }
        }
        let without_space = hand.without_space;
        drop(fs);
        let recorder = Arc::into_inner(recorder).expect("the mount is gone");
        Played {
            without_space,
            recording: recorder.finish(self.device.clone()),
            history: self.history("workload", operations.into()),
        }
    }

    /// What the model is told.
    pub fn history(&self, kind: &str, operations: Value) -> Rc<Value> {
        let start = lines(&self.manifest);
        Rc::new(json!({ kind: operations, "start": start, "bytes": self.bytes }))
    }
}
