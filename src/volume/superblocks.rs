//! The copies of the superblock: which one to believe, and how to write them all.
//!
//! Copies lie at 64 KiB, 64 MiB and 256 GiB of each device, where the device is large enough.
//! All are written at each commit, the first one first. The newest valid one is believed. The
//! kernel looks at the first only and refuses an image whose first is bad; here the next one
//! takes over, openly: it is logged as an error, and the next commit heals the first.
//!
//! Never rolls back: a copy that is older than another valid one of the same filesystem is
//! never chosen, also where the newer one lies in another's place, which takes a device that lies.

use super::chunk_map::{ChunkMap, ChunkMapping};
use super::device::BlockDevice;
use super::member::Member;
use crate::ondisk::SysChunk;
use crate::ondisk::superblock::{SUPER_INFO_SIZE, SUPER_MIRRORS, Superblock};
use crate::units::{Logical, Physical};
use crate::{Error, Result};

/// A valid copy, and where it was found.
struct Found {
    at: u64,
    superblock: Box<Superblock>,
}

impl Found {
    /// A write that went astray leaves a copy where another one belongs.
    fn is_at_home(&self) -> bool {
        self.superblock.bytenr.get() == self.at
    }

    /// What orders copies in time. A log is written under the generation of the last commit, which had
    /// none.
    fn age(&self) -> (u64, bool) {
        let superblock = &self.superblock;
        let has_log = superblock.log_root.get() != 0;
        (superblock.generation.get(), has_log)
    }
}

/// The copy at `offset`, if there is a valid one, be it that one or another.
fn read_copy(device: &dyn BlockDevice, offset: u64) -> Result<Found> {
    let mut bytes = vec![0; SUPER_INFO_SIZE];
    device.read_at(offset, &mut bytes).map_err(|error| {
        Error::device(
            format!("read the superblock at {offset} of {}", device.name()),
            error,
        )
    })?;
    Ok(Found {
        at: offset,
        superblock: Superblock::parse(&bytes)?,
    })
}

/// Offsets of the copies that a device of `size` bytes has.
fn offsets_within(size: u64) -> impl Iterator<Item = u64> {
    SUPER_MIRRORS
        .into_iter()
        .filter(move |offset| offset + SUPER_INFO_SIZE as u64 <= size)
}

/// The superblock of a device.
pub(super) struct Chosen {
    /// The newest valid copy.
    pub superblock: Box<Superblock>,
    /// Some copy says something else.
    pub differ: bool,
    /// Copies that couldn't be read.
    pub unreadable: Vec<u64>,
    /// Copies that were no valid superblock, or another one's.
    pub bad: Vec<u64>,
}

/// Reads every copy, and chooses.
pub(super) fn choose(device: &dyn BlockDevice) -> Result<Chosen> {
    let mut homes = Vec::new();
    let mut strays = Vec::new();
    let (mut unreadable, mut bad) = (Vec::new(), Vec::new());
    for offset in offsets_within(device.size_bytes()) {
        homes.push(match read_copy(device, offset) {
            Ok(copy) if copy.is_at_home() => Ok(copy),
            Ok(copy) => {
                bad.push(offset);
                let error = Error::corrupt(format!(
                    "superblock: found at {offset}, but says it belongs at {}",
                    copy.superblock.bytenr
                ));
                strays.push(copy);
                Err(error)
            }
            Err(error) => {
                match error {
                    Error::Device { .. } => unreadable.push(offset),
                    _ => bad.push(offset),
                }
                Err(error)
            }
        });
    }
    let says = |copy: &Found| {
        let it = &copy.superblock;
        (copy.at, it.fsid, it.generation, it.log_root)
    };
    let said: Vec<_> = homes
        .iter()
        .map(|copy| copy.as_ref().ok().map(says))
        .collect();
    let superblock = newest(device, homes, strays)?;
    // What lies behind the filesystem's end isn't its own.
    let size = superblock.dev_item.total_bytes.get();
    let is_inside = |at: &u64| at + SUPER_INFO_SIZE as u64 <= size;
    unreadable.retain(is_inside);
    bad.retain(is_inside);
    let (fsid, generation, log) = (superblock.fsid, superblock.generation, superblock.log_root);
    let differ = offsets_within(device.size_bytes())
        .zip(said)
        .any(|(at, said)| is_inside(&at) && said != Some((at, fsid, generation, log)));
    Ok(Chosen {
        superblock,
        differ,
        unreadable,
        bad,
    })
}

