//! A volume over devices that fail and lie.

use super::*;
use crate::ondisk::superblock::{MAGIC, SUPER_INFO_SIZE, SUPER_MIRRORS};
use crate::ondisk::{Chunk, CsumType, Stripe, Superblock};
use crate::sync::Arc;
use crate::units::{DevId, Logical, MIB, Physical};
use crate::{Error, Result};

const SIZE: u64 = 128 * MIB;
const CHUNK: Logical = Logical(16 * MIB);
const COPIES: [u64; 2] = [20 * MIB, 40 * MIB];

fn superblock(generation: u64) -> Superblock {
    let mut superblock = Superblock::zeroed();
    superblock.magic = MAGIC.into();
    superblock.generation = generation.into();
    superblock.num_devices = 1.into();
    superblock.sectorsize = 4096.into();
    superblock.nodesize = 16384.into();
    superblock.unused_leafsize = 16384.into();
    superblock.stripesize = 4096.into();
    superblock.total_bytes = SIZE.into();
    superblock.bytes_used = (1 << 20).into();
    superblock.root = (CHUNK.get() + 16384).into();
    superblock.chunk_root = CHUNK.get().into();
    superblock.incompat_flags = 0x341.into();
    superblock.root_dir_objectid = 6.into();
    superblock.dev_item.devid = 1.into();
    superblock.dev_item.total_bytes = SIZE.into();
    let chunk = Chunk {
        length: (8 * MIB).into(),
        owner: 2.into(),
        stripe_len: 65536.into(),
        kind: (profile::SYSTEM | profile::DUP).into(),
        sector_size: 4096.into(),
        ..Chunk::default()
    };
    let stripes = COPIES.map(|offset| Stripe {
        devid: 1.into(),
        offset: offset.into(),
        ..Stripe::default()
    });
    superblock
        .push_sys_chunk(CHUNK, &chunk.encode(&stripes))
        .unwrap();
    superblock
}

fn write_copy(device: &dyn BlockDevice, superblock: &Superblock, mirror: usize) {
    let mut copy = superblock.clone();
    copy.bytenr = SUPER_MIRRORS[mirror].into();
    copy.seal().unwrap();
    device
        .write_at(SUPER_MIRRORS[mirror], copy.as_bytes())
        .unwrap();
}

fn device(generation: u64) -> Arc<FaultyDevice<MemoryDevice>> {
    let device = MemoryDevice::zeroed(SIZE);
    write_copy(&device, &superblock(generation), 0);
    write_copy(&device, &superblock(generation), 1);
    Arc::new(FaultyDevice::over(Arc::new(device)))
}

fn open(device: &Arc<FaultyDevice<MemoryDevice>>, read_only: bool) -> Result<(Volume, Superblock)> {
    Volume::open(vec![Arc::clone(device) as Arc<dyn BlockDevice>], read_only)
}

fn stored(device: &FaultyDevice<MemoryDevice>, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    device.inner().read_at(at, &mut bytes).unwrap();
    bytes
}

fn all_sevens(bytes: &[u8]) -> Result<()> {
    match bytes.iter().all(|&byte| byte == 7) {
        true => Ok(()),
        false => Err(Error::corrupt("not all sevens")),
    }
}

#[test]
fn a_volume_knows_its_geometry_and_its_system_chunks() {
    let (volume, superblock) = open(&device(9), false).unwrap();
    assert_eq!(superblock.generation.get(), 9);
    assert_eq!((volume.sectorsize(), volume.nodesize()), (4096, 16384));
    assert_eq!(volume.csum_type(), CsumType::Crc32c);
    let (start, chunk) = volume.chunks().chunk_at(Logical(CHUNK.get() + 1)).unwrap();
    assert_eq!(start, CHUNK);
    assert_eq!(chunk.stripes[1], (DevId(1), Physical(COPIES[1])));
}

#[test]
fn the_newest_valid_superblock_is_chosen_and_never_an_older_one() {
    for (primary, mirror, expected) in [(5, 5, 5), (5, 6, 6), (6, 5, 6)] {
        let device = device(primary);
        write_copy(&*device, &superblock(mirror), 1);
        assert_eq!(open(&device, true).unwrap().1.generation.get(), expected);
    }
}

