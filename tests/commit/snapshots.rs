//! Power cuts around subvolumes: a commit that takes a snapshot, one that holds a deletion, and
//! those that drop what was deleted. Whatever is there afterwards is the state of one commit, all
//! subvolumes together, and `btrfs check` accepts it.

use crate::recording::Recorder;
use crate::write_order::{SUPER_AT, checked};
use btrfuse::commit::{OpenOptions, open};
use btrfuse::fs::{Caller, Filesystem, MountOptions, NodeId, Who, WriteFlags};
use btrfuse::ondisk::{CsumType, Key, RootItem, ids, kind};
use btrfuse::volume::{BlockDevice, MemoryDevice, Volume};
use btrfuse_test_support::check::is_about_shared_orphans;
use btrfuse_test_support::{Image, Rng};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

const ROOT: NodeId = NodeId::ROOT;

fn no_groups() -> Vec<u32> {
    Vec::new()
}

fn who() -> Who<'static> {
    Who {
        caller: Caller::default(),
        admin: true,
        overrides: true,
        owns_all: true,
        groups: &no_groups,
    }
}

/// What a device says: the generation, and a digest of all names and contents of subvolumes.
fn state_of(device: Arc<MemoryDevice>, what: &str) -> (u64, [u8; 32], bool) {
    let (volume, superblock) =
        Volume::open(vec![device], true).unwrap_or_else(|error| panic!("{what}: {error}"));
    let generation = superblock.generation().get();
    let primary_is_whole = superblock.bytenr.get() == SUPER_AT;
    let options = OpenOptions {
        read_only: true,
        background: false,
        ..OpenOptions::default()
    };
    let engine = open(Arc::new(volume), superblock, &options)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let ctx = &engine.ctx;
    let mut bytes = Vec::new();
    let mut trees = Vec::new();
    let roots = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID).unwrap();
    let mut cursor = ctx.search(&roots, &Key::MIN).unwrap();
    while let Some((key, data)) = cursor.item() {
        let of_a_subvolume = key.objectid == 5 || ids::is_file(key.objectid);
        match key.kind {
            kind::ROOT_REF | kind::ROOT_BACKREF => {
                bytes.extend(format!("{key}").as_bytes());
                bytes.extend(data);
            }
            kind::ROOT_ITEM if of_a_subvolume => {
                let item = RootItem::from_item(data).unwrap();
                bytes.extend(format!("{key} {}", item.refs.get()).as_bytes());
                bytes.extend([item.uuid, item.parent_uuid].concat());
                trees.extend((item.refs.get() > 0).then_some(key.objectid));
            }
            _ => {}
        }
        if !cursor.next().unwrap() {
            break;
        }
    }
    for tree in trees {
        let root = ctx.roots.get(ctx, tree).unwrap();
        let mut cursor = ctx.search(&root, &Key::MIN).unwrap();
        while let Some((key, data)) = cursor.item() {
            bytes.extend(format!("{key}").as_bytes());
            bytes.extend(data);
            if !cursor.next().unwrap() {
                break;
            }
        }
    }
    (
        generation,
        CsumType::Sha256.digest(&bytes),
        primary_is_whole,
    )
}

/// What raised the alarm is gone when the next mount has deleted what nobody uses, and with it all.
fn assert_clean_after_a_mount(device: &MemoryDevice, what: &str) {
    let lowmem = checked(device, &["lowmem"]);
    assert!(lowmem.is_empty(), "{what}:\n{}", lowmem.join("\n"));
    let device = Arc::new(device.clone());
    let as_device: Arc<dyn BlockDevice> = device.clone();
    let fs = Filesystem::mount(vec![as_device], &mount_options()).unwrap();
    while fs.drop_deleted().unwrap() {}
    fs.unmount().unwrap();
    drop(fs);
    let found = checked(&device, &["original", "lowmem"]);
    assert!(found.is_empty(), "{what}, mounted:\n{}", found.join("\n"));
}

fn mount_options() -> MountOptions {
    MountOptions {
        subvolid: Some(5),
        background: false,
        ..MountOptions::default()
    }
}

struct Story {
    fs: Arc<Filesystem>,
    recorder: Arc<Recorder>,
    known: BTreeMap<u64, [u8; 32]>,
    snapshots: Vec<String>,
    files: u64,
}

