//! May somebody do this to an inode? Asked only where the kernel doesn't: for ioctls that change
//! names. Everything else it checks itself before it asks us.
//!
//! Owns: [`Who`], and the order of owner, list, group and others.

use super::acl::{self, Acl};
use super::filesystem::Filesystem;
use super::inode::{Inode, is_frozen};
use super::request::Caller;
use super::xattr;
use crate::error::{Error, Result};

/// Who asks, and what lets them.
pub struct Who<'a> {
    /// The process.
    pub caller: Caller,
    /// May do what needs an administrator (`CAP_SYS_ADMIN`): so may whoever this mount belongs to.
    pub admin: bool,
    /// Passes every mode (`CAP_DAC_OVERRIDE`).
    pub overrides: bool,
    /// Counts as the owner of everything (`CAP_FOWNER`).
    pub owns_all: bool,
    /// The supplementary groups, asked for only when they matter.
    pub groups: &'a dyn Fn() -> Vec<u32>,
}

/// Bits of a mode, one digit of it.
pub(in crate::fs) const READ: u32 = 4;
pub(in crate::fs) const WRITE: u32 = 2;
pub(in crate::fs) const EXECUTE: u32 = 1;

impl<'a> Who<'a> {
    /// Whom nothing lets but modes and lists.
    pub fn ordinary(caller: Caller, groups: &'a dyn Fn() -> Vec<u32>) -> Self {
        Self {
            caller,
            admin: false,
            overrides: false,
            owns_all: false,
            groups,
        }
    }

    /// Whether they may what the owner of the inode may.
    pub(in crate::fs) fn owns(&self, inode: &Inode) -> bool {
        self.admin || self.owns_all || self.caller.uid == inode.meta.lock().uid
    }
}

impl Filesystem {
    /// `Err` unless all of `want` is allowed on a directory.
    pub(in crate::fs) fn permit(&self, who: &Who<'_>, dir: &Inode, want: u32) -> Result<()> {
        if want & WRITE != 0 {
            self.want_writable(&dir.root)?;
            if is_frozen(dir.meta.lock().flags) {
                return Err(Error::NotPermitted("the directory is immutable"));
            }
        }
        let caller = &who.caller;
        if who.overrides {
            return Ok(());
        }
        let (mode, uid, gid) = {
            let meta = dir.meta.lock();
            (meta.mode, meta.uid, meta.gid)
        };
        let granted = if caller.uid == uid {
            mode >> 6
        } else {
            let mut groups = (who.groups)();
            groups.push(caller.gid);
            let list = match xattr::read(&self.ctx, dir, acl::ACCESS_NAME)? {
                Some(value) => Acl::parse(&value)?,
                None => None,
            };
            match list {
                Some(list) => list.granted(caller.uid, gid, &groups, want),
                None if groups.contains(&gid) => mode >> 3,
                None => mode,
            }
        };
        match granted & want {
            all if all == want => Ok(()),
            _ => Err(Error::Access),
        }
    }
}
