//! What may be on a device already: signatures of common formats.
//!
//! A modest list, made so that a slip of the finger meets a question. It is no replacement for
//! `wipefs`.

use crate::error::{Error, Result};
use crate::ondisk::superblock::{SUPER_INFO_SIZE, SUPER_MIRRORS, Superblock};
use crate::volume::BlockDevice;

/// A format that was recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature {
    /// What it is.
    pub name: &'static str,
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Name, offset, bytes that are there.
const SIGNATURES: &[(&str, u64, &[u8])] = &[
    ("a btrfs filesystem", 65536 + 64, b"_BHRfS_M"),
    ("an ext2, ext3 or ext4 filesystem", 1024 + 56, &[0x53, 0xef]),
    ("an XFS filesystem", 0, b"XFSB"),
    ("an F2FS filesystem", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    ("an EROFS filesystem", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("a squashfs filesystem", 0, b"hsqs"),
    ("a ReiserFS filesystem", 65536 + 52, b"ReIsEr"),
    ("a JFS filesystem", 32768, b"JFS1"),
    (
        "a bcachefs filesystem",
        4096 + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d,
            0xf7, 0xef,
        ],
    ),
    ("an NTFS filesystem", 3, b"NTFS    "),
    ("an exFAT filesystem", 3, b"EXFAT   "),
    ("a FAT filesystem", 82, b"FAT32   "),
    ("a FAT filesystem", 54, b"FAT16   "),
    ("a FAT filesystem", 54, b"FAT12   "),
    ("an ISO 9660 filesystem", 32769, b"CD001"),
    ("a UDF filesystem", 32769, b"BEA01"),
    ("swap space", 4086, b"SWAPSPACE2"),
    ("an encrypted LUKS volume", 0, b"LUKS\xba\xbe"),
    ("an LVM physical volume", 512, b"LABELONE"),
    ("a member of a Linux RAID", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("a member of a Linux RAID", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("a GPT partition table", 512, b"EFI PART"),
    ("a QCOW2 image", 0, b"QFI\xfb"),
];

/// The first signature on a device, if there is one.
pub fn find_signature(device: &dyn BlockDevice) -> Result<Option<Signature>> {
    let mut head = vec![0; device.size_bytes().min(128 << 10) as usize];
    device
        .read_at(0, &mut head)
        .map_err(|error| Error::device(format!("read {}", device.name()), error))?;
    let is_there = |&&(_, at, bytes): &&(&str, u64, &[u8])| {
        head.get(at as usize..)
            .is_some_and(|rest| rest.starts_with(bytes))
    };
    let known = SIGNATURES
        .iter()
        .find(is_there)
        .map(|&(name, ..)| Signature { name });
    match known.or_else(|| has_partitions(&head)) {
        Some(known) => Ok(Some(known)),
        None => has_mirror(device),
    }
}

/// A filesystem whose first superblock is lost is still one: we mount it by the second.
fn has_mirror(device: &dyn BlockDevice) -> Result<Option<Signature>> {
    for at in &SUPER_MIRRORS[1..] {
        if at + SUPER_INFO_SIZE as u64 > device.size_bytes() {
            break;
        }
        let mut block = vec![0; SUPER_INFO_SIZE];
        device
            .read_at(*at, &mut block)
            .map_err(|error| Error::device(format!("read {}", device.name()), error))?;
        // The magic alone may be the content of a file.
        if Superblock::parse_at(&block, *at).is_ok() {
            let name = "a btrfs filesystem without its first superblock";
            return Ok(Some(Signature { name }));
        }
    }
    Ok(None)
}

/// A partition table of the old kind: its mark, and at least one partition that has a type, a
/// start and a length.
fn has_partitions(head: &[u8]) -> Option<Signature> {
    if head.get(510..512) != Some(&[0x55, 0xaa]) {
        return None;
    }
    let in_use = |entry: &[u8]| {
        let filled = |range: std::ops::Range<usize>| entry[range].iter().any(|&byte| byte != 0);
        (entry[0] == 0 || entry[0] == 0x80) && entry[4] != 0 && filled(8..12) && filled(12..16)
    };
    let table = head.get(446..510)?;
    table.chunks_exact(16).any(in_use).then_some(Signature {
        name: "a partition table",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::MemoryDevice;

    #[test]
    fn every_signature_is_found_and_nothing_in_zeroes() {
        assert_eq!(
            find_signature(&MemoryDevice::zeroed(1 << 20)).expect("readable"),
            None
        );
        for &(name, at, bytes) in SIGNATURES {
            let device = MemoryDevice::zeroed(1 << 20);
            device.write_at(at, bytes).expect("inside");
            let found = find_signature(&device).expect("readable").expect("planted");
            assert_eq!(found.name, name);
        }
    }

    #[test]
    fn a_filesystem_without_its_first_superblock_is_still_one() {
        let device = MemoryDevice::zeroed(256 << 20);
        let options = crate::commit::mkfs::MkfsOptions::default();
        crate::commit::mkfs::make(&device, &options).expect("room enough");
        device
            .write_at(SUPER_MIRRORS[0], &[0; 4096])
            .expect("inside");
        let found = find_signature(&device).expect("readable").expect("there");
        assert!(found.name.contains("first superblock"), "{found}");
        device.write_at(SUPER_MIRRORS[1], &[0; 32]).expect("inside");
        assert_eq!(find_signature(&device).expect("readable"), None);
    }

    #[test]
    fn a_boot_sector_is_no_partition_table_until_a_partition_is_in_it() {
        let device = MemoryDevice::zeroed(1 << 20);
        device.write_at(510, &[0x55, 0xaa]).expect("inside");
        assert_eq!(find_signature(&device).expect("readable"), None);
        let entry = [0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0];
        device.write_at(446, &entry).expect("inside");
        assert!(find_signature(&device).expect("readable").is_some());
    }
}
