//! The filesystem's devices as one logical address space.
//!
//! Owns: members, chunk map, geometry. Reads try every copy and repair the bad ones; writes
//! go to every copy. Invariant of the gate: a write of all copies and a repair never overlap
//! in time, so that a repair can't put old bytes over ones that were just written. While writes
//! are held ([`Volume::hold_writes`]) nothing reaches a device, repairs neither; after
//! [`Volume::end_writes`] no call that begins writes anything, for good.

use super::chunk_map::ChunkMap;
use super::device::BlockDevice;
use super::member::{DeviceErrors, Member};
use super::superblocks::{self, Chosen};
use crate::ondisk::{CsumType, Superblock};
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, RwLock};
use crate::units::{DevId, Logical, Physical};
use crate::{Error, Result};

/// Repairs that wait while writes are held; further ones are left to the next read.
const POSTPONED_MAX: usize = 256;

/// The devices of one filesystem, addressed logically.
pub struct Volume {
    pub(super) members: Vec<Member>,
    chunks: ChunkMap,
    read_only: bool,
    held: AtomicBool,
    ended: AtomicBool,
    /// Good content of blocks whose other copies were found bad while writes were held.
    postponed: Mutex<Vec<(Logical, Vec<u8>)>>,
    superblocks_differ: bool,
    sectorsize: u32,
    nodesize: u32,
    csum_type: CsumType,
    /// Shared by writes of content, exclusive for a repair.
    gate: RwLock<()>,
}

impl Volume {
    /// Opens a filesystem: picks the best superblock copy and learns the system chunks from
    /// it. The other chunks are the caller's to insert, out of the chunk tree.
    ///
    /// A bad primary superblock is said loudly and healed by the next commit; see
    /// [`superblocks`].
    ///
    /// # Errors
    /// No device shows a valid superblock; devices are missing; a device is smaller than the
    /// filesystem on it (when writing is wanted).
    pub fn open(devices: Vec<Arc<dyn BlockDevice>>, read_only: bool) -> Result<(Self, Superblock)> {
        let [device]: [Arc<dyn BlockDevice>; 1] = devices.try_into().map_err(|all: Vec<_>| {
            Error::Unsupported(format!(
                "{} devices given, and only one can be used",
                all.len()
            ))
        })?;
        let chosen = superblocks::choose(&*device)?;
        let num_devices = chosen.superblock.num_devices.get();
        if num_devices != 1 {
            return Err(Error::Unsupported(format!(
                "the filesystem on {} has {num_devices} devices, and only one can be used: \
                 remove the others first (btrfs device remove)",
                device.name()
            )));
        }
        Self::over(device, chosen, read_only)
    }

    /// Opens one device to look at what is on it, whatever is missing around it: other devices,
    /// its own end.
    pub fn open_alone(device: Arc<dyn BlockDevice>) -> Result<(Self, Superblock)> {
        let chosen = superblocks::choose(&*device)?;
        Self::over(device, chosen, true)
    }

    fn over(
        device: Arc<dyn BlockDevice>,
        chosen: Chosen,
        read_only: bool,
    ) -> Result<(Self, Superblock)> {
        let superblock = chosen.superblock;
        let wanted = superblock.dev_item.total_bytes.get();
        if wanted > device.size_bytes() {
            let story = format!(
                "{} has {} bytes, but the filesystem on it has {wanted}: it was cut off",
                device.name(),
                device.size_bytes()
            );
            if !read_only {
                return Err(Error::corrupt(format!(
                    "{story}; it can still be mounted with -o ro"
                )));
            }
            log::warn!("{story}");
        }
        let member = Member::over(DevId(superblock.dev_item.devid.get()), device);
        member.count_superblocks(&chosen.unreadable, &chosen.bad);
        let volume = Self {
            members: vec![member],
            chunks: ChunkMap::default(),
            read_only,
            held: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            postponed: Mutex::new(Vec::new()),
            superblocks_differ: chosen.differ,
            sectorsize: superblock.sectorsize.get(),
            nodesize: superblock.nodesize.get(),
            csum_type: superblock.csum_type()?,
            gate: RwLock::new(()),
        };
        superblocks::learn_system_chunks(&superblock, &volume.chunks)?;
        Ok((volume, *superblock))
    }

    /// Where every address is.
    pub fn chunks(&self) -> &ChunkMap {
        &self.chunks
    }

    /// Bytes in a unit of file content and checksums.
    pub fn sectorsize(&self) -> u32 {
        self.sectorsize
    }

    /// Bytes in a tree block.
    pub fn nodesize(&self) -> u32 {
        self.nodesize
    }

    /// How blocks and sectors are checksummed.
    pub fn csum_type(&self) -> CsumType {
        self.csum_type
    }

    /// Nothing will be written, repairs neither.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// From now on nothing is written until [`Volume::release_writes`], repairs neither: for as
    /// long as nobody has said that the image may be written.
    pub fn hold_writes(&self) {
        // Taken so that a repair under way has ended when this returns.
        let _alone = self.gate.write();
        // Relaxed: whoever looks at it holds the gate.
        self.held.store(true, Ordering::Relaxed);
    }

