//! Makes a new, empty filesystem on a device.
//!
//! Owns: everything between a blank device and an image that mounts. Never: asking people or
//! reading paths; that is the command's. The image is what a recent `mkfs.btrfs` makes for one
//! device: metadata and system DUP, data SINGLE, a free space tree without stale entries, a block
//! group tree. Trees are packed as bytes, a leaf each where they fit, in one transaction; old
//! superblocks are wiped first and the new ones are written last, after a flush, so an
//! interrupted run leaves no image rather than half of one.

mod features;
mod layout;
mod pack;
mod signature;
mod superblock;
mod trees;
mod write;

pub use features::{FEATURE_NAMES, Features};
pub use layout::SIZE_MIN;
pub use signature::{Signature, find_signature};

use crate::error::{Error, Result};
use crate::ondisk::{CsumType, Timespec, Uuid};
use crate::volume::BlockDevice;
use layout::Layout;
use std::io::Read;

/// What a new filesystem shall be.
#[derive(Clone, Debug)]
pub struct MkfsOptions {
    /// A name, at most 255 bytes.
    pub label: Vec<u8>,
    /// Bytes of a tree block: a power of two from 4 KiB to 64 KiB, at least the sector size.
    pub nodesize: u32,
    /// Unit of data: a power of two from 4 KiB to 64 KiB.
    pub sectorsize: u32,
    /// The checksum of everything.
    pub csum: CsumType,
    /// What the format shall use.
    pub features: Features,
    /// Overwrite what is recognised on the device.
    pub force: bool,
    /// The filesystem's id; random where `None`.
    pub fsid: Option<Uuid>,
    /// User and group of the top directory.
    pub owner: (u32, u32),
}

impl Default for MkfsOptions {
    fn default() -> Self {
        Self {
            label: Vec::new(),
            nodesize: 16384,
            sectorsize: 4096,
            csum: CsumType::Crc32c,
            features: Features::default(),
            force: false,
            fsid: None,
            owner: (0, 0),
        }
    }
}

/// What was made, for the report.
#[derive(Clone, Debug)]
pub struct Made {
    /// The filesystem's id.
    pub fsid: Uuid,
    /// Bytes of the device that are used.
    pub total_bytes: u64,
    /// Bytes of the data block group.
    pub data_bytes: u64,
    /// Bytes of the metadata block group, one copy.
    pub metadata_bytes: u64,
    /// Bytes of the system block group, one copy.
    pub system_bytes: u64,
}

/// Numbers of this filesystem that are not chosen by anybody.
struct Identity {
    fsid: Uuid,
    chunk_tree_uuid: Uuid,
    dev_uuid: Uuid,
    fs_tree_uuid: Uuid,
    now: Timespec,
}

/// The transaction that everything is of.
const GENERATION: u64 = 1;

/// Makes a filesystem that takes the whole device.
///
/// # Errors
/// [`Error::Unsupported`] for options that contradict each other or the device's size,
/// [`Error::Busy`] with the name of a signature that was found on it.
pub fn make(device: &dyn BlockDevice, options: &MkfsOptions) -> Result<Made> {
    judge(device.size_bytes(), options)?;
    let layout = Layout::plan(device.size_bytes(), options)?;
    if !options.force
        && let Some(found) = find_signature(device)?
    {
        return Err(Error::Busy(format!(
            "{} holds {found}: use -f to overwrite it",
            device.name()
        )));
    }
    let identity = Identity {
        fsid: options.fsid.map_or_else(random_uuid, Ok)?,
        chunk_tree_uuid: random_uuid()?,
        dev_uuid: random_uuid()?,
        fs_tree_uuid: random_uuid()?,
        now: now(),
    };
    let forest = trees::plant(&layout, options, &identity)?;
    let superblock = superblock::build(&layout, options, &identity, &forest)?;
    write::wipe(device)?;
    write::write_blocks(device, &layout, options, &forest)?;
    write::write_superblocks(device, superblock)?;
    Ok(Made {
        fsid: identity.fsid,
        total_bytes: layout.total_bytes,
        data_bytes: layout.data.length,
        metadata_bytes: layout.metadata.length,
        system_bytes: layout.system.length,
    })
}

/// Refuses options that contradict each other or a device of `size_bytes`, without touching any.
pub fn judge(size_bytes: u64, options: &MkfsOptions) -> Result<()> {
    judge_options(options)?;
    Layout::plan(size_bytes, options).map(drop)
}

/// Refuses options that no device fits.
pub fn judge_options(options: &MkfsOptions) -> Result<()> {
    let refuse = |words: String| Err(Error::Unsupported(words));
    let (node, sector) = (options.nodesize, options.sectorsize);
    if !sector.is_power_of_two() || !(4096..=65536).contains(&sector) {
        return refuse(format!(
            "sector size {sector} is no power of two from 4096 to 65536: take 4K, 8K, 16K, 32K or 64K"
        ));
    }
    if !node.is_power_of_two() || !(4096..=65536).contains(&node) {
        return refuse(format!(
            "node size {node} is no power of two from 4096 to 65536: take 4K, 8K, 16K, 32K or 64K"
        ));
    }
    if node < sector {
        return refuse(format!(
            "node size {node} is smaller than the sector size {sector}: give both, as in -s {kib}K \
             -n {kib}K",
            kib = sector / 1024
        ));
    }
    let label = &options.label;
    if label.len() > 255 || label.contains(&0) || label.contains(&b'\n') {
        return refuse("a label has at most 255 bytes and no line break".into());
    }
    options.features.judge()
}

/// A random UUID of version 4.
pub fn random_uuid() -> Result<Uuid> {
    let mut uuid: Uuid = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut uuid))
        .map_err(|error| Error::device("read /dev/urandom", error))?;
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(uuid)
}

fn now() -> Timespec {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timespec::new(since.as_secs() as i64, since.subsec_nanos())
}

#[cfg(test)]
mod tests;