fn newest(
    device: &dyn BlockDevice,
    homes: Vec<Result<Found>>,
    strays: Vec<Found>,
) -> Result<Box<Superblock>> {
    let mut homes = homes.into_iter();
    let primary = homes.next().unwrap_or_else(|| {
        Err(Error::corrupt(format!(
            "{} has only {} bytes: no btrfs filesystem fits",
            device.name(),
            device.size_bytes()
        )))
    });
    // A mirror may be left over from a filesystem that was here before: only the first copy's
    // filesystem counts while it is valid.
    let family = primary.as_ref().ok().map(|copy| copy.superblock.fsid);
    let mirrors: Vec<Found> = homes
        .filter_map(Result::ok)
        .filter(|mirror| family.is_none_or(|fsid| fsid == mirror.superblock.fsid))
        .collect();
    // Of equals the first.
    let best_mirror = mirrors.into_iter().rev().max_by_key(Found::age);
    let best = match (primary, best_mirror) {
        (Ok(primary), Some(mirror)) if mirror.age() > primary.age() => {
            log::error!(
                "{}: the first superblock is of generation {}, the copy at {} of generation {}{}: \
                 what was written last didn't reach the first one; going on with the newer copy",
                device.name(),
                primary.superblock.generation.get(),
                mirror.at,
                mirror.superblock.generation.get(),
                if mirror.age().1 { " with a log" } else { "" }
            );
            mirror
        }
        (Ok(primary), _) => primary,
        (Err(error), Some(mirror)) => {
            log::error!(
                "{}: the first superblock is bad ({error}): going on with the copy at {} of \
                 generation {}; the next commit heals the first one",
                device.name(),
                mirror.at,
                mirror.superblock.generation.get()
            );
            mirror
        }
        (Err(error), None) => return Err(error),
    };
    Ok(newest_stray(device, strays, best).superblock)
}

/// A device may say that it wrote a copy, and have put it over another one. What is in its own place is
/// from before that, and so it is of equals the newest: later writes would have gone over it, too.
fn newest_stray(device: &dyn BlockDevice, strays: Vec<Found>, best: Found) -> Found {
    let is_ours = |copy: &Found| {
        SUPER_MIRRORS.contains(&copy.superblock.bytenr.get())
            && copy.superblock.fsid == best.superblock.fsid
            && copy.age() >= best.age()
    };
    let newest = strays.into_iter().filter(is_ours).max_by_key(Found::age);
    let Some(stray) = newest else {
        return best;
    };
    log::error!(
        "{}: the superblock copy of generation {} that belongs at {} lies at {}, and no other is \
         newer: the device wrote it to the wrong place; going on with it",
        device.name(),
        stray.superblock.generation.get(),
        stray.superblock.bytenr.get(),
        stray.at
    );
    stray
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
/// checksum. False when a mirror couldn't be written, which is logged: it goes on naming what it
/// named before, and is asked only when the first copy is bad as well.
///
/// # Errors
/// The first copy of a device couldn't be written.
pub(super) fn write_all(members: &[Member], superblock: &mut Superblock) -> Result<bool> {
    let mut on_all = true;
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
                Err(error) => {
                    log::error!("superblock copy {number}: {error}");
                    on_all = false;
                }
                Ok(()) => member.superblock_is_good(offset),
            }
        }
    }
    Ok(on_all)
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
