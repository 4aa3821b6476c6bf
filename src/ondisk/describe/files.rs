//! Items of files and directories, and data checksums.

use super::super::*;
use super::{Facts, Meaning, flag_words, numbers, time_words};

const INODE_FLAGS: &[(u64, &str)] = &[
    (INODE_NODATASUM, "NODATASUM"),
    (INODE_NODATACOW, "NODATACOW"),
    (INODE_READONLY, "READONLY"),
    (INODE_NOCOMPRESS, "NOCOMPRESS"),
    (INODE_PREALLOC, "PREALLOC"),
    (INODE_SYNC, "SYNC"),
    (INODE_IMMUTABLE, "IMMUTABLE"),
    (INODE_APPEND, "APPEND"),
    (INODE_NODUMP, "NODUMP"),
    (INODE_NOATIME, "NOATIME"),
    (INODE_DIRSYNC, "DIRSYNC"),
    (INODE_COMPRESS, "COMPRESS"),
    (INODE_ROOT_ITEM_INIT, "ROOT_ITEM_INIT"),
    (INODE_RO_VERITY, "VERITY"),
];

pub(super) fn inode_item(data: &[u8]) -> Option<Facts> {
    InodeItem::read(data).map(inode)
}

/// Also of the inode inside a root item.
pub(super) fn inode(inode: &InodeItem) -> Facts {
    let facts = numbers!(
        Facts::default(),
        inode,
        generation,
        transid,
        size,
        nbytes,
        block_group,
        nlink,
        uid,
        gid
    );
    let facts = facts.words("mode", format!("{:o}", inode.mode));
    numbers!(facts, inode, rdev, sequence)
        .words("flags", flag_words(inode.flags.get(), INODE_FLAGS))
        .words("atime", time_words(&inode.atime))
        .words("ctime", time_words(&inode.ctime))
        .words("mtime", time_words(&inode.mtime))
        .words("otime", time_words(&inode.otime))
}

pub(super) fn names(key: &Key, data: &[u8]) -> Facts {
    let mut names = match key.kind {
        kind::INODE_REF => InodeNames::of_ref(key.offset, data),
        _ => InodeNames::of_extref(data),
    };
    let list: Vec<Facts> = names
        .by_ref()
        .map(|it| {
            Facts::default()
                .number("parent", it.parent)
                .number("index", it.index)
                .name("name", it.name)
        })
        .collect();
    Facts::default().list("names", list).left_over(names.rest())
}

fn file_type(kind: u8) -> String {
    let name = match kind & !FT_ENCRYPTED {
        FT_REG_FILE => "FILE",
        FT_DIR => "DIR",
        FT_CHRDEV => "CHRDEV",
        FT_BLKDEV => "BLKDEV",
        FT_FIFO => "FIFO",
        FT_SOCK => "SOCK",
        FT_SYMLINK => "SYMLINK",
        FT_XATTR => "XATTR",
        _ => return format!("type {kind}"),
    };
    name.into()
}

pub(super) fn entries(key: &Key, data: &[u8]) -> Facts {
    let mut entries = DirEntries::new(data);
    let list: Vec<Facts> = entries
        .by_ref()
        .map(|it| {
            let facts = Facts::default()
                .name("name", it.name)
                .words("type", file_type(it.kind));
            let facts = match key.kind {
                kind::XATTR_ITEM => facts.name("value", it.data),
                _ => facts.key("location", it.location),
            };
            facts.number("transid", it.transid)
        })
        .collect();
    Facts::default()
        .list("entries", list)
        .left_over(entries.rest())
}

pub(super) fn dir_log(data: &[u8]) -> Option<Facts> {
    let item = DirLogItem::read(data)?;
    Some(numbers!(Facts::default(), item, end))
}

pub(super) fn file_extent(data: &[u8]) -> Option<Facts> {
    let compression = |number: u8| match compression_name(number) {
        Some(name) => name.to_owned(),
        None => format!("unknown ({number})"),
    };
    Some(match FileExtent::parse(data)? {
        FileExtent::Inline { head, data } => {
            let facts = Facts::default().words("type", "inline");
            numbers!(facts, head, generation, ram_bytes)
                .words("compression", compression(head.compression))
                .number("data_bytes", data.len() as u64)
        }
        FileExtent::Extent(it) => {
            let words = match it.kind {
                FILE_EXTENT_REG if it.is_hole() => "hole".to_owned(),
                FILE_EXTENT_REG => "regular".to_owned(),
                FILE_EXTENT_PREALLOC => "prealloc".to_owned(),
                other => format!("unknown ({other})"),
            };
            let facts = Facts::default().words("type", words);
            numbers!(
                facts,
                it,
                generation,
                disk_bytenr,
                disk_num_bytes,
                offset,
                num_bytes,
                ram_bytes
            )
            .words("compression", compression(it.compression))
        }
    })
}

pub(super) fn csums(key: &Key, data: &[u8], meaning: Meaning) -> Facts {
    let count = (data.len() / meaning.csum.size()) as u64;
    let length = count * u64::from(meaning.sectorsize);
    Facts::default()
        .number("start", key.offset)
        .number("end", key.offset.saturating_add(length))
        .number("length", length)
        .number("csums", count)
}
