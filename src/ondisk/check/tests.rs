//! The checker accepts what is right, names what is wrong, and survives anything.

use super::super::superblock::tests::sample;
use super::*;
use crate::ondisk::tree_block::{HEADER_FLAG_WRITTEN, leaf, node};
use crate::ondisk::*;

mod hostile;

const AT: Logical = Logical(30 << 20);
const GENERATION: u64 = 7;

fn context() -> CheckContext {
    CheckContext::from_superblock(&sample()).expect("crc32c is known")
}

/// A sealed leaf of `owner` with these items.
fn leaf_of(owner: u64, items: &[(Key, Vec<u8>)]) -> Vec<u8> {
    let mut block = vec![0; 16384];
    tree_block::init(
        &mut block,
        AT,
        Generation(GENERATION),
        owner,
        0,
        &[3; 16],
        &[4; 16],
    );
    tree_block::header_mut(&mut block).set_flag(HEADER_FLAG_WRITTEN, true);
    for (slot, (key, data)) in items.iter().enumerate() {
        leaf::insert(&mut block, slot, key, data);
    }
    seal_block(&context(), &mut block);
    block
}

fn verdict(owner: u64, items: &[(Key, Vec<u8>)]) -> Result<()> {
    check_block(&context(), &Expect::at(AT), &leaf_of(owner, items))
}

/// Asserts that one item is refused with a reason that contains `word`.
#[track_caller]
fn refuses(owner: u64, items: &[(Key, Vec<u8>)], word: &str) {
    let words = verdict(owner, items)
        .expect_err("this must be refused")
        .to_string();
    assert!(words.contains(word), "{word:?} expected in: {words}");
}

fn inode(mode: u32) -> InodeItem {
    let mut inode = InodeItem::zeroed();
    inode.generation.set(GENERATION);
    inode.transid.set(GENERATION);
    inode.mode.set(mode);
    inode.nlink.set(1);
    inode
}

fn inode_at(objectid: u64) -> (Key, Vec<u8>) {
    (
        Key::new(objectid, kind::INODE_ITEM, 0),
        inode(0o100644).as_bytes().to_vec(),
    )
}

fn entry(name: &[u8]) -> Vec<u8> {
    DirItem::encode(
        &Key::new(300, kind::INODE_ITEM, 0),
        GENERATION,
        FT_REG_FILE,
        name,
        b"",
    )
}

/// A leaf of a subvolume with one of everything that files have.
fn rich_leaf() -> Vec<(Key, Vec<u8>)> {
    let hash = |name: &[u8]| u64::from(csum::name_hash(name));
    let xattr = DirItem::encode(&Key::MIN, GENERATION, FT_XATTR, b"user.a", b"value");
    let extent = FileExtentItem::whole(GENERATION, FILE_EXTENT_REG, Logical(1 << 30), 8192);
    vec![
        (
            Key::new(256, kind::INODE_ITEM, 0),
            inode(0o40755).as_bytes().to_vec(),
        ),
        (
            Key::new(256, kind::INODE_REF, 256),
            InodeRef::encode(0, b".."),
        ),
        (Key::new(256, kind::XATTR_ITEM, hash(b"user.a")), xattr),
        (Key::new(256, kind::DIR_ITEM, hash(b"file")), entry(b"file")),
        (Key::new(256, kind::DIR_INDEX, 2), entry(b"file")),
        inode_at(300),
        (
            Key::new(300, kind::INODE_REF, 256),
            InodeRef::encode(2, b"file"),
        ),
        (
            Key::new(300, kind::INODE_EXTREF, 99),
            InodeExtref::encode(256, 3, b"other"),
        ),
        (
            Key::new(300, kind::EXTENT_DATA, 0),
            extent.as_bytes().to_vec(),
        ),
        (Key::new(300, kind::EXTENT_DATA, 8192), {
            FileExtentItem::hole(GENERATION, 4096).as_bytes().to_vec()
        }),
        inode_at(301),
        (
            Key::new(301, kind::EXTENT_DATA, 0),
            FileExtentHead::encode_inline(7, b"inline"),
        ),
        (
            Key::new(ids::ORPHAN_OBJECTID, kind::ORPHAN_ITEM, 301),
            Vec::new(),
        ),
    ]
}

