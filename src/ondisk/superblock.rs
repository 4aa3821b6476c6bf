//! The superblock: the one block whose place is fixed, and everything's start.
//!
//! Copies are at 64 KiB, 64 MiB and 256 GiB of each device, as far as it reaches. Choosing among
//! copies is the volume layer's; what an image needs from a reader or writer is judged in
//! [`gates`](super::gates).

use super::check::{CheckContext, check_chunk};
use super::{
    BLOCK_GROUP_SYSTEM, Chunk, CsumType, DevItem, DiskKey, Stripe, SysChunks, U16, U32, U64, Uuid,
    block_group_flags_words, disk_struct, ids, kind,
};
use crate::error::{Error, Result};
use crate::units::{Generation, Logical};
use zerocopy::IntoBytes;

/// Bytes of a superblock.
pub const SUPER_INFO_SIZE: usize = 4096;
/// Where the copies are on a device.
pub const SUPER_MIRRORS: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
/// `_BHRfS_M`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"_BHRfS_M");
/// Room for a label, its terminating zero included.
pub const LABEL_SIZE: usize = 256;
/// Room for system chunks.
pub const SYSTEM_CHUNK_ARRAY_SIZE: usize = 2048;
/// Number of backup roots.
pub const NUM_BACKUP_ROOTS: usize = 4;

/// The program that wrote the filesystem met an error.
pub const SUPER_FLAG_ERROR: u64 = 1 << 2;
/// A seed device: never written.
pub const SUPER_FLAG_SEEDING: u64 = 1 << 32;
/// Restored from a metadata dump: no file data.
pub const SUPER_FLAG_METADUMP: u64 = 1 << 33;
/// The same, newer form.
pub const SUPER_FLAG_METADUMP_V2: u64 = 1 << 34;
/// The filesystem id is being changed.
pub const SUPER_FLAG_CHANGING_FSID: u64 = 1 << 35;
/// The same, through the metadata uuid.
pub const SUPER_FLAG_CHANGING_FSID_V2: u64 = 1 << 36;
/// Block group items are being moved to their own tree.
pub const SUPER_FLAG_CHANGING_BG_TREE: u64 = 1 << 38;
/// Data checksums are being changed.
pub const SUPER_FLAG_CHANGING_DATA_CSUM: u64 = 1 << 39;
/// Metadata checksums are being changed.
pub const SUPER_FLAG_CHANGING_META_CSUM: u64 = 1 << 40;

/// Back references of the second kind: every image since 2009.
pub const FEATURE_INCOMPAT_MIXED_BACKREF: u64 = 1 << 0;
/// A default subvolume was chosen.
pub const FEATURE_INCOMPAT_DEFAULT_SUBVOL: u64 = 1 << 1;
/// Block groups that hold data and metadata.
pub const FEATURE_INCOMPAT_MIXED_GROUPS: u64 = 1 << 2;
/// Extents compressed with lzo.
pub const FEATURE_INCOMPAT_COMPRESS_LZO: u64 = 1 << 3;
/// Extents compressed with zstd.
pub const FEATURE_INCOMPAT_COMPRESS_ZSTD: u64 = 1 << 4;
/// Nodes larger than a page.
pub const FEATURE_INCOMPAT_BIG_METADATA: u64 = 1 << 5;
/// INODE_EXTREF items.
pub const FEATURE_INCOMPAT_EXTENDED_IREF: u64 = 1 << 6;
/// RAID5 or RAID6 block groups.
pub const FEATURE_INCOMPAT_RAID56: u64 = 1 << 7;
/// METADATA_ITEM in place of EXTENT_ITEM for tree blocks.
pub const FEATURE_INCOMPAT_SKINNY_METADATA: u64 = 1 << 8;
/// Holes have no file extent items.
pub const FEATURE_INCOMPAT_NO_HOLES: u64 = 1 << 9;
/// Headers carry `metadata_uuid` in place of `fsid`.
pub const FEATURE_INCOMPAT_METADATA_UUID: u64 = 1 << 10;
/// RAID1C3 or RAID1C4 block groups.
pub const FEATURE_INCOMPAT_RAID1C34: u64 = 1 << 11;
/// Zoned devices.
pub const FEATURE_INCOMPAT_ZONED: u64 = 1 << 12;
/// The second extent tree format.
pub const FEATURE_INCOMPAT_EXTENT_TREE_V2: u64 = 1 << 13;
/// Raid stripe tree.
pub const FEATURE_INCOMPAT_RAID_STRIPE_TREE: u64 = 1 << 14;
/// Simple quotas: extents carry owner references.
pub const FEATURE_INCOMPAT_SIMPLE_QUOTA: u64 = 1 << 16;
/// Remap tree.
pub const FEATURE_INCOMPAT_REMAP_TREE: u64 = 1 << 17;

