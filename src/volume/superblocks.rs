//! The copies of the superblock: which one to believe, and how to write them all.
//!
//! Copies lie at 64 KiB, 64 MiB and 256 GiB of each device, where the device is large enough.
//! All are written at each commit, the first one first. The newest valid one is believed. The
//! kernel looks at the first only and refuses an image whose first is bad; here the next one
//! takes over, openly: it is logged as an error, and the next commit heals the first.
//!
//! Never rolls back: a copy that is older than another valid one of the same filesystem is
//! never chosen.

use super::chunk_map::{ChunkMap, ChunkMapping};
use super::device::BlockDevice;
use super::member::Member;
use crate::ondisk::SysChunk;
use crate::ondisk::superblock::{SUPER_INFO_SIZE, SUPER_MIRRORS, Superblock};
use crate::units::{Logical, Physical};
use crate::{Error, Result};

/// The copy at `offset`, if it is there and valid.
fn read_copy(device: &dyn BlockDevice, offset: u64) -> Result<Box<Superblock>> {
    let mut bytes = vec![0; SUPER_INFO_SIZE];
    device.read_at(offset, &mut bytes).map_err(|error| {
        Error::device(
            format!("read the superblock at {offset} of {}", device.name()),
            error,
        )
    })?;
    Superblock::parse_at(&bytes, offset)
}

/// Offsets of the copies that a device of `size` bytes has.
fn offsets_within(size: u64) -> impl Iterator<Item = u64> {
    SUPER_MIRRORS
        .into_iter()
        .filter(move |offset| offset + SUPER_INFO_SIZE as u64 <= size)
}

/// The newest valid copy on a device, and whether another copy says something else.
pub(super) fn choose(device: &dyn BlockDevice) -> Result<(Box<Superblock>, bool)> {
    let superblock = newest(device)?;
    let size = superblock
        .dev_item
        .total_bytes
        .get()
        .min(device.size_bytes());
    let differ = offsets_within(size).any(|offset| {
        read_copy(device, offset).map_or(true, |copy| {
            let says = |it: &Superblock| (it.fsid, it.generation, it.log_root);
            says(&copy) != says(&superblock)
        })
    });
    Ok((superblock, differ))
}

fn newest(device: &dyn BlockDevice) -> Result<Box<Superblock>> {
    let mut copies = offsets_within(device.size_bytes()).map(|offset| read_copy(device, offset));
    let primary = copies.next().unwrap_or_else(|| {
        Err(Error::corrupt(format!(
            "{} has only {} bytes: no btrfs filesystem fits",
            device.name(),
            device.size_bytes()
        )))
    });
    // A mirror may be left over from a filesystem that was here before: only the first copy's
    // filesystem counts while it is valid.
    let family = primary.as_ref().ok().map(|superblock| superblock.fsid);
    let best_mirror = copies
        .filter_map(Result::ok)
        .filter(|mirror| family.is_none_or(|fsid| fsid == mirror.fsid))
        .max_by_key(|mirror| mirror.generation.get());
    match (primary, best_mirror) {
        (Ok(primary), Some(mirror)) if mirror.generation.get() > primary.generation.get() => {
            log::error!(
                "{}: the first superblock is of generation {}, the copy at {} of generation {}: \
                 the last commit didn't reach the first one; going on with the newer copy",
                device.name(),
                primary.generation.get(),
                mirror.bytenr.get(),
                mirror.generation.get()
            );
            Ok(mirror)
        }
        (Ok(primary), _) => Ok(primary),
        (Err(error), Some(mirror)) => {
            log::error!(
                "{}: the first superblock is bad ({error}): going on with the copy at {} of \
                 generation {}; the next commit heals the first one",
                device.name(),
                mirror.bytenr.get(),
                mirror.generation.get()
            );
            Ok(mirror)
        }
        (Err(error), None) => Err(error),
    }
}

/// Fills `chunks` from the superblock's own array.
pub(super) fn learn_system_chunks(superblock: &Superblock, chunks: &ChunkMap) -> Result<()> {
    let mut entries = superblock.sys_chunks();
    for entry in &mut entries {
        let SysChunk {
            key,
            chunk,
            stripes,
        } = entry;
        chunks.insert_chunk(Logical(key.offset), ChunkMapping::from_item(chunk, stripes))?;
    }
    match entries.rest().len() {
        0 => Ok(()),
        left => Err(Error::corrupt(format!(
            "the superblock's system chunk array ends with {left} bytes that are no chunk"
        ))),
    }
}

/// Writes every copy on every device, the first one first; each gets its own `bytenr` and
/// checksum.
///
/// # Errors
/// The first copy of a device couldn't be written. A mirror's failure is only logged.
pub(super) fn write_all(members: &[Member], superblock: &mut Superblock) -> Result<()> {
    for member in members {
        let size = superblock
            .dev_item
            .total_bytes
            .get()
            .min(member.device.size_bytes());
        for (number, offset) in offsets_within(size).enumerate() {
            superblock.bytenr = offset.into();
            superblock.seal()?;
            match member.write(Physical(offset), superblock.as_bytes()) {
                Err(error) if number == 0 => return Err(error),
                Err(error) => log::error!("superblock copy {number}: {error}"),
                Ok(()) => {}
            }
        }
    }
    Ok(())
}

/// No content may ever be written over a superblock, whatever a chunk claims.
pub(super) fn refuse_overlap(at: Physical, len: u64) -> Result<()> {
    let end = at.get().saturating_add(len);
    for offset in SUPER_MIRRORS {
        if at.get() < offset + SUPER_INFO_SIZE as u64 && offset < end {
            return Err(Error::corrupt(format!(
                "{len} bytes at {at} of the device would overwrite the superblock at {offset}"
            )));
        }
    }
    Ok(())
}