fn extent_item(kind: u8, at: u64, offset: u64, flags: u64, refs: &[BackRef]) -> (Key, Vec<u8>) {
    let head = ExtentItem {
        refs: (refs.len() as u64).into(),
        generation: GENERATION.into(),
        flags: flags.into(),
    };
    let mut data = head.as_bytes().to_vec();
    for back_ref in refs {
        data.extend(back_ref.encode_inline(1));
    }
    (Key::new(at, kind, offset), data)
}

#[test]
fn a_leaf_with_one_of_everything_is_accepted() {
    verdict(ids::FS_TREE_OBJECTID, &rich_leaf()).expect("nothing is wrong");
}

#[test]
fn each_field_of_the_parent_pointer_is_compared() {
    let (ctx, block) = (context(), leaf_of(5, &rich_leaf()));
    let expect = Expect {
        at: AT,
        level: Some(0),
        generation: Some(Generation(GENERATION)),
        owner: Some(257), // a snapshot that shares the block
        first_key: Some(Key::new(256, kind::INODE_ITEM, 0)),
    };
    check_block(&ctx, &expect, &block).expect("everything fits");
    let wrong = [
        (
            Expect {
                at: Logical(4096),
                ..expect
            },
            "says it is block",
        ),
        (
            Expect {
                level: Some(1),
                ..expect
            },
            "level 0",
        ),
        (
            Expect {
                generation: Some(Generation(8)),
                ..expect
            },
            "generation 7",
        ),
        (
            Expect {
                owner: Some(ids::ROOT_TREE_OBJECTID),
                ..expect
            },
            "belongs to tree 5",
        ),
        (
            Expect {
                first_key: Some(Key::MIN),
                ..expect
            },
            "starts with",
        ),
    ];
    for (expect, word) in wrong {
        let words = check_block(&ctx, &expect, &block)
            .expect_err(word)
            .to_string();
        assert!(words.contains(word), "{word:?} expected in: {words}");
    }
}

#[test]
fn checksum_fsid_and_written_flag_are_needed() {
    let ctx = context();
    let block = leaf_of(5, &rich_leaf());
    let changed = |seal: bool, change: &dyn Fn(&mut Vec<u8>)| {
        let mut block = block.clone();
        change(&mut block);
        if seal {
            seal_block(&ctx, &mut block);
        }
        check_block(&ctx, &Expect::at(AT), &block)
            .expect_err("changed")
            .to_string()
    };
    assert!(changed(false, &|block| block[9000] ^= 1).contains("checksum"));
    assert!(changed(true, &|block| block[32] ^= 1).contains("belongs to filesystem"));
    let unset = |block: &mut Vec<u8>| {
        tree_block::header_mut(block).set_flag(HEADER_FLAG_WRITTEN, false);
    };
    assert!(changed(true, &unset).contains("WRITTEN"));
    assert!(changed(true, &|block| block.truncate(8192)).contains("8192 bytes"));
}

#[test]
fn entries_out_of_order_or_of_the_block_are_refused() {
    let ctx = context();
    let refused = |change: &dyn Fn(&mut [u8]), word: &str| {
        let mut block = leaf_of(5, &rich_leaf());
        change(&mut block);
        seal_block(&ctx, &mut block);
        let words = check_block(&ctx, &Expect::at(AT), &block)
            .expect_err(word)
            .to_string();
        assert!(words.contains(word), "{word:?} expected in: {words}");
    };
    refused(&|block| leaf::set_item_key(block, 3, &Key::MIN), "after");
    let twice = |block: &mut [u8]| {
        let key = leaf::item_key(block, 2);
        leaf::set_item_key(block, 3, &key);
    };
    refused(&twice, "after");
    refused(
        &|block| leaf::item_mut(block, 2).offset.set(u32::MAX),
        "data ends at",
    );
    refused(
        &|block| leaf::item_mut(block, 2).size.set(u32::MAX),
        "data ends at",
    );
    refused(&|block| tree_block::set_nritems(block, 5000), "items");
    refused(&|block| tree_block::set_nritems(block, 0), "empty leaf");
    refused(&|block| tree_block::header_mut(block).level = 9, "level 9");
    refused(
        &|block| tree_block::header_mut(block).owner.set(0),
        "no tree",
    );
}

