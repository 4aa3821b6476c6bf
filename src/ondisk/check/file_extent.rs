//! File extents and data checksums.

use super::{Place, Verdict, ensure};
use crate::ondisk::*;
use crate::units::round_up;

pub(super) fn check_file_extent(place: &Place) -> Verdict {
    place.aligned("file offset", place.key.offset)?;
    place.follows_its_inode()?;
    place.has_size_from(FileExtentHead::SIZE)?;
    let head = FileExtentHead::read(place.data).ok_or("too short")?;
    ensure!(
        head.kind <= FILE_EXTENT_PREALLOC,
        "type {} is no type of extent",
        head.kind
    );
    ensure!(
        head.compression < COMPRESS_TYPES,
        "compression {} is not known",
        head.compression
    );
    ensure!(
        head.encryption == 0,
        "encryption {} is not known",
        head.encryption
    );
    if head.kind == FILE_EXTENT_INLINE {
        ensure!(
            place.key.offset == 0,
            "an inline extent at {}",
            place.key.offset
        );
        if head.compression == COMPRESS_NONE {
            let (ram, data) = (
                head.ram_bytes.get(),
                place.data.len() - FileExtentHead::SIZE,
            );
            ensure!(
                ram == data as u64,
                "{data} bytes of inline data, ram_bytes says {ram}"
            );
        }
    } else {
        place.has_size(FileExtentItem::SIZE)?;
        check_regular(place, FileExtentItem::read(place.data).ok_or("too short")?)?;
    }
    check_overlap(place)
}

fn check_regular(place: &Place, extent: &FileExtentItem) -> Verdict {
    place.aligned("ram_bytes", extent.ram_bytes.get())?;
    place.aligned("disk_bytenr", extent.disk_bytenr.get())?;
    place.aligned("disk_num_bytes", extent.disk_num_bytes.get())?;
    place.aligned("offset", extent.offset.get())?;
    place.aligned("num_bytes", extent.num_bytes.get())?;
    let (offset, length) = (extent.offset.get(), extent.num_bytes.get());
    ensure!(
        place.key.offset.checked_add(length).is_some(),
        "ends behind the last possible byte of a file"
    );
    if extent.is_hole() {
        return Ok(());
    }
    let disk = extent.disk_num_bytes.get();
    ensure!(
        extent.disk_bytenr.get().checked_add(disk).is_some(),
        "the extent ends behind the last possible address"
    );
    // What is stored as it is can't be longer than its place; ram_bytes was wrong in old kernels
    // where nothing is compressed.
    let whole = match extent.compression {
        COMPRESS_NONE => disk,
        _ => extent.ram_bytes.get(),
    };
    ensure!(
        offset.checked_add(length).is_some_and(|end| end <= whole),
        "{length} bytes from {offset} of an extent of {whole}"
    );
    Ok(())
}

/// The end of what an item speaks for; `None` where it says too much.
fn end_in_file(place: &Place, key: &Key, data: &[u8]) -> Option<u64> {
    let extent = FileExtent::parse(data)?;
    let end = key.offset.checked_add(extent.num_bytes())?;
    match extent {
        FileExtent::Inline { .. } => round_up(end, u64::from(place.ctx.sectorsize)),
        FileExtent::Extent(_) => Some(end),
    }
}

fn check_overlap(place: &Place) -> Verdict {
    let Some((key, data)) = place.previous else {
        return Ok(());
    };
    if key.objectid != place.key.objectid || key.kind != kind::EXTENT_DATA {
        return Ok(());
    }
    let end = end_in_file(place, &key, data).ok_or("follows an extent without an end")?;
    ensure!(
        end <= place.key.offset,
        "overlaps {key}, which ends at {end}"
    );
    Ok(())
}

pub(super) fn check_csums(place: &Place) -> Verdict {
    let size = place.ctx.csum.size();
    let objectid = place.key.objectid;
    ensure!(
        objectid == ids::EXTENT_CSUM_OBJECTID,
        "checksums under objectid {objectid}"
    );
    place.aligned("address", place.key.offset)?;
    let bytes = place.data.len();
    ensure!(
        bytes.is_multiple_of(size),
        "{bytes} bytes, checksums have {size} each"
    );
    ensure!(
        csum_end(place, &place.key, bytes).is_some(),
        "checksums of what is behind the last possible address"
    );
    if let Some((key, data)) = place.previous
        && key.kind == kind::EXTENT_CSUM
        && key.objectid == objectid
    {
        let end = csum_end(place, &key, data.len()).ok_or("follows checksums without an end")?;
        ensure!(
            end <= place.key.offset,
            "overlaps {key}, which ends at {end}"
        );
    }
    Ok(())
}

fn csum_end(place: &Place, key: &Key, bytes: usize) -> Option<u64> {
    let sectors = (bytes / place.ctx.csum.size()) as u64;
    key.offset
        .checked_add(sectors * u64::from(place.ctx.sectorsize))
}
