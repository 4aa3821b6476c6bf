//! Which images are opened, and how far: every bit that closes a gate, and every kind of work that
//! another program has begun, on real images; a mount, `inspect --json` and the kernel are asked.

use crate::gated::change_superblocks;
use crate::scribe::open_image;
use btrfuse::ondisk::superblock::*;
use btrfuse::ondisk::{
    DEV_REPLACE_STATE_STARTED, DEV_REPLACE_STATE_SUSPENDED, DevReplaceItem, Key, ids, kind,
    unfinished,
};
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfuse_binary, dump, run};
use std::process::Command;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Writes,
    Reads,
    Refuses,
}
use Answer::{Reads, Refuses, Writes};

/// What a mount makes of the image, with its words; what `inspect --json` says must be the same.
fn asked(image: &Image) -> (Answer, String) {
    let before = image.digest();
    let mut command = Command::new(btrfuse_binary());
    command.args(["inspect", "--json"]).arg(image.path());
    let inspected: serde_json::Value = serde_json::from_str(&run(&mut command).stdout).unwrap();
    let access = inspected["image"]["access"].as_str().unwrap().to_owned();
    let reasons = inspected["image"]["reasons"].to_string();
    let (answer, words) = match BtrfuseMount::try_new(image.path(), "subvolid=5") {
        Err(refused) => (Refuses, refused.to_string()),
        Ok(mut mount) => {
            let wrote = std::fs::write(mount.path().join("new"), "x");
            let words = mount.log();
            match wrote {
                Ok(()) => (Writes, words),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
                    (Reads, words)
                }
            }
        }
    };
    let expected = match answer {
        Writes => "read-write",
        Reads => "read-only",
        Refuses => "none",
    };
    assert_eq!(access, expected, "inspect: {reasons}; the mount: {words}");
    if answer != Writes {
        assert_eq!(image.digest(), before, "the image was written");
    }
    (answer, format!("{words}\n{reasons}"))
}

/// What the kernel makes of it.
fn kernel(image: &Image, options: &str) -> bool {
    match LoopMount::try_new(&[image.path()], options) {
        Ok(mount) => {
            mount.unmount_damaged();
            true
        }
        Err(_) => false,
    }
}

#[derive(Clone, Copy)]
enum Field {
    Incompat,
    CompatRo,
    Flags,
}

