//! What a mount has done and met since it began: `btrfuse stats`.

use super::filesystem::Filesystem;
use crate::sync::atomic::{AtomicU64, Ordering};
use serde::{Deserialize, Serialize};

/// All of it, since the mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The last transaction that is durable.
    pub generation: u64,
    /// Why nothing can be written: what the image has, what was asked for, or the error after which
    /// the mount turned read-only.
    pub read_only: Option<String>,
    /// Commits.
    pub commits: Commits,
    /// The tree block cache.
    pub cache: Cache,
    /// Inodes in memory.
    pub inodes_in_memory: u64,
    /// What the kernel refers to.
    pub kernel: Kernel,
    /// Errors met on each device.
    pub devices: Vec<Device>,
}

/// References of the kernel to inodes (FUSE's lookup counts).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Inodes that it refers to.
    pub inodes: u64,
    /// How often, summed: `lookups` less `forgotten`.
    pub references: u64,
    /// References that it was given.
    pub lookups: u64,
    /// References that it gave back.
    pub forgotten: u64,
}

/// Commits that wrote a superblock, and the logs between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commits {
    /// How many.
    pub count: u64,
    /// Tree blocks written by them.
    pub blocks: u64,
    /// Microseconds that they took, summed.
    pub total_us: u64,
    /// Microseconds for which operations had to wait, summed.
    pub critical_us: u64,
    /// Changes of extents' reference counts.
    pub delayed_refs: u64,
    /// Logs that were written instead of a commit; one may answer several fsyncs.
    pub logs: u64,
    /// Tree blocks of these.
    pub log_blocks: u64,
}

/// The tree block cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Bytes of buffers in it.
    pub live_bytes: u64,
    /// Of these, not written yet.
    pub dirty_bytes: u64,
    /// `metadata_cache=`.
    pub bound_bytes: u64,
    /// Tree blocks read from devices.
    pub reads: u64,
    /// Tree blocks written.
    pub writes: u64,
    /// Buffers that reclaim freed.
    pub evictions: u64,
    /// Broken rules of buffers' lifetimes. More than 0 is a bug, or a build that has one.
    pub violations: u64,
}

/// A device and what went wrong on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its number in the filesystem.
    pub devid: u64,
    /// Its path.
    pub path: String,
    /// Reads that it refused.
    pub read_errors: u64,
    /// Writes that it refused.
    pub write_errors: u64,
    /// Flushes that it refused.
    pub flush_errors: u64,
    /// Copies whose content wasn't believed.
    pub corruption_errors: u64,
    /// Bad copies that were written anew from a good one.
    pub repaired: u64,
}

impl Filesystem {
    /// What this mount has done and met so far. The numbers are read one after the other, while work
    /// goes on.
    pub fn stats(&self) -> Stats {
        // Relaxed: statistics.
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let commits = &self.engine.committer.counters;
        let kernel = self.home.table.references();
        let (cache, counters) = (&self.ctx.cache, self.ctx.cache.counters());
        Stats {
            generation: self.ctx.transactions.durable().get(),
            read_only: self.read_only_reason(),
            commits: Commits {
                count: of(&commits.commits),
                blocks: of(&commits.blocks),
                total_us: of(&commits.total_us),
                critical_us: of(&commits.critical_us),
                delayed_refs: of(&commits.heads),
                logs: of(&commits.logs),
                log_blocks: of(&commits.log_blocks),
            },
            cache: Cache {
                live_bytes: cache.live_bytes(),
                dirty_bytes: cache.dirty_bytes(),
                bound_bytes: cache.bound_bytes(),
                reads: of(&counters.reads),
                writes: of(&counters.writes),
                evictions: of(&counters.evictions),
                violations: of(&counters.violations),
            },
            inodes_in_memory: self.inodes_in_memory() as u64,
            kernel: Kernel {
                inodes: kernel.inodes,
                references: kernel.held,
                lookups: kernel.given,
                forgotten: kernel.returned,
            },
            devices: self.device_stats(),
        }
    }

    fn device_stats(&self) -> Vec<Device> {
        let devices = self.volume.device_errors().into_iter();
        devices
            .map(|(devid, path, errors)| Device {
                devid: devid.get(),
                path,
                read_errors: errors.read_errors,
                write_errors: errors.write_errors,
                flush_errors: errors.flush_errors,
                corruption_errors: errors.corruption_errors,
                repaired: errors.repaired,
            })
            .collect()
    }
}