/// A log is written under its commit's generation, so the first copy without it looked as good as the
/// second one with it, and an fsync that had been answered was gone.
#[test]
fn a_log_that_only_the_mirror_names_is_younger_than_a_commit_without() {
    for (logs, expected) in [([0, 7], 7), ([7, 0], 7), ([7, 9], 7)] {
        let device = device(5);
        for (mirror, log) in logs.into_iter().enumerate() {
            let mut copy = superblock(5);
            copy.log_root = (log << 20).into();
            write_copy(&*device, &copy, mirror);
        }
        let chosen = open(&device, true).unwrap().1;
        assert_eq!(chosen.log_root.get(), expected << 20, "{logs:?}");
    }
}

/// The device said that it wrote the second copy, and wrote it over the first. What was left in the second
/// place was the commit before, which was shown as if nothing had been acknowledged since.
#[test]
fn a_copy_in_anothers_place_is_still_the_newest() {
    let astray = |generation: u64, fsid: u8| {
        let device = device(5);
        let mut copy = superblock(generation);
        copy.bytes_used = (2 << 20).into();
        copy.fsid = [fsid; 16];
        copy.bytenr = SUPER_MIRRORS[1].into();
        copy.seal().unwrap();
        device.write_at(SUPER_MIRRORS[0], copy.as_bytes()).unwrap();
        let (volume, chosen) = open(&device, true).unwrap();
        assert!(volume.superblocks_differ(), "and is healed");
        chosen.bytes_used.get() == 2 << 20
    };
    assert!(astray(6, 0));
    assert!(
        astray(5, 0),
        "two logs of one transaction are of the same age"
    );
    assert!(!astray(4, 0), "an older one");
    assert!(!astray(6, 3), "another filesystem's");
}

#[test]
fn a_bad_primary_superblock_gives_way_to_its_mirror_and_is_healed_by_a_commit() {
    let device = device(9);
    device.flip(SUPER_MIRRORS[0] + 100, 1).unwrap();
    let (volume, mut superblock) = open(&device, false).unwrap();
    assert_eq!(superblock.bytenr.get(), SUPER_MIRRORS[1]);
    superblock.generation = 10.into();
    volume.write_superblocks(&mut superblock).unwrap();
    let errors = volume.device_errors()[0].2;
    assert_eq!((errors.corruption_errors, errors.repaired), (1, 1));
    for at in SUPER_MIRRORS.into_iter().take(2) {
        let copy = Superblock::parse(&stored(&device, at, SUPER_INFO_SIZE)).unwrap();
        assert_eq!((copy.generation.get(), copy.bytenr.get()), (10, at));
    }
}

#[test]
fn a_superblock_that_cannot_be_read_is_counted_and_repaired_once() {
    let device = device(9);
    device.plan(Fault::FailRead(2));
    let (volume, mut superblock) = open(&device, false).unwrap();
    assert!(volume.superblocks_differ());
    let counted = || {
        let errors = volume.device_errors()[0].2;
        (errors.read_errors, errors.repaired)
    };
    assert_eq!(counted(), (1, 0));
    volume.write_superblocks(&mut superblock).unwrap();
    volume.write_superblocks(&mut superblock).unwrap();
    assert_eq!(counted(), (1, 1));
}

#[test]
fn a_mirror_of_another_filesystem_is_ignored_and_no_superblock_is_said() {
    let device = device(9);
    let mut stranger = superblock(1000);
    stranger.fsid = [3; 16];
    write_copy(&*device, &stranger, 1);
    assert_eq!(open(&device, true).unwrap().1.generation.get(), 9);
    device.flip(SUPER_MIRRORS[0], 1).unwrap();
    device.flip(SUPER_MIRRORS[1], 1).unwrap();
    assert!(matches!(open(&device, true), Err(Error::Corrupt(_))));
}

#[test]
fn a_cut_off_image_is_only_read() {
    let device = device(9);
    let mut larger = superblock(10);
    larger.dev_item.total_bytes = (SIZE + 4096).into();
    larger.total_bytes = (SIZE + 4096).into();
    write_copy(&*device, &larger, 0);
    assert!(matches!(open(&device, false), Err(Error::Corrupt(_))));
    assert!(open(&device, true).is_ok());
}

#[test]
fn several_devices_are_refused_in_words() {
    let device = device(9);
    let mut two = superblock(10);
    two.num_devices = 2.into();
    write_copy(&*device, &two, 0);
    let error = open(&device, true).err().unwrap();
    assert!(
        matches!(&error, Error::Unsupported(why) if why.contains("2 devices")),
        "{error}"
    );
}