#[test]
fn nodes_need_ordered_pointers_to_possible_blocks() {
    let ctx = context();
    let build = |pointers: &[(u64, u64)]| {
        let mut block = vec![0; 16384];
        tree_block::init(
            &mut block,
            AT,
            Generation(GENERATION),
            5,
            1,
            &[3; 16],
            &[4; 16],
        );
        tree_block::header_mut(&mut block).set_flag(HEADER_FLAG_WRITTEN, true);
        for (slot, &(objectid, child)) in pointers.iter().enumerate() {
            let key = Key::new(objectid, kind::INODE_ITEM, 0);
            node::insert(&mut block, slot, &key, Logical(child), Generation(5));
        }
        seal_block(&ctx, &mut block);
        check_block(&ctx, &Expect::at(AT), &block)
    };
    build(&[(1, 16384), (2, 32768)]).expect("ordered");
    assert!(build(&[]).is_err());
    assert!(build(&[(2, 16384), (1, 32768)]).is_err());
    assert!(build(&[(1, 16384), (1, 32768)]).is_err());
    assert!(build(&[(1, 0)]).is_err());
    assert!(build(&[(1, 16385)]).is_err());
}

#[test]
fn wrong_items_of_files_are_refused_by_name() {
    let fs = ids::FS_TREE_OBJECTID;
    let at = |kind, offset| Key::new(300, kind, offset);
    let file = |mode| (at(kind::INODE_ITEM, 0), inode(mode).as_bytes().to_vec());
    refuses(fs, &[file(0o0644)], "no type of file");
    refuses(fs, &[file(0o1100644)], "unknown bits");
    let mut many = inode(0o40755);
    many.nlink.set(2);
    refuses(
        fs,
        &[(at(kind::INODE_ITEM, 0), many.as_bytes().to_vec())],
        "2 links",
    );
    let mut future = inode(0o100644);
    future.transid.set(GENERATION + 2);
    refuses(
        fs,
        &[(at(kind::INODE_ITEM, 0), future.as_bytes().to_vec())],
        "transid 9",
    );
    refuses(
        fs,
        &[(Key::new(7, kind::INODE_ITEM, 0), vec![0; 160])],
        "none of a file",
    );

    let with = |key: Key, data: Vec<u8>| [inode_at(300), (key, data)];
    let orphaned = (
        Key::new(301, kind::EXTENT_DATA, 0),
        FileExtentHead::encode_inline(7, b""),
    );
    refuses(fs, &[inode_at(300), orphaned], "no INODE_ITEM");
    refuses(
        fs,
        &with(at(kind::INODE_REF, 256), InodeRef::encode(2, b"")),
        "0 bytes",
    );
    refuses(
        fs,
        &with(at(kind::INODE_REF, 256), vec![1; 11]),
        "no whole name",
    );
    refuses(fs, &with(at(kind::DIR_ITEM, 5), entry(b"file")), "hash");
    refuses(
        fs,
        &with(at(kind::DIR_INDEX, 5), entry(b"")),
        "name of 0 bytes",
    );
    refuses(
        fs,
        &with(at(kind::XATTR_ITEM, 5), entry(b"file")),
        "kind of item",
    );
    let hash = |name: &[u8]| u64::from(csum::name_hash(name));
    let unknown = DirItem::encode(
        &Key::new(300, kind::INODE_ITEM, 0),
        7,
        FT_UNKNOWN,
        b"f",
        b"",
    );
    refuses(
        fs,
        &with(at(kind::DIR_INDEX, 5), unknown),
        "no type of file",
    );
    let leading = DirItem::encode(&Key::new(256, kind::INODE_ITEM, 0), 7, FT_XATTR, b"x", b"y");
    refuses(
        fs,
        &with(at(kind::XATTR_ITEM, hash(b"x")), leading),
        "an attribute that leads to",
    );
    let elsewhere = DirItem::encode(&Key::MIN, 7, FT_XATTR, b"x", b"y");
    refuses(
        fs,
        &with(at(kind::XATTR_ITEM, hash(b"x") + 1), elsewhere),
        "the name's hash is",
    );
    let lost = DirItem::encode(&Key::new(3, kind::ROOT_ITEM, 0), 7, FT_DIR, b"sub", b"");
    refuses(fs, &with(at(kind::DIR_INDEX, 5), lost), "no files");

    let extent = |change: &dyn Fn(&mut FileExtentItem)| {
        let mut extent = FileExtentItem::whole(7, FILE_EXTENT_REG, Logical(1 << 30), 8192);
        change(&mut extent);
        with(at(kind::EXTENT_DATA, 0), extent.as_bytes().to_vec())
    };
    refuses(fs, &extent(&|it| it.kind = 3), "type 3");
    refuses(fs, &extent(&|it| it.compression = 4), "compression 4");
    refuses(fs, &extent(&|it| it.disk_bytenr.set(12345)), "disk_bytenr");
    refuses(
        fs,
        &extent(&|it| it.num_bytes.set(12288)),
        "of an extent of 8192",
    );
    refuses(
        fs,
        &extent(&|it| it.offset.set(u64::MAX - 4095)),
        "of an extent of 8192",
    );
    refuses(fs, &with(at(kind::EXTENT_DATA, 0), vec![0; 20]), "20 bytes");
    let mut overlapping = rich_leaf();
    overlapping[9].0.offset = 4096;
    refuses(fs, &overlapping, "overlaps");
}