/// There is a free space tree.
pub const FEATURE_COMPAT_RO_FREE_SPACE_TREE: u64 = 1 << 0;
/// And it is up to date.
pub const FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID: u64 = 1 << 1;
/// Files with fs-verity.
pub const FEATURE_COMPAT_RO_VERITY: u64 = 1 << 2;
/// Block group items are in a tree of their own.
pub const FEATURE_COMPAT_RO_BLOCK_GROUP_TREE: u64 = 1 << 3;

disk_struct! {
    /// `struct btrfs_root_backup`: where the important trees were at one commit.
    #[derive(Copy, Debug)]
    pub struct RootBackup, 168 bytes {
        /// Root tree.
        0 => tree_root: U64,
        /// Its generation.
        8 => tree_root_gen: U64,
        /// Chunk tree.
        16 => chunk_root: U64,
        /// Its generation.
        24 => chunk_root_gen: U64,
        /// Extent tree.
        32 => extent_root: U64,
        /// Its generation.
        40 => extent_root_gen: U64,
        /// Top-level subvolume.
        48 => fs_root: U64,
        /// Its generation.
        56 => fs_root_gen: U64,
        /// Device tree.
        64 => dev_root: U64,
        /// Its generation.
        72 => dev_root_gen: U64,
        /// Checksum tree.
        80 => csum_root: U64,
        /// Its generation.
        88 => csum_root_gen: U64,
        /// Bytes of all devices.
        96 => total_bytes: U64,
        /// Bytes allocated.
        104 => bytes_used: U64,
        /// Devices.
        112 => num_devices: U64,
        /// Zero.
        120 => unused_64: [U64; 4],
        /// Level of the root tree.
        152 => tree_root_level: u8,
        /// Level of the chunk tree.
        153 => chunk_root_level: u8,
        /// Level of the extent tree.
        154 => extent_root_level: u8,
        /// Level of the top-level subvolume.
        155 => fs_root_level: u8,
        /// Level of the device tree.
        156 => dev_root_level: u8,
        /// Level of the checksum tree.
        157 => csum_root_level: u8,
        /// Zero.
        158 => unused_8: [u8; 10],
    }
}

