//! An inode in memory: the inode item's fields, the data that waits for its extents, and the
//! locks that operations take.
//!
//! Owns: [`Inode`], [`InodeMeta`] and the translation from and to `struct btrfs_inode_item`.
//! Invariant: whoever changes a field that a tree edit belongs to holds the edit's transaction
//! handle, so that a commit writes both or neither. Never: a join while `meta` is locked; the
//! commit's flush takes that lock.
//!
//! Lock order: `names` of a parent before its child's, `names` before `content`, both before
//! `meta`; tree locks come after all of them.

use super::attr::{FileKind, Timestamp};
use super::delayed::DirtyTicket;
use super::file::FileData;
use super::inode_table::Home;
use super::node_id::Identity;
use super::xattr::Inheritance;
use crate::btree::Root;
use crate::error::{Error, Result};
use crate::ondisk::{
    INODE_APPEND, INODE_IMMUTABLE, INODE_RO_FLAGS_MASK, InodeItem, Key, Timespec, kind,
};
use crate::sync::{Arc, Mutex, RwLock, Weak};

/// The inode item's fields and what belongs to them in memory.
#[derive(Debug)]
pub struct InodeMeta {
    /// The transaction that made the inode.
    pub generation: u64,
    /// The transaction that changed it last.
    pub transid: u64,
    /// The size that programs see.
    pub size: u64,
    /// The size that the tree may tell: behind `size` while written data has no extents yet.
    /// Only regular files tell the two apart.
    pub disk_size: u64,
    /// Bytes of extents, as the item counts them.
    pub nbytes: u64,
    /// Hard links.
    pub nlink: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// The device of a device node, as the kernel packs it (major << 20 | minor).
    pub rdev: u64,
    /// `BTRFS_INODE_*`, as [`crate::ondisk`] names them.
    pub flags: u64,
    /// Counts changes (NFS's change attribute).
    pub sequence: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Birth.
    pub otime: Timestamp,
    block_group: u64,
    reserved: [u64; 4],
    /// The next free directory index; `None` until the tree was asked.
    pub(in crate::fs) index_next: Option<u64>,
    /// What a directory hands on to new entries, once it was asked.
    pub(in crate::fs) inheritance: Option<Arc<Inheritance>>,
    /// `Some` while the item waits to be written; holds the space for it.
    pub(in crate::fs) dirty: Option<DirtyTicket>,
    /// The tree holds an orphan item for it: the last drop hands it to the cleaner.
    pub(in crate::fs) orphan: bool,
    /// Made without a name (`O_TMPFILE`): the first link may come from no links at all.
    pub(in crate::fs) linkable: bool,
    /// The kernel has written content back, and not yet told the times that belong to it.
    pub(in crate::fs) times_due: bool,
}

/// An inode that somebody uses.
pub struct Inode {
    /// The subvolume's tree.
    pub root: Arc<Root>,
    /// The number in that tree.
    pub objectid: u64,
    /// What it is; never changes.
    pub kind: FileKind,
    /// The item's fields. Held briefly; never while joining a transaction.
    pub meta: Mutex<InodeMeta>,
    /// Content that is not in the tree yet, and what reads remember.
    pub data: FileData,
    /// Data operations order themselves with this lock.
    pub content: RwLock<()>,
    /// Exclusive: entries, links and attributes by name change. Shared: they are read.
    pub names: RwLock<()>,
    home: Weak<Home>,
}

impl Inode {
    pub(in crate::fs) fn new(
        root: Arc<Root>,
        objectid: u64,
        meta: InodeMeta,
        home: &Arc<Home>,
    ) -> Result<Self> {
        let kind = FileKind::from_mode(meta.mode).ok_or_else(|| {
            Error::corrupt(format!(
                "inode {objectid} of tree {}: mode {:o} is no file type",
                root.objectid, meta.mode
            ))
        })?;
        Ok(Self {
            root,
            objectid,
            kind,
            meta: Mutex::new(meta),
            data: FileData::new(),
            content: RwLock::new(()),
            names: RwLock::new(()),
            home: Arc::downgrade(home),
        })
    }

    /// Which inode of which subvolume this is.
    pub(in crate::fs) fn identity(&self) -> Identity {
        Identity::Inode {
            subvol: self.root.objectid,
            objectid: self.objectid,
        }
    }

