//! Where a reference with an item of its own is, or is to be.
//!
//! Owns: collisions. The key of an EXTENT_DATA_REF has a hash in it, and two files of one extent
//! may have the same: then the later one takes the next offset that is free. Once the first is
//! deleted there is a gap before the second, so a gap proves nothing: a reference that has to be
//! there is looked for among all that follow.

use crate::btree::{Root, TreeContext};
use crate::error::Result;
use crate::ondisk::{BackRef, Key, kind};
use crate::sync::Arc;
use crate::units::Logical;

/// How far behind its hash a reference is looked for before it gets a second item. Hashes have 63
/// bits, so there is hardly ever anything so near.
const COLLISIONS_MAX: u64 = 4096;

/// The key of the item that counts `back_ref`. With `or_place`, where it isn't counted yet, a key
/// that is free for it; without, `None`.
pub(super) fn find(
    ctx: &TreeContext,
    extents: &Arc<Root>,
    at: Logical,
    back_ref: &BackRef,
    or_place: bool,
) -> Result<Option<Key>> {
    let first = back_ref.key(at.get());
    if first.kind != kind::EXTENT_DATA_REF {
        let there = or_place || ctx.get_with(extents, &first, |_| ())?.is_some();
        return Ok(there.then_some(first));
    }
    let mut free = Some(first);
    let mut cursor = ctx.search(extents, &first)?;
    while let Some((key, data)) = cursor.item() {
        if (key.objectid, key.kind) != (first.objectid, first.kind) {
            break;
        }
        if BackRef::from_keyed(&key, data).is_some_and(|(have, _)| have == *back_ref) {
            return Ok(Some(key));
        }
        if or_place && key.offset - first.offset > COLLISIONS_MAX {
            break;
        }
        if free == Some(key) {
            free = key
                .offset
                .checked_add(1)
                .map(|offset| Key { offset, ..key });
        }
        if !cursor.next()? {
            break;
        }
    }
    Ok(free.filter(|_| or_place))
}
