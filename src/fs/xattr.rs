//! Extended attributes.
//!
//! Owns: the namespaces, the limits, and the attributes that mean something to the filesystem
//! itself: ACLs agree with the mode, `btrfs.compression` with the inode's flags. Invariant: all
//! attributes of an inode change under its `names` lock.

use super::acl::{self, Acl};
use super::attr::{FileKind, Timestamp};
use super::filesystem::{Filesystem, Node};
use super::inode::{Inode, InodeMeta};
use super::node_id::NodeId;
use super::request::XattrMode;
use crate::allocator::Steal;
use crate::btree::{TreeContext, Update};
use crate::error::{Error, Result};
use crate::ondisk::csum::name_hash;
use crate::ondisk::{
    DirEntries, DirItem, FT_XATTR, INODE_COMPRESS, INODE_NOCOMPRESS, INODE_NODATACOW,
    INODE_NODATASUM, Key, kind,
};
use crate::sync::Arc;
use crate::transaction::TransHandle;

/// The attribute that chooses a compression for new data.
pub(in crate::fs) const COMPRESSION_NAME: &[u8] = b"btrfs.compression";
/// File capabilities, which don't survive writes and changes of the owner.
pub(in crate::fs) const CAPABILITY_NAME: &[u8] = b"security.capability";

/// What programs may ask for at most (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 65536;

fn key_of(inode: &Inode, name: &[u8]) -> Key {
    Key::new(inode.objectid, kind::XATTR_ITEM, u64::from(name_hash(name)))
}

/// The attribute's value in the tree.
pub(in crate::fs) fn read(
    ctx: &TreeContext,
    inode: &Inode,
    name: &[u8],
) -> Result<Option<Vec<u8>>> {
    let found = ctx.get_with(&inode.root, &key_of(inode, name), |bytes| {
        DirEntries::find_name(bytes, name).map(|entry| entry.data.to_vec())
    })?;
    Ok(found.flatten())
}

/// Sets the attribute to `value`, or removes it.
pub(in crate::fs) fn write(
    ctx: &TreeContext,
    trans: &TransHandle,
    inode: &Inode,
    name: &[u8],
    value: Option<&[u8]>,
) -> Result<()> {
    let entry = value.map(|value| encode(trans.transid().get(), name, value));
    ctx.update(trans, &inode.root, &key_of(inode, name), |old| {
        let bytes = old.unwrap_or_default();
        let range = DirEntries::find_name(bytes, name).map(|entry| entry.range());
        let mut new = match &range {
            Some(range) => [&bytes[..range.start], &bytes[range.end..]].concat(),
            None => bytes.to_vec(),
        };
        match &entry {
            Some(entry) => new.extend_from_slice(entry),
            None if range.is_none() => return Ok(Update::Keep),
            None if new.is_empty() => return Ok(Update::Delete),
            None => {}
        }
        Ok(Update::Put(new))
    })
}

/// The bytes of one attribute.
pub(in crate::fs) fn encode(transid: u64, name: &[u8], value: &[u8]) -> Vec<u8> {
    DirItem::encode(&Key::MIN, transid, FT_XATTR, name, value)
}

/// The key and bytes of an attribute of a new inode, where nothing can share its hash.
pub(in crate::fs) fn new_item(
    objectid: u64,
    transid: u64,
    name: &[u8],
    value: &[u8],
) -> (Key, Vec<u8>) {
    let key = Key::new(objectid, kind::XATTR_ITEM, u64::from(name_hash(name)));
    (key, encode(transid, name, value))
}

/// What a directory hands on to new entries.
#[derive(Clone, Debug, Default)]
pub(in crate::fs) struct Inheritance {
    pub default_acl: Option<Acl>,
    pub compression: Option<Vec<u8>>,
}

/// What the directory hands on; remembered until one of the attributes changes.
pub(in crate::fs) fn inheritance(ctx: &TreeContext, dir: &Inode) -> Result<Arc<Inheritance>> {
    if let Some(known) = &dir.meta.lock().inheritance {
        return Ok(known.clone());
    }
    let default_acl = match read(ctx, dir, acl::DEFAULT_NAME)? {
        Some(value) => Acl::parse(&value)?,
        None => None,
    };
    let compression = read(ctx, dir, COMPRESSION_NAME)?
        .filter(|value| matches!(compression_flag(value), Some(INODE_COMPRESS)));
    let inheritance = Arc::new(Inheritance {
        default_acl,
        compression,
    });
    dir.meta.lock().inheritance = Some(inheritance.clone());
    Ok(inheritance)
}