    /// The key of the inode item.
    pub fn item_key(&self) -> Key {
        Key {
            objectid: self.objectid,
            kind: kind::INODE_ITEM,
            offset: 0,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// `Err(NotDir)` unless it is a directory.
    pub(in crate::fs) fn want_dir(&self) -> Result<()> {
        if self.is_dir() {
            Ok(())
        } else {
            Err(Error::NotDir)
        }
    }

    /// `Err(NotPermitted)` when the flags forbid to change the inode itself: its owner, mode,
    /// times, attributes and links.
    pub(in crate::fs) fn want_mutable(&self) -> Result<()> {
        want_mutable_flags(self.meta.lock().flags)
    }
}

/// The upper half are flags that whoever doesn't know them may read past, but not write.
const UNKNOWN_RO_FLAGS: u64 = !0xffff_ffff & !INODE_RO_FLAGS_MASK;

/// Whether the flags forbid every change, as immutable does, or as a flag from the future that
/// allows nothing but reading.
pub(in crate::fs) fn is_frozen(flags: u64) -> bool {
    flags & (INODE_IMMUTABLE | UNKNOWN_RO_FLAGS) != 0
}

/// Whether a flag from the future allows nothing but reading.
pub(in crate::fs) fn has_unknown_flags(flags: u64) -> bool {
    flags & UNKNOWN_RO_FLAGS != 0
}

/// See [`Inode::want_mutable`].
pub(in crate::fs) fn want_mutable_flags(flags: u64) -> Result<()> {
    if is_frozen(flags) {
        return Err(Error::NotPermitted("the inode is immutable"));
    }
    if flags & INODE_APPEND != 0 {
        return Err(Error::NotPermitted("the inode is append-only"));
    }
    Ok(())
}

impl Drop for Inode {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade() else {
            return;
        };
        home.table.remove_dead(self.identity(), self);
        if self.meta.get_mut().orphan {
            home.evictions.push(self.root.clone(), self.objectid);
        }
    }
}

impl InodeMeta {
    /// The fields of a new inode.
    pub(in crate::fs) fn fresh(mode: u32, uid: u32, gid: u32, now: Timestamp) -> Self {
        Self {
            generation: 0,
            transid: 0,
            size: 0,
            disk_size: 0,
            nbytes: 0,
            nlink: 1,
            uid,
            gid,
            mode,
            rdev: 0,
            flags: 0,
            sequence: 0,
            atime: now,
            ctime: now,
            mtime: now,
            otime: now,
            block_group: 0,
            reserved: [0; 4],
            index_next: None,
            inheritance: None,
            dirty: None,
            orphan: false,
            linkable: false,
            times_due: false,
        }
    }

    /// The fields as the tree holds them.
    pub(in crate::fs) fn from_item(item: &InodeItem) -> Self {
        Self {
            generation: item.generation.get(),
            transid: item.transid.get(),
            size: item.size.get(),
            disk_size: item.size.get(),
            nbytes: item.nbytes.get(),
            nlink: item.nlink.get(),
            uid: item.uid.get(),
            gid: item.gid.get(),
            mode: item.mode.get(),
            rdev: item.rdev.get(),
            flags: item.flags.get(),
            sequence: item.sequence.get(),
            atime: from_disk(&item.atime),
            ctime: from_disk(&item.ctime),
            mtime: from_disk(&item.mtime),
            otime: from_disk(&item.otime),
            block_group: item.block_group.get(),
            reserved: item.reserved.map(|word| word.get()),
            index_next: None,
            inheritance: None,
            dirty: None,
            orphan: false,
            linkable: false,
            times_due: false,
        }
    }

    /// The item that a commit writes.
    pub(in crate::fs) fn to_item(&self) -> InodeItem {
        let mut item = InodeItem::zeroed();
        item.generation.set(self.generation);
        item.transid.set(self.transid);
        let regular = self.mode & libc::S_IFMT == libc::S_IFREG;
        item.size
            .set(if regular { self.disk_size } else { self.size });
        item.nbytes.set(self.nbytes);
        item.block_group.set(self.block_group);
        item.nlink.set(self.nlink);
        item.uid.set(self.uid);
        item.gid.set(self.gid);
        item.mode.set(self.mode);
        item.rdev.set(self.rdev);
        item.flags.set(self.flags);
        item.sequence.set(self.sequence);
        for (to, from) in item.reserved.iter_mut().zip(self.reserved) {
            to.set(from);
        }
        item.atime = to_disk(self.atime);
        item.ctime = to_disk(self.ctime);
        item.mtime = to_disk(self.mtime);
        item.otime = to_disk(self.otime);
        item
    }

    /// The content changed: `mtime`, `ctime` and the change counter.
    pub fn touch_content(&mut self, now: Timestamp) {
        self.mtime = now;
        self.touch(now);
    }

    /// The inode changed: `ctime` and the change counter.
    pub fn touch(&mut self, now: Timestamp) {
        self.ctime = now;
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// The bits that must not survive a change by somebody else: set-user-id, and set-group-id
    /// where the group may execute, or where they aren't of the group (`leaves_group`).
    pub(in crate::fs) fn set_id_to_clear(&self, leaves_group: bool) -> u32 {
        if self.mode & libc::S_IFMT == libc::S_IFDIR {
            return 0;
        }
        let mut gone = self.mode & libc::S_ISUID;
        if self.mode & libc::S_IXGRP != 0 || leaves_group {
            gone |= self.mode & libc::S_ISGID;
        }
        gone
    }

    /// Clears them, and says whether one was set.
    pub(in crate::fs) fn clear_set_id(&mut self, leaves_group: bool) -> bool {
        let gone = self.set_id_to_clear(leaves_group);
        self.mode &= !gone;
        gone != 0
    }
}

fn from_disk(time: &Timespec) -> Timestamp {
    Timestamp {
        sec: time.seconds(),
        nsec: time.nsec.get(),
    }
}

/// A time as the format stores it.
pub(in crate::fs) fn to_disk(time: Timestamp) -> Timespec {
    Timespec::new(time.sec, time.nsec)
}

/// The kernel's packing of a device number, as the format stores it, from `makedev(3)`'s.
pub(in crate::fs) fn rdev_to_disk(rdev: u64) -> u64 {
    u64::from(libc::major(rdev)) << 20 | u64::from(libc::minor(rdev))
}

/// `makedev(3)`'s packing from the format's.
pub(in crate::fs) fn rdev_from_disk(rdev: u64) -> u64 {
    libc::makedev((rdev >> 20) as u32, (rdev & 0xf_ffff) as u32)
}
