//! Logged directories: which names are gone, and which are there.
//!
//! Owns: DIR_LOG_INDEX ranges, for which the log has every entry that the directory had, and logged
//! DIR_INDEX items. Never: names whose inode was logged with them; those are the inode's to bring.

use super::links;
use super::tree::TreeReplay;
use crate::error::{Error, Result};
use crate::fs::dir::{self, Target};
use crate::fs::inode_ref::{self, NameRef, Place};
use crate::ondisk::{DirEntries, DirLogItem, InodeNames, Key, kind};
use std::ops::RangeInclusive;

impl TreeReplay<'_> {
    /// Names in the logged ranges that the log doesn't have were removed.
    pub fn drop_unlogged_names(&mut self, dirid: u64) -> Result<()> {
        let (ctx, log) = (self.ctx, self.log);
        let mut cursor = ctx.search(&log.root, &Key::new(dirid, kind::DIR_LOG_INDEX, 0))?;
        let mut from = 0;
        while let Some((key, data)) = cursor.item() {
            if (key.objectid, key.kind) != (dirid, kind::DIR_LOG_INDEX) {
                break;
            }
            let item = DirLogItem::read(data).ok_or_else(|| Error::corrupt("a torn range"))?;
            let (start, end) = (key.offset.max(from), item.end.get());
            if start <= end {
                self.drop_names(dirid, start..=end, true)?;
            }
            // Ranges may overlap: each entry is looked at once.
            match end.checked_add(1) {
                Some(next) => from = from.max(next),
                None => break,
            }
            if !cursor.next()? {
                break;
            }
        }
        Ok(())
    }

    /// Takes names with these indexes out of the directory: all, or those that are not in the log.
    pub fn drop_names(
        &mut self,
        dirid: u64,
        indexes: RangeInclusive<u64>,
        unless_logged: bool,
    ) -> Result<()> {
        let (ctx, root) = (self.ctx, self.root.clone());
        let first = Key::new(dirid, kind::DIR_INDEX, *indexes.start());
        let mut cursor = ctx.search(&root, &first)?;
        while let Some((key, data)) = cursor.item() {
            let is_entry = (key.objectid, key.kind) == (dirid, kind::DIR_INDEX);
            if !is_entry || key.offset > *indexes.end() {
                break;
            }
            if let Some(entry) = DirEntries::new(data).next() {
                let same = |bytes: &[u8]| DirEntries::find_name(bytes, entry.name).is_some();
                let logged =
                    unless_logged && ctx.get_with(&self.log.root, &key, same)? == Some(true);
                if entry.location.kind == kind::ROOT_ITEM {
                    // Subvolumes are deleted by commits only, so this one is still there.
                    log::debug!("directory {dirid}: the entry of a subvolume stays");
                } else if !logged {
                    self.unlink(dirid, entry.name)?;
                }
            }
            if !cursor.next()? {
                break;
            }
        }
        Ok(())
    }

    /// A DIR_INDEX: the directory had this entry. It gets it if there is such an inode, and whoever
    /// has its name now loses that.
    pub fn replay_entry(&mut self, key: &Key, data: &[u8]) -> Result<()> {
        let (dirid, index) = (key.objectid, key.offset);
        let entry = DirEntries::new(data)
            .next()
            .ok_or_else(|| Error::corrupt("no entry"))?;
        if !self.is_dir(dirid)? {
            return Err(Error::corrupt(format!("there is no directory {dirid}")));
        }
        let logged = Target {
            location: entry.location,
            kind: entry.kind,
        };
        let inode = entry.location.objectid;
        // Subvolumes come and go with commits. An inode that is not there was not fsynced.
        let Some(item) = (match logged.subvolume() {
            Some(_) => None,
            None => self.inode(inode)?,
        }) else {
            return Ok(());
        };
        let here = dir::find_in(self.ctx, self.dir(dirid), entry.name)?;
        let listed = self.ctx.get_with(&self.root, key, |bytes| {
            DirEntries::find_name(bytes, entry.name)
                .is_some_and(|it| (it.location, it.kind) == (logged.location, logged.kind))
        })?;
        if here == Some(logged) && listed == Some(true) {
            return Ok(());
        }
        if here.is_some_and(|here| here != logged) {
            self.unlink(dirid, entry.name)?;
        } else if here.is_some() {
            // The same name of the same inode, made anew at another place in the listing: with
            // the inode in the log, pass 3 moves it, and otherwise nobody can tell the difference.
            return Ok(());
        }
        if self.is_name_logged(inode, dirid, entry.name)? {
            return Ok(());
        }
        let place = inode_ref::place_for(
            self.ctx,
            &self.root,
            inode,
            (dirid, entry.name),
            None,
            &self.limits,
        )?;
        let new = NameRef {
            parent: dirid,
            index,
            name: entry.name.to_vec(),
            place,
        };
        self.link(inode, &item, new)
    }

    /// Whether the log has the reference to this name, and so brings it in pass 3.
    pub fn is_name_logged(&self, inode: u64, parent: u64, name: &[u8]) -> Result<bool> {
        for place in [Place::Plain, Place::Extended] {
            let wanted = links::name_ref(parent, 0, name, place);
            let found = self
                .ctx
                .get_with(&self.log.root, &wanted.key(inode), |bytes| {
                    let mut names = match place {
                        Place::Plain => InodeNames::of_ref(parent, bytes),
                        Place::Extended => InodeNames::of_extref(bytes),
                    };
                    names.any(|it| it.parent == parent && it.name == name)
                })?;
            if found == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
