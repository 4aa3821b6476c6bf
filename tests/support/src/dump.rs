//! `btrfs inspect-internal dump-tree` as a witness: what the format says of an image, in somebody
//! else's words. It excuses files from a comparison, so it must not be us who say it.

use crate::run;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// An inode: its subvolume and its number.
pub type InodeOf = (u64, u64);

/// The inodes with at least one compressed extent.
pub fn compressed_files(image: &Path) -> BTreeSet<InodeOf> {
    compressed(&dump(image, &[]))
}

/// The numbers of inodes, in whatever subvolume, with names in extended references (`INODE_EXTREF`).
pub fn extended_references(image: &Path) -> BTreeSet<u64> {
    extended(&dump(image, &[]))
}

/// The flags of the quota tree's status item, as `ON|INCONSISTENT`; `None` without quotas.
pub fn quota_flags(image: &Path) -> Option<String> {
    let dump = dump(image, &["-t", "quota"]);
    let line = dump.lines().find(|line| line.contains(" flags ON"))?;
    let flags = line.split(" flags ").nth(1)?.split(' ').next()?;
    Some(flags.to_owned())
}

/// References of blocks by the address of their parent, and of data extents by that of a leaf.
pub fn shared_references(image: &Path) -> (usize, usize) {
    let dump = dump(image, &["-t", "extent"]);
    let count = |words: &str| dump.matches(words).count();
    (count("shared block backref"), count("shared data backref"))
}

/// Tree blocks by the form of their extent items: with the size in the key, and skinny.
pub fn tree_block_items(image: &Path) -> (usize, usize) {
    let dump = dump(image, &["-t", "extent"]);
    let skinny = dump.matches(" METADATA_ITEM ").count();
    let all = dump.matches("flags TREE_BLOCK").count();
    (all - skinny, skinny)
}

/// Every block group's free space as (length of the group, number of free ranges, in bitmaps?).
pub fn free_space(image: &Path) -> Vec<(u64, u64, bool)> {
    free_space_infos(&dump(image, &["-t", "10"]))
}

/// How many chunks hold this kind of block group: `DATA`, `METADATA`, `SYSTEM`.
pub fn chunks(image: &Path, kind: &str) -> usize {
    let dump = dump(image, &["-t", "chunk"]);
    dump.matches(&format!(" type {kind}")).count()
}

/// The generation and the `ctransid` of the top level's and all subvolumes' root items.
pub fn root_changes(image: &Path) -> BTreeMap<u64, (u64, u64)> {
    changes(&dump(image, &["-t", "root"]))
}

fn changes(dump: &str) -> BTreeMap<u64, (u64, u64)> {
    let (mut found, mut tree) = (BTreeMap::new(), None);
    let number_after = |line: &str, word: &str| -> Option<u64> {
        let mut words = line.split_whitespace().skip_while(|at| *at != word).skip(1);
        words.next()?.parse().ok()
    };
    for line in dump.lines() {
        if line.trim_start().starts_with("item ") {
            let key = line.split_once(" key (").map_or("", |(_, key)| key);
            let id = key.split(' ').next().unwrap_or_default();
            let is_root = key.contains(" ROOT_ITEM ");
            tree = match id {
                "FS_TREE" if is_root => Some(5),
                _ if is_root => id.parse().ok(),
                _ => None,
            };
        } else if let Some(tree) = tree {
            let entry: &mut (u64, u64) = found.entry(tree).or_default();
            if let Some(generation) = number_after(line, "generation") {
                entry.0 = generation;
            }
            if let Some(ctransid) = number_after(line, "ctransid") {
                entry.1 = ctransid;
            }
        }
    }
    found
}

fn dump(image: &Path, options: &[&str]) -> String {
    let mut command = Command::new("btrfs");
    command
        .args(["inspect-internal", "dump-tree"])
        .args(options)
        .arg(image);
    run(&mut command).stdout
}

/// The objectid of a subvolume whose tree begins at this line, or `Some(None)` of another tree.
fn tree(line: &str) -> Option<Option<u64>> {
    let (name, key) = line.split_once(" tree key (")?;
    let id = key.split(' ').next()?;
    Some(match name {
        "fs" => Some(5),
        "file" => id.parse().ok(),
        _ => None,
    })
}

/// `item N key (OBJECTID KIND OFFSET) itemoff …`
fn item(line: &str) -> Option<(u64, &str)> {
    let key = line
        .trim_start()
        .strip_prefix("item ")?
        .split_once(" key (")?
        .1;
    let mut parts = key.split(' ');
    Some((parts.next()?.parse().ok()?, parts.next()?))
}