disk_struct! {
    /// `struct btrfs_super_block`.
    pub struct Superblock, 4096 bytes {
        /// Checksum of everything behind this field.
        0 => csum: [u8; 32],
        /// The id that users see.
        32 => fsid: Uuid,
        /// Where this copy is on its device.
        48 => bytenr: U64,
        /// `SUPER_FLAG_*`, and `HEADER_FLAG_WRITTEN`.
        56 => flags: U64,
        /// [`MAGIC`].
        64 => magic: U64,
        /// The transaction that this superblock ends.
        72 => generation: U64,
        /// Root of the root tree.
        80 => root: U64,
        /// Root of the chunk tree.
        88 => chunk_root: U64,
        /// Root of the log root tree, or 0.
        96 => log_root: U64,
        /// Unused.
        104 => unused_log_root_transid: U64,
        /// Bytes of all devices.
        112 => total_bytes: U64,
        /// Bytes allocated in block groups.
        120 => bytes_used: U64,
        /// Always 6.
        128 => root_dir_objectid: U64,
        /// Number of devices.
        136 => num_devices: U64,
        /// Unit of data allocation and checksums.
        144 => sectorsize: U32,
        /// Bytes of a tree block.
        148 => nodesize: U32,
        /// The same.
        152 => unused_leafsize: U32,
        /// The sector size, unused.
        156 => stripesize: U32,
        /// Bytes used of `sys_chunk_array`.
        160 => sys_chunk_array_size: U32,
        /// Generation of the chunk tree's root.
        164 => chunk_root_generation: U64,
        /// Compatible features; none exists.
        172 => compat_flags: U64,
        /// `FEATURE_COMPAT_RO_*`: who doesn't know a bit may read only.
        180 => compat_ro_flags: U64,
        /// `FEATURE_INCOMPAT_*`: who doesn't know a bit may do nothing.
        188 => incompat_flags: U64,
        /// The number of a [`CsumType`].
        196 => csum_type: U16,
        /// Level of the root tree.
        198 => root_level: u8,
        /// Level of the chunk tree.
        199 => chunk_root_level: u8,
        /// Level of the log root tree.
        200 => log_root_level: u8,
        /// The device that this copy is on.
        201 => dev_item: DevItem,
        /// Text, zero-terminated.
        299 => label: [u8; LABEL_SIZE],
        /// Generation that the old free space cache is valid for.
        555 => cache_generation: U64,
        /// Generation that the UUID tree is complete for.
        563 => uuid_tree_generation: U64,
        /// What headers carry where METADATA_UUID is set.
        571 => metadata_uuid: Uuid,
        /// Global roots of extent tree v2.
        587 => nr_global_roots: U64,
        /// Zero (newer features, refused, use some).
        595 => reserved: [U64; 27],
        /// System chunks, needed to read the chunk tree.
        811 => sys_chunk_array: [u8; SYSTEM_CHUNK_ARRAY_SIZE],
        /// Roots of the last four commits.
        2859 => super_roots: [RootBackup; NUM_BACKUP_ROOTS],
        /// Zero.
        3531 => padding: [u8; 565],
    }
}

impl Superblock {
    /// Reads a copy and judges it: magic, checksum, and that its numbers can be worked with.
    /// What its features mean for us is not judged here.
    pub fn parse(bytes: &[u8]) -> Result<Box<Self>> {
        let mut sb = Box::new(Self::zeroed());
        let bytes = bytes
            .get(..SUPER_INFO_SIZE)
            .ok_or_else(|| Error::corrupt("superblock: fewer than 4096 bytes"))?;
        sb.as_mut_bytes().copy_from_slice(bytes);
        if sb.magic.get() != MAGIC {
            // Of another kind, or empty, is not damaged.
            return Err(Error::Unsupported(
                "no btrfs magic in the superblock, so this is no btrfs image".into(),
            ));
        }
        let csum_type = CsumType::from_super(sb.csum_type.get())?;
        if sb.csum[..csum_type.size()] != csum_type.digest(&bytes[32..])[..csum_type.size()] {
            return Err(Error::corrupt(format!(
                "superblock: {csum_type} checksum does not match"
            )));
        }
        sb.sanity()
            .map_err(|reason| Error::corrupt(format!("superblock: {reason}")))?;
        Ok(sb)
    }

    /// As [`Superblock::parse`], for the copy that was read at `at`.
    pub fn parse_at(bytes: &[u8], at: u64) -> Result<Box<Self>> {
        let sb = Self::parse(bytes)?;
        if sb.bytenr.get() != at {
            return Err(Error::corrupt(format!(
                "superblock: found at {at}, but says it belongs at {}",
                sb.bytenr
            )));
        }
        Ok(sb)
    }

    /// Fits the checksum to the content.
    pub fn seal(&mut self) -> Result<()> {
        let csum_type = self.csum_type()?;
        self.csum = csum_type.digest(&self.as_bytes()[32..]);
        Ok(())
    }