/// The inode flag that a value of `btrfs.compression` stands for (0: neither), or `None` for a
/// value that isn't one.
fn compression_flag(value: &[u8]) -> Option<u64> {
    let level = |rest: &[u8]| {
        rest.is_empty() || rest[0] == b':' && rest[1..].iter().all(u8::is_ascii_digit)
    };
    match value {
        b"" => Some(0),
        b"no" | b"none" => Some(INODE_NOCOMPRESS),
        b"lzo" => Some(INODE_COMPRESS),
        _ => {
            let rest = value
                .strip_prefix(b"zlib")
                .or_else(|| value.strip_prefix(b"zstd"))?;
            level(rest).then_some(INODE_COMPRESS)
        }
    }
}

/// Compression of what has no content: the kernel's btrfs judges the value and does nothing.
fn is_passed_over(inode: &Inode, name: &[u8]) -> bool {
    let has_content = matches!(inode.kind, FileKind::Regular | FileKind::Directory);
    name == COMPRESSION_NAME && !has_content
}

/// A change of attributes, judged and ready.
struct Change<'a> {
    name: &'a [u8],
    value: Option<Vec<u8>>,
    /// What else the change means for the inode.
    effect: Effect,
}

enum Effect {
    None,
    /// The permission bits that agree with the new access list, and whether set-group-id goes.
    Mode {
        bits: u32,
        drop_setgid: bool,
    },
    /// The compression flag.
    Compression(u64),
    /// What new entries inherit is other than remembered.
    Inheritance,
}

impl Filesystem {
    /// The attribute's value.
    pub fn getxattr(&self, node: NodeId, name: &[u8]) -> Result<Vec<u8>> {
        let Node::Inode(inode) = self.node(node)? else {
            return Err(Error::NoData);
        };
        self.check_namespace(&inode, name)?;
        let _names = inode.names.read();
        read(&self.ctx, &inode, name)?.ok_or(Error::NoData)
    }

    /// All names, each followed by a zero byte.
    pub fn listxattr(&self, node: NodeId) -> Result<Vec<u8>> {
        let Node::Inode(inode) = self.node(node)? else {
            return Ok(Vec::new());
        };
        let _names = inode.names.read();
        let mut list = Vec::new();
        let first = Key::new(inode.objectid, kind::XATTR_ITEM, 0);
        let mut cursor = self.ctx.search(&inode.root, &first)?;
        while let Some((key, bytes)) = cursor.item() {
            if (key.objectid, key.kind) != (inode.objectid, kind::XATTR_ITEM) {
                break;
            }
            for entry in DirEntries::new(bytes) {
                list.extend_from_slice(entry.name);
                list.push(0);
            }
            cursor.next()?;
        }
        Ok(list)
    }

    /// Sets an attribute. `kill_sgid`: the caller may not keep set-group-id while it changes
    /// the access list.
    pub fn setxattr(
        &self,
        node: NodeId,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        kill_sgid: bool,
    ) -> Result<()> {
        let inode = self.inode(node)?;
        self.want_writable(&inode.root)?;
        self.check_namespace(&inode, name)?;
        if value.len() > VALUE_MAX {
            return Err(Error::Invalid("the attribute's value is too large"));
        }
        let change = self.judge(&inode, name, Some(value), kill_sgid)?;
        if is_passed_over(&inode, name) {
            return Ok(());
        }
        self.apply(&inode, change, mode)
    }

    /// Removes an attribute.
    pub fn removexattr(&self, node: NodeId, name: &[u8]) -> Result<()> {
        let inode = self.inode(node)?;
        self.want_writable(&inode.root)?;
        self.check_namespace(&inode, name)?;
        let change = self.judge(&inode, name, None, false)?;
        if is_passed_over(&inode, name) {
            return Ok(());
        }
        self.apply(&inode, change, XattrMode::Replace)
    }

    fn check_namespace(&self, inode: &Inode, name: &[u8]) -> Result<()> {
        if name.len() > crate::ondisk::NAME_LEN_MAX || name.is_empty() {
            return Err(Error::Range);
        }
        let known = [&b"user."[..], b"trusted.", b"security.", b"btrfs."];
        if known
            .iter()
            .any(|prefix| name.starts_with(prefix) && name.len() > prefix.len())
        {
            return Ok(());
        }
        if known.contains(&name) {
            return Err(Error::Invalid("the attribute has a namespace and no name"));
        }
        match name {
            acl::ACCESS_NAME | acl::DEFAULT_NAME if inode.kind != FileKind::Symlink => Ok(()),
            _ => Err(Error::NotSupported),
        }
    }

