//! A disk that is a map of blocks, with counters and planned failures.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::extent_buffer::backing::Backing;
use crate::extent_buffer::{Cache, Kind};
use crate::ondisk::check::Expect;
use crate::ondisk::{Uuid, tree_block};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex};
use crate::units::{Generation, Logical};

/// Bytes of a block in these tests.
pub const NODESIZE: u32 = 4096;

/// See the module.
#[derive(Default)]
pub struct Disk {
    /// What was written, by address.
    pub blocks: Mutex<HashMap<u64, Vec<u8>>>,
    /// How often a block was read.
    pub reads: AtomicUsize,
    /// Lengths of the writes.
    pub writes: Mutex<Vec<usize>>,
    /// Writes fail while this is set.
    pub broken: AtomicBool,
    /// Writes panic while this is set.
    pub panics: AtomicBool,
}

impl Disk {
    /// A disk that has leaves of `generation` at the addresses.
    pub fn with_leaves(addresses: impl IntoIterator<Item = u64>, generation: u64) -> Arc<Self> {
        let disk = Self::default();
        for at in addresses {
            disk.put_leaf(at, generation);
        }
        Arc::new(disk)
    }

    /// Puts a leaf there, behind the cache's back.
    pub fn put_leaf(&self, at: u64, generation: u64) {
        let mut block = vec![0; NODESIZE as usize];
        let generation = Generation(generation);
        tree_block::init(
            &mut block,
            Logical(at),
            generation,
            5,
            0,
            &[1; 16],
            &[2; 16],
        );
        self.blocks.lock().insert(at, block);
    }

    /// A cache of `blocks` blocks over this disk.
    pub fn cache(self: &Arc<Self>, blocks: u64, kind: Kind) -> Cache {
        Cache::over(
            Box::new(OnDisk(self.clone())),
            blocks * u64::from(NODESIZE),
            kind,
        )
    }

    /// The generation of the block at `at`, as the disk has it.
    pub fn generation_at(&self, at: u64) -> Option<u64> {
        self.blocks
            .lock()
            .get(&at)
            .map(|block| tree_block::header(block).generation.get())
    }

    /// The last byte of the block at `at`, as the disk has it.
    pub fn last_byte_at(&self, at: u64) -> Option<u8> {
        self.blocks
            .lock()
            .get(&at)
            .and_then(|block| block.last().copied())
    }
}

struct OnDisk(Arc<Disk>);

impl Backing for OnDisk {
    fn nodesize(&self) -> u32 {
        NODESIZE
    }

    fn fsid(&self) -> Uuid {
        [1; 16]
    }

    fn chunk_tree_uuid(&self) -> Uuid {
        [2; 16]
    }

    fn read(&self, expect: &Expect, block: &mut [u8]) -> Result<()> {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        let blocks = self.0.blocks.lock();
        let there = blocks
            .get(&expect.at.0)
            .ok_or_else(|| Error::corrupt_block(expect.at, None, "nothing there"))?;
        let generation = tree_block::header(there).generation.get();
        if expect
            .generation
            .is_some_and(|expected| expected.0 != generation)
        {
            return Err(Error::corrupt_block(expect.at, None, "another generation"));
        }
        block.copy_from_slice(there);
        Ok(())
    }

    fn seal(&self, at: Logical, block: &mut [u8]) -> Result<()> {
        assert_eq!(tree_block::header(block).bytenr.get(), at.0);
        Ok(())
    }

    fn write(&self, at: Logical, blocks: &[u8]) -> Result<()> {
        if self.0.broken.load(Ordering::Relaxed) {
            return Err(Error::NoGoodCopy("planned failure".into()));
        }
        assert!(!self.0.panics.load(Ordering::Relaxed), "planned panic");
        self.0.writes.lock().push(blocks.len());
        let mut there = self.0.blocks.lock();
        for (n, block) in blocks.chunks(NODESIZE as usize).enumerate() {
            there.insert(at.0 + n as u64 * u64::from(NODESIZE), block.to_vec());
        }
        Ok(())
    }
}

/// Any block at `at`.
pub fn any(at: u64) -> Expect {
    Expect {
        at: Logical(at),
        level: None,
        generation: None,
        owner: None,
        first_key: None,
    }
}

/// A block of `generation` at `at`.
pub fn of_generation(at: u64, generation: u64) -> Expect {
    Expect {
        generation: Some(Generation(generation)),
        ..any(at)
    }
}

/// The protocols that this build can mount with.
pub fn kinds() -> Vec<Kind> {
    if cfg!(feature = "protocols") {
        Kind::ALL.to_vec()
    } else {
        vec![Kind::BUILD]
    }
}