fn compressed(dump: &str) -> BTreeSet<InodeOf> {
    let (mut found, mut subvolume, mut inode) = (BTreeSet::new(), None, None);
    for line in dump.lines() {
        if let Some(now) = tree(line) {
            subvolume = now;
        } else if line.trim_start().starts_with("item ") {
            inode = item(line)
                .filter(|(_, kind)| *kind == "EXTENT_DATA")
                .map(|(objectid, _)| objectid);
        } else if let (Some(subvolume), Some(inode)) = (subvolume, inode)
            && ["1 (zlib)", "2 (lzo)", "3 (zstd)"]
                .iter()
                .any(|kind| line.ends_with(&format!("compression {kind}")))
        {
            found.insert((subvolume, inode));
        }
    }
    found
}

fn extended(dump: &str) -> BTreeSet<u64> {
    let items = dump.lines().filter_map(item);
    items
        .filter(|(_, kind)| *kind == "INODE_EXTREF")
        .map(|(objectid, _)| objectid)
        .collect()
}

fn free_space_infos(dump: &str) -> Vec<(u64, u64, bool)> {
    let (mut infos, mut group) = (Vec::new(), None);
    for line in dump.lines() {
        if item(line).is_some() {
            let len = line.split_once(" FREE_SPACE_INFO ");
            group = len.and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
        } else if let (Some(len), Some((_, numbers))) =
            (group, line.split_once("free space info extent count "))
        {
            let mut numbers = numbers.split(" flags ").map(|n| n.trim().parse::<u64>());
            let mut next = || numbers.next().and_then(Result::ok).expect("two numbers");
            infos.push((len, next(), next() & 1 != 0));
        }
    }
    infos
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
extent tree key (EXTENT_TREE ROOT_ITEM 0)
\titem 0 key (257 EXTENT_DATA 0) itemoff 3931 itemsize 53
\t\textent compression 1 (zlib)
fs tree key (FS_TREE ROOT_ITEM 0)
\titem 0 key (257 EXTENT_DATA 0) itemoff 3931 itemsize 53
\t\textent compression 3 (zstd)
\titem 1 key (258 EXTENT_DATA 0) itemoff 3931 itemsize 53
\t\textent compression 0 (none)
\titem 2 key (259 INODE_EXTREF 7) itemoff 3931 itemsize 53
\titem 3 key (260 INODE_REF 256) itemoff 3931 itemsize 53
\titem 4 key (260 INODE_EXTREF 7) itemoff 3931 itemsize 53
file tree key (300 ROOT_ITEM 0)
\titem 0 key (258 EXTENT_DATA 0) itemoff 3931 itemsize 53
\t\tinline extent data size 18 ram_bytes 99 compression 2 (lzo)
";

    #[test]
    fn root_items_tell_their_changes() {
        let dump = "\
\titem 3 key (FS_TREE ROOT_ITEM 0) itemoff 14949 itemsize 439
\t\tgeneration 5 root_dirid 256 bytenr 30425088 byte_limit 0 bytes_used 16384
\t\tlevel 0 generation_v2 5
\t\tctransid 7 otransid 0 stransid 0 rtransid 0
\titem 4 key (ROOT_TREE_DIR INODE_ITEM 0) itemoff 14789 itemsize 160
\t\tgeneration 3 transid 0 size 0 nbytes 16384
\titem 5 key (257 ROOT_ITEM 9) itemoff 14301 itemsize 439
\t\tgeneration 9 root_dirid 256 bytenr 30490624 byte_limit 0 bytes_used 16384
\t\tctransid 8 otransid 0 stransid 0 rtransid 0
";
        assert_eq!(changes(dump), BTreeMap::from([(5, (5, 7)), (257, (9, 8))]));
    }

    #[test]
    fn what_is_compressed_and_how_it_is_named_is_read_from_the_dump() {
        assert_eq!(compressed(DUMP), BTreeSet::from([(5, 257), (300, 258)]));
        assert_eq!(extended(DUMP), BTreeSet::from([259, 260]));
    }

    #[test]
    fn the_form_of_free_space_is_read_from_the_dump() {
        let dump = "\
\titem 0 key (1048576 FREE_SPACE_INFO 8388608) itemoff 16275 itemsize 8
\t\tfree space info extent count 1 flags 0
\titem 1 key (1048576 FREE_SPACE_EXTENT 8388608) itemoff 16275 itemsize 0
\t\tfree space extent
\titem 2 key (9437184 FREE_SPACE_INFO 16777216) itemoff 16267 itemsize 8
\t\tfree space info extent count 207 flags 1
";
        let infos = free_space_infos(dump);
        assert_eq!(infos, [(8_388_608, 1, false), (16_777_216, 207, true)]);
    }
}
