//! Inodes: attributes, times, and the names that lead back to their directories.

use super::{NAME_LEN_MAX, U16, U32, U64, disk_struct};

disk_struct! {
    /// `struct btrfs_timespec`: seconds since 1970, signed, and nanoseconds.
    #[derive(Copy, Debug)]
    pub struct Timespec, 12 bytes {
        /// Seconds; a signed number in an unsigned field.
        0 => sec: U64,
        /// Nanoseconds, under a billion.
        8 => nsec: U32,
    }
}

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

disk_struct! {
    /// `struct btrfs_inode_item`: what stat shows, and a little more.
    #[derive(Copy, Debug)]
    pub struct InodeItem, 160 bytes {
        /// The transaction that created the inode; NFS's generation number.
        0 => generation: U64,
        /// The transaction that last changed the inode.
        8 => transid: U64,
        /// Size in bytes; of a directory, twice the bytes of its names.
        16 => size: U64,
        /// Bytes that extents occupy, what st_blocks is made of.
        24 => nbytes: U64,
        /// A hint that is no longer used.
        32 => block_group: U64,
        /// Hard links.
        40 => nlink: U32,
        /// Owner.
        44 => uid: U32,
        /// Group.
        48 => gid: U32,
        /// File type and permissions.
        52 => mode: U32,
        /// Device number of special files.
        56 => rdev: U64,
        /// `INODE_*` flags; the upper half are read-only compatible ones.
        64 => flags: U64,
        /// Change counter, NFS's change attribute.
        72 => sequence: U64,
        /// Zero.
        80 => reserved: [U64; 4],
        /// Last access.
        112 => atime: Timespec,
        /// Last change of attributes.
        124 => ctime: Timespec,
        /// Last change of content.
        136 => mtime: Timespec,
        /// Creation.
        148 => otime: Timespec,
    }
}

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

disk_struct! {
    /// `struct btrfs_inode_ref`: one name in the directory that the key's offset names. The name
    /// follows; further names in the same directory follow it.
    #[derive(Copy, Debug)]
    pub struct InodeRef, 10 bytes {
        /// The DIR_INDEX that holds the same name.
        0 => index: U64,
        /// Bytes of the name.
        8 => name_len: U16,
    }
}

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

disk_struct! {
    /// `struct btrfs_inode_extref`: one name, with its directory. The name follows.
    #[derive(Copy, Debug)]
    pub struct InodeExtref, 18 bytes {
        /// The directory.
        0 => parent_objectid: U64,
        /// The DIR_INDEX that holds the same name.
        8 => index: U64,
        /// Bytes of the name.
        16 => name_len: U16,
    }
}

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