#[test]
fn wrong_items_of_other_trees_are_refused_by_name() {
    let csums = |offset, bytes| {
        (
            Key::new(ids::EXTENT_CSUM_OBJECTID, kind::EXTENT_CSUM, offset),
            vec![0; bytes],
        )
    };
    let tree = ids::CSUM_TREE_OBJECTID;
    verdict(tree, &[csums(8192, 8), csums(16384, 4)]).expect("side by side");
    refuses(tree, &[csums(8192, 12), csums(16384, 4)], "overlaps");
    refuses(tree, &[csums(8192, 7)], "7 bytes");
    refuses(tree, &[csums(100, 4)], "multiple");

    let tree = ids::EXTENT_TREE_OBJECTID;
    let tree_ref = |root| BackRef::TreeBlock { root };
    let shared = BackRef::SharedBlock { parent: 65536 };
    let metadata = |refs: &[BackRef]| {
        extent_item(
            kind::METADATA_ITEM,
            1 << 20,
            0,
            EXTENT_FLAG_TREE_BLOCK,
            refs,
        )
    };
    verdict(tree, &[metadata(&[tree_ref(7), tree_ref(5), shared])]).expect("ordered");
    refuses(
        tree,
        &[metadata(&[tree_ref(5), tree_ref(7)])],
        "out of order",
    );
    refuses(tree, &[metadata(&[shared, tree_ref(5)])], "out of order");
    refuses(
        tree,
        &[metadata(&[BackRef::SharedData { parent: 65536 }])],
        "no reference of such",
    );
    let mut counted = metadata(&[tree_ref(5), shared]);
    counted.1[0] = 1;
    refuses(tree, &[counted], "the total is 1");
    let data = |at, length, flags| extent_item(kind::EXTENT_ITEM, at, length, flags, &[]);
    verdict(tree, &[data(4096, 4096, 1), data(8192, 4096, 1)]).expect("side by side");
    refuses(
        tree,
        &[data(4096, 8192, 1), data(8192, 4096, 1)],
        "overlaps",
    );
    refuses(tree, &[data(4096, 4096, 0)], "either data or tree block");
    refuses(tree, &[data(4096, 4096, 0x101)], "FULL_BACKREF");
    refuses(
        tree,
        &[(Key::new(4096, kind::SHARED_DATA_REF, 8192), vec![0; 4])],
        "counts 0",
    );
    let by_file = |root, objectid| {
        let offset = 0;
        let file = BackRef::Data {
            root,
            objectid,
            offset,
        };
        [extent_item(kind::EXTENT_ITEM, 4096, 4096, 1, &[file])]
    };
    for (root, objectid) in [(5, 256), (256, 300), (ids::DATA_RELOC_TREE_OBJECTID, 257)] {
        verdict(tree, &by_file(root, objectid)).expect("a file of a subvolume");
    }
    verdict(tree, &by_file(ids::ROOT_TREE_OBJECTID, 257)).expect("the old free space cache");
    verdict(tree, &by_file(5, ids::FREE_INO_OBJECTID)).expect("the old inode cache");
    refuses(tree, &by_file(7, 256), "holds no files");
    refuses(tree, &by_file(5, 255), "none of a file");
    let keyed = ExtentDataRef {
        root: 2.into(),
        objectid: 256.into(),
        offset: 0.into(),
        count: 1.into(),
    };
    let keyed = (
        Key::new(4096, kind::EXTENT_DATA_REF, keyed.hash()),
        keyed.as_bytes().to_vec(),
    );
    refuses(tree, &[keyed], "holds no files");
    let group = BlockGroupItem {
        used: 8192.into(),
        chunk_objectid: 256.into(),
        flags: BLOCK_GROUP_DATA.into(),
    };
    let group_at = |length| (Key::new(1 << 20, kind::BLOCK_GROUP_ITEM, length), group);
    let group_item = |length| [(group_at(length).0, group.as_bytes().to_vec())];
    verdict(tree, &group_item(1 << 20)).expect("less used than long");
    refuses(tree, &group_item(4096), "8192 bytes used of 4096");

    let tree = ids::FREE_SPACE_TREE_OBJECTID;
    let free = |at, kind, length, bytes| (Key::new(at, kind, length), vec![0; bytes]);
    verdict(tree, &[free(0, kind::FREE_SPACE_BITMAP, 40960, 2)]).expect("ten sectors");
    refuses(
        tree,
        &[free(0, kind::FREE_SPACE_BITMAP, 40960, 3)],
        "2 expected",
    );
    let two = [
        free(0, kind::FREE_SPACE_EXTENT, 8192, 0),
        free(4096, kind::FREE_SPACE_EXTENT, 4096, 0),
    ];
    refuses(tree, &two, "overlaps");

    let mut root = RootItem::zeroed();
    root.generation.set(GENERATION);
    let root_item = |root: &RootItem| [(Key::new(5, kind::ROOT_ITEM, 0), root.as_bytes().to_vec())];
    verdict(1, &root_item(&root)).expect("an empty root item makes sense");
    root.level = 8;
    refuses(1, &root_item(&root), "level 8");
}

