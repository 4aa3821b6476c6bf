//! The free space tree.

use super::{Place, Verdict, ensure};
use crate::ondisk::*;

/// Start and length of what the key speaks for.
fn check_range(place: &Place) -> Verdict {
    let Key {
        objectid: start,
        offset: length,
        ..
    } = place.key;
    place.aligned("start", start)?;
    place.aligned("length", length)?;
    ensure!(length != 0, "a range of no bytes");
    ensure!(
        start.checked_add(length).is_some(),
        "ends behind the last possible address"
    );
    Ok(())
}

/// Free ranges and bitmaps follow each other without overlap.
fn check_overlap(place: &Place) -> Verdict {
    if let Some((key, _)) = place.previous
        && matches!(key.kind, kind::FREE_SPACE_EXTENT | kind::FREE_SPACE_BITMAP)
    {
        let end = key.objectid.saturating_add(key.offset);
        ensure!(
            end <= place.key.objectid,
            "overlaps {key}, which ends at {end}"
        );
    }
    Ok(())
}

pub(super) fn check_info(place: &Place) -> Verdict {
    check_range(place)?;
    place.has_size(FreeSpaceInfo::SIZE)?;
    let info = FreeSpaceInfo::read(place.data).ok_or("too short")?;
    let unknown = info.flags.get() & !FREE_SPACE_USING_BITMAPS;
    ensure!(unknown == 0, "unknown flags {unknown:#x}");
    let most = place.key.offset / u64::from(place.ctx.sectorsize);
    let count = info.extent_count.get();
    ensure!(
        u64::from(count) <= most,
        "{count} free ranges in {most} sectors"
    );
    Ok(())
}

pub(super) fn check_extent(place: &Place) -> Verdict {
    check_range(place)?;
    place.has_size(0)?;
    check_overlap(place)
}

pub(super) fn check_bitmap(place: &Place) -> Verdict {
    check_range(place)?;
    let sectors = place.key.offset / u64::from(place.ctx.sectorsize);
    let (found, size) = (place.data.len() as u64, bitmap_size(sectors));
    ensure!(
        found == size,
        "{found} bytes of bits, {size} expected for {sectors} sectors"
    );
    check_overlap(place)
}
