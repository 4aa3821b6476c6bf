//! Trees that use wouldn't make, and threads that meet: what the layer above the checker of
//! single blocks has to stand by itself.

use super::*;
use crate::allocator::Steal;
use crate::commit::mkfs::{self, MkfsOptions};
use crate::ondisk::{INODE_RO_VERITY, InodeItem, InodeRef, Key, ids, kind};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, thread};
use crate::transaction::TransHandle;
use crate::volume::{BlockDevice, Fault, FaultyDevice, MemoryDevice};
use inode::{Inode, InodeMeta};
use node_id::Identity;
use std::time::Duration;

pub(in crate::fs) const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0,
    pid: 1,
};

pub(in crate::fs) fn device() -> Arc<dyn BlockDevice> {
    let device = MemoryDevice::zeroed(256 << 20);
    mkfs::make(&device, &MkfsOptions::default()).unwrap();
    Arc::new(device)
}

pub(in crate::fs) fn mount(device: &Arc<dyn BlockDevice>, background: bool) -> Arc<Filesystem> {
    let options = MountOptions {
        background,
        ..MountOptions::default()
    };
    Filesystem::mount(vec![device.clone()], &options).unwrap()
}

/// Changes the top level's tree behind the filesystem's back.
pub(in crate::fs) fn tamper(
    fs: &Filesystem,
    edit: impl FnOnce(&TransHandle, &Arc<crate::btree::Root>) -> crate::Result<()>,
) {
    let root = fs.ctx.roots.get(&fs.ctx, ids::FS_TREE_OBJECTID).unwrap();
    let reservation = fs.reserve(8, Steal::No).unwrap();
    fs.with_trans(reservation, |trans| edit(trans, &root))
        .unwrap();
}

pub(in crate::fs) fn mkdir(fs: &Filesystem, parent: NodeId, name: &[u8]) -> Attr {
    fs.mkdir(&CALLER, parent, name, 0o755).unwrap()
}

/// The walk from a directory to the root never came to its end.
#[test]
fn directories_that_contain_themselves_are_an_error() {
    let device = device();
    let fs = mount(&device, false);
    let x = mkdir(&fs, NodeId::ROOT, b"x");
    let a = mkdir(&fs, NodeId::ROOT, b"a");
    let b = mkdir(&fs, a.node, b"b");
    tamper(&fs, |trans, root| {
        let up = |parent| Key::new(a.objectid, kind::INODE_REF, parent);
        fs.ctx.delete(trans, root, &up(256))?;
        let name = InodeRef::encode(9, b"a");
        fs.ctx.insert(trans, root, &up(b.objectid), &name)
    });
    let flags = RenameFlags::default();
    let moved = fs.rename(&CALLER, NodeId::ROOT, b"x", b.node, b"y", flags);
    assert_eq!(moved.unwrap_err().errno(), libc::EUCLEAN);
    assert!(fs.getattr(x.node).is_ok());
    assert!(fs.read_only_reason().is_none());
}

#[test]
fn the_last_numbers_are_refused_and_not_passed() {
    let device = device();
    let fs = mount(&device, false);
    let dir = mkdir(&fs, NodeId::ROOT, b"dir");
    let entry = fs
        .create(&CALLER, dir.node, b"f", 0o644, libc::O_RDWR)
        .unwrap();
    tamper(&fs, |trans, root| {
        let first = Key::new(dir.objectid, kind::DIR_INDEX, 2);
        let bytes = fs.ctx.get(root, &first)?.unwrap();
        fs.ctx.delete(trans, root, &first)?;
        let last = Key::new(dir.objectid, kind::DIR_INDEX, u64::MAX);
        fs.ctx.insert(trans, root, &last, &bytes)?;
        // Of an inode that isn't there; nothing of it is left to delete.
        let orphan = Key::new(ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM, u64::MAX);
        fs.ctx.insert(trans, root, &orphan, &[])
    });
    fs.release(entry.node);
    fs.unmount().unwrap();
    drop(fs);
    let fs = mount(&device, false);
    let dir = fs.lookup(NodeId::ROOT, b"dir").unwrap().node;
    let made = fs.create(&CALLER, dir, b"g", 0o644, libc::O_RDWR);
    assert_eq!(made.unwrap_err().errno(), libc::ENOSPC);
    let handle = fs.opendir(dir).unwrap();
    fs.readdir(dir, &handle, 0, &mut |_| true).unwrap();
    fs.unmount().unwrap();
}

