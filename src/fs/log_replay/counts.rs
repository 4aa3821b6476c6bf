//! The end of a replay: how many names each inode has.
//!
//! Owns: link counts, and the orphan items of inodes that have no name left. Mounting goes on with
//! deleting those. Also refuses what no order of operations makes: directories in a circle.

use super::tree::{TreeReplay, is_dir};
use crate::error::{Error, Result};
use crate::fs::node_id::ROOT_DIR_OBJECTID;
use crate::fs::{inode_ref, orphan};
use std::collections::BTreeSet;

impl TreeReplay<'_> {
    /// Counts the names of all inodes whose names may have changed.
    pub fn settle_links(&mut self) -> Result<()> {
        // A directory without a name takes its entries with it, which puts more on the list; each
        // time there are fewer entries.
        while let Some(objectid) = self.recount.pop_last() {
            self.recount_links(objectid)?;
        }
        self.want_no_circle()
    }

    fn recount_links(&mut self, objectid: u64) -> Result<()> {
        let Some(item) = self.inode(objectid)? else {
            return Ok(());
        };
        let count = inode_ref::count(self.ctx, &self.root, objectid)?;
        let wrong = || Error::corrupt(format!("inode {objectid} would have {count} names"));
        let nlink = u32::try_from(count).map_err(|_| wrong())?;
        let top = objectid == ROOT_DIR_OBJECTID;
        if (is_dir(&item) && nlink > 1) || (top && nlink == 0) {
            return Err(wrong());
        }
        if item.nlink.get() != nlink {
            self.change_inode(objectid, |item| item.nlink.set(nlink))?;
        }
        if nlink > 0 {
            // It may have been unnamed at the last commit.
            return orphan::remove(self.ctx, self.trans, &self.root, objectid);
        }
        if is_dir(&item) {
            self.drop_names(objectid, 0..=u64::MAX, false)?;
        }
        orphan::add(self.ctx, self.trans, &self.root, objectid)
    }

    /// Every directory that got a name is below the top one.
    fn want_no_circle(&self) -> Result<()> {
        let mut below_top = BTreeSet::from([ROOT_DIR_OBJECTID]);
        for &moved in &self.moved_dirs {
            let mut way = BTreeSet::new();
            let mut here = moved;
            while !below_top.contains(&here) {
                if !way.insert(here) {
                    let reason = format!("directory {here} would be inside of itself");
                    return Err(Error::corrupt(reason));
                }
                match inode_ref::first(self.ctx, &self.root, here)? {
                    Some(name) => here = name.parent,
                    // About to be deleted.
                    None => break,
                }
            }
            below_top.extend(way);
        }
        Ok(())
    }
}