    fn judge<'a>(
        &self,
        inode: &Inode,
        name: &'a [u8],
        value: Option<&[u8]>,
        kill_sgid: bool,
    ) -> Result<Change<'a>> {
        let plain = |effect| Change {
            name,
            value: value.map(<[u8]>::to_vec),
            effect,
        };
        if name.starts_with(b"user.")
            && !matches!(inode.kind, FileKind::Regular | FileKind::Directory)
        {
            return Err(Error::NotPermitted(
                "user attributes belong to files and directories",
            ));
        }
        if name.starts_with(b"btrfs.") {
            if name != COMPRESSION_NAME {
                return Err(Error::Invalid("no such btrfs property"));
            }
            let flag = compression_flag(value.unwrap_or_default())
                .ok_or(Error::Invalid("no such compression"))?;
            let nocow = INODE_NODATACOW | INODE_NODATASUM;
            if flag != 0 && inode.meta.lock().flags & nocow != 0 {
                return Err(Error::Invalid(
                    "content that is overwritten in place can't be compressed",
                ));
            }
            // An empty value means "no property".
            let value = value.filter(|value| !value.is_empty()).map(<[u8]>::to_vec);
            return Ok(Change {
                name,
                value,
                effect: Effect::Compression(flag),
            });
        }
        if name == acl::ACCESS_NAME {
            let Some(list) = Acl::parse(value.unwrap_or_default())? else {
                return Ok(Change {
                    name,
                    value: None,
                    effect: Effect::None,
                });
            };
            let (bits, is_all) = list.equivalent_mode();
            let effect = Effect::Mode {
                bits,
                drop_setgid: kill_sgid,
            };
            let value = (!is_all).then(|| list.encode());
            return Ok(Change {
                name,
                value,
                effect,
            });
        }
        if name == acl::DEFAULT_NAME {
            let list = Acl::parse(value.unwrap_or_default())?;
            if list.is_some() && !inode.is_dir() {
                return Err(Error::Access);
            }
            let value = list.map(|list| list.encode());
            return Ok(Change {
                name,
                value,
                effect: Effect::Inheritance,
            });
        }
        Ok(plain(Effect::None))
    }

    fn apply(&self, inode: &Arc<Inode>, change: Change<'_>, mode: XattrMode) -> Result<()> {
        let _names = inode.names.write();
        inode.want_mutable()?;
        let name = change.name;
        let needed = |value: &Vec<u8>| DirItem::SIZE + name.len() + value.len();
        // What no leaf holds is refused before anything is looked for.
        if change.value.as_ref().map_or(0, needed) > self.limits.bytes_max {
            return Err(Error::NoSpace);
        }
        // ACLs come and go without being asked whether they were there.
        let special = matches!(name, acl::ACCESS_NAME | acl::DEFAULT_NAME);
        let old = read(&self.ctx, inode, name)?;
        match mode {
            XattrMode::Create if old.is_some() => return Err(Error::Exists),
            XattrMode::Replace if old.is_none() && !special => return Err(Error::NoData),
            _ => {}
        }
        if let Some(value) = &change.value {
            let used = self
                .ctx
                .get_with(&inode.root, &key_of(inode, name), <[u8]>::len)?;
            let freed = old
                .as_ref()
                .map_or(0, |old| DirItem::SIZE + name.len() + old.len());
            let kept = used.unwrap_or(0) - freed.min(used.unwrap_or(0));
            if kept + needed(value) > self.limits.bytes_max {
                return Err(Error::NoSpace);
            }
        }
        let steal = if change.value.is_none() {
            Steal::Yes
        } else {
            Steal::No
        };
        let ticket = self.ticket(steal)?;
        let reservation = self.reserve(1, steal)?;
        self.with_trans(reservation, |trans| {
            if change.value.is_some() || old.is_some() {
                write(&self.ctx, trans, inode, name, change.value.as_deref())?;
            }
            let mut meta = inode.meta.lock();
            change.effect.apply(&mut meta);
            meta.touch(Timestamp::now());
            self.mark_dirty(inode, &mut meta, ticket);
            Ok(())
        })
    }
}

impl Effect {
    fn apply(&self, meta: &mut InodeMeta) {
        match *self {
            Self::None => {}
            Self::Mode { bits, drop_setgid } => {
                meta.mode = meta.mode & !0o777 | bits;
                if drop_setgid {
                    meta.mode &= !libc::S_ISGID;
                }
            }
            Self::Compression(flag) => {
                meta.flags = meta.flags & !(INODE_COMPRESS | INODE_NOCOMPRESS) | flag;
                meta.inheritance = None;
            }
            Self::Inheritance => meta.inheritance = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_values_are_the_kernels() {
        for value in [&b"zlib"[..], b"zlib:9", b"lzo", b"zstd", b"zstd:15"] {
            assert_eq!(compression_flag(value), Some(INODE_COMPRESS));
        }
        assert_eq!(compression_flag(b"none"), Some(INODE_NOCOMPRESS));
        assert_eq!(compression_flag(b""), Some(0));
        for value in [&b"zzz"[..], b"zlibx", b"lzo:1", b"zstd:x"] {
            assert_eq!(compression_flag(value), None);
        }
    }
}
