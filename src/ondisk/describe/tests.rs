//! Any bytes can be described; usual items have the facts that dump-tree shows.

use super::*;
use crate::ondisk::*;
use proptest::prelude::*;

const MEANING: Meaning = Meaning {
    csum: CsumType::Crc32c,
    sectorsize: 4096,
};

#[test]
fn an_inode_has_the_facts_of_dump_tree() {
    let mut inode = InodeItem::zeroed();
    inode.generation.set(9);
    inode.mode.set(0o100644);
    inode.flags.set(INODE_PREALLOC | 1 << 40);
    inode.mtime = Timespec::new(1_795_458_413, 5);
    let facts = item(
        &Key::new(257, kind::INODE_ITEM, 0),
        inode.as_bytes(),
        MEANING,
    );
    assert_eq!(facts.get("generation"), Some(&Fact::Number(9)));
    assert_eq!(facts.get("mode"), Some(&Fact::Words("100644".into())));
    assert_eq!(
        facts.get("flags"),
        Some(&Fact::Words("PREALLOC|0x10000000000".into()))
    );
    let mtime = Fact::Words("2026-11-23 18:26:53.000000005".into());
    assert_eq!(facts.get("mtime"), Some(&mtime));
}

#[test]
fn a_quota_status_tells_since_when_quotas_are_simple() {
    let key = Key::new(0, kind::QGROUP_STATUS, 0);
    let mut status = vec![0; QgroupStatusItem::SIZE];
    assert_eq!(item(&key, &status, MEANING).get("enable_gen"), None);
    status.extend_from_slice(&7_u64.to_le_bytes());
    let facts = item(&key, &status, MEANING);
    assert_eq!(facts.get("enable_gen"), Some(&Fact::Number(7)));
}

#[test]
fn a_stripe_extent_is_a_row_of_strides() {
    let key = Key::new(1 << 30, kind::RAID_STRIPE, 65536);
    let numbers = [1_u64, 22_020_096, 2, 1_048_576].map(u64::to_le_bytes);
    let facts = item(&key, numbers.as_flattened(), MEANING);
    let stride = |devid: u64, physical: u64| {
        let facts = Facts::default().number("devid", devid);
        facts.number("physical", physical)
    };
    let expected = Fact::List(vec![stride(1, 22_020_096), stride(2, 1_048_576)]);
    assert_eq!(facts.get("strides"), Some(&expected));
    let torn = item(&key, &numbers.as_flattened()[..31], MEANING);
    assert_eq!(torn.get("strides"), None);
}

#[test]
fn times_of_all_centuries_are_put_in_words() {
    for (seconds, words) in [
        (0, "1970-01-01 00:00:00.000000000"),
        (951_782_400, "2000-02-29 00:00:00.000000000"),
        (-1, "1969-12-31 23:59:59.000000000"),
        (-62_135_596_800, "0001-01-01 00:00:00.000000000"),
        (253_402_300_799, "9999-12-31 23:59:59.000000000"),
    ] {
        assert_eq!(time_words(&Timespec::new(seconds, 0)), words);
    }
    time_words(&Timespec::new(i64::MIN, u32::MAX));
    time_words(&Timespec::new(i64::MAX, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_bytes_can_be_described(
        kind in any::<u8>(),
        offset in any::<u64>(),
        data in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        item(&Key::new(1, kind, offset), &data, MEANING);
    }

    #[test]
    fn any_superblock_can_be_described(bytes in prop::collection::vec(any::<u8>(), 4096)) {
        superblock(Superblock::read(&bytes).expect("4096 bytes"));
    }
}
