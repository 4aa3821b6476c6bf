//! What was made is read back through the layers below: superblocks, chunks, every block of
//! every tree. `tests/mkfs.rs` asks `btrfs check` and the kernel.

use super::*;
use crate::ondisk::check::{CheckContext, Expect, check_block};
use crate::ondisk::superblock::{SUPER_MIRRORS, Superblock};
use crate::ondisk::tree_block::{self, leaf, node};
use crate::ondisk::*;
use crate::sync::Arc;
use crate::units::{GIB, Generation, Logical, MIB};
use crate::volume::{MemoryDevice, Volume};

fn made(options: &MkfsOptions, size_bytes: u64) -> (Volume, Superblock) {
    let device = Arc::new(MemoryDevice::zeroed(size_bytes));
    make(&*device, options).expect("a new filesystem");
    Volume::open(vec![device as Arc<dyn BlockDevice>], true).expect("readable")
}

/// All items of a tree, each block judged against its parent's pointer.
fn items(
    volume: &Volume,
    sb: &Superblock,
    owner: u64,
    at: Logical,
    level: u8,
) -> Vec<(Key, Vec<u8>)> {
    let ctx = CheckContext::from_superblock(sb).expect("a known checksum");
    let expect = Expect {
        level: Some(level),
        generation: Some(Generation(GENERATION)),
        owner: Some(owner),
        ..Expect::at(at)
    };
    let mut block = vec![0; sb.nodesize.get() as usize];
    let mut all = Vec::new();
    for mirror in 0..volume.copies_at(at).expect("mapped") {
        volume.read(at, &mut block, mirror).expect("readable");
        check_block(&ctx, &expect, &block).expect("sound in every copy");
    }
    if level == 0 {
        return leaf::items(&block)
            .map(|(key, data)| (key, data.to_vec()))
            .collect();
    }
    for slot in 0..tree_block::nritems(&block) {
        all.extend(items(
            volume,
            sb,
            owner,
            node::ptr(&block, slot).0,
            level - 1,
        ));
    }
    all
}

fn judge_forest(options: &MkfsOptions, size_bytes: u64) {
    let (volume, sb) = made(options, size_bytes);
    let (root, _, level) = sb.tree_root();
    let (chunk_root, _, chunk_level) = sb.chunk_tree_root();
    for (at, item) in items(
        &volume,
        &sb,
        ids::CHUNK_TREE_OBJECTID,
        chunk_root,
        chunk_level,
    ) {
        if at.kind == kind::CHUNK_ITEM {
            let (chunk, stripes) = Chunk::parse(&item).expect("judged");
            let mapping = crate::volume::ChunkMapping::from_item(chunk, stripes);
            // The system chunk is there already, from the superblock.
            let _ = volume.chunks().insert_chunk(Logical(at.offset), mapping);
        }
    }
    let mut used = 0;
    for (key, item) in items(&volume, &sb, ids::ROOT_TREE_OBJECTID, root, level) {
        if key.kind != kind::ROOT_ITEM {
            continue;
        }
        let root = RootItem::from_item(&item).expect("judged");
        let at = Logical(root.bytenr.get());
        for (key, item) in items(&volume, &sb, key.objectid, at, root.level) {
            if key.kind == kind::BLOCK_GROUP_ITEM {
                used += BlockGroupItem::read(&item).expect("judged").used.get();
            }
        }
    }
    assert_eq!(used, sb.bytes_used.get());
}

#[test]
fn every_node_size_and_checksum_makes_sound_trees() {
    for nodesize in [4096, 8192, 16384, 32768, 65536] {
        for csum in CsumType::ALL {
            judge_forest(
                &MkfsOptions {
                    nodesize,
                    csum,
                    ..MkfsOptions::default()
                },
                128 * MIB,
            );
        }
    }
}

#[test]
fn every_switch_and_sector_size_makes_sound_trees() {
    for list in [
        "^block-group-tree",
        "^bgt,^no-holes",
        "^bgt,^fst",
        "^skinny-metadata",
        "^extref",
    ] {
        for nodesize in [4096, 16384] {
            let mut options = MkfsOptions {
                nodesize,
                ..MkfsOptions::default()
            };
            options.features.set(list).expect("known names");
            judge_forest(&options, SIZE_MIN);
        }
    }
    let large = MkfsOptions {
        sectorsize: 65536,
        nodesize: 65536,
        ..MkfsOptions::default()
    };
    judge_forest(&large, GIB);
}

#[test]
fn every_superblock_copy_that_fits_is_written() {
    let device = MemoryDevice::zeroed(300 * GIB);
    let options = MkfsOptions {
        label: b"mirrors".to_vec(),
        ..MkfsOptions::default()
    };
    let made = make(&device, &options).expect("a new filesystem");
    for at in SUPER_MIRRORS {
        let mut bytes = vec![0; 4096];
        device.read_at(at, &mut bytes).expect("inside");
        let sb = Superblock::parse_at(&bytes, at).expect("sealed");
        assert_eq!((sb.fsid, sb.label()), (made.fsid, &b"mirrors"[..]));
    }
}

#[test]
fn a_known_signature_needs_force() {
    let device = MemoryDevice::zeroed(128 * MIB);
    make(&device, &MkfsOptions::default()).expect("blank");
    let again = make(&device, &MkfsOptions::default()).unwrap_err();
    assert!(
        again.to_string().contains("btrfs filesystem: use -f"),
        "{again}"
    );
    make(
        &device,
        &MkfsOptions {
            force: true,
            ..MkfsOptions::default()
        },
    )
    .expect("forced");
}

#[test]
fn contradictions_are_refused_before_anything_is_written() {
    let device = MemoryDevice::zeroed(128 * MIB);
    let refused = |options: MkfsOptions, word: &str| {
        let error = make(&device, &options).expect_err(word).to_string();
        assert!(error.contains(word), "{error}");
    };
    let usual = MkfsOptions::default;
    refused(
        MkfsOptions {
            nodesize: 5000,
            ..usual()
        },
        "node size 5000",
    );
    refused(
        MkfsOptions {
            nodesize: 1 << 17,
            ..usual()
        },
        "node size",
    );
    refused(
        MkfsOptions {
            sectorsize: 65536,
            ..usual()
        },
        "smaller than the sector size",
    );
    refused(
        MkfsOptions {
            label: vec![b'x'; 256],
            ..usual()
        },
        "label",
    );
    let mut options = usual();
    options.features.no_holes = false;
    refused(options, "block-group-tree needs");
    assert_eq!(find_signature(&device).expect("readable"), None);
}
