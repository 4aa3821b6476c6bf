//! Inodes: attributes, times, and the names that lead back to their directories.

use super::{NAME_LEN_MAX, U16, U32, U64, disk_struct};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `struct btrfs_timespec`: seconds since 1970, signed, and nanoseconds.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct Timespec {
    /// Seconds; a signed number in an unsigned field.
    pub sec: U64,
    /// Nanoseconds, under a billion.
    pub nsec: U32,
}

disk_struct!(Timespec, 12);

impl Timespec {
    /// A time of signed seconds and nanoseconds.
    pub fn new(sec: i64, nsec: u32) -> Self {
        Self {
            sec: (sec as u64).into(),
            nsec: nsec.into(),
        }
    }

    /// Signed seconds.
    pub fn seconds(&self) -> i64 {
        self.sec.get() as i64
    }
}

/// `struct btrfs_inode_item`: what stat shows, and a little more.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct InodeItem {
    /// The transaction that created the inode; NFS's generation number.
    pub generation: U64,
    /// The transaction that last changed the inode.
    pub transid: U64,
    /// Size in bytes; of a directory, twice the bytes of its names.
    pub size: U64,
    /// Bytes that extents occupy, what st_blocks is made of.
    pub nbytes: U64,
    /// A hint that is no longer used.
    pub block_group: U64,
    /// Hard links.
    pub nlink: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// File type and permissions.
    pub mode: U32,
    /// Device number of special files.
    pub rdev: U64,
    /// `INODE_*` flags; the upper half are read-only compatible ones.
    pub flags: U64,
    /// Change counter, NFS's change attribute.
    pub sequence: U64,
    /// Zero.
    pub reserved: [U64; 4],
    /// Last access.
    pub atime: Timespec,
    /// Last change of attributes.
    pub ctime: Timespec,
    /// Last change of content.
    pub mtime: Timespec,
    /// Creation.
    pub otime: Timespec,
}

disk_struct!(InodeItem, 160);
const _: () = assert!(std::mem::offset_of!(InodeItem, mode) == 52);
const _: () = assert!(std::mem::offset_of!(InodeItem, atime) == 112);

/// Data has no checksums.
pub const INODE_NODATASUM: u64 = 1 << 0;
/// Data is overwritten in place.
pub const INODE_NODATACOW: u64 = 1 << 1;
/// Read-only (internal).
pub const INODE_READONLY: u64 = 1 << 2;
/// Never compressed.
pub const INODE_NOCOMPRESS: u64 = 1 << 3;
/// Has preallocated extents.
pub const INODE_PREALLOC: u64 = 1 << 4;
/// Written synchronously (`chattr +S`).
pub const INODE_SYNC: u64 = 1 << 5;
/// Can't be changed (`chattr +i`).
pub const INODE_IMMUTABLE: u64 = 1 << 6;
/// Can only grow at its end (`chattr +a`).
pub const INODE_APPEND: u64 = 1 << 7;
/// Skipped by dump (`chattr +d`).
pub const INODE_NODUMP: u64 = 1 << 8;
/// Access times are not kept (`chattr +A`).
pub const INODE_NOATIME: u64 = 1 << 9;
/// Directory changes are synchronous (`chattr +D`).
pub const INODE_DIRSYNC: u64 = 1 << 10;
/// Compressed (`chattr +c`).
pub const INODE_COMPRESS: u64 = 1 << 11;
/// A root item's inode whose flags are kept by newer kernels.
pub const INODE_ROOT_ITEM_INIT: u64 = 1 << 31;
/// Has a verity tree (first bit of the upper half).
pub const INODE_RO_VERITY: u64 = 1 << 32;
/// Every flag of the lower half that is known.
pub const INODE_FLAGS_MASK: u64 = INODE_NODATASUM
    | INODE_NODATACOW
    | INODE_READONLY
    | INODE_NOCOMPRESS
    | INODE_PREALLOC
    | INODE_SYNC
    | INODE_IMMUTABLE
    | INODE_APPEND
    | INODE_NODUMP
    | INODE_NOATIME
    | INODE_DIRSYNC
    | INODE_COMPRESS
    | INODE_ROOT_ITEM_INIT;
/// Every flag of the upper half that is known.
pub const INODE_RO_FLAGS_MASK: u64 = INODE_RO_VERITY;

/// `struct btrfs_inode_ref`: one name in the directory that the key's offset names. The name
/// follows; further names in the same directory follow it.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct InodeRef {
    /// The DIR_INDEX that holds the same name.
    pub index: U64,
    /// Bytes of the name.
    pub name_len: U16,
}

disk_struct!(InodeRef, 10);

