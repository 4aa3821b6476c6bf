//! How much memory a mount takes at most, and why.
//!
//! Owns: the sum in docs/memory.md, which `tests/many_files.rs` holds a mount to.

use super::delayed::DIRTY_INODES_MAX;
use super::file;
use super::mount::DELAYED_DATA_MAX;
use super::options::MountOptions;
use crate::units::MIB;

/// An inode in memory with its places in tables.
const INODE_BYTES: u64 = 1024;
/// An inode that the kernel remembers, with neighbours that it remembers too.
const REMEMBERED_BYTES: u64 = 5;
/// A thread that answers requests: the request, what it is made of, the answer.
const THREAD_BYTES: u64 = 3 * MIB;
/// Reference changes that wait for the commit, at the most that are let wait.
const REFERENCES_BYTES: u64 = 25 * MIB;
/// What fsyncs have logged since the last commit, and what can't be logged.
const LOGS_BYTES: u64 = 8 * MIB;
/// The program itself, its stacks, the free space of some thousand block groups.
const FIXED_BYTES: u64 = 16 * MIB;

/// The most that a daemon takes with these options and so many request threads, while the kernel
/// remembers `remembered` inodes and has few of them open.
pub fn memory_max(options: &MountOptions, threads: usize, remembered: u64) -> u64 {
    // A quarter more: headers, and blocks that operations under way hold over the bound.
    let blocks = options.metadata_cache_bytes / 4 * 5;
    let inodes = (options.inodes_cached + DIRTY_INODES_MAX + file::DELAYED_INODES_MAX) as u64;
    // A quarter more: pieces grow by doubling until they are full.
    let content = DELAYED_DATA_MAX / 4 * 5;
    blocks
        + inodes * INODE_BYTES
        + content
        + threads as u64 * THREAD_BYTES
        + REFERENCES_BYTES
        + LOGS_BYTES
        + FIXED_BYTES
        + remembered * REMEMBERED_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::inode::Inode;
    use crate::fs::inode_table;
    use crate::fs::lookup_counts::LookupCounts;
    use crate::fs::node_id::Identity;

    #[test]
    fn an_inode_takes_no_more_than_it_is_counted() {
        // Tables double, so half of their room may be empty; the two counts are the Arc's.
        let table = 2 * inode_table::ENTRY_BYTES;
        let bytes = size_of::<Inode>() + 2 * size_of::<usize>() + table;
        assert!(bytes as u64 <= INODE_BYTES, "{bytes} bytes");
    }

    #[test]
    fn a_remembered_inode_takes_no_more_than_it_is_counted() {
        for count in [100_000, 115_000, 230_000, 1_000_000] {
            let mut counts = LookupCounts::default();
            for objectid in 300..300 + count {
                counts.add(Identity::Inode {
                    subvol: 5,
                    objectid,
                });
            }
            let bytes = counts.bytes() as u64;
            assert!(bytes <= count * REMEMBERED_BYTES, "{count}: {bytes} bytes");
        }
    }

    #[test]
    fn a_million_files_fit_into_a_quarter_of_a_gibibyte() {
        let max = memory_max(&MountOptions::default(), 4, 1_000_000);
        assert!(max <= 256 * MIB, "{} MiB", max / MIB);
    }
}
