//! Logs that somebody made up: sound blocks, checksums and all, that say what no kernel writes. Each
//! is refused with a reason, or replayed; what is refused leaves the image as it was, and the last
//! commit can still be seen.

use crate::log_replay::{Look, crashed, mount, seen};
use crate::recording::{Event, Recorder};
use btrfuse::btree::{Root, RootNode};
use btrfuse::commit::{OpenOptions, open};
use btrfuse::ondisk::check::{CheckContext, seal_block};
use btrfuse::ondisk::tree_block::{self, Header, Item, leaf};
use btrfuse::ondisk::{DirEntries, FileExtentItem, InodeItem, Key, RootItem, ids, kind};
use btrfuse::units::{Generation, Logical};
use btrfuse::volume::{BlockDevice, MemoryDevice, Volume};
use btrfuse_test_support::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Changes an item, or says that it is the wrong one.
type Change = fn(&Key, &mut [u8]) -> bool;

/// An image, and where each copy of each block of its log lies.
struct Log {
    base: MemoryDevice,
    check: CheckContext,
    blocks: Vec<Vec<u64>>,
}

impl Log {
    fn of(name: &str) -> Self {
        let base = crashed(name);
        let device: Arc<dyn BlockDevice> = Arc::new(base.clone());
        let (volume, superblock) = Volume::open(vec![device], true).unwrap();
        let options = OpenOptions {
            read_only: true,
            nologreplay: true,
            background: false,
            ..OpenOptions::default()
        };
        let generation = Generation(superblock.generation.get() + 1);
        let mut nodes = vec![RootNode {
            bytenr: Logical(superblock.log_root.get()),
            generation,
            level: superblock.log_root_level,
        }];
        let engine = open(Arc::new(volume), superblock, &options).unwrap();
        let (ctx, nodesize) = (&engine.ctx, u64::from(engine.ctx.nodesize));
        let mut blocks = Vec::new();
        while let Some(node) = nodes.pop() {
            let key = Key::new(ids::TREE_LOG_OBJECTID, kind::ROOT_ITEM, 0);
            let root = Root::new(key, node, RootItem::zeroed());
            let visit = &mut |block: &btrfuse::extent_buffer::ReadGuard| {
                let mapped = engine.volume.chunks().map(block.bytenr(), nodesize)?;
                blocks.push(mapped.copies.iter().map(|copy| copy.1.get()).collect());
                if tree_block::level(block) == 0 {
                    nodes.extend(leaf::items(block).filter_map(|(key, data)| {
                        let item = RootItem::from_item(data)?;
                        (key.kind == kind::ROOT_ITEM).then_some(RootNode {
                            bytenr: Logical(item.bytenr.get()),
                            generation,
                            level: item.level,
                        })
                    }));
                }
                Ok(())
            };
            ctx.verify_each(&root, visit).unwrap();
        }
        assert!(blocks.len() > 1, "a log has its root and a tree");
        let check = ctx.check.clone();
        Self {
            base,
            check,
            blocks,
        }
    }

    /// A copy with one block changed and sealed again, in all of its copies.
    fn with_block(&self, device: &MemoryDevice, block: usize, change: impl FnOnce(&mut [u8])) {
        let copies = &self.blocks[block];
        let mut bytes = vec![0; self.check.nodesize as usize];
        device.read_at(copies[0], &mut bytes).unwrap();
        change(&mut bytes);
        seal_block(&self.check, &mut bytes);
        for &at in copies {
            device.write_at(at, &bytes).unwrap();
        }
    }

    /// A copy in which the first item of that kind that `change` takes is changed.
    #[track_caller]
    fn with_item(
        &self,
        wanted: u8,
        mut change: impl FnMut(&Key, &mut [u8]) -> bool,
    ) -> MemoryDevice {
        let device = self.base.clone();
        let mut done = false;
        for block in 0..self.blocks.len() {
            self.with_block(&device, block, |bytes| {
                if tree_block::level(bytes) > 0 {
                    return;
                }
                for slot in 0..tree_block::nritems(bytes) {
                    let key = leaf::item_key(bytes, slot);
                    if !done && key.kind == wanted {
                        done = change(&key, leaf::item_data_mut(bytes, slot));
                    }
                }
            });
        }
        assert!(done, "the log has no such item");
        device
    }
}

/// Mounts it, and demands that a refusal is one. What it says, if it is refused.
#[track_caller]
fn outcome(device: &MemoryDevice, what: &str) -> Option<String> {
    let last_commit = seen(device, Look::LastCommit, what);
    let recorder = Arc::new(Recorder::over(device));
    let start = Instant::now();
    let mounted = mount(recorder.clone(), Look::Write);
    let answer = match mounted {
        Ok(fs) => {
            // Items that are wrong by themselves are found before they are written.
            let _ = fs.unmount();
            None
        }
        Err(error) => {
            let expected = [libc::EUCLEAN, libc::EIO];
            assert!(expected.contains(&error.errno()), "{what}: {error}");
            Some(error.to_string())
        }
    };
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{what}: too long"
    );
    let now = recorder.now();
    let recorder = Arc::into_inner(recorder).expect("the mount is gone");
    let events = recorder.finish(device.clone()).events;
    let writes = events
        .iter()
        .filter(|event| matches!(event, Event::Write(..)))
        .count();
    if let Some(words) = &answer {
        assert!(
            words.contains("nothing was written") == (writes == 0),
            "{what}: {words}"
        );
        assert_eq!(seen(&now, Look::LastCommit, what), last_commit, "{what}");
    }
    answer
}