    /// Ends what [`Volume::hold_writes`] began, and repairs what was found bad meanwhile. Nothing
    /// may have been written in between.
    pub fn release_writes(&self) {
        {
            let _alone = self.gate.write();
            // Relaxed: as above.
            self.held.store(false, Ordering::Relaxed);
        }
        for (at, good) in std::mem::take(&mut *self.postponed.lock()) {
            let mut buf = vec![0; good.len()];
            let mut verify = |bytes: &[u8]| match bytes == good {
                true => Ok(()),
                false => Err(Error::corrupt(format!("address {at} read differently"))),
            };
            if let Err(error) = self.read_verified(at, &mut buf, &mut verify) {
                log::warn!("{error}");
            }
        }
    }

    /// From now on no call writes anything, ever: what memory holds is not to be trusted. Never
    /// waits, so a write that had begun may still arrive.
    pub fn end_writes(&self) {
        // Release: pairs with the Acquire in `want_writable`.
        self.ended.store(true, Ordering::Release);
    }

    /// Some copy of the superblock wasn't the one that was chosen when the volume was opened. It
    /// may name trees whose blocks are reused from now on, so it has to be written first.
    pub fn superblocks_differ(&self) -> bool {
        self.superblocks_differ
    }

    /// Asked with the gate held.
    fn want_writable(&self) -> Result<()> {
        let why = if self.read_only {
            "the image was opened for reading only"
        } else if self.ended.load(Ordering::Acquire) {
            "writing to the image has ended"
        } else if self.held.load(Ordering::Relaxed) {
            "nothing may be written to the image"
        } else {
            return Ok(());
        };
        Err(Error::ReadOnly(why.into()))
    }

    /// What each device is called and what went wrong on it since the mount.
    pub fn device_errors(&self) -> Vec<(DevId, String, DeviceErrors)> {
        self.members
            .iter()
            .map(|member| (member.devid, member.device.name(), member.errors()))
            .collect()
    }

    /// Bytes of a device.
    pub fn device_size_bytes(&self, devid: DevId) -> Option<u64> {
        self.member(devid)
            .ok()
            .map(|member| member.device.size_bytes())
    }

    fn member(&self, devid: DevId) -> Result<&Member> {
        self.members
            .iter()
            .find(|member| member.devid == devid)
            .ok_or_else(|| {
                Error::corrupt(format!("a chunk lies on device {devid}, which isn't there"))
            })
    }

    /// Reads copy `mirror` (0 is the first) of the bytes at `at`, unverified.
    pub fn read(&self, at: Logical, buf: &mut [u8], mirror: usize) -> Result<()> {
        self.each_piece(at, buf.len(), |extent_copies, range| {
            let &(devid, physical) = extent_copies.get(mirror).ok_or_else(|| {
                Error::NoGoodCopy(format!("address {at} has no copy number {}", mirror + 1))
            })?;
            self.member(devid)?.read(physical, &mut buf[range])
        })
    }

    /// How many copies of the bytes at `at` there are.
    pub fn copies_at(&self, at: Logical) -> Result<usize> {
        self.chunks.copies_at(at)
    }