#[test]
fn wrong_chunks_are_refused_by_name() {
    let chunk = |change: &dyn Fn(&mut Chunk)| {
        let mut chunk = Chunk {
            length: (8 << 20).into(),
            owner: 2.into(),
            stripe_len: STRIPE_LEN.into(),
            kind: BLOCK_GROUP_METADATA.into(),
            sector_size: 4096.into(),
            ..Chunk::default()
        };
        change(&mut chunk);
        let stripe = Stripe {
            devid: 1.into(),
            offset: (1 << 20).into(),
            dev_uuid: [4; 16],
        };
        [(
            Key::new(256, kind::CHUNK_ITEM, 1 << 20),
            chunk.encode(&[stripe]),
        )]
    };
    let tree = ids::CHUNK_TREE_OBJECTID;
    verdict(tree, &chunk(&|_| {})).expect("a single chunk");
    refuses(tree, &chunk(&|it| it.stripe_len.set(0)), "stripe length 0");
    refuses(tree, &chunk(&|it| it.sector_size.set(0)), "sector size 0");
    refuses(tree, &chunk(&|it| it.length.set(0)), "length 0");
    refuses(tree, &chunk(&|it| it.kind.set(0x24)), "1 stripes of DUP");
    refuses(
        tree,
        &chunk(&|it| it.kind.set(1 << 20)),
        "unknown type bits",
    );
    refuses(tree, &chunk(&|it| it.kind.set(5)), "DATA|METADATA");
    refuses(
        tree,
        &[(Key::new(256, kind::CHUNK_ITEM, 1 << 20), vec![0; 60])],
        "no stripe",
    );
}
