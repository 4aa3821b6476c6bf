//! Copies that are accepted, and the words for those that are not.

use super::*;

/// A superblock that [`Superblock::parse`] accepts.
pub(crate) fn sample() -> Box<Superblock> {
    let mut sb = Box::new(Superblock::zeroed());
    sb.magic.set(MAGIC);
    sb.fsid = [3; 16];
    sb.dev_item.fsid = [3; 16];
    sb.bytenr.set(SUPER_MIRRORS[0]);
    sb.generation.set(9);
    sb.chunk_root_generation.set(5);
    sb.root.set(30 << 20);
    sb.chunk_root.set(22 << 20);
    sb.total_bytes.set(128 << 20);
    sb.bytes_used.set(1 << 20);
    sb.num_devices.set(1);
    for size in [&mut sb.nodesize, &mut sb.unused_leafsize] {
        size.set(16384);
    }
    sb.sectorsize.set(4096);
    sb.stripesize.set(4096);
    sb.incompat_flags.set(0x361);
    sb.compat_ro_flags.set(0xb);
    let stripe = Stripe {
        devid: 1.into(),
        offset: (22 << 20).into(),
        dev_uuid: [4; 16],
    };
    let chunk = Chunk {
        length: (8 << 20).into(),
        owner: ids::EXTENT_TREE_OBJECTID.into(),
        stripe_len: crate::ondisk::STRIPE_LEN.into(),
        kind: BLOCK_GROUP_SYSTEM.into(),
        sector_size: 4096.into(),
        ..Chunk::default()
    }
    .encode(&[stripe]);
    sb.push_sys_chunk(Logical(22 << 20), &chunk).expect("room");
    sb.seal().expect("crc32c is known");
    sb
}

#[test]
fn a_sealed_superblock_is_accepted_and_a_flipped_bit_is_not() {
    let sb = sample();
    let parsed = Superblock::parse_at(sb.as_bytes(), 65536).expect("sealed");
    assert_eq!(*parsed, *sb);
    assert!(Superblock::parse_at(sb.as_bytes(), 64 << 20).is_err());
    for at in [40, 300, 811, 4095] {
        let mut bytes = sb.as_bytes().to_vec();
        bytes[at] ^= 4;
        let error = Superblock::parse(&bytes).unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
    }
    assert!(
        Superblock::parse(&[0; 4096])
            .unwrap_err()
            .to_string()
            .contains("magic")
    );
    assert!(Superblock::parse(&[0; 100]).is_err());
}

#[test]
fn impossible_numbers_are_refused_in_words() {
    type Break = fn(&mut Superblock);
    let breaks: [(&str, Break); 8] = [
        ("nodesize", |sb| sb.nodesize.set(8191)),
        ("sectorsize", |sb| sb.sectorsize.set(0)),
        ("leafsize", |sb| sb.unused_leafsize.set(4096)),
        ("level 9", |sb| sb.root_level = 9),
        ("multiple", |sb| sb.chunk_root.set(1)),
        ("system chunk array", |sb| sb.sys_chunk_array_size.set(5000)),
        ("devices", |sb| sb.num_devices.set(0)),
        ("stripesize", |sb| sb.stripesize.set(0)),
    ];
    for (word, change) in breaks {
        let mut sb = sample();
        change(&mut sb);
        sb.seal().expect("crc32c is known");
        let error = Superblock::parse(sb.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}

/// A mapping of system chunks that nobody has judged could send the chunk tree's reads, and
/// the next commit's writes, anywhere.
#[test]
fn wrong_system_chunks_are_refused_in_words() {
    let item = DiskKey::SIZE;
    for (word, at, byte) in [
        ("no key of a chunk", 8, 1),
        ("no key of a chunk", 0, 1),
        ("stripe length", item + 17, 9),
        ("sector size", item + 41, 9),
        ("METADATA|SINGLE", item + 24, 4),
        ("unknown type bits", item + 26, 1),
        ("1 stripes of DUP", item + 24, 0x22),
        ("whole chunk", item + 44, 2),
        ("length", item, 1),
    ] {
        let mut sb = sample();
        sb.sys_chunk_array[at] = byte;
        sb.seal().expect("crc32c is known");
        let error = Superblock::parse(sb.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn system_chunks_are_added_read_and_removed() {
    let mut sb = sample();
    let (chunk, stripes) = {
        let first = sb.sys_chunks().next().expect("one chunk");
        (*first.chunk, first.stripes.to_vec())
    };
    sb.push_sys_chunk(Logical(64 << 20), &chunk.encode(&stripes))
        .expect("room");
    assert_eq!(sb.sys_chunks().count(), 2);
    sb.remove_sys_chunk(Logical(22 << 20));
    let left: Vec<u64> = sb.sys_chunks().map(|it| it.key.offset).collect();
    assert_eq!(left, [64 << 20]);
    assert!(sb.sys_chunks().count() == 1 && sb.sys_chunk_array_size.get() == 97);
    let mut pushed = 1;
    while sb
        .push_sys_chunk(Logical(pushed << 30), &chunk.encode(&stripes))
        .is_ok()
    {
        pushed += 1;
    }
    assert_eq!(pushed, 2048 / 97);
}