    /// Reads until a copy passes `verify`. Copies that failed before it are rewritten when
    /// the volume is writable, and counted.
    ///
    /// # Errors
    /// With one copy, what was wrong with it. With more, [`Error::NoGoodCopy`] or corruption,
    /// with the first copy's reason.
    pub fn read_verified(
        &self,
        at: Logical,
        buf: &mut [u8],
        verify: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let copies = self.copies_at(at)?;
        let mut first_error = None;
        for mirror in 0..copies {
            match self.read_one(at, buf, mirror, verify) {
                Ok(()) => {
                    if let Some(error) = first_error {
                        log::warn!(
                            "address {at}: copy {} of {copies} is good, an earlier one is not: \
                             {error}",
                            mirror + 1
                        );
                        self.repair(at, buf, mirror, verify);
                    }
                    return Ok(());
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.expect("a chunk has at least one stripe"))
    }

    /// Reads and judges one copy; a bad one is counted on its device.
    fn read_one(
        &self,
        at: Logical,
        buf: &mut [u8],
        mirror: usize,
        verify: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.read(at, buf, mirror)?;
        verify(buf).inspect_err(|_| {
            // Best effort: the count goes to the device where the range begins.
            if let Ok(extent) = self.chunks.map(at, 1)
                && let Some(&(devid, _)) = extent.copies.get(mirror)
                && let Ok(member) = self.member(devid)
            {
                member.count_corruption();
            }
        })
    }

    /// Rewrites the copies before `good` out of `buf`. With writers kept out, everything is
    /// judged once more: if the range has been freed and written anew since, there is nothing
    /// to repair.
    fn repair(
        &self,
        at: Logical,
        buf: &[u8],
        good: usize,
        verify: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) {
        let _alone = self.gate.write();
        if self.want_writable().is_err() {
            let mut postponed = self.postponed.lock();
            if !self.read_only && postponed.len() < POSTPONED_MAX {
                postponed.push((at, buf.to_vec()));
            }
            return;
        }
        let mut again = vec![0; buf.len()];
        if self.read(at, &mut again, good).is_err() || again != buf || verify(&again).is_err() {
            return;
        }
        for mirror in 0..good {
            if self.read(at, &mut again, mirror).is_ok() && verify(&again).is_ok() {
                continue;
            }
            let rewritten = self.each_piece(at, buf.len(), |copies, range| {
                let Some(&(devid, physical)) = copies.get(mirror) else {
                    return Ok(());
                };
                let member = self.member(devid)?;
                superblocks::refuse_overlap(physical, range.len() as u64)?;
                member.write(physical, &buf[range])?;
                member.count_repair();
                Ok(())
            });
            match rewritten {
                Ok(()) => log::warn!("address {at}: copy {} was repaired", mirror + 1),
                Err(error) => {
                    log::warn!(
                        "address {at}: copy {} can't be repaired: {error}",
                        mirror + 1
                    );
                }
            }
        }
    }

    /// Writes every copy of the bytes at `at`. The range may span chunks.
    ///
    /// A copy that can't be written is counted and logged; it is an error only when no copy
    /// was.
    pub fn write(&self, at: Logical, buf: &[u8]) -> Result<()> {
        let _shared = self.gate.read();
        self.want_writable()?;
        self.each_piece(at, buf.len(), |copies, range| {
            let mut written = 0;
            let mut first_error = None;
            for &(devid, physical) in copies {
                superblocks::refuse_overlap(physical, range.len() as u64)?;
                match self.member(devid)?.write(physical, &buf[range.clone()]) {
                    Ok(()) => written += 1,
                    Err(error) => {
                        log::error!("{error}");
                        first_error.get_or_insert(error);
                    }
                }
            }
            match first_error {
                Some(error) if written == 0 => Err(error),
                _ => Ok(()),
            }
        })
    }

    /// Makes every write that returned before durable, on all devices.
    pub fn flush(&self) -> Result<()> {
        self.members.iter().try_for_each(Member::flush)
    }

    /// Says that nobody needs the bytes at `at` any more, on no copy. A device's refusal is
    /// only logged: it is advice.
    pub fn discard(&self, at: Logical, len: u64) -> Result<()> {
        let _shared = self.gate.read();
        if self.want_writable().is_err() {
            return Ok(());
        }
        let len = usize::try_from(len).map_err(|_| Error::Overflow)?;
        self.each_piece(at, len, |copies, range| {
            for &(devid, physical) in copies {
                superblocks::refuse_overlap(physical, range.len() as u64)?;
                if let Err(error) = self.member(devid)?.discard(physical, range.len() as u64) {
                    log::warn!("{error}");
                }
            }
            Ok(())
        })
    }

    /// As [`Volume::discard`], for whoever asked for it: a refusal is told.
    pub fn discard_or_fail(&self, at: Logical, len: u64) -> Result<()> {
        let _shared = self.gate.read();
        self.want_writable()?;
        let len = usize::try_from(len).map_err(|_| Error::Overflow)?;
        self.each_piece(at, len, |copies, range| {
            copies.iter().try_for_each(|&(devid, physical)| {
                self.discard_at(devid, physical, range.len() as u64)
            })
        })
    }

    /// Discards bytes of a device that no chunk uses.
    pub fn discard_unmapped(&self, devid: DevId, at: Physical, len: u64) -> Result<()> {
        let _shared = self.gate.read();
        self.want_writable()?;
        self.discard_at(devid, at, len)
    }

    fn discard_at(&self, devid: DevId, at: Physical, len: u64) -> Result<()> {
        superblocks::refuse_overlap(at, len)?;
        let member = self.member(devid)?;
        member.discard(at, len)?;
        match member.device.can_discard() {
            true => Ok(()),
            false => Err(Error::NotSupported),
        }
    }

    /// Writes every superblock copy that fits its device; false when a mirror couldn't be written: see
    /// [`superblocks::write_all`]. The flushes before and after are the caller's.
    pub fn write_superblocks(&self, superblock: &mut Superblock) -> Result<bool> {
        let _shared = self.gate.read();
        self.want_writable()?;
        superblocks::write_all(&self.members, superblock)
    }

    /// Cuts a logical range into pieces that each lie in one piece on every copy.
    fn each_piece(
        &self,
        at: Logical,
        len: usize,
        mut visit: impl FnMut(&[(DevId, Physical)], std::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let here = at
                .checked_add(done as u64)
                .ok_or_else(|| Error::corrupt(format!("{len} bytes at {at} wrap")))?;
            let extent = self.chunks.map(here, (len - done) as u64)?;
            let take = extent.len as usize;
            visit(&extent.copies, done..done + take)?;
            done += take;
        }
        Ok(())
    }
}