impl Story {
    /// Every commit is behind an operation that returns when it is over.
    fn note(&mut self) {
        let (generation, digest, _) = state_of(Arc::new(self.recorder.now()), "as it is");
        self.known.insert(generation, digest);
        self.recorder.acknowledge(generation);
    }

    fn sub(&self) -> NodeId {
        self.fs.lookup(ROOT, b"sub").unwrap().node
    }

    fn edit(&mut self, rng: &mut Rng) {
        let fs = &self.fs;
        let sub = self.sub();
        for _ in 0..20 {
            if self.files > 0 && rng.one_in(3) {
                let name = format!("f{}", rng.below(self.files));
                let _ = fs.unlink(sub, name.as_bytes());
                continue;
            }
            let name = format!("f{}", self.files);
            self.files += 1;
            let (mode, flags) = (0o644, libc::O_RDWR);
            let file = fs
                .create(&who().caller, sub, name.as_bytes(), mode, flags)
                .unwrap();
            let len = rng.below(9000) as usize;
            let bytes = rng.bytes(len);
            fs.write(file.node, 0, &bytes, WriteFlags::default())
                .unwrap();
            fs.release(file.node);
            fs.forget(file.node, 1);
        }
    }

    fn snapshot(&mut self, number: usize, rng: &mut Rng) {
        let name = format!("s{number}");
        // In its own source by turns: then the source changes in the same commit.
        let parent = if rng.one_in(2) { self.sub() } else { ROOT };
        let source = self.fs.snapshot_source(self.sub()).unwrap();
        let read_only = rng.one_in(2);
        self.fs
            .snapshot(&who(), source, parent, name.as_bytes(), read_only)
            .unwrap();
        self.note();
        if parent == ROOT {
            self.snapshots.push(name);
        }
    }

    fn delete(&mut self) {
        if self.snapshots.is_empty() {
            return;
        }
        let name = self.snapshots.remove(0);
        self.fs
            .delete_subvolume(&who(), ROOT, name.as_bytes())
            .unwrap();
    }
}

#[test]
fn a_cut_around_snapshots_and_deletions_leaves_the_state_of_one_commit() {
    for (seed, options) in [(1, &["-n", "4096"][..]), (2, &[][..])] {
        let image = Image::mkfs_btrfs(128, options);
        let base = MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap();
        let recorder = Arc::new(Recorder::over(&base));
        let device: Arc<dyn BlockDevice> = recorder.clone();
        let fs = Filesystem::mount(vec![device], &mount_options()).unwrap();
        let mut rng = Rng::new(seed);
        let mut story = Story {
            fs,
            recorder,
            known: BTreeMap::new(),
            snapshots: Vec::new(),
            files: 0,
        };
        story.note();
        story.fs.create_subvolume(&who(), ROOT, b"sub").unwrap();
        for number in 0..8 {
            story.edit(&mut rng);
            story.snapshot(number, &mut rng);
            story.edit(&mut rng);
            if number % 2 == 1 {
                story.delete();
            }
            story.fs.sync().unwrap();
            story.note();
            while story.fs.drop_deleted().unwrap() {
                if rng.one_in(2) {
                    story.fs.sync().unwrap();
                    story.note();
                }
            }
        }
        story.fs.unmount().unwrap();
        story.note();
        let Story {
            fs,
            recorder,
            known,
            ..
        } = story;
        drop(fs);
        let recording = Arc::into_inner(recorder).expect("unmounted").finish(base);
        let (mut n, mut alarms) = (0, 0);
        let visited = recording.visit(&mut Rng::new(seed), 1, 2, |state| {
            n += 1;
            let what = &state.what;
            let device = Arc::new(state.device);
            let (generation, digest, primary_is_whole) = state_of(device.clone(), what);
            assert!(generation >= state.acknowledged, "{what}: {generation}");
            assert_eq!(
                known.get(&generation),
                Some(&digest),
                "{what}: a mix of states"
            );
            if primary_is_whole {
                let modes = ["original", "lowmem"];
                let found = checked(&device, if n % 4 == 0 { &modes } else { &modes[..1] });
                if is_about_shared_orphans(&found) {
                    alarms += 1;
                    assert_clean_after_a_mount(&device, what);
                } else {
                    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
                }
            }
        });
        assert!(visited > 60, "{visited} states");
        assert!(alarms < visited, "every state excused");
    }
}
