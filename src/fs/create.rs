//! New inodes: files, directories, symbolic links, special files, and files without a name.
//!
//! Owns: what a new inode is born with. Invariant: the inode, its name and its attributes enter
//! the trees in one transaction, and everything that can refuse comes before the first edit.

use super::acl;
use super::attr::{Attr, FileKind, Timestamp};
use super::dir::{self, Target};
use super::filesystem::Filesystem;
use super::inode::{Inode, InodeMeta, is_frozen, rdev_to_disk, to_disk};
use super::node_id::{NodeId, ROOT_DIR_OBJECTID};
use super::orphan;
use super::request::Caller;
use super::xattr::{self, Inheritance};
use crate::allocator::Steal;
use crate::btree::Root;
use crate::error::{Error, Result};
use crate::ondisk::tree_block::inline_data_size_max;
use crate::ondisk::{
    FileExtentHead, INODE_COMPRESS, INODE_NOCOMPRESS, INODE_NODATACOW, INODE_NODATASUM, InodeRef,
    Key, kind,
};
use crate::sync::Arc;
use crate::transaction::TransHandle;

/// What a new inode is to be.
pub(in crate::fs) struct Birth<'a> {
    pub kind: FileKind,
    /// The permission bits that were asked for.
    pub mode: u32,
    /// A device node's number, as `makedev(3)` packs it.
    pub rdev: u64,
    /// What a symbolic link says.
    pub target: &'a [u8],
}

/// A new inode that needs only its number and its edit.
pub(in crate::fs) struct Embryo {
    meta: InodeMeta,
    acl: Option<Vec<u8>>,
    default_acl: Option<Vec<u8>>,
    compression: Option<Vec<u8>>,
    target: Vec<u8>,
}

impl Embryo {
    /// Item changes that its birth needs, the name not counted.
    pub fn items(&self) -> u64 {
        let attributes = [&self.acl, &self.default_acl, &self.compression];
        1 + attributes.iter().filter(|it| it.is_some()).count() as u64
            + u64::from(!self.target.is_empty())
    }

    /// The entry type.
    pub fn entry_type(&self) -> u8 {
        FileKind::from_mode(self.meta.mode).map_or(0, FileKind::entry_type)
    }
}