impl InodeRef {
    /// The bytes of one name, to be made an item or appended to one.
    pub fn encode(index: u64, name: &[u8]) -> Vec<u8> {
        debug_assert!(name.len() <= NAME_LEN_MAX);
        let head = Self {
            index: index.into(),
            name_len: (name.len() as u16).into(),
        };
        [head.as_bytes(), name].concat()
    }
}

/// `struct btrfs_inode_extref`: one name, with its directory. The name follows.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct InodeExtref {
    /// The directory.
    pub parent_objectid: U64,
    /// The DIR_INDEX that holds the same name.
    pub index: U64,
    /// Bytes of the name.
    pub name_len: U16,
}

disk_struct!(InodeExtref, 18);

impl InodeExtref {
    /// The bytes of one name, to be made an item or appended to one.
    pub fn encode(parent: u64, index: u64, name: &[u8]) -> Vec<u8> {
        debug_assert!(name.len() <= NAME_LEN_MAX);
        let head = Self {
            parent_objectid: parent.into(),
            index: index.into(),
            name_len: (name.len() as u16).into(),
        };
        [head.as_bytes(), name].concat()
    }
}

/// One name of an inode, as INODE_REF and INODE_EXTREF items hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InodeName<'d> {
    /// The directory.
    pub parent: u64,
    /// The DIR_INDEX that holds the same name.
    pub index: u64,
    /// The name.
    pub name: &'d [u8],
    /// Where this entry starts in the item.
    pub at: usize,
}

impl InodeName<'_> {
    /// Bytes that the entry has in an INODE_REF item.
    pub fn ref_size(&self) -> usize {
        InodeRef::SIZE + self.name.len()
    }

    /// Bytes that the entry has in an INODE_EXTREF item.
    pub fn extref_size(&self) -> usize {
        InodeExtref::SIZE + self.name.len()
    }
}

/// The names of an INODE_REF or INODE_EXTREF item. Stops at bytes that hold no entry;
/// [`InodeNames::rest`] is empty when everything was read.
#[derive(Clone, Debug)]
pub struct InodeNames<'d> {
    data: &'d [u8],
    at: usize,
    /// The directory of an INODE_REF; an INODE_EXTREF entry carries its own.
    parent: Option<u64>,
}

impl<'d> InodeNames<'d> {
    /// Names of an INODE_REF item, whose key's offset is the directory.
    pub fn of_ref(parent: u64, data: &'d [u8]) -> Self {
        Self {
            data,
            at: 0,
            parent: Some(parent),
        }
    }

    /// Names of an INODE_EXTREF item.
    pub fn of_extref(data: &'d [u8]) -> Self {
        Self {
            data,
            at: 0,
            parent: None,
        }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'d [u8] {
        &self.data[self.at..]
    }
}

impl<'d> Iterator for InodeNames<'d> {
    type Item = InodeName<'d>;

    fn next(&mut self) -> Option<InodeName<'d>> {
        let rest = self.rest();
        let (parent, index, head, name_len) = match self.parent {
            Some(parent) => {
                let entry = InodeRef::read(rest)?;
                (
                    parent,
                    entry.index.get(),
                    InodeRef::SIZE,
                    entry.name_len.get(),
                )
            }
            None => {
                let entry = InodeExtref::read(rest)?;
                let parent = entry.parent_objectid.get();
                (
                    parent,
                    entry.index.get(),
                    InodeExtref::SIZE,
                    entry.name_len.get(),
                )
            }
        };
        let name = rest.get(head..head + usize::from(name_len))?;
        let at = self.at;
        self.at += head + name.len();
        Some(InodeName {
            parent,
            index,
            name,
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chained_names_are_read_and_a_torn_one_is_left_over() {
        let mut data = InodeRef::encode(2, b"one");
        data.extend(InodeRef::encode(3, b"two"));
        data.extend(&InodeRef::encode(4, b"torn")[..11]);
        let mut names = InodeNames::of_ref(256, &data);
        let read: Vec<_> = names
            .by_ref()
            .map(|it| (it.index, it.name, it.at))
            .collect();
        assert_eq!(read, [(2, &b"one"[..], 0), (3, &b"two"[..], 13)]);
        assert_eq!(names.rest().len(), 11);

        let data = InodeExtref::encode(300, 9, b"name");
        let mut names = InodeNames::of_extref(&data);
        let name = names.next().expect("one entry");
        assert_eq!((name.parent, name.index, name.name), (300, 9, &b"name"[..]));
        assert!(names.next().is_none() && names.rest().is_empty());
    }

    #[test]
    fn times_before_1970_keep_their_sign() {
        assert_eq!(Timespec::new(-5, 7).seconds(), -5);
    }
}
