//! A block that is lost while its transaction is being written.

use super::mkfs::{self, MkfsOptions};
use super::{OpenOptions, open};
use crate::ondisk::ids::{FS_TREE_OBJECTID, ORPHAN_OBJECTID};
use crate::ondisk::key::{Key, kind};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
use crate::units::MIB;
use crate::volume::{BlockDevice, MemoryDevice, Volume};
use std::io;

type Deed = Box<dyn FnOnce() + Send>;

/// A device on which something happens at the next flush.
struct AtFlush {
    device: MemoryDevice,
    deed: Mutex<Option<Deed>>,
}

impl BlockDevice for AtFlush {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.device.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        self.device.write_at(at, buf)
    }

    fn flush(&self) -> io::Result<()> {
        let deed = self.deed.lock().take();
        if let Some(deed) = deed {
            deed();
        }
        self.device.flush()
    }

    fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.device.discard(at, len)
    }

    fn size_bytes(&self) -> u64 {
        self.device.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.device.is_read_only()
    }
}

/// The next transaction's block is lost while this one is written: which of the two it belongs to
/// is not known any more, so neither becomes durable, and the last superblock stays.
#[test]
fn no_superblock_is_written_after_a_block_was_lost() {
    let device = Arc::new(AtFlush {
        device: MemoryDevice::zeroed(256 * MIB),
        deed: Mutex::new(None),
    });
    mkfs::make(&device.device, &MkfsOptions::default()).unwrap();
    let (volume, superblock) = Volume::open(vec![device.clone()], false).unwrap();
    let options = OpenOptions {
        background: false,
        ..OpenOptions::default()
    };
    let engine = open(Arc::new(volume), superblock, &options).unwrap();
    let ctx = engine.ctx.clone();
    let root = ctx.roots.get(&ctx, FS_TREE_OBJECTID).unwrap();
    let change = |ctx: &crate::btree::TreeContext, id: u64| {
        let trans = ctx.transactions.join().unwrap();
        let key = Key::new(ORPHAN_OBJECTID, kind::ORPHAN_ITEM, 256 + id);
        ctx.upsert(&trans, &root, &key, &[]).unwrap();
    };
    change(&ctx, 1);
    // The first commit is whole.
    engine.committer.commit().unwrap();
    let durable = ctx.transactions.durable();
    change(&ctx, 2);
    let happened = Arc::new(AtomicBool::new(false));
    let (done, losing, fs_tree) = (happened.clone(), ctx.clone(), root.clone());
    *device.deed.lock() = Some(Box::new(move || {
        let trans = losing.transactions.join().unwrap();
        let key = Key::new(ORPHAN_OBJECTID, kind::ORPHAN_ITEM, 259);
        losing.upsert(&trans, &fs_tree, &key, &[]).unwrap();
        losing.cache.lose(fs_tree.node().bytenr);
        done.store(true, Ordering::Relaxed);
    }));
    assert!(engine.committer.commit().is_err());
    assert!(happened.load(Ordering::Relaxed));
    assert!(engine.check_writable().is_err());
    assert_eq!(ctx.transactions.durable(), durable);
    let (_, on_disk) = Volume::open(vec![device], true).unwrap();
    assert_eq!(on_disk.generation.get(), durable.get());
}
