//! Whatever the bytes: the checker never panics, and what it accepts is safe to take apart.

use super::*;
use proptest::prelude::*;

/// A block that the checker accepts must be safe to take apart with every iterator.
fn take_apart(block: &[u8]) {
    if tree_block::level(block) > 0 {
        for slot in 0..tree_block::nritems(block) {
            node::ptr(block, slot);
        }
        return;
    }
    for (key, data) in leaf::items(block) {
        DirEntries::new(data).for_each(drop);
        InodeNames::of_ref(1, data).for_each(drop);
        InodeNames::of_extref(data).for_each(drop);
        FileExtent::parse(data);
        RootItem::from_item(data);
        RootRef::parse(data);
        Chunk::parse(data);
        if let Some(entry) = ExtentEntry::parse(&key, data) {
            entry.refs.for_each(drop);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn flipped_bytes_of_a_real_leaf_never_panic(
        flips in prop::collection::vec((32usize..16384, any::<u8>()), 1..8),
        near_start in any::<bool>(),
    ) {
        let ctx = context();
        let mut block = leaf_of(5, &rich_leaf());
        for (at, byte) in flips {
            // Half of the runs aim at the header and the entries, which matter most.
            let at = if near_start { 32 + at % 400 } else { at };
            block[at] = byte;
        }
        if check_contents(&ctx, &Expect::at(AT), &block).is_ok() {
            take_apart(&block);
        }
    }

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 16384),
        level in 0u8..3,
        count in 0u32..800,
    ) {
        let ctx = context();
        let mut block = bytes;
        let header = tree_block::header_mut(&mut block);
        header.bytenr.set(AT.0);
        header.fsid = [3; 16];
        header.level = level;
        header.nritems.set(count);
        if check_contents(&ctx, &Expect::at(AT), &block).is_ok() {
            take_apart(&block);
        }
    }

    #[test]
    fn random_item_data_of_every_kind_never_panics(
        kind in any::<u8>(),
        objectid in prop_oneof![Just(256u64), Just(0), Just(ids::ORPHAN_OBJECTID), any::<u64>()],
        offset in prop_oneof![Just(0u64), Just(4096), any::<u64>()],
        data in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..500),
        owner in 1u64..12,
    ) {
        let block = leaf_of(owner, &[(Key::new(objectid, kind, offset), data)]);
        if check_contents(&context(), &Expect::at(AT), &block).is_ok() {
            take_apart(&block);
        }
    }
}
