//! Content from the disk, believed only if its checksums fit.
//!
//! Owns: reading whole sectors with verification, mirror by mirror. A bad sector on one copy is
//! repaired from another where there is one and the volume is writable. Never: unverified
//! content of a file that has checksums.

use crate::commit::Csums;
use crate::error::{Error, Result};
use crate::units::Logical;
use crate::volume::Volume;

/// Reads whole sectors at `at`, checked against the csum tree.
pub(super) fn read_checked(
    volume: &Volume,
    csums: &Csums,
    at: Logical,
    buf: &mut [u8],
) -> Result<()> {
    let sectorsize = volume.sectorsize() as usize;
    let size = csums.csum_type().size();
    let expected = expected_sums(volume, csums, at, buf.len())?;
    let check = |first: usize, bytes: &[u8]| {
        for (index, sector) in bytes.chunks(sectorsize).enumerate() {
            let sum = &expected[(first + index) * size..][..size];
            if csums.csum_type().digest(sector)[..size] != *sum {
                return Err(Error::NoGoodCopy(format!(
                    "content at {} doesn't match its checksum",
                    at.get() + ((first + index) * sectorsize) as u64
                )));
            }
        }
        Ok(())
    };
    match volume.read_verified(at, buf, &mut |bytes| check(0, bytes)) {
        Err(_) if buf.len() > sectorsize && volume.copies_at(at)? > 1 => {}
        other => return other,
    }
    // Each copy has a bad sector somewhere; perhaps not the same one.
    for (index, sector) in buf.chunks_mut(sectorsize).enumerate() {
        let here = Logical(at.get() + (index * sectorsize) as u64);
        volume.read_verified(here, sector, &mut |bytes| check(index, bytes))?;
    }
    Ok(())
}

/// Reads content that has no checksums: the first copy that the device gives out.
pub(super) fn read_unchecked(volume: &Volume, at: Logical, buf: &mut [u8]) -> Result<()> {
    volume.read_verified(at, buf, &mut |_| Ok(()))
}

/// The checksums of every sector, one after the other.
fn expected_sums(volume: &Volume, csums: &Csums, at: Logical, len: usize) -> Result<Vec<u8>> {
    let wanted = len / volume.sectorsize() as usize * csums.csum_type().size();
    let runs = csums.lookup(at, len as u64)?;
    let mut next = at.get();
    let mut sums = Vec::with_capacity(wanted);
    for run in runs {
        if run.at.get() != next {
            break;
        }
        let sectors = run.sums.len() / csums.csum_type().size();
        next += (sectors * volume.sectorsize() as usize) as u64;
        sums.extend_from_slice(&run.sums);
    }
    if sums.len() < wanted {
        return Err(Error::NoGoodCopy(format!(
            "content at {next} has no checksum, and its file should have them"
        )));
    }
    Ok(sums)
}
