//! The subject in process: steps are calls of the engine, by way of [`Client`].

mod attributes;
mod client;
mod content;
mod names;

use crate::engine_walk;
use crate::step::{SLOTS, Step, path_bytes, slot_of};
use crate::subject::{AROUND, Answer, BESIDE, Subject};
use btrfuse::fs::{Attr, Filesystem, MountOptions, Who};
use btrfuse::volume::{BlockDevice, FileDevice};
use btrfuse_test_support::Manifest;
use client::{CALLER, Client, File, said};
use rustix::io::Errno;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
pub struct Engine {
    image: PathBuf,
    client: Option<Client>,
    case: String,
    slots: [Option<File>; SLOTS],
}

impl Engine {
    /// Mounts an image in this process.
    pub fn new(image: &Path) -> Self {
        let mut subject = Self {
            image: image.to_owned(),
            client: None,
            case: String::new(),
            slots: Default::default(),
        };
        subject.mount();
        let fs = subject.fs();
        let who = Who {
            caller: CALLER,
            admin: true,
            overrides: CALLER.uid == 0,
            owns_all: CALLER.uid == 0,
            groups: &Vec::new,
        };
        let top = btrfuse::fs::NodeId::ROOT;
        fs.create_subvolume(&who, top, BESIDE[0].as_bytes())
            .expect("a subvolume");
        let folder = fs
            .lookup(top, BESIDE[0].as_bytes())
            .expect("just made")
            .node;
        let file = fs.mknod(
            &CALLER,
            folder,
            BESIDE[1].as_bytes(),
            libc::S_IFREG | 0o644,
            0,
        );
        file.expect("a file");
        subject
    }

    fn mount(&mut self) {
        let device = FileDevice::open(&self.image, false).expect("an image of our own");
        let device: Arc<dyn BlockDevice> = Arc::new(device);
        let options = MountOptions {
            subvolid: Some(5),
            atime: btrfuse::fs::AtimeMode::Off,
            ..MountOptions::default()
        };
        let fs = Filesystem::mount(vec![device], &options).expect("a good image");
        self.client = Some(Client::new(fs));
    }

    fn take_down(&mut self) {
        self.end();
        let client = self.client.take().expect("mounted");
        client.fs.unmount().expect("a last commit");
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("mounted")
    }

    fn fs(&self) -> &Filesystem {
        &self.client.as_ref().expect("mounted").fs
    }

    /// Paths begin in the case's folder, which is held until the case ends.
    fn enter(&mut self) {
        let case = self.case.clone();
        let client = self.client();
        for name in [&[case.as_str()][..], &AROUND].concat() {
            let at = client.fs.lookup(client.folder, name.as_bytes());
            client.folder = at.expect("a case's folder").node;
        }
    }

    fn slot(&self, slot: usize) -> Result<File, Errno> {
        self.slots.get(slot).copied().flatten().ok_or(Errno::BADF)
    }

    fn opened(&mut self, target: &str, flags: i32) -> Result<File, Errno> {
        match slot_of(target) {
            Some(slot) => self.slot(slot),
            None => self.client().open_for_now(&path_bytes(target), flags),
        }
    }

    /// What is at a target, without opening it.
    fn at(&mut self, target: &str, follow: bool) -> Result<Attr, Errno> {
        match slot_of(target) {
            Some(slot) => {
                let node = self.slot(slot)?.node;
                said(self.fs().getattr(node))
            }
            None => self.client().resolve(&path_bytes(target), follow),
        }
    }

    fn close(&mut self, slot: usize) -> Answer {
        let file = self.slots.get_mut(slot).and_then(Option::take);
        let file = file.ok_or(Errno::BADF)?;
        self.client().close(file);
        Ok(Value::Null)
    }
}

impl Subject for Engine {
    fn name(&self) -> &'static str {
        "the engine"
    }

    fn begin(&mut self, case: &str) {
        self.case = case.into();
        let client = self.client();
        for name in [&[case][..], &AROUND].concat() {
            let at = client
                .fs
                .mkdir(&CALLER, client.folder, name.as_bytes(), 0o755);
            client.folder = at.expect("a case's folder").node;
        }
    }

    fn step(&mut self, step: &Step) -> Answer {
        let answer = match step {
            Step::Sync => done(self.fs().sync()),
            Step::Remount => {
                self.take_down();
                self.mount();
                self.enter();
                Ok(Value::Null)
            }
            Step::Write { .. }
            | Step::Append { .. }
            | Step::Read { .. }
            | Step::Mapped { .. }
            | Step::Truncate { .. }
            | Step::Fallocate { .. }
            | Step::SeekData { .. }
            | Step::SeekHole { .. }
            | Step::Copy { .. }
            | Step::Fsync { .. }
            | Step::Tmpfile { .. } => self.data_step(step),
            Step::Chmod { .. }
            | Step::Chown { .. }
            | Step::SetTimes { .. }
            | Step::SetXattr { .. }
            | Step::GetXattr { .. }
            | Step::ListXattr { .. }
            | Step::RemoveXattr { .. }
            | Step::Stat { .. }
            | Step::Statfs { .. } => self.attribute_step(step),
            _ => self.name_step(step),
        };
        self.client().give_back();
        answer
    }

    fn end(&mut self) {
        for slot in 0..SLOTS {
            let _ = self.close(slot);
        }
        self.client().folder = btrfuse::fs::NodeId::ROOT;
    }

    fn walk(&mut self) -> Manifest {
        let case = self.case.clone();
        let client = self.client();
        let top = client.child(client.folder, case.as_bytes());
        let walked = engine_walk::walk(&client.fs, top.expect("a case's folder").node);
        client.give_back();
        walked
    }

    fn peek(&mut self, on: &str, offset: u64, len: usize) -> Vec<u8> {
        let at = self.at(on, true).expect("a file of before");
        let read = self.fs().read(at.node, offset, len as u32);
        self.client().give_back();
        read.expect("readable")
    }

    fn finish(mut self: Box<Self>) {
        self.take_down();
    }
}

fn done<T>(answer: btrfuse::Result<T>) -> Answer {
    said(answer).map(|_| Value::Null)
}