/// Flags that only forbid writing may come from a newer kernel.
#[test]
fn inodes_with_unknown_read_only_flags_do_not_change() {
    let device = device();
    let fs = mount(&device, false);
    let dir = mkdir(&fs, NodeId::ROOT, b"dir");
    let file = fs
        .create(&CALLER, dir.node, b"f", 0o644, libc::O_RDWR)
        .unwrap();
    fs.write(file.node, 0, b"old", WriteFlags::default())
        .unwrap();
    fs.sync().unwrap();
    fs.unmount().unwrap();
    drop(fs);
    let fs = mount(&device, false);
    tamper(&fs, |trans, root| {
        for objectid in [dir.objectid, file.objectid] {
            let key = Key::new(objectid, kind::INODE_ITEM, 0);
            fs.ctx.modify(trans, root, &key, |bytes| {
                let item = InodeItem::read_mut(bytes).unwrap();
                item.flags.set(item.flags.get() | INODE_RO_VERITY << 5);
            })?;
        }
        Ok(())
    });
    let dir = fs.lookup(NodeId::ROOT, b"dir").unwrap().node;
    let before = fs.lookup(dir, b"f").unwrap();
    let file = before.node;
    assert_eq!(fs.read(file, 0, 10).unwrap(), b"old");
    let size = SetAttr {
        size: Some(1),
        ..SetAttr::default()
    };
    let mode = SetAttr {
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let refusals = [
        fs.open(file, libc::O_RDWR),
        fs.write(file, 0, b"new", WriteFlags::default()).map(drop),
        fs.setattr(&CALLER, file, &size).map(drop),
        fs.setattr(&CALLER, file, &mode).map(drop),
        fs.setxattr(file, b"user.a", b"1", XattrMode::Any, false),
        fs.fallocate(file, 0, 0, 4096),
        fs.set_flags(&CALLER, file, 0x40),
        fs.link(file, NodeId::ROOT, b"g").map(drop),
        fs.unlink(dir, b"f"),
        fs.mkdir(&CALLER, dir, b"h", 0o755).map(drop),
        fs.rename(
            &CALLER,
            NodeId::ROOT,
            b"dir",
            NodeId::ROOT,
            b"d",
            RenameFlags::default(),
        ),
    ];
    for (index, refusal) in refusals.into_iter().enumerate() {
        assert_eq!(
            refusal.map_err(|error| error.errno()),
            Err(libc::EPERM),
            "{index}"
        );
    }
    assert_eq!(fs.getattr(file).unwrap(), before);
    fs.unmount().unwrap();
}

/// An entry and its inode that disagree about what it is.
#[test]
fn an_entry_of_another_kind_than_its_inode_is_an_error() {
    let device = device();
    let fs = mount(&device, false);
    let file = fs
        .create(&CALLER, NodeId::ROOT, b"f", 0o644, libc::O_RDWR)
        .unwrap();
    fs.release(file.node);
    tamper(&fs, |trans, root| {
        let hash = u64::from(crate::ondisk::csum::name_hash(b"f"));
        let key = Key::new(256, kind::DIR_ITEM, hash);
        let found = fs.ctx.modify(trans, root, &key, |bytes| bytes[29] = 2)?;
        assert!(found);
        Ok(())
    });
    let found = fs.lookup(NodeId::ROOT, b"f");
    assert_eq!(found.unwrap_err().errno(), libc::EUCLEAN);
    assert!(
        fs.getattr(file.node).is_ok(),
        "by its number it is what it is"
    );
}

/// An inode was loaded while another thread had loaded, changed and let go of it: what was read
/// before came to stand for it, also for one that was deleted by then.
#[test]
fn inodes_are_not_loaded_from_the_past() {
    let device = device();
    let fs = mount(&device, false);
    let dir = mkdir(&fs, NodeId::ROOT, b"dir");
    fs.sync().unwrap();
    fs.forget(dir.node, 1);
    let nobody_holds_it = || drop(fs.home.table.let_all_go());
    nobody_holds_it();
    let (subvol, objectid) = (ids::FS_TREE_OBJECTID, dir.objectid);
    let root = fs.ctx.roots.get(&fs.ctx, subvol).unwrap();
    let reads = std::cell::Cell::new(0);
    let read = || {
        let key = Key::new(objectid, kind::INODE_ITEM, 0);
        let item = |bytes: &[u8]| InodeItem::read(bytes).map(InodeMeta::from_item);
        let meta = fs.ctx.get_with(&root, &key, item)?.flatten().unwrap();
        reads.set(reads.get() + 1);
        if reads.get() == 1 {
            let change = SetAttr {
                uid: Some(7),
                ..SetAttr::default()
            };
            fs.setattr(&CALLER, dir.node, &change)?;
            fs.sync()?;
            nobody_holds_it();
        }
        Inode::new(root.clone(), objectid, meta, &fs.home)
    };
    let identity = Identity::Inode { subvol, objectid };
    let loaded = fs.home.table.get_or_read(identity, read, || true);
    let loaded = loaded.unwrap().unwrap();
    let seen = loaded.meta.lock().uid;
    assert_eq!(reads.get(), 2);
    drop(loaded);
    assert_eq!(seen, 7);
    fs.unmount().unwrap();
}

/// The space of a removed file was lost until the next mount.
#[test]
fn a_deletion_that_finds_no_space_is_tried_again() {
    let device = device();
    let fs = mount(&device, false);
    let made = fs.mknod(&CALLER, NodeId::ROOT, b"file", libc::S_IFREG | 0o644, 0);
    let node = made.unwrap().node;
    let content = vec![7; 1 << 20];
    fs.write(node, 0, &content, WriteFlags::default()).unwrap();
    fs.sync().unwrap();
    let used = || fs.ctx.space.numbers().data.usage.used;
    assert!(used() >= 1 << 20);
    fs.unlink(NodeId::ROOT, b"file").unwrap();
    let mut taken = Vec::new();
    for nodes in [1024, 64, 4, 1] {
        let bytes = nodes * u64::from(fs.ctx.nodesize);
        while let Ok(more) = fs.ctx.space.try_reserve_metadata(bytes, Steal::Yes) {
            taken.push(more);
        }
    }
    fs.forget(node, 1);
    assert_eq!(fs.clean().unwrap_err().errno(), libc::ENOSPC);
    drop(taken);
    fs.sync().unwrap();
    assert_eq!(used(), 0);
    fs.unmount().unwrap();
}

/// One unreadable block of a directory once hid the names before it as well, as many as one answer
/// holds; and those that came with attributes stayed counted as looked up.
#[test]
fn a_listing_tells_what_comes_before_a_failure() {
    let memory = MemoryDevice::zeroed(256 << 20);
    let nodesize = 4096;
    let options = MkfsOptions {
        nodesize,
        ..MkfsOptions::default()
    };
    mkfs::make(&memory, &options).unwrap();
    let faulty = Arc::new(FaultyDevice::over(Arc::new(memory)));
    let device: Arc<dyn BlockDevice> = faulty.clone();
    let fs = mount(&device, false);
    let name = |index: u64| format!("name-{index:0>60}").into_bytes();
    for index in 0..600 {
        mkdir(&fs, NodeId::ROOT, &name(index));
    }
    fs.unmount().unwrap();
    drop(fs);
    let fs = mount(&device, false);
    let handle = fs.opendir(NodeId::ROOT).unwrap();
    let list = || {
        let (mut told, mut next) = (0, 0);
        let done = fs.readdir(NodeId::ROOT, &handle, 0, &mut |entry| {
            assert!(entry.name == name(told) || entry.name.starts_with(b"."));
            told += u64::from(!entry.name.starts_with(b"."));
            next = entry.offset;
            true
        });
        (done, told, next)
    };
    let mut early = Vec::new();
    for failing in 1.. {
        fs.ctx.cache.shrink_to(0);
        // A bad block is read again, and ahead: nothing can be read from here on.
        (failing..failing + 5000).for_each(|nth| faulty.plan(Fault::FailRead(nth)));
        let (done, told, next) = list();
        if told == 600 {
            break;
        }
        assert!(done.is_ok(), "{told} names told and an error");
        let again = fs.readdir(NodeId::ROOT, &handle, next, &mut |_| true);
        assert!(again.is_err(), "the failure is told by the next look");
        faulty.heal();
        early.push(told);
    }
    assert!(early.iter().any(|&told| told > 128), "{early:?}");
    fs.releasedir(NodeId::ROOT);
}

/// A device that takes its time.
struct SlowDevice {
    inner: MemoryDevice,
    flushes: AtomicU64,
}

impl BlockDevice for SlowDevice {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
        self.inner.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> std::io::Result<()> {
        self.inner.write_at(at, buf)
    }

    fn flush(&self) -> std::io::Result<()> {
        thread::sleep(Duration::from_millis(100));
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.inner.flush()
    }

    fn discard(&self, at: u64, len: u64) -> std::io::Result<()> {
        self.inner.discard(at, len)
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

/// A signal and the end of the session both unmount. Whoever came second was told at once that all
/// is durable, and ended the process in the middle of the last commit.
#[test]
fn everybody_who_unmounts_waits_for_the_last_commit() {
    let inner = MemoryDevice::zeroed(256 << 20);
    mkfs::make(&inner, &MkfsOptions::default()).unwrap();
    let slow = Arc::new(SlowDevice {
        inner,
        flushes: AtomicU64::new(0),
    });
    let flushes = || slow.flushes.load(Ordering::Relaxed);
    let device: Arc<dyn BlockDevice> = slow.clone();
    let fs = mount(&device, true);
    mkdir(&fs, NodeId::ROOT, b"last");
    let before = flushes();
    let both = [0; 2].map(|_| {
        let fs = fs.clone();
        let slow = slow.clone();
        thread::spawn(move || {
            fs.unmount().unwrap();
            slow.flushes.load(Ordering::Relaxed)
        })
    });
    let told = both.map(|thread| thread.join().unwrap());
    assert!(flushes() > before);
    assert_eq!(told, [flushes(); 2], "flushes when it was told");
}

/// The second answer was that all is well, whatever the first had been.
#[test]
fn a_failed_unmount_is_told_to_all_who_unmount() {
    let inner = MemoryDevice::zeroed(256 << 20);
    mkfs::make(&inner, &MkfsOptions::default()).unwrap();
    let faulty = Arc::new(FaultyDevice::over(Arc::new(inner)));
    let device: Arc<dyn BlockDevice> = faulty.clone();
    let fs = mount(&device, true);
    mkdir(&fs, NodeId::ROOT, b"last");
    faulty.plan(Fault::FailFlush(1));
    let both = [0; 2].map(|_| {
        let fs = fs.clone();
        thread::spawn(move || fs.unmount())
    });
    let mut told = both.map(|thread| thread.join().unwrap()).to_vec();
    told.push(fs.unmount());
    let words = told.into_iter().map(|told| told.unwrap_err().to_string());
    let words: Vec<String> = words.collect();
    assert!(words.iter().all(|other| *other == words[0]), "{words:?}");
}