#[test]
fn writes_go_to_every_copy_and_one_good_copy_is_enough() {
    let device = device(9);
    let (volume, _) = open(&device, false).unwrap();
    volume.write(CHUNK, &[7; 8192]).unwrap();
    for at in COPIES {
        assert_eq!(stored(&device, at, 8192), [7; 8192]);
    }
    device.plan(Fault::FailWrite(1));
    volume.write(CHUNK, &[8; 4096]).unwrap();
    assert_eq!(stored(&device, COPIES[0], 4096), [7; 4096]);
    assert_eq!(stored(&device, COPIES[1], 4096), [8; 4096]);
    assert_eq!(volume.device_errors()[0].2.write_errors, 1);
    device.plan(Fault::FailWrite(1));
    device.plan(Fault::FailWrite(2));
    assert!(matches!(
        volume.write(CHUNK, &[9; 4096]),
        Err(Error::Device { .. })
    ));
}

#[test]
fn a_bad_copy_is_read_around_repaired_and_counted() {
    let device = device(9);
    let (volume, _) = open(&device, false).unwrap();
    volume.write(CHUNK, &[7; 16384]).unwrap();
    device.flip(COPIES[0] + 5000, 0x10).unwrap();
    let mut buf = vec![0; 16384];
    volume
        .read_verified(CHUNK, &mut buf, &mut all_sevens)
        .unwrap();
    assert_eq!(buf, [7; 16384]);
    assert_eq!(stored(&device, COPIES[0], 16384), [7; 16384]);
    let errors = volume.device_errors()[0].2;
    assert_eq!((errors.corruption_errors, errors.repaired), (1, 1));
}

#[test]
fn a_copy_that_cannot_be_read_is_repaired_too() {
    let device = device(9);
    let (volume, _) = open(&device, false).unwrap();
    volume.write(CHUNK, &[7; 4096]).unwrap();
    device.plan(Fault::BadRange(COPIES[0]..COPIES[0] + 512));
    let mut buf = vec![0; 4096];
    volume
        .read_verified(CHUNK, &mut buf, &mut all_sevens)
        .unwrap();
    let errors = volume.device_errors()[0].2;
    assert_eq!((errors.read_errors, errors.repaired), (2, 1));
}

#[test]
fn a_read_only_volume_repairs_nothing() {
    let device = device(9);
    open(&device, false)
        .unwrap()
        .0
        .write(CHUNK, &[7; 4096])
        .unwrap();
    device.flip(COPIES[0], 1).unwrap();
    let (volume, _) = open(&device, true).unwrap();
    let mut buf = vec![0; 4096];
    let writes = device.calls().writes;
    volume
        .read_verified(CHUNK, &mut buf, &mut all_sevens)
        .unwrap();
    assert!(matches!(volume.write(CHUNK, &buf), Err(Error::ReadOnly(_))));
    assert_eq!(device.calls().writes, writes);
}

/// The image may turn out to be one that must not be written, whatever the device allows.
#[test]
fn while_writes_are_held_nothing_is_written() {
    let device = device(9);
    let (volume, mut superblock) = open(&device, false).unwrap();
    volume.write(CHUNK, &[7; 4096]).unwrap();
    device.flip(COPIES[0], 1).unwrap();
    volume.hold_writes();
    let mut buf = vec![0; 4096];
    let writes = device.calls().writes;
    volume
        .read_verified(CHUNK, &mut buf, &mut all_sevens)
        .unwrap();
    assert!(matches!(volume.write(CHUNK, &buf), Err(Error::ReadOnly(_))));
    assert!(volume.write_superblocks(&mut superblock).is_err());
    volume.discard(CHUNK, 4096).unwrap();
    assert_eq!(stored(&device, COPIES[1], 4096), [7; 4096]);
    assert_eq!(device.calls().writes, writes);
    volume.release_writes();
    volume
        .read_verified(CHUNK, &mut buf, &mut all_sevens)
        .unwrap();
    assert_eq!(stored(&device, COPIES[0], 4096), [7; 4096]);
}

#[test]
fn copies_of_the_superblock_that_differ_are_noticed() {
    for (primary, mirror, differ) in [(9, 9, false), (9, 8, true), (8, 9, true)] {
        let device = device(primary);
        write_copy(&*device, &superblock(mirror), 1);
        assert_eq!(open(&device, true).unwrap().0.superblocks_differ(), differ);
    }
    let device = device(9);
    device.flip(SUPER_MIRRORS[1] + 100, 1).unwrap();
    assert!(open(&device, true).unwrap().0.superblocks_differ());
}