    /// The checksum of this image.
    pub fn csum_type(&self) -> Result<CsumType> {
        CsumType::from_super(self.csum_type.get())
    }

    /// The id that headers and device items carry.
    pub fn header_fsid(&self) -> &Uuid {
        if self.has_incompat(FEATURE_INCOMPAT_METADATA_UUID) {
            &self.metadata_uuid
        } else {
            &self.fsid
        }
    }

    /// Whether an incompat feature is on.
    pub fn has_incompat(&self, feature: u64) -> bool {
        self.incompat_flags.get() & feature != 0
    }

    /// Whether a compat_ro feature is on.
    pub fn has_compat_ro(&self, feature: u64) -> bool {
        self.compat_ro_flags.get() & feature != 0
    }

    /// Whether this is a device that others may have grown from.
    pub fn is_seed(&self) -> bool {
        self.flags.get() & SUPER_FLAG_SEEDING != 0
    }

    /// The generation as a [`Generation`].
    pub fn generation(&self) -> Generation {
        Generation(self.generation.get())
    }

    /// Root of the root tree: address, generation, level.
    pub fn tree_root(&self) -> (Logical, Generation, u8) {
        (Logical(self.root.get()), self.generation(), self.root_level)
    }

    /// Root of the chunk tree: address, generation, level.
    pub fn chunk_tree_root(&self) -> (Logical, Generation, u8) {
        let generation = Generation(self.chunk_root_generation.get());
        (
            Logical(self.chunk_root.get()),
            generation,
            self.chunk_root_level,
        )
    }

    /// The label's bytes before the terminating zero.
    pub fn label(&self) -> &[u8] {
        let end = self
            .label
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(LABEL_SIZE);
        &self.label[..end]
    }

    /// The used part of the system chunk array.
    pub fn sys_chunk_bytes(&self) -> &[u8] {
        let size = (self.sys_chunk_array_size.get() as usize).min(SYSTEM_CHUNK_ARRAY_SIZE);
        &self.sys_chunk_array[..size]
    }

