//! The four checksums of blocks and data, and the hashes that item keys are made of.

use crate::error::{Error, Result};
use blake2::Digest;

/// Room for a checksum in headers and superblocks (`BTRFS_CSUM_SIZE`).
pub const CSUM_SIZE_MAX: usize = 32;

/// `enum btrfs_csum_type`: the checksum that an image uses everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CsumType {
    /// crc32c, 4 bytes.
    Crc32c,
    /// xxhash64 with seed 0, 8 bytes.
    Xxhash64,
    /// SHA-256, 32 bytes.
    Sha256,
    /// BLAKE2b with 32 bytes of output.
    Blake2b,
}

impl CsumType {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Crc32c, Self::Xxhash64, Self::Sha256, Self::Blake2b];

    /// The checksum that a superblock's `csum_type` names.
    pub fn from_super(csum_type: u16) -> Result<Self> {
        Self::ALL
            .get(usize::from(csum_type))
            .copied()
            .ok_or_else(|| {
                Error::Unsupported(format!(
                    "checksum type {csum_type} is not known (0 to 3 are): a newer program is needed"
                ))
            })
    }

    /// The number that the superblock holds.
    pub const fn to_super(self) -> u16 {
        match self {
            Self::Crc32c => 0,
            Self::Xxhash64 => 1,
            Self::Sha256 => 2,
            Self::Blake2b => 3,
        }
    }

    /// Bytes of one checksum in csum items; headers hold it zero-padded to 32.
    #[inline]
    pub const fn size(self) -> usize {
        match self {
            Self::Crc32c => 4,
            Self::Xxhash64 => 8,
            Self::Sha256 | Self::Blake2b => 32,
        }
    }

    /// The name that `mkfs` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32c => "crc32c",
            Self::Xxhash64 => "xxhash64",
            Self::Sha256 => "sha256",
            Self::Blake2b => "blake2b",
        }
    }

    /// The checksum of `bytes`, zero-padded.
    pub fn digest(self, bytes: &[u8]) -> [u8; CSUM_SIZE_MAX] {
        let mut out = [0; CSUM_SIZE_MAX];
        match self {
            Self::Crc32c => out[..4].copy_from_slice(&::crc32c::crc32c(bytes).to_le_bytes()),
            Self::Xxhash64 => {
                out[..8].copy_from_slice(&xxhash_rust::xxh64::xxh64(bytes, 0).to_le_bytes());
            }
            Self::Sha256 => out.copy_from_slice(&sha2::Sha256::digest(bytes)),
            Self::Blake2b => {
                out.copy_from_slice(&blake2::Blake2b::<blake2::digest::consts::U32>::digest(
                    bytes,
                ));
            }
        }
        out
    }
}

impl std::fmt::Display for CsumType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The raw crc32c register after `bytes`, started from `seed`: no inversion before or after.
#[inline]
pub fn crc32c(seed: u32, bytes: &[u8]) -> u32 {
    !::crc32c::crc32c_append(!seed, bytes)
}

/// The hash of a name in the keys of DIR_ITEM and XATTR_ITEM.
#[inline]
pub fn name_hash(name: &[u8]) -> u32 {
    crc32c(!1, name)
}

/// The offset of an INODE_EXTREF key: a hash of the parent directory and the name.
#[inline]
pub fn extref_hash(parent: u64, name: &[u8]) -> u64 {
    // The register is 32 bits wide: the parent's upper half does not count.
    u64::from(crc32c(parent as u32, name))
}

/// The offset of an EXTENT_DATA_REF key; inline data refs are ordered by it too.
pub fn extent_data_ref_hash(root: u64, objectid: u64, offset: u64) -> u64 {
    let high = crc32c(!0, &root.to_le_bytes());
    let low = crc32c(!0, &objectid.to_le_bytes());
    let low = crc32c(low, &offset.to_le_bytes());
    (u64::from(high) << 31) ^ u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_match_published_vectors() {
        let crc = CsumType::Crc32c.digest(b"123456789");
        assert_eq!(&crc[..4], &0xe306_9283u32.to_le_bytes());
        assert!(crc[4..].iter().all(|&b| b == 0));
        let xx = CsumType::Xxhash64.digest(b"");
        assert_eq!(&xx[..8], &0xef46_db37_51d8_e999u64.to_le_bytes());
        let sha = CsumType::Sha256.digest(b"abc");
        assert_eq!(&sha[..4], &[0xba, 0x78, 0x16, 0xbf]);
        let blake = CsumType::Blake2b.digest(b"abc");
        assert_eq!(&blake[..4], &[0xbd, 0xdd, 0x81, 0x3c]);
    }

    #[test]
    fn the_default_entry_has_its_well_known_hash() {
        assert_eq!(name_hash(b"default"), 2_378_154_706);
    }

    #[test]
    fn unknown_checksum_types_are_refused_in_words() {
        assert_eq!(CsumType::from_super(3).ok(), Some(CsumType::Blake2b));
        assert!(
            CsumType::from_super(4)
                .unwrap_err()
                .to_string()
                .contains("checksum type 4")
        );
    }
}