impl Filesystem {
    /// Makes a regular file and opens it: counts a lookup and an open. An existing name is
    /// opened, unless `flags` has `O_EXCL`.
    pub fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        flags: i32,
    ) -> Result<Attr> {
        let birth = Birth {
            kind: FileKind::Regular,
            mode,
            rdev: 0,
            target: &[],
        };
        match self.make(caller, parent, name, &birth) {
            Ok(inode) => {
                self.home.table.open(&inode);
                Ok(self.hand_out(&inode))
            }
            Err(Error::Exists) if flags & libc::O_EXCL == 0 => {
                let attr = self.lookup(parent, name)?;
                match self.open(attr.node, flags) {
                    Ok(()) => self.getattr(attr.node),
                    Err(error) => {
                        self.forget(attr.node, 1);
                        Err(error)
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a file, pipe, socket or device node; `mode` says which.
    pub fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        mode: u32,
        rdev: u64,
    ) -> Result<Attr> {
        let kind = match mode & libc::S_IFMT {
            0 => FileKind::Regular,
            _ => FileKind::from_mode(mode).ok_or(Error::Invalid("no such file type"))?,
        };
        match kind {
            FileKind::Directory | FileKind::Symlink => {
                return Err(Error::Invalid("mknod makes no directories and no links"));
            }
            _ => {}
        }
        let rdev = match kind {
            FileKind::CharDevice | FileKind::BlockDevice => rdev,
            _ => 0,
        };
        let birth = Birth {
            kind,
            mode,
            rdev,
            target: &[],
        };
        Ok(self.hand_out(&self.make(caller, parent, name, &birth)?))
    }

    /// Makes a directory.
    pub fn mkdir(&self, caller: &Caller, parent: NodeId, name: &[u8], mode: u32) -> Result<Attr> {
        let birth = Birth {
            kind: FileKind::Directory,
            mode,
            rdev: 0,
            target: &[],
        };
        Ok(self.hand_out(&self.make(caller, parent, name, &birth)?))
    }

    /// Makes a symbolic link that says `target`.
    pub fn symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attr> {
        let max = (inline_data_size_max(self.ctx.nodesize) as usize)
            .min(self.ctx.sectorsize as usize - 1)
            .min(libc::PATH_MAX as usize - 1);
        if target.len() > max {
            return Err(Error::NameTooLong);
        }
        if target.is_empty() {
            return Err(Error::NotFound);
        }
        let birth = Birth {
            kind: FileKind::Symlink,
            mode: 0o777,
            rdev: 0,
            target,
        };
        Ok(self.hand_out(&self.make(caller, parent, name, &birth)?))
    }

    /// Makes a file without a name (`O_TMPFILE`) and opens it. It is gone after its last use,
    /// unless [`Filesystem::link`] names it before.
    pub fn tmpfile(&self, caller: &Caller, parent: NodeId, mode: u32) -> Result<Attr> {
        let dir = self.inode(parent)?;
        self.want_new_entries(&dir)?;
        let birth = Birth {
            kind: FileKind::Regular,
            mode,
            rdev: 0,
            target: &[],
        };
        let mut embryo = self.embryo(caller, &dir, &birth)?;
        embryo.meta.nlink = 0;
        embryo.meta.orphan = true;
        embryo.meta.linkable = true;
        let reservation = self.reserve(embryo.items() + 1, Steal::No)?;
        let objectid = self.objectids.allocate(&self.ctx, &dir.root)?;
        let inode = self.with_trans(reservation, |trans| {
            orphan::add(&self.ctx, trans, &dir.root, objectid)?;
            self.give_birth(trans, &dir.root, objectid, embryo, None)
        })?;
        self.home.table.open(&inode);
        Ok(self.hand_out(&inode))
    }

    /// Makes an inode with a name.
    fn make(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        birth: &Birth<'_>,
    ) -> Result<Arc<Inode>> {
        let dir = self.inode(parent)?;
        dir::check_name(name)?;
        self.want_new_entries(&dir)?;
        let names = dir.names.write();
        self.want_alive(&dir)?;
        if dir::find(&self.ctx, &dir, name)?.is_some() {
            return Err(Error::Exists);
        }
        dir::check_room(&self.ctx, &dir, name, &[], &self.limits)?;
        dir::load_index(&self.ctx, &dir)?;
        let embryo = self.embryo(caller, &dir, birth)?;
        let ticket = self.ticket(Steal::No)?;
        let reservation = self.reserve(embryo.items() + 3, Steal::No)?;
        let objectid = self.objectids.allocate(&self.ctx, &dir.root)?;
        let inode = self.with_trans(reservation, |trans| {
            let index = dir::take_index(&mut dir.meta.lock());
            let target = Target {
                location: Key::new(objectid, kind::INODE_ITEM, 0),
                kind: embryo.entry_type(),
            };
            let now = embryo.meta.otime;
            let name_there = Some((dir.objectid, index, name));
            let inode = self.give_birth(trans, &dir.root, objectid, embryo, name_there)?;
            dir::add(&self.ctx, trans, &dir, index, name, target)?;
            let mut meta = dir.meta.lock();
            meta.size = meta.size.saturating_add(dir::size_of(name));
            meta.touch_content(now);
            self.mark_dirty(&dir, &mut meta, ticket);
            Ok(inode)
        })?;
        drop(names);
        self.after_change();
        Ok(inode)
    }

    /// `Err` unless `dir` is a directory that may get entries.
    pub(in crate::fs) fn want_new_entries(&self, dir: &Inode) -> Result<()> {
        self.want_writable(&dir.root)?;
        dir.want_dir()?;
        if is_frozen(dir.meta.lock().flags) {
            return Err(Error::NotPermitted("the directory is immutable"));
        }
        Ok(())
    }

    /// `Err` for a directory that was removed while somebody stood in it, also where it was a
    /// whole subvolume's. Under its `names` lock.
    pub(in crate::fs) fn want_alive(&self, dir: &Inode) -> Result<()> {
        let removed = dir.meta.lock().nlink == 0;
        if removed || (dir.objectid == ROOT_DIR_OBJECTID && dir.root.is_dead()) {
            Err(Error::NotFound)
        } else {
            Ok(())
        }
    }

    /// What a new inode in `dir` is born with: owner, group, mode, flags, attributes.
    pub(in crate::fs) fn embryo(
        &self,
        caller: &Caller,
        dir: &Inode,
        birth: &Birth<'_>,
    ) -> Result<Embryo> {
        let inherited = xattr::inheritance(&self.ctx, dir)?;
        let (dir_mode, dir_gid, dir_flags) = {
            let meta = dir.meta.lock();
            (meta.mode, meta.gid, meta.flags)
        };
        let mut mode = birth.mode & 0o7777;
        let mut gid = caller.gid;
        if dir_mode & libc::S_ISGID != 0 {
            gid = dir_gid;
            if birth.kind == FileKind::Directory {
                mode |= libc::S_ISGID;
            }
        }
        let (acl, default_acl) = inherit_acl(&inherited, birth.kind, &mut mode, caller.umask);
        let now = Timestamp::now();
        let mut meta = InodeMeta::fresh(birth.kind.mode_bits() | mode, caller.uid, gid, now);
        meta.flags = inherit_flags(dir_flags, birth.kind);
        meta.rdev = rdev_to_disk(birth.rdev);
        meta.size = birth.target.len() as u64;
        meta.nbytes = meta.size;
        let keeps_compression = matches!(birth.kind, FileKind::Regular | FileKind::Directory);
        let keeps_compression =
            keeps_compression && meta.flags & (INODE_NODATACOW | INODE_NODATASUM) == 0;
        let compression = inherited.compression.clone().filter(|_| keeps_compression);
        if compression.is_some() {
            meta.flags = meta.flags & !INODE_NOCOMPRESS | INODE_COMPRESS;
        }
        if birth.kind == FileKind::Directory {
            meta.index_next = Some(dir::FIRST_INDEX);
        }
        Ok(Embryo {
            meta,
            acl,
            default_acl,
            compression,
            target: birth.target.to_vec(),
        })
    }

    /// What the root directory of a new subvolume in `dir` is born with: nothing of that
    /// directory's, no access list either. Compression is that of the subvolume around it.
    pub(in crate::fs) fn subvolume_embryo(&self, caller: &Caller, dir: &Inode) -> Result<Embryo> {
        let birth = Birth {
            kind: FileKind::Directory,
            mode: 0o777,
            rdev: 0,
            target: &[],
        };
        let mut embryo = self.embryo(caller, dir, &birth)?;
        let around = self.load_root_dir(dir.root.objectid)?;
        embryo.compression = xattr::inheritance(&self.ctx, &around)?.compression.clone();
        embryo.meta.flags = match embryo.compression {
            Some(_) => INODE_COMPRESS,
            None => 0,
        };
        embryo.meta.gid = caller.gid;
        embryo.meta.mode = libc::S_IFDIR | (0o777 & !caller.umask);
        (embryo.acl, embryo.default_acl) = (None, None);
        Ok(embryo)
    }

    /// Writes the items of a new inode in the tree `root`; `name` is its parent there, its index
    /// and its name.
    pub(in crate::fs) fn give_birth(
        &self,
        trans: &TransHandle,
        root: &Arc<Root>,
        objectid: u64,
        embryo: Embryo,
        name: Option<(u64, u64, &[u8])>,
    ) -> Result<Arc<Inode>> {
        let transid = trans.transid().get();
        let mut meta = embryo.meta;
        meta.generation = transid;
        meta.transid = transid;
        let mut items = vec![(
            Key::new(objectid, kind::INODE_ITEM, 0),
            meta.to_item().as_bytes().to_vec(),
        )];
        if let Some((parent, index, name)) = name {
            let key = Key::new(objectid, kind::INODE_REF, parent);
            items.push((key, InodeRef::encode(index, name)));
        }
        for (name, value) in [
            (acl::ACCESS_NAME, &embryo.acl),
            (acl::DEFAULT_NAME, &embryo.default_acl),
            (xattr::COMPRESSION_NAME, &embryo.compression),
        ] {
            if let Some(value) = value {
                items.push(xattr::new_item(objectid, transid, name, value));
            }
        }
        if !embryo.target.is_empty() {
            let key = Key::new(objectid, kind::EXTENT_DATA, 0);
            items.push((key, FileExtentHead::encode_inline(transid, &embryo.target)));
        }
        items.sort_by_key(|(key, _)| *key);
        let items: Vec<(Key, &[u8])> = items
            .iter()
            .map(|(key, bytes)| (*key, bytes.as_slice()))
            .collect();
        self.ctx.insert_many(trans, root, &items)?;
        root.set_changed(trans, to_disk(Timestamp::now()));
        let inode = Inode::new(root.clone(), objectid, meta, &self.home)?;
        Ok(self.home.table.insert(Arc::new(inode)))
    }
}

/// The lists of a new inode. With a default list the umask has no say; without one it has.
fn inherit_acl(
    inherited: &Inheritance,
    kind: FileKind,
    mode: &mut u32,
    umask: u32,
) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let list = match &inherited.default_acl {
        _ if kind == FileKind::Symlink => return (None, None),
        None => {
            *mode &= !(umask & 0o777);
            return (None, None);
        }
        Some(list) => list,
    };
    let mut access = list.clone();
    let access = access.inherit(mode).then(|| access.encode());
    (access, (kind == FileKind::Directory).then(|| list.encode()))
}

/// The flags of a new inode in a directory with `dir_flags`.
fn inherit_flags(dir_flags: u64, kind: FileKind) -> u64 {
    let mut flags = 0;
    if dir_flags & INODE_NOCOMPRESS != 0 {
        flags |= INODE_NOCOMPRESS;
    } else if dir_flags & INODE_COMPRESS != 0 {
        flags |= INODE_COMPRESS;
    }
    if dir_flags & INODE_NODATACOW != 0 {
        flags |= INODE_NODATACOW;
        if kind == FileKind::Regular {
            flags |= INODE_NODATASUM;
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodatacow_files_have_no_checksums() {
        assert_eq!(
            inherit_flags(INODE_NODATACOW, FileKind::Regular),
            INODE_NODATACOW | INODE_NODATASUM
        );
        assert_eq!(
            inherit_flags(INODE_NODATACOW, FileKind::Directory),
            INODE_NODATACOW
        );
        assert_eq!(
            inherit_flags(INODE_COMPRESS | INODE_NOCOMPRESS, FileKind::Regular),
            INODE_NOCOMPRESS
        );
    }

    #[test]
    fn the_umask_applies_without_a_default_list_only() {
        let mut mode = 0o666;
        inherit_acl(&Inheritance::default(), FileKind::Regular, &mut mode, 0o022);
        assert_eq!(mode, 0o644);
        let mut mode = 0o777;
        inherit_acl(&Inheritance::default(), FileKind::Symlink, &mut mode, 0o022);
        assert_eq!(mode, 0o777);
    }
}