/// See the table.
type Row = (Field, u64, Answer, &'static str, Option<(bool, bool)>);

#[test]
fn every_gate_is_closed_as_far_as_it_says() {
    // What is set, what we answer, the word for it, whether the kernel reads it and writes it too,
    // where its answer doesn't depend on how it was built.
    let rows: &[Row] = &[
        (
            Field::Incompat,
            1 << 40,
            Refuses,
            "incompat bit 40",
            Some((false, false)),
        ),
        (
            Field::Incompat,
            FEATURE_INCOMPAT_ZONED,
            Refuses,
            "ZONED",
            None,
        ),
        (
            Field::Incompat,
            FEATURE_INCOMPAT_EXTENT_TREE_V2,
            Refuses,
            "EXTENT_TREE_V2",
            None,
        ),
        (
            Field::Incompat,
            FEATURE_INCOMPAT_RAID_STRIPE_TREE,
            Refuses,
            "RAID_STRIPE_TREE",
            None,
        ),
        (
            Field::Incompat,
            FEATURE_INCOMPAT_REMAP_TREE,
            Refuses,
            "REMAP_TREE",
            None,
        ),
        (
            Field::Incompat,
            FEATURE_INCOMPAT_RAID56,
            Reads,
            "RAID56",
            None,
        ),
        (
            Field::Incompat,
            FEATURE_INCOMPAT_SIMPLE_QUOTA,
            Reads,
            "SIMPLE_QUOTA",
            None,
        ),
        (
            Field::CompatRo,
            1 << 40,
            Reads,
            "compat_ro bit 40",
            Some((true, false)),
        ),
        (Field::CompatRo, FEATURE_COMPAT_RO_VERITY, Writes, "", None),
        (
            Field::Flags,
            SUPER_FLAG_SEEDING,
            Reads,
            "SEEDING",
            Some((true, false)),
        ),
        (Field::Flags, SUPER_FLAG_METADUMP, Reads, "METADUMP", None),
        (
            Field::Flags,
            SUPER_FLAG_METADUMP_V2,
            Reads,
            "METADUMP",
            None,
        ),
        (
            Field::Flags,
            SUPER_FLAG_CHANGING_FSID,
            Refuses,
            "CHANGING_FSID",
            None,
        ),
        (
            Field::Flags,
            SUPER_FLAG_CHANGING_FSID_V2,
            Refuses,
            "CHANGING_FSID_V2",
            None,
        ),
        (
            Field::Flags,
            SUPER_FLAG_CHANGING_BG_TREE,
            Refuses,
            "CHANGING_BG_TREE",
            None,
        ),
        (
            Field::Flags,
            SUPER_FLAG_CHANGING_DATA_CSUM,
            Refuses,
            "CHANGING_DATA_CSUM",
            None,
        ),
        (
            Field::Flags,
            SUPER_FLAG_CHANGING_META_CSUM,
            Refuses,
            "CHANGING_META_CSUM",
            None,
        ),
    ];
    let plain = Image::mkfs_btrfs(128, &[]);
    assert_eq!(asked(&plain.copy()).0, Writes);
    for (field, bit, answer, word, kernels) in rows {
        let image = plain.copy().fresh_fsid();
        change_superblocks(&image, |superblock| {
            let bits = match field {
                Field::Incompat => &mut superblock.incompat_flags,
                Field::CompatRo => &mut superblock.compat_ro_flags,
                Field::Flags => &mut superblock.flags,
            };
            bits.set(bits.get() | bit);
        });
        if let Some((reads, writes)) = kernels {
            assert_eq!(kernel(&image, "ro"), *reads, "the kernel reads {word}");
            assert_eq!(kernel(&image, ""), *writes, "the kernel writes {word}");
        }
        let (found, words) = asked(&image);
        assert_eq!(found, *answer, "{word}: {words}");
        assert!(words.contains(word), "{word}: {words}");
    }
    let old = plain.copy();
    change_superblocks(&old, |superblock| {
        let bits = superblock.incompat_flags.get() & !FEATURE_INCOMPAT_MIXED_BACKREF;
        superblock.incompat_flags.set(bits);
    });
    let (found, words) = asked(&old);
    assert!(
        found == Refuses && words.contains("MIXED_BACKREF"),
        "{words}"
    );
}

/// Puts an item into one of the image's trees.
fn plant(image: &Image, tree: u64, key: Key, data: &[u8]) {
    let engine = open_image(image.path());
    let root = engine.ctx.roots.get(&engine.ctx, tree).unwrap();
    let trans = engine.ctx.transactions.join().unwrap();
    engine.ctx.upsert(&trans, &root, &key, data).unwrap();
    drop(trans);
    engine.shutdown().unwrap();
}

/// The balance is real: the kernel paused it, by a mount that doesn't let it begin.
#[test]
fn a_balance_under_way_is_left_to_the_kernel() {
    use btrfuse::ondisk::{BalanceItem, FromZeros};
    let image = Image::mkfs_btrfs(256, &[]);
    let mut balance = BalanceItem::new_zeroed();
    balance.flags.set(7); // data, system, metadata
    let tree = ids::ROOT_TREE_OBJECTID;
    plant(&image, tree, unfinished::BALANCE_KEY, balance.as_bytes());

    let (answer, words) = asked(&image);
    assert_eq!(answer, Reads, "{words}");
    assert!(
        words.contains("a balance is under way") && words.contains("BALANCE_ITEM"),
        "{words}"
    );

    let mount = LoopMount::new(&[image.path()], "skip_balance");
    let mut status = Command::new("btrfs");
    status.args(["balance", "status"]).arg(mount.path());
    // It exits with 1 while there is one.
    let said = btrfuse_test_support::run_any(&mut status, Duration::from_secs(20)).output();
    assert!(said.contains("is paused"), "the kernel: {said}");
    let mut cancel = Command::new("btrfs");
    run(cancel.args(["balance", "cancel"]).arg(mount.path()));
    mount.unmount();
    assert_eq!(asked(&image).0, Writes);
}

#[test]
fn an_interrupted_relocation_is_left_to_the_kernel() {
    let image = Image::mkfs_btrfs(128, &[]);
    // The relocation tree of the top level, as it is in the moment after it was made.
    let engine = open_image(image.path());
    let key = Key::new(ids::FS_TREE_OBJECTID, kind::ROOT_ITEM, 0);
    let root = engine
        .ctx
        .roots
        .get(&engine.ctx, ids::ROOT_TREE_OBJECTID)
        .unwrap();
    let item = engine.ctx.get(&root, &key).unwrap().unwrap();
    drop(root);
    drop(engine);
    let reloc = Key::new(
        ids::TREE_RELOC_OBJECTID,
        kind::ROOT_ITEM,
        ids::FS_TREE_OBJECTID,
    );
    plant(&image, ids::ROOT_TREE_OBJECTID, reloc, &item);
    let (answer, words) = asked(&image);
    assert_eq!(answer, Reads, "{words}");
    assert!(words.contains("a relocation was interrupted"), "{words}");
}

#[test]
fn a_device_replacement_is_left_to_the_kernel_until_it_is_over() {
    use btrfuse::ondisk::FromZeros;
    let image = Image::mkfs_btrfs(128, &[]);
    let mut item = DevReplaceItem::new_zeroed();
    for (state, expected) in [
        (DEV_REPLACE_STATE_STARTED, Reads),
        (DEV_REPLACE_STATE_SUSPENDED, Reads),
        (2, Writes), // finished: the item stays
    ] {
        let image = image.copy();
        item.replace_state.set(state);
        plant(
            &image,
            ids::DEV_TREE_OBJECTID,
            unfinished::REPLACE_KEY,
            item.as_bytes(),
        );
        let (answer, words) = asked(&image);
        assert_eq!(answer, expected, "state {state}: {words}");
        assert_eq!(
            words.contains("a device replacement is under way"),
            expected == Reads
        );
    }
}

/// A subvolume's state has a number, which `btrfs send` names in its stream: it must move with every
/// transaction that changes something inside, as it does when the kernel writes.
#[test]
fn a_changed_subvolume_says_in_which_transaction() {
    let image = Image::mkfs_btrfs(256, &[]);
    let mount = LoopMount::read_write(image.path());
    for name in ["a", "b"] {
        let mut create = Command::new("btrfs");
        run(create
            .args(["subvolume", "create"])
            .arg(mount.path().join(name)));
    }
    mount.unmount();
    let before = dump::root_changes(image.path());
    let ours = BtrfuseMount::read_write(image.path());
    std::fs::write(ours.path().join("a/file"), "new").unwrap();
    ours.unmount();
    let after = dump::root_changes(image.path());
    let now = image.generation();
    assert_eq!(after[&256], (now, now), "{after:?}");
    assert_eq!(after[&257], before[&257], "nothing happened in b");
}
