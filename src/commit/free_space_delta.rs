//! What the free-space tree must learn: ranges taken and freed since it was last written.
//!
//! Owns: the net change for each block group, merged, so that a commit touches an entry of the
//! free-space tree once however many extents changed. Invariant: no byte is both taken and
//! freed; one taken and freed again is neither.

use crate::allocator::{FreeRanges, Space};
use crate::error::{Error, Result};
use crate::sync::Mutex;
use crate::units::Logical;
use std::collections::BTreeMap;

/// One block group's net change.
#[derive(Debug, Default)]
pub(super) struct GroupDelta {
    pub(super) len: u64,
    pub(super) taken: FreeRanges,
    pub(super) freed: FreeRanges,
}

/// Net changes of all block groups.
#[derive(Debug, Default)]
pub(super) struct FreeSpaceDelta {
    groups: Mutex<BTreeMap<u64, GroupDelta>>,
}

impl FreeSpaceDelta {
    /// A range got an extent item.
    pub(super) fn take(&self, space: &Space, at: Logical, len: u64) -> Result<()> {
        self.change(space, at, len, GroupDelta::take)
    }

    /// A range's extent item is gone.
    pub(super) fn free(&self, space: &Space, at: Logical, len: u64) -> Result<()> {
        self.change(space, at, len, GroupDelta::free)
    }

    fn change(
        &self,
        space: &Space,
        at: Logical,
        len: u64,
        change: fn(&mut GroupDelta, u64, u64),
    ) -> Result<()> {
        let (start, group_len, _) = space
            .group_range(at)
            .filter(|&(start, group_len, _)| {
                let end = at.get().checked_add(len);
                end.is_some_and(|end| end <= start + group_len)
            })
            .ok_or_else(|| Error::corrupt_block(at, None, "the extent leaves its block group"))?;
        let mut groups = self.groups.lock();
        let delta = groups.entry(start).or_default();
        delta.len = group_len;
        change(delta, at.get(), len);
        Ok(())
    }

    /// The changes of all groups, by start; none is left.
    pub(super) fn drain(&self) -> BTreeMap<u64, GroupDelta> {
        let mut drained = std::mem::take(&mut *self.groups.lock());
        drained.retain(|_, delta| delta.taken.bytes() + delta.freed.bytes() > 0);
        drained
    }

    /// Forgets a group that is being removed.
    pub(super) fn forget(&self, start: u64) {
        self.groups.lock().remove(&start);
    }

    /// Nothing is to be written.
    pub(super) fn is_empty(&self) -> bool {
        let groups = self.groups.lock();
        groups
            .values()
            .all(|delta| delta.taken.bytes() + delta.freed.bytes() == 0)
    }
}

impl GroupDelta {
    fn take(&mut self, at: u64, len: u64) {
        exchange(&mut self.freed, &mut self.taken, at, len);
    }

    fn free(&mut self, at: u64, len: u64) {
        exchange(&mut self.taken, &mut self.freed, at, len);
    }
}

/// Adds a range to `to`, save for the parts that `from` had: those cancel.
fn exchange(from: &mut FreeRanges, to: &mut FreeRanges, at: u64, len: u64) {
    if from.bytes() == 0 {
        to.insert(at, len);
        return;
    }
    let cancelled = from.intersection(at, len);
    from.remove(at, len);
    to.insert(at, len);
    for (at, len) in cancelled {
        to.remove(at, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_freed_again_cancels() {
        let mut delta = GroupDelta::default();
        delta.take(100, 50);
        delta.take(150, 50);
        delta.free(120, 60);
        delta.free(300, 10);
        assert_eq!(
            delta.taken.iter().collect::<Vec<_>>(),
            [(100, 20), (180, 20)]
        );
        assert_eq!(delta.freed.iter().collect::<Vec<_>>(), [(300, 10)]);
        delta.free(90, 20);
        assert_eq!(
            delta.taken.iter().collect::<Vec<_>>(),
            [(110, 10), (180, 20)]
        );
        assert_eq!(
            delta.freed.iter().collect::<Vec<_>>(),
            [(90, 10), (300, 10)]
        );
    }
}