fn interesting(rng: &mut Rng) -> u8 {
    match rng.below(4) {
        0 => 0,
        1 => 0xff,
        2 => 1 << rng.below(8),
        _ => rng.below(256) as u8,
    }
}

/// One byte: of the header, of an entry, or of an item's data.
fn change(block: &mut [u8], rng: &mut Rng) {
    let count = tree_block::nritems(block).clamp(1, 600);
    let slot = rng.below(count as u64) as usize;
    let at = match rng.below(10) {
        0 => 48 + rng.below(Header::SIZE as u64 - 48) as usize,
        1 => leaf::item_at(slot) + rng.below(Item::SIZE as u64) as usize,
        _ => match leaf::try_item_data(block, slot) {
            Some(data) if tree_block::level(block) == 0 && !data.is_empty() => {
                let start = data.as_ptr() as usize - block.as_ptr() as usize;
                start + rng.below(data.len().min(200) as u64) as usize
            }
            _ => Header::SIZE + rng.below(count as u64 * 33) as usize,
        },
    };
    block[at.min(block.len() - 1)] = interesting(rng);
}

#[test]
fn rewritten_logs_are_refused_or_replayed() {
    for name in ["log0-s11-p24", "log1-s11-p04"] {
        let log = Log::of(name);
        let (mut refused, mut replayed) = (0, 0);
        for seed in 0..60 {
            let mut rng = Rng::new(seed);
            let device = log.base.clone();
            for _ in 0..1 + rng.below(2) {
                let block = rng.below(log.blocks.len() as u64) as usize;
                log.with_block(&device, block, |bytes| {
                    for _ in 0..1 + rng.below(3) {
                        change(bytes, &mut rng);
                    }
                });
            }
            match outcome(&device, &format!("{name}, seed {seed}")) {
                Some(_) => refused += 1,
                None => replayed += 1,
            }
        }
        assert!(refused > 10 && replayed > 5, "{refused} and {replayed}");
    }
}

#[test]
fn what_no_kernel_logs_is_refused_by_name() {
    let log = Log::of("log1-s11-p04");
    let cases: [(&str, u8, Change); 4] = [
        (
            "but the subvolume's inode has",
            kind::INODE_ITEM,
            |_, data| {
                let item = InodeItem::read_mut(data).unwrap();
                let is_file = item.mode.get() & libc::S_IFMT == libc::S_IFREG;
                if is_file {
                    item.mode.set(libc::S_IFCHR | 0o644);
                }
                is_file
            },
        ),
        ("can't be a name", kind::INODE_REF, |key, data| {
            let is_name = key.objectid != key.offset;
            if is_name {
                data[10] = b'/';
            }
            is_name
        }),
        ("is none of a log", kind::ROOT_ITEM, |_, _| true),
        ("of another transaction", kind::ROOT_ITEM, |_, data| {
            data[160] ^= 1;
            true
        }),
    ];
    for (words, wanted, change) in cases {
        let mut device = log.with_item(wanted, change);
        if words == "is none of a log" {
            device = log.base.clone();
            log.with_block(&device, 0, |bytes| {
                let key = Key::new(ids::TREE_LOG_OBJECTID - 1, kind::ROOT_ITEM, 5);
                leaf::set_item_key(bytes, 0, &key);
            });
        }
        let said = outcome(&device, words).unwrap_or_else(|| panic!("{words}: replayed"));
        assert!(said.contains(words), "not {words:?} but: {said}");
    }
}

/// What is in use stays with whoever uses it.
#[test]
fn logs_that_name_what_is_in_use_are_refused() {
    let log = Log::of("log0-s11-p24");
    let fs = mount(Arc::new(log.base.clone()), Look::LastCommit).unwrap();
    let tree = fs.tree_context().roots.find(5).unwrap().node().bytenr;
    drop(fs);
    let device = log.with_item(kind::EXTENT_DATA, |_, data| {
        let is_extent = data.len() == FileExtentItem::SIZE;
        if let Some(item) = FileExtentItem::read_mut(data).filter(|_| is_extent) {
            item.disk_bytenr.set(tree.get());
        }
        is_extent
    });
    let said = outcome(&device, "a tree's block").expect("refused");
    assert!(said.contains("for something else"), "{said}");
    let device = log.with_item(kind::EXTENT_DATA, |_, data| {
        let is_extent = data.len() == FileExtentItem::SIZE;
        if let Some(item) = FileExtentItem::read_mut(data).filter(|_| is_extent) {
            let len = item.disk_num_bytes.get();
            item.disk_num_bytes.set(len + (1 << 30));
        }
        is_extent
    });
    let said = outcome(&device, "a huge extent").expect("refused");
    assert!(said.contains("not all of that is free"), "{said}");
    // The log's own tree: the root of logs names the subvolume's committed tree.
    let device = log.with_item(kind::ROOT_ITEM, |_, data| {
        data[176..184].copy_from_slice(&tree.get().to_le_bytes());
        true
    });
    outcome(&device, "a committed tree as a log").expect("refused");
}

/// A name that a log lists twice, and one that leads nowhere, are no harm.
#[test]
fn entries_of_inodes_that_are_not_there_are_passed_over() {
    let log = Log::of("log2-s11-p05");
    let device = log.with_item(kind::DIR_INDEX, |_, data| {
        let is_file = DirEntries::new(data)
            .next()
            .is_some_and(|entry| entry.location.kind == kind::INODE_ITEM);
        if is_file {
            data[..8].copy_from_slice(&999_999u64.to_le_bytes());
        }
        is_file
    });
    assert_eq!(outcome(&device, "an entry of nobody"), None);
}
