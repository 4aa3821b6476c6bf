//! Bytes to the device, in the order that makes an interrupted run harmless.

use super::layout::Layout;
use super::trees::Forest;
use super::{Error, GENERATION, MkfsOptions};
use crate::error::Result;
use crate::ondisk::check::{CheckContext, Expect, check_block, seal_block};
use crate::ondisk::superblock::{SUPER_INFO_SIZE, SUPER_MIRRORS, Superblock};
use crate::ondisk::tree_block;
use crate::units::{Generation, Logical, MIB};
use crate::volume::BlockDevice;
use std::io;

/// Bytes at both ends of a device where signatures of other formats are.
const WIPED_BYTES: u64 = 2 * MIB;

fn failed(device: &dyn BlockDevice, verb: &str, at: u64) -> impl FnOnce(io::Error) -> Error {
    let what = format!("{verb} {} at {at}", device.name());
    move |error| Error::device(what, error)
}

/// Discards everything, then zeroes what a discard may leave readable and would mislead:
/// both ends of the device and every superblock.
pub(super) fn wipe(device: &dyn BlockDevice) -> Result<()> {
    let size = device.size_bytes();
    if let Err(error) = device.discard(0, size) {
        log::info!("{}: not discarded before mkfs: {error}", device.name());
    }
    let last = size - WIPED_BYTES;
    let mirrors = SUPER_MIRRORS.iter().map(|&at| (at, SUPER_INFO_SIZE as u64));
    for (at, length) in mirrors.chain([(0, WIPED_BYTES), (last, WIPED_BYTES)]) {
        if at + length <= size {
            let zeroes = vec![0; length as usize];
            device
                .write_at(at, &zeroes)
                .map_err(failed(device, "wipe", at))?;
        }
    }
    device.flush().map_err(failed(device, "flush", 0))
}

/// Seals, judges and writes every tree block to each of its places, then flushes.
pub(super) fn write_blocks(
    device: &dyn BlockDevice,
    layout: &Layout,
    options: &MkfsOptions,
    forest: &Forest,
) -> Result<()> {
    for tree in &forest.trees {
        for (index, block) in tree.blocks.iter().enumerate() {
            let at = Logical(tree.at.0 + index as u64 * u64::from(options.nodesize));
            let ctx = CheckContext {
                nodesize: options.nodesize,
                sectorsize: options.sectorsize,
                fsid: tree_block::header(block).fsid,
                seed_fsids: Vec::new(),
                csum: options.csum,
                incompat: options.features.incompat(options.nodesize),
            };
            let expect = Expect {
                generation: Some(Generation(GENERATION)),
                owner: Some(tree.objectid),
                ..Expect::at(at)
            };
            let mut sealed = block.clone();
            seal_block(&ctx, &mut sealed);
            check_block(&ctx, &expect, &sealed)?;
            for copy in layout.copies_of(at) {
                device
                    .write_at(copy, &sealed)
                    .map_err(failed(device, "write", copy))?;
            }
        }
    }
    device.flush().map_err(failed(device, "flush", 0))
}

/// Writes every superblock that fits the device, the first one last, then flushes.
pub(super) fn write_superblocks(
    device: &dyn BlockDevice,
    mut superblock: Box<Superblock>,
) -> Result<()> {
    let fits = |at: &&u64| **at + SUPER_INFO_SIZE as u64 <= superblock.total_bytes.get();
    let places: Vec<u64> = SUPER_MIRRORS.iter().filter(fits).copied().collect();
    for at in places.into_iter().rev() {
        superblock.bytenr.set(at);
        superblock.seal()?;
        Superblock::parse_at(superblock.as_bytes(), at)?;
        device
            .write_at(at, superblock.as_bytes())
            .map_err(failed(device, "write", at))?;
    }
    device.flush().map_err(failed(device, "flush", 0))
}
