//! Items about space: extents, references, block groups, free space.

use super::super::*;
use super::{Facts, Meaning, flag_words, numbers};

const EXTENT_FLAGS: &[(u64, &str)] = &[
    (EXTENT_FLAG_DATA, "DATA"),
    (EXTENT_FLAG_TREE_BLOCK, "TREE_BLOCK"),
    (BLOCK_FLAG_FULL_BACKREF, "FULL_BACKREF"),
];

pub(super) fn extent_item(key: &Key, data: &[u8]) -> Option<Facts> {
    let mut entry = ExtentEntry::parse(key, data)?;
    let facts = numbers!(Facts::default(), entry.head, refs, generation)
        .words("flags", flag_words(entry.head.flags.get(), EXTENT_FLAGS));
    let facts = match (entry.info, entry.level(key)) {
        (Some(info), _) => facts
            .number("level", info.level)
            .key("first_key", info.key.get()),
        (None, Some(level)) => facts.number("level", level),
        _ => facts,
    };
    let list: Vec<Facts> = entry
        .refs
        .by_ref()
        .map(|it| back_ref(&it.back_ref, it.count))
        .collect();
    Some(facts.list("inline_refs", list).left_over(entry.refs.rest()))
}

fn back_ref(it: &BackRef, count: u32) -> Facts {
    let facts = Facts::default().words("type", kind::name(it.kind()).unwrap_or("unknown"));
    match *it {
        BackRef::TreeBlock { root } | BackRef::Owner { root } => facts.number("root", root),
        BackRef::SharedBlock { parent } => facts.number("parent", parent),
        BackRef::SharedData { parent } => facts.number("parent", parent).number("count", count),
        BackRef::Data {
            root,
            objectid,
            offset,
        } => facts
            .number("root", root)
            .number("objectid", objectid)
            .number("offset", offset)
            .number("count", count),
    }
}

pub(super) fn keyed_ref(key: &Key, data: &[u8]) -> Option<Facts> {
    BackRef::from_keyed(key, data).map(|(it, count)| back_ref(&it, count))
}

pub(super) fn block_group(data: &[u8]) -> Option<Facts> {
    let group = BlockGroupItem::read(data)?;
    let flags = block_group_flags_words(group.flags.get());
    Some(numbers!(Facts::default(), group, used, chunk_objectid).words("flags", flags))
}

pub(super) fn free_space_info(data: &[u8]) -> Option<Facts> {
    let info = FreeSpaceInfo::read(data)?;
    let flags = flag_words(
        info.flags.get().into(),
        &[(u64::from(FREE_SPACE_USING_BITMAPS), "USING_BITMAPS")],
    );
    Some(numbers!(Facts::default(), info, extent_count).words("flags", flags))
}

pub(super) fn free_space_bitmap(key: &Key, data: &[u8], meaning: Meaning) -> Facts {
    let sector = u64::from(meaning.sectorsize.max(1));
    let bits = usize::try_from(key.offset / sector).unwrap_or(usize::MAX);
    let (mut runs, mut free) = (0u64, 0u64);
    for (_, length) in BitmapRuns::new(data, bits) {
        runs += 1;
        free += length as u64;
    }
    Facts::default()
        .number("free_ranges", runs)
        .number("free_bytes", free.saturating_mul(sector))
}
