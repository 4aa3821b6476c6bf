//! One device of the filesystem, with what went wrong on it.
//!
//! Owns: the [`BlockDevice`] and its error counters (what `btrfs device stats` shows, since
//! the mount). Every device error gets its words here: verb, length, offset, name.

use super::device::BlockDevice;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Mutex};
use crate::units::{DevId, Physical};
use crate::{Error, Result};

/// Errors met on one device since the mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceErrors {
    /// Reads that the device refused.
    pub read_errors: u64,
    /// Writes that the device refused.
    pub write_errors: u64,
    /// Flushes that the device refused.
    pub flush_errors: u64,
    /// Copies whose content wasn't believed.
    pub corruption_errors: u64,
    /// Bad copies that were rewritten from a good one.
    pub repaired: u64,
}

#[derive(Debug, Default)]
struct Counters {
    read_errors: AtomicU64,
    write_errors: AtomicU64,
    flush_errors: AtomicU64,
    corruption_errors: AtomicU64,
    repaired: AtomicU64,
}

/// One device of the filesystem.
pub(super) struct Member {
    pub devid: DevId,
    pub device: Arc<dyn BlockDevice>,
    counters: Counters,
    /// Copies of the superblock that were found bad, and not written since.
    bad_superblocks: Mutex<Vec<u64>>,
}

impl Member {
    pub fn over(devid: DevId, device: Arc<dyn BlockDevice>) -> Self {
        Self {
            devid,
            device,
            counters: Counters::default(),
            bad_superblocks: Mutex::new(Vec::new()),
        }
    }

    /// Counts what was met when the superblock was looked for.
    pub fn count_superblocks(&self, unreadable: &[u64], bad: &[u64]) {
        let counters = &self.counters;
        let add = |counter: &AtomicU64, found: &[u64]| {
            counter.fetch_add(found.len() as u64, Ordering::Relaxed);
        };
        add(&counters.read_errors, unreadable);
        add(&counters.corruption_errors, bad);
        self.bad_superblocks
            .lock()
            .extend([unreadable, bad].concat());
    }

    /// The copy of the superblock at `at` was written.
    pub fn superblock_is_good(&self, at: u64) {
        let mut bad = self.bad_superblocks.lock();
        let before = bad.len();
        bad.retain(|other| *other != at);
        if bad.len() < before {
            self.count_repair();
        }
    }

    pub fn read(&self, at: Physical, buf: &mut [u8]) -> Result<()> {
        self.device.read_at(at.get(), buf).map_err(|error| {
            self.counters.read_errors.fetch_add(1, Ordering::Relaxed);
            self.failed("read", buf.len() as u64, at, error)
        })
    }

    pub fn write(&self, at: Physical, buf: &[u8]) -> Result<()> {
        self.device.write_at(at.get(), buf).map_err(|error| {
            self.counters.write_errors.fetch_add(1, Ordering::Relaxed);
            self.failed("write", buf.len() as u64, at, error)
        })
    }

    pub fn discard(&self, at: Physical, len: u64) -> Result<()> {
        self.device
            .discard(at.get(), len)
            .map_err(|error| self.failed("discard", len, at, error))
    }

    pub fn flush(&self) -> Result<()> {
        self.device.flush().map_err(|error| {
            self.counters.flush_errors.fetch_add(1, Ordering::Relaxed);
            Error::device(format!("flush {}", self.device.name()), error)
        })
    }

    pub fn count_corruption(&self) {
        self.counters
            .corruption_errors
            .fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_repair(&self) {
        self.counters.repaired.fetch_add(1, Ordering::Relaxed);
    }

    /// Relaxed everywhere: plain statistics, nothing is published through them.
    pub fn errors(&self) -> DeviceErrors {
        let counters = &self.counters;
        DeviceErrors {
            read_errors: counters.read_errors.load(Ordering::Relaxed),
            write_errors: counters.write_errors.load(Ordering::Relaxed),
            flush_errors: counters.flush_errors.load(Ordering::Relaxed),
            corruption_errors: counters.corruption_errors.load(Ordering::Relaxed),
            repaired: counters.repaired.load(Ordering::Relaxed),
        }
    }

    fn failed(&self, verb: &str, len: u64, at: Physical, error: std::io::Error) -> Error {
        Error::device(
            format!("{verb} {len} bytes at {at} of {}", self.device.name()),
            error,
        )
    }
}
