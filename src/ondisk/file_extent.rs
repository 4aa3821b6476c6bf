//! File extents: where a range of a file's data is.

use super::{U16, U64, disk_struct};
use crate::units::Logical;

/// Data follows in the item.
pub const FILE_EXTENT_INLINE: u8 = 0;
/// Data is in an extent; or a hole, where `disk_bytenr` is 0.
pub const FILE_EXTENT_REG: u8 = 1;
/// An extent that is reserved and reads as zeroes.
pub const FILE_EXTENT_PREALLOC: u8 = 2;

/// Not compressed.
pub const COMPRESS_NONE: u8 = 0;
/// zlib.
pub const COMPRESS_ZLIB: u8 = 1;
/// lzo, in btrfs's framing.
pub const COMPRESS_LZO: u8 = 2;
/// zstd.
pub const COMPRESS_ZSTD: u8 = 3;
/// The first number that is no compression.
pub const COMPRESS_TYPES: u8 = 4;

/// Bytes of an inline extent before its data.
pub const FILE_EXTENT_INLINE_DATA_START: usize = std::mem::offset_of!(FileExtentItem, disk_bytenr);

disk_struct! {
    /// `struct btrfs_file_extent_item`: one range of a file. Inline extents end before
    /// `disk_bytenr`: read those with [`FileExtentHead`] or [`FileExtent::parse`].
    #[derive(Copy, Debug)]
    pub struct FileExtentItem, 53 bytes {
        /// The transaction that made the extent.
        0 => generation: U64,
        /// Bytes of the whole extent when uncompressed.
        8 => ram_bytes: U64,
        /// `COMPRESS_*`.
        16 => compression: u8,
        /// Zero.
        17 => encryption: u8,
        /// Zero.
        18 => other_encoding: U16,
        /// `FILE_EXTENT_*` (`type` in the uapi).
        20 => kind: u8,
        /// Logical address of the whole extent; 0 is a hole.
        21 => disk_bytenr: U64,
        /// Bytes of the whole extent on disk.
        29 => disk_num_bytes: U64,
        /// Where this range starts in the (uncompressed) extent.
        37 => offset: U64,
        /// Bytes of the file that this item speaks for.
        45 => num_bytes: U64,
    }
}
const _: () = assert!(FILE_EXTENT_INLINE_DATA_START == 21);

disk_struct! {
    /// The part of `struct btrfs_file_extent_item` that inline extents have too.
    #[derive(Copy, Debug)]
    pub struct FileExtentHead, 21 bytes {
        /// The transaction that made the extent.
        0 => generation: U64,
        /// Bytes of the data when uncompressed.
        8 => ram_bytes: U64,
        /// `COMPRESS_*`.
        16 => compression: u8,
        /// Zero.
        17 => encryption: u8,
        /// Zero.
        18 => other_encoding: U16,
        /// `FILE_EXTENT_*`.
        20 => kind: u8,
    }
}

impl FileExtentHead {
    /// The bytes of an uncompressed inline extent item.
    pub fn encode_inline(generation: u64, data: &[u8]) -> Vec<u8> {
        let head = Self {
            generation: generation.into(),
            ram_bytes: (data.len() as u64).into(),
            kind: FILE_EXTENT_INLINE,
            ..Self::default()
        };
        [head.as_bytes(), data].concat()
    }
}

/// An EXTENT_DATA item in the program's terms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileExtent<'d> {
    /// Data in the item, maybe compressed.
    Inline {
        /// The head of the item.
        head: FileExtentHead,
        /// The data as stored.
        data: &'d [u8],
    },
    /// A regular or preallocated extent, or a hole.
    Extent(FileExtentItem),
}

impl<'d> FileExtent<'d> {
    /// Reads an item's data, or `None` where it is too short.
    pub fn parse(data: &'d [u8]) -> Option<Self> {
        let head = FileExtentHead::read(data)?;
        if head.kind == FILE_EXTENT_INLINE {
            return Some(Self::Inline {
                head: *head,
                data: &data[FileExtentHead::SIZE..],
            });
        }
        FileExtentItem::read(data).map(|item| Self::Extent(*item))
    }

    /// Bytes of the file that the item speaks for (inline: the uncompressed length).
    pub fn num_bytes(&self) -> u64 {
        match self {
            Self::Inline { head, .. } => head.ram_bytes.get(),
            Self::Extent(item) => item.num_bytes.get(),
        }
    }

    /// `COMPRESS_*`.
    pub fn compression(&self) -> u8 {
        match self {
            Self::Inline { head, .. } => head.compression,
            Self::Extent(item) => item.compression,
        }
    }
}

impl FileExtentItem {
    /// An explicit hole.
    pub fn hole(generation: u64, num_bytes: u64) -> Self {
        Self {
            generation: generation.into(),
            ram_bytes: num_bytes.into(),
            kind: FILE_EXTENT_REG,
            num_bytes: num_bytes.into(),
            ..Self::default()
        }
    }

    /// A whole uncompressed extent of `FILE_EXTENT_REG` or `FILE_EXTENT_PREALLOC`.
    pub fn whole(generation: u64, kind: u8, at: Logical, num_bytes: u64) -> Self {
        Self {
            generation: generation.into(),
            ram_bytes: num_bytes.into(),
            kind,
            disk_bytenr: at.0.into(),
            disk_num_bytes: num_bytes.into(),
            num_bytes: num_bytes.into(),
            ..Self::default()
        }
    }

    /// Whether nothing is on disk for the range.
    pub fn is_hole(&self) -> bool {
        self.disk_bytenr.get() == 0
    }
}

/// The usual name of a compression number.
pub const fn compression_name(compression: u8) -> Option<&'static str> {
    Some(match compression {
        COMPRESS_NONE => "none",
        COMPRESS_ZLIB => "zlib",
        COMPRESS_LZO => "lzo",
        COMPRESS_ZSTD => "zstd",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_and_regular_extents_are_told_apart() {
        let inline = FileExtentHead::encode_inline(9, b"hello");
        match FileExtent::parse(&inline) {
            Some(FileExtent::Inline { head, data }) => {
                assert_eq!((head.ram_bytes.get(), data), (5, &b"hello"[..]));
            }
            other => panic!("{other:?}"),
        }
        let hole = FileExtentItem::hole(9, 4096);
        let parsed = FileExtent::parse(hole.as_bytes()).expect("long enough");
        assert_eq!(parsed, FileExtent::Extent(hole));
        assert_eq!(parsed.num_bytes(), 4096);
        assert_eq!(FileExtent::parse(&hole.as_bytes()[..52]), None);
    }
}
