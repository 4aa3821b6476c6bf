//! Which fsync a log can answer, and what it says of the inode.
//!
//! Owns: the choice. Whatever could contradict the last commit at replay is left to a commit, which is
//! always right. Logged are regular files that have a name, whose names haven't changed in this
//! transaction, in a subvolume that the last commit has. The log gets the inode item, all
//! attributes, the content ([`file::logged_content`]), and of an inode that this transaction made
//! its one name: replay enters that into the directory, which the last commit must have where it is.
//!
//! What happens to a logged inode afterwards doesn't contradict the log, as long as nothing else is
//! logged in its place ([`Unlogged`](crate::transaction::Unlogged)): a cut brings back what was logged.

use super::attr::FileKind;
use super::file;
use super::filesystem::Filesystem;
use super::inode::Inode;
use crate::commit::InodeLog;
use crate::error::{Error, Result};
use crate::ondisk::{INODE_RO_VERITY, InodeItem, InodeNames, Key, kind};
use crate::sync::Arc;
use crate::transaction::TransHandle;
use crate::units::Generation;

/// Bytes of attributes that one inode may add to a log. All of them are written by each fsync.
const ATTRIBUTES_BYTES_MAX: usize = 2 << 20;

/// How an fsync can be answered.
enum Way {
    /// It is in the log of this transaction, under this ticket.
    Log(Generation, u64),
    /// Nothing changed since that transaction, whose commit has begun.
    Wait(Generation),
    /// With a commit.
    Commit,
}

impl Filesystem {
    /// Makes an inode durable without a commit, its content being written; false when it can't be.
    /// The caller holds no lock and no handle.
    pub(in crate::fs) fn fsync_by_log(&self, inode: &Arc<Inode>) -> Result<bool> {
        if !self.options.treelog || inode.kind != FileKind::Regular {
            return Ok(false);
        }
        match self.log_inode(inode)? {
            Way::Log(transid, ticket) => self.engine.committer.sync_log(transid, ticket),
            Way::Wait(transid) => {
                self.ctx.transactions.wait_durable(transid)?;
                Ok(true)
            }
            Way::Commit => Ok(false),
        }
    }

    fn log_inode(&self, inode: &Arc<Inode>) -> Result<Way> {
        // Names, attributes and extents stand still, and the transaction doesn't end.
        let _names = inode.names.read();
        let _extents = file::hold_extents(inode);
        let trans = self.ctx.transactions.join()?;
        let transid = trans.transid();
        let (tree, objectid) = (inode.root.objectid, inode.objectid);
        if inode.root.is_dead()
            || inode.root.item().otransid.get() >= transid.get()
            || trans.transaction().unlogged.has_inode(tree, objectid)
        {
            return Ok(Way::Commit);
        }
        let (item, is_old) = {
            let meta = inode.meta.lock();
            if meta.dirty.is_none() && meta.transid < transid.get() {
                return Ok(Way::Wait(Generation(transid.get() - 1)));
            }
            let mut item = meta.to_item();
            item.transid.set(transid.get());
            (item, meta.generation < transid.get())
        };
        if item.nlink.get() == 0 || item.flags.get() & INODE_RO_VERITY != 0 {
            return Ok(Way::Commit);
        }
        let mut items = vec![(inode.item_key(), item.as_bytes().to_vec())];
        let Some(name) = self.logged_items(inode, !is_old, &mut items)? else {
            return Ok(Way::Commit);
        };
        if !is_old && !self.is_entered_by_replay(&trans, inode, name)? {
            return Ok(Way::Commit);
        }
        let shape = (item.size.get(), item.flags.get());
        let Some(content) = file::logged_content(self, &trans, inode, shape)? else {
            return Ok(Way::Commit);
        };
        items.extend(content.items);
        let log = InodeLog {
            objectid,
            items,
            sums: content.sums,
        };
        let ticket = self.engine.committer.log_inode(&trans, tree, log);
        Ok(ticket.map_or(Way::Commit, |ticket| Way::Log(transid, ticket)))
    }

    /// The attributes, and if `with_names` the reference to the only name, which is the answer then.
    /// `None`: there is something else, or too much.
    #[allow(clippy::type_complexity)]
    fn logged_items(
        &self,
        inode: &Inode,
        with_names: bool,
        items: &mut Vec<(Key, Vec<u8>)>,
    ) -> Result<Option<Option<(u64, u64, Vec<u8>)>>> {
        let first = Key::new(inode.objectid, kind::INODE_REF, 0);
        let mut cursor = self.ctx.search(&inode.root, &first)?;
        let (mut only_name, mut bytes) = (None, 0);
        while let Some((key, data)) = cursor.item()
            && key.objectid == inode.objectid
            && key.kind < kind::EXTENT_DATA
        {
            match key.kind {
                kind::INODE_REF if with_names && only_name.is_none() => {
                    let mut names = InodeNames::of_ref(key.offset, data);
                    only_name = names
                        .next()
                        .map(|it| (it.parent, it.index, it.name.to_vec()));
                    if names.next().is_some() {
                        return Ok(None);
                    }
                    items.push((key, data.to_vec()));
                }
                kind::INODE_REF | kind::INODE_EXTREF if !with_names => {}
                kind::XATTR_ITEM => {
                    bytes += data.len();
                    if bytes > ATTRIBUTES_BYTES_MAX {
                        return Ok(None);
                    }
                    items.push((key, data.to_vec()));
                }
                _ => return Ok(None),
            }
            cursor.next()?;
        }
        Ok(Some(only_name))
    }

    /// Whether replay can put the name of a new inode where it is: the directory is in the last commit
    /// and still there, and nothing else may come back under the name or at its place.
    fn is_entered_by_replay(
        &self,
        trans: &TransHandle,
        inode: &Inode,
        name: Option<(u64, u64, Vec<u8>)>,
    ) -> Result<bool> {
        let Some((parent, index, name)) = name else {
            return Ok(false);
        };
        let (tree, unlogged) = (inode.root.objectid, &trans.transaction().unlogged);
        if unlogged.has_inode(tree, parent) || unlogged.has_place(tree, parent, index, &name) {
            return Ok(false);
        }
        let key = Key::new(parent, kind::INODE_ITEM, 0);
        let generation = self.ctx.get_with(&inode.root, &key, |bytes| {
            InodeItem::read(bytes).map(|item| item.generation.get())
        })?;
        let generation = generation.flatten().ok_or_else(|| {
            Error::corrupt(format!("inode {} has a name in {parent}", inode.objectid))
        })?;
        Ok(generation < trans.transid().get())
    }
}