#[test]
fn when_every_copy_is_bad_the_reason_of_the_first_is_told() {
    let device = device(9);
    let (volume, _) = open(&device, false).unwrap();
    let error = volume
        .read_verified(CHUNK, &mut [0; 4096], &mut all_sevens)
        .unwrap_err();
    assert!(error.to_string().contains("not all sevens"));
    assert_eq!(volume.device_errors()[0].2.repaired, 0);
}

/// A block that was freed and written anew between the read and the repair must not get its old
/// bytes back.
#[test]
fn a_repair_leaves_newer_content_alone() {
    let device = device(9);
    let (volume, _) = open(&device, false).unwrap();
    volume.write(CHUNK, &[7; 4096]).unwrap();
    device.flip(COPIES[0], 1).unwrap();
    let mut rewritten = false;
    let mut verify = |bytes: &[u8]| {
        let verdict = all_sevens(bytes);
        if verdict.is_ok() && !rewritten {
            rewritten = true;
            for at in COPIES {
                device.inner().write_at(at, &[9; 4096]).unwrap();
            }
        }
        verdict
    };
    volume
        .read_verified(CHUNK, &mut [0; 4096], &mut verify)
        .unwrap();
    for at in COPIES {
        assert_eq!(stored(&device, at, 4096), [9; 4096]);
    }
}

#[test]
fn a_range_may_span_chunks_and_may_not_leave_them() {
    let device = device(9);
    let (volume, _) = open(&device, false).unwrap();
    let end = CHUNK.get() + 8 * MIB;
    let mapping = ChunkMapping {
        len: MIB,
        flags: profile::DATA,
        stripe_len: 65536,
        sub_stripes: 0,
        stripes: vec![(DevId(1), Physical(80 * MIB))],
    };
    volume.chunks().insert_chunk(Logical(end), mapping).unwrap();
    volume.write(Logical(end - 4096), &[7; 8192]).unwrap();
    assert_eq!(stored(&device, COPIES[1] + 8 * MIB - 4096, 4096), [7; 4096]);
    assert_eq!(stored(&device, 80 * MIB, 4096), [7; 4096]);
    let mut buf = vec![0; 8192];
    volume.read(Logical(end - 4096), &mut buf, 0).unwrap();
    assert_eq!(buf, [7; 8192]);
    assert!(volume.read(Logical(end + MIB - 1), &mut [0; 2], 0).is_err());
    assert!(volume.read(Logical(u64::MAX), &mut [0; 2], 0).is_err());
}

#[test]
fn no_chunk_can_reach_a_superblock() {
    let device = device(9);
    let (volume, _) = open(&device, false).unwrap();
    let mapping = ChunkMapping {
        len: MIB,
        flags: profile::DATA,
        stripe_len: 65536,
        sub_stripes: 0,
        stripes: vec![(DevId(1), Physical(64 * MIB))],
    };
    let around = ChunkMapping {
        stripes: vec![(DevId(1), Physical(64 * MIB - 4096))],
        ..mapping.clone()
    };
    for (logical, mapping) in [(64 * MIB, mapping), (80 * MIB, around)] {
        volume
            .chunks()
            .insert_chunk(Logical(logical), mapping)
            .unwrap();
    }
    // The whole copy, one that a write begins or ends inside of, one in the middle of a write.
    for (at, len) in [
        (64 * MIB, 4096),
        (64 * MIB + 2048, 4096),
        (80 * MIB + 2048, 4096),
        (80 * MIB, 16384),
    ] {
        let done = volume.write(Logical(at), &vec![0; len]);
        assert!(matches!(done, Err(Error::Corrupt(_))), "{len} at {at}");
    }
    volume.write(Logical(80 * MIB), &[0; 4096]).unwrap();
    assert!(matches!(
        volume.discard(Logical(64 * MIB), MIB),
        Err(Error::Corrupt(_))
    ));
    volume.write(Logical(64 * MIB + 4096), &[0; 4096]).unwrap();
}

#[test]
fn only_the_first_superblock_must_be_writable() {
    let device = device(9);
    let (volume, mut superblock) = open(&device, false).unwrap();
    device.plan(Fault::FailWrite(2));
    volume.write_superblocks(&mut superblock).unwrap();
    device.plan(Fault::FailWrite(1));
    assert!(volume.write_superblocks(&mut superblock).is_err());
    device.plan(Fault::FailFlush(1));
    assert!(volume.flush().is_err());
    assert_eq!(volume.device_errors()[0].2.flush_errors, 1);
}
