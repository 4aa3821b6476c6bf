//! Directory entries and extended attributes: both are `struct btrfs_dir_item` with bytes behind.

use super::{DiskKey, Key, NAME_LEN_MAX, U16, U64, disk_struct};

/// Unknown file type (never written).
pub const FT_UNKNOWN: u8 = 0;
/// Regular file.
pub const FT_REG_FILE: u8 = 1;
/// Directory.
pub const FT_DIR: u8 = 2;
/// Character device.
pub const FT_CHRDEV: u8 = 3;
/// Block device.
pub const FT_BLKDEV: u8 = 4;
/// Pipe.
pub const FT_FIFO: u8 = 5;
/// Socket.
pub const FT_SOCK: u8 = 6;
/// Symbolic link.
pub const FT_SYMLINK: u8 = 7;
/// Extended attribute.
pub const FT_XATTR: u8 = 8;
/// The first number that is no type.
pub const FT_MAX: u8 = 9;
/// Set beside the type where name and data are encrypted (not supported).
pub const FT_ENCRYPTED: u8 = 0x80;

/// The directory entry type of a file mode.
pub const fn file_type_of_mode(mode: u32) -> u8 {
    match mode & 0o170000 {
        0o100000 => FT_REG_FILE,
        0o040000 => FT_DIR,
        0o020000 => FT_CHRDEV,
        0o060000 => FT_BLKDEV,
        0o010000 => FT_FIFO,
        0o140000 => FT_SOCK,
        0o120000 => FT_SYMLINK,
        _ => FT_UNKNOWN,
    }
}

disk_struct! {
    /// `struct btrfs_dir_item`: one entry; name and data follow, and in DIR_ITEM and XATTR_ITEM
    /// further entries whose names have the same hash.
    #[derive(Copy, Debug)]
    pub struct DirItem, 30 bytes {
        /// The inode's key, or the ROOT_ITEM's of a subvolume (offset: all ones, or its transid for
        /// snapshots); zero for attributes.
        0 => location: DiskKey,
        /// The transaction that made the entry.
        17 => transid: U64,
        /// Bytes of data, an attribute's value.
        25 => data_len: U16,
        /// Bytes of name.
        27 => name_len: U16,
        /// `FT_*` (`type` in the uapi).
        29 => kind: u8,
    }
}

impl DirItem {
    /// The bytes of one entry with name and data, to be made an item or appended to one.
    pub fn encode(location: &Key, transid: u64, kind: u8, name: &[u8], data: &[u8]) -> Vec<u8> {
        debug_assert!(name.len() <= NAME_LEN_MAX && data.len() <= usize::from(u16::MAX));
        let head = Self {
            location: (*location).into(),
            transid: transid.into(),
            data_len: (data.len() as u16).into(),
            name_len: (name.len() as u16).into(),
            kind,
        };
        [head.as_bytes(), name, data].concat()
    }
}

/// One entry of a DIR_ITEM, DIR_INDEX or XATTR_ITEM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirEntry<'d> {
    /// What the name leads to.
    pub location: Key,
    /// The transaction that made the entry.
    pub transid: u64,
    /// `FT_*`.
    pub kind: u8,
    /// The name.
    pub name: &'d [u8],
    /// An attribute's value.
    pub data: &'d [u8],
    /// Where the entry starts in the item.
    pub at: usize,
}

impl DirEntry<'_> {
    /// Bytes that the entry has in its item.
    pub fn size(&self) -> usize {
        DirItem::SIZE + self.name.len() + self.data.len()
    }

    /// The range of the item's bytes that the entry has.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.at..self.at + self.size()
    }
}

/// The entries of a DIR_ITEM, DIR_INDEX or XATTR_ITEM. Stops at bytes that hold no entry;
/// [`DirEntries::rest`] is empty when everything was read.
#[derive(Clone, Debug)]
pub struct DirEntries<'d> {
    data: &'d [u8],
    at: usize,
}

impl<'d> DirEntries<'d> {
    /// Entries of an item's data.
    pub fn new(data: &'d [u8]) -> Self {
        Self { data, at: 0 }
    }

    /// The entry with this name.
    pub fn find_name(data: &'d [u8], name: &[u8]) -> Option<DirEntry<'d>> {
        Self::new(data).find(|entry| entry.name == name)
    }

    /// What has not been read.
    pub fn rest(&self) -> &'d [u8] {
        &self.data[self.at..]
    }
}

impl<'d> Iterator for DirEntries<'d> {
    type Item = DirEntry<'d>;

    fn next(&mut self) -> Option<DirEntry<'d>> {
        let rest = self.rest();
        let head = DirItem::read(rest)?;
        let name_end = DirItem::SIZE + usize::from(head.name_len.get());
        let name = rest.get(DirItem::SIZE..name_end)?;
        let data = rest.get(name_end..name_end + usize::from(head.data_len.get()))?;
        let entry = DirEntry {
            location: head.location.get(),
            transid: head.transid.get(),
            kind: head.kind,
            name,
            data,
            at: self.at,
        };
        self.at += entry.size();
        Some(entry)
    }
}

disk_struct! {
    /// `struct btrfs_dir_log_item`: the end of a logged directory range.
    #[derive(Copy, Debug)]
    pub struct DirLogItem, 8 bytes {
        /// The last index that the log speaks for; the key's offset is the first.
        0 => end: U64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ondisk::kind;

    #[test]
    fn colliding_entries_share_an_item() {
        let location = Key::new(257, kind::INODE_ITEM, 0);
        let mut data = DirItem::encode(&location, 7, FT_REG_FILE, b"a", b"");
        data.extend(DirItem::encode(&location, 8, FT_XATTR, b"user.b", b"value"));
        let entries: Vec<_> = DirEntries::new(&data).collect();
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (entries[1].name, entries[1].data),
            (&b"user.b"[..], &b"value"[..])
        );
        assert_eq!(entries[1].range(), 31..data.len());
        assert_eq!(
            DirEntries::find_name(&data, b"a").map(|entry| entry.transid),
            Some(7)
        );
        assert_eq!(DirEntries::find_name(&data, b"b"), None);
    }

    #[test]
    fn a_torn_entry_ends_the_iteration() {
        let location = Key::new(257, kind::INODE_ITEM, 0);
        let data = DirItem::encode(&location, 7, FT_REG_FILE, b"name", b"");
        for cut in 0..data.len() {
            let mut entries = DirEntries::new(&data[..cut]);
            assert!(entries.next().is_none());
            assert_eq!(entries.rest().len(), cut);
        }
    }
}