    /// The system chunks.
    pub fn sys_chunks(&self) -> SysChunks<'_> {
        SysChunks::new(self.sys_chunk_bytes())
    }

    /// Appends a system chunk; refused when the array is full.
    pub fn push_sys_chunk(&mut self, logical: Logical, chunk_item: &[u8]) -> Result<()> {
        let start = self.sys_chunk_bytes().len();
        let key = DiskKey::from(super::Key::new(
            ids::FIRST_CHUNK_TREE_OBJECTID,
            kind::CHUNK_ITEM,
            logical.0,
        ));
        let entry = [key.as_bytes(), chunk_item].concat();
        let room = self
            .sys_chunk_array
            .get_mut(start..start + entry.len())
            .ok_or(Error::Invalid(
                "the superblock's system chunk array is full",
            ))?;
        room.copy_from_slice(&entry);
        self.sys_chunk_array_size.set((start + entry.len()) as u32);
        Ok(())
    }

    /// Removes the system chunk at `logical`, if it is there.
    pub fn remove_sys_chunk(&mut self, logical: Logical) {
        let mut kept = Vec::new();
        for it in self.sys_chunks().filter(|it| it.key.offset != logical.0) {
            kept.extend(DiskKey::from(it.key).as_bytes());
            kept.extend(it.chunk.encode(it.stripes));
        }
        self.sys_chunk_array = [0; SYSTEM_CHUNK_ARRAY_SIZE];
        self.sys_chunk_array[..kept.len()].copy_from_slice(&kept);
        self.sys_chunk_array_size.set(kept.len() as u32);
    }

    /// Whether numbers make sense, as the kernel asks it at mount.
    fn sanity(&self) -> Result<(), String> {
        let sector = u64::from(self.sectorsize.get());
        if !sector.is_power_of_two() || !(512..=65536).contains(&sector) {
            return Err(format!(
                "sectorsize {sector} is no power of two from 512 to 65536"
            ));
        }
        let node = u64::from(self.nodesize.get());
        if !node.is_power_of_two() || !(4096..=65536).contains(&node) || node < sector {
            return Err(format!(
                "nodesize {node} is no power of two from the sectorsize ({sector}), at least \
                 4096, to 65536"
            ));
        }
        if self.unused_leafsize.get() != self.nodesize.get() {
            return Err(format!(
                "leafsize {} is not nodesize {node}",
                self.unused_leafsize
            ));
        }
        for (name, bytenr, level) in [
            ("root tree", self.root.get(), self.root_level),
            ("chunk tree", self.chunk_root.get(), self.chunk_root_level),
            ("log tree", self.log_root.get(), self.log_root_level),
        ] {
            if level >= super::tree_block::LEVELS_MAX {
                return Err(format!("{name}: level {level} is over 7"));
            }
            if !bytenr.is_multiple_of(sector) {
                return Err(format!(
                    "{name}: address {bytenr} is not a multiple of {sector}"
                ));
            }
            if bytenr == 0 && name != "log tree" {
                return Err(format!("{name}: no address"));
            }
        }
        if !self.stripesize.get().is_power_of_two() {
            return Err(format!("stripesize {} is no power of two", self.stripesize));
        }
        if self.bytes_used.get() < 6 * node {
            return Err(format!(
                "bytes_used {} is less than six nodes",
                self.bytes_used
            ));
        }
        if self.total_bytes.get() == 0 {
            return Err("total_bytes is 0".into());
        }
        if self.num_devices.get() == 0 || self.num_devices.get() > 1 << 31 {
            return Err(format!("{} devices", self.num_devices));
        }
        let fsid = self.header_fsid();
        if self.dev_item.fsid != *fsid {
            return Err("the device item's fsid is not the filesystem's".into());
        }
        let array = self.sys_chunk_array_size.get() as usize;
        let least = DiskKey::SIZE + Chunk::SIZE + Stripe::SIZE;
        if !(least..=SYSTEM_CHUNK_ARRAY_SIZE).contains(&array) {
            return Err(format!(
                "system chunk array of {array} bytes, {least} to 2048 expected"
            ));
        }
        if self.generation.get() < self.chunk_root_generation.get() {
            return Err(format!(
                "generation {} is older than the chunk tree's {}",
                self.generation, self.chunk_root_generation
            ));
        }
        self.check_sys_chunks()
    }

    /// The system chunks are what the chunk tree is read through: nothing else judges them before
    /// they are used.
    fn check_sys_chunks(&self) -> Result<(), String> {
        let ctx = CheckContext::from_superblock(self).map_err(|error| error.to_string())?;
        let mut entries = self.sys_chunks();
        for entry in entries.by_ref() {
            let key = entry.key;
            if key.objectid != ids::FIRST_CHUNK_TREE_OBJECTID || key.kind != kind::CHUNK_ITEM {
                return Err(format!("system chunk array: {key} is no key of a chunk"));
            }
            check_chunk(&ctx, Logical(key.offset), entry.chunk, entry.stripes)
                .map_err(|reason| format!("system chunk array: {reason}"))?;
            if entry.chunk.kind.get() & BLOCK_GROUP_SYSTEM == 0 {
                let words = block_group_flags_words(entry.chunk.kind.get());
                return Err(format!("system chunk array: {key} is a chunk for {words}"));
            }
        }
        match entries.rest().len() {
            0 => Ok(()),
            rest => Err(format!(
                "system chunk array: {rest} bytes hold no whole chunk"
            )),
        }
    }
}

impl std::fmt::Debug for Superblock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Superblock")
            .field("bytenr", &self.bytenr.get())
            .field("generation", &self.generation.get())
            .field("root", &self.root.get())
            .field("chunk_root", &self.chunk_root.get())
            .field("log_root", &self.log_root.get())
            .field("incompat_flags", &self.incompat_flags.get())
            .field("compat_ro_flags", &self.compat_ro_flags.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
