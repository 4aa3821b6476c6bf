//! One subvolume and its log.
//!
//! Owns: the passes, and reading and changing inode items. Invariant: between two items of the log
//! the subvolume's tree is sound: each name has its two directory items and its reference, and a
//! directory's size counts its names. Only link counts wait for the end.

use crate::btree::{Root, TreeContext};
use crate::commit::{Csums, SubvolumeLog, UnreplayedLog};
use crate::error::{Corrupt, Error, Result};
use crate::fs::attr::Timestamp;
use crate::fs::inode::to_disk;
use crate::fs::inode_ref::ItemLimits;
use crate::ondisk::{InodeItem, Key, kind};
use crate::sync::Arc;
use crate::transaction::TransHandle;
use std::collections::BTreeSet;

/// The replay of one log.
pub(super) struct TreeReplay<'a> {
    pub ctx: &'a TreeContext,
    pub csums: &'a Csums,
    pub trans: &'a TransHandle,
    pub limits: ItemLimits,
    /// The subvolume's tree.
    pub root: Arc<Root>,
    pub log: &'a SubvolumeLog,
    /// Inodes whose names are to be counted at the end.
    pub recount: BTreeSet<u64>,
    /// Directories that got a name.
    pub moved_dirs: BTreeSet<u64>,
}

impl<'a> TreeReplay<'a> {
    pub fn new(
        ctx: &'a TreeContext,
        csums: &'a Csums,
        trans: &'a TransHandle,
        limits: ItemLimits,
        root: Arc<Root>,
        log: &'a SubvolumeLog,
    ) -> Self {
        Self {
            ctx,
            csums,
            trans,
            limits,
            root,
            log,
            recount: BTreeSet::new(),
            moved_dirs: BTreeSet::new(),
        }
    }

    /// All passes.
    pub fn run(mut self, logs: &mut UnreplayedLog) -> Result<()> {
        self.each_item(|this, key, data| match key.kind {
            kind::INODE_ITEM => this.replay_inode(key, data),
            _ => Ok(()),
        })?;
        self.each_item(|this, key, data| match key.kind {
            kind::DIR_INDEX => this.replay_entry(key, data),
            // DIR_ITEMs, which old kernels logged as well, say nothing that DIR_INDEXes don't.
            _ => Ok(()),
        })?;
        self.each_item(|this, key, data| match key.kind {
            kind::XATTR_ITEM => this.replay_xattrs(key, data),
            kind::INODE_REF | kind::INODE_EXTREF => this.replay_names(key, data),
            kind::EXTENT_DATA => this.replay_extent(key, data, logs),
            _ => Ok(()),
        })?;
        self.settle_links()?;
        self.root.set_changed(self.trans, to_disk(Timestamp::now()));
        Ok(())
    }

    /// Shows the log's items to `replay`, in order. Not those of an inode that was logged without
    /// links: it is either an unnamed file, which nobody can find any more, or one whose directory
    /// was logged as well and says that the last name is gone.
    fn each_item(
        &mut self,
        mut replay: impl FnMut(&mut Self, &Key, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (ctx, log) = (self.ctx, self.log);
        let mut unlinked = None;
        let mut cursor = ctx.search(&log.root, &Key::MIN)?;
        while let Some((key, data)) = cursor.item() {
            if key.kind == kind::INODE_ITEM {
                let nlink = InodeItem::read(data).map(|item| item.nlink.get());
                unlinked = (nlink == Some(0)).then_some(key.objectid);
            }
            if unlinked != Some(key.objectid) {
                replay(self, &key, data).map_err(|error| self.at_item(&key, error))?;
            }
            if !cursor.next()? {
                break;
            }
        }
        Ok(())
    }

    fn at_item(&self, key: &Key, error: Error) -> Error {
        let place = format!("log of subvolume {}, item {key}", self.log.subvolume);
        match error {
            Error::Corrupt(Corrupt { at, slot, reason }) => Error::Corrupt(Corrupt {
                at,
                slot,
                reason: format!("{place}: {reason}"),
            }),
            Error::NoSpace
            | Error::Aborted(_)
            | Error::ReadOnly(_)
            | Error::NoGoodCopy(_)
            | Error::Device { .. } => error,
            other => Error::corrupt(format!("{place}: {other}")),
        }
    }

    /// The inode's item in the subvolume.
    pub fn inode(&self, objectid: u64) -> Result<Option<InodeItem>> {
        let item = self
            .ctx
            .get_with(&self.root, &inode_key(objectid), |bytes| {
                InodeItem::read(bytes).copied()
            })?;
        Ok(item.flatten())
    }

    /// The inode's item, which must be there.
    pub fn want_inode(&self, objectid: u64) -> Result<InodeItem> {
        let missing = || Error::corrupt(format!("there is no inode {objectid}"));
        self.inode(objectid)?.ok_or_else(missing)
    }

    /// Whether the subvolume has a directory of that number.
    pub fn is_dir(&self, objectid: u64) -> Result<bool> {
        Ok(self.inode(objectid)?.is_some_and(|item| is_dir(&item)))
    }

    /// Puts the inode's item.
    pub fn put_inode(&self, objectid: u64, item: &InodeItem) -> Result<()> {
        let key = inode_key(objectid);
        self.ctx
            .upsert(self.trans, &self.root, &key, item.as_bytes())
    }

    /// Changes the inode's item, which must be there.
    pub fn change_inode(&self, objectid: u64, change: impl FnOnce(&mut InodeItem)) -> Result<()> {
        let mut item = self.want_inode(objectid)?;
        change(&mut item);
        item.transid.set(self.trans.transid().get());
        self.put_inode(objectid, &item)
    }
}

fn inode_key(objectid: u64) -> Key {
    Key::new(objectid, kind::INODE_ITEM, 0)
}

/// The type bits of an inode's mode.
pub(super) fn type_of(item: &InodeItem) -> u32 {
    item.mode.get() & libc::S_IFMT
}

/// Whether the item is a directory's.
pub(super) fn is_dir(item: &InodeItem) -> bool {
    type_of(item) == libc::S_IFDIR
}
