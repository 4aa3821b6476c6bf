//! What we write, the kernel reads, and the other way round: seeded stories go on from mount to
//! mount of one image, ours and the kernel's in turn. After each turn of ours `btrfs check` finds
//! nothing in either mode, the kernel sees the model's tree and says nothing in its log, and both
//! mounts show the same in every field.

use btrfuse_test_support::compare::{assert_same, excuse_compressed};
use btrfuse_test_support::{
    BtrfuseMount, Image, Judge, LoopMount, Rules, Story, btrfs_check, dump, golden, run, walk,
};
use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Either mount of an image.
enum Side {
    Ours(BtrfuseMount),
    Kernels(LoopMount),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Writer {
    Btrfuse,
    Kernel,
}

impl Side {
    #[track_caller]
    fn write(writer: Writer, image: &Image) -> Self {
        match writer {
            Writer::Btrfuse => Self::Ours(BtrfuseMount::read_write(image.path())),
            Writer::Kernel => Self::Kernels(LoopMount::read_write(image.path())),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Ours(mount) => mount.path(),
            Self::Kernels(mount) => mount.path(),
        }
    }

    #[track_caller]
    fn unmount(self, check: Judge) {
        match self {
            Self::Ours(mount) => mount.unmount_excusing(check.log_excuses()),
            Self::Kernels(mount) => mount.unmount(),
        }
    }
}

/// One turn: the story goes on, then every judge.
#[track_caller]
fn turn(writer: Writer, image: &Image, check: Judge, story: &mut Story, steps: usize) {
    let before = image.generation();
    let side = Side::write(writer, image);
    story.go_on(side.path(), steps);
    story.assert_told(&format!("{writer:?}, live"), side.path());
    let mut live = walk(side.path());
    side.unmount(check);
    assert!(image.generation() > before, "nothing was committed");
    let mut kernels = judge(image, check, story);
    // Before and after the last commit: the same, but for the birth times that FUSE lacks, and
    // for blocks, which delayed allocation decides later.
    let mut rules = Rules::fuse();
    rules.without.push("blocks");
    if writer == Writer::Btrfuse {
        excuse_compressed(image.path(), &mut kernels, &mut live);
    }
    assert_same(
        &format!("{writer:?}, live, against the kernel's mount"),
        &kernels,
        &live,
        &rules,
    );
}

/// Check, the kernel's mount and ours agree on the image as it is. The kernel's walk.
#[track_caller]
fn judge(image: &Image, check: Judge, story: &Story) -> btrfuse_test_support::Manifest {
    check.assert_content(image.path());
    let mount = LoopMount::read_only(image.path());
    story.assert_told("the kernel's mount", mount.path());
    let kernels = walk(mount.path());
    mount.unmount();
    let digest = image.digest();
    let mount = BtrfuseMount::read_only(image.path());
    let mut ours = walk(mount.path());
    mount.unmount();
    let mut expected = kernels.clone();
    excuse_compressed(image.path(), &mut expected, &mut ours);
    let what = "our read-only mount against the kernel's";
    assert_same(what, &expected, &ours, &Rules::fuse());
    assert_eq!(
        image.digest(),
        digest,
        "a read-only mount of ours changed the image"
    );
    kernels
}

/// A whole story: ours, the kernel, ours again, and everything removed.
#[track_caller]
fn both_ways(image: &Image, check: Judge, seed: u64, steps: usize) {
    let mut story = Story::new(seed, "story");
    let mount = BtrfuseMount::read_write(image.path());
    story.begin(mount.path());
    mount.unmount_excusing(check.log_excuses());
    turn(Writer::Btrfuse, image, check, &mut story, steps);
    turn(Writer::Kernel, image, check, &mut story, steps);
    turn(Writer::Btrfuse, image, check, &mut story, steps);
    let mount = BtrfuseMount::read_write(image.path());
    story.clear(mount.path());
    mount.unmount_excusing(check.log_excuses());
    judge(image, check, &story);
}

/// The whole set of judges, with the kernel in our place: what they say of us is about us.
#[test]
fn the_judges_accept_the_kernels_own_work() {
    let image = Image::mkfs_btrfs(256, &[]);
    let mut story = Story::new(99, "story");
    let side = Side::write(Writer::Kernel, &image);
    story.begin(side.path());
    side.unmount(Judge::strict());
    turn(Writer::Kernel, &image, Judge::strict(), &mut story, 300);
}

macro_rules! on_fresh_images {
    ($($name:ident: $mib:literal MiB, $options:expr, seed $seed:literal;)*) => {$(
        #[test]
        fn $name() {
            both_ways(&Image::mkfs_btrfs($mib, &$options), Judge::strict(), $seed, 400);
        }
    )*};
}

// Explicit holes: these are seeds of which the kernel keeps its own work; see
// `what_is_written_into_preallocated_space_keeps_its_size`.
on_fresh_images! {
    default_images_go_both_ways: 300 MiB, [], seed 1;
    four_kib_nodes_go_both_ways: 300 MiB, ["-n", "4096"], seed 2;
    sixty_four_kib_nodes_go_both_ways: 300 MiB, ["-n", "65536"], seed 3;
    single_metadata_goes_both_ways: 300 MiB, ["-m", "single"], seed 4;
    dup_data_goes_both_ways: 600 MiB, ["-d", "dup"], seed 5;
    explicit_holes_go_both_ways: 300 MiB, ["-O", "^no-holes"], seed 6;
    old_metadata_items_go_both_ways: 300 MiB, ["-O", "^skinny-metadata"], seed 7;
    xxhash64_goes_both_ways: 300 MiB, ["--csum", "xxhash"], seed 8;
    sha256_goes_both_ways: 300 MiB, ["--csum", "sha256"], seed 9;
    blake2b_goes_both_ways: 300 MiB, ["--csum", "blake2"], seed 10;
    small_nodes_old_items_and_explicit_holes_go_both_ways:
        300 MiB, ["-n", "4096", "-O", "^no-holes,^skinny-metadata"], seed 17;
}

/// Without NO_HOLES kernel 6.18 loses sizes by itself. Of a file with space beyond its end, made
/// before a remount, it forgets at the next one what was appended since:
/// `fallocate -n -l 16384 f`, umount, mount, `head -c 8719 /dev/urandom >>f`, umount, mount: size 0.
/// The same steps by us, and a story (seed 11) in which the kernel's turn would meet this, with all
/// its turns ours: the kernel sees every size.
#[test]
fn what_is_written_into_preallocated_space_keeps_its_size() {
    let options = ["-n", "4096", "-O", "^no-holes,^skinny-metadata"];
    let image = Image::mkfs_btrfs(300, &options);
    let mount = LoopMount::read_write(image.path());
    let file = std::fs::File::create(mount.path().join("f")).expect("a writable mount");
    let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, keep, 0, 16384).expect("a writable mount");
    drop(file);
    mount.unmount();
    let mount = BtrfuseMount::read_write(image.path());
    let mut file = std::fs::File::options()
        .append(true)
        .open(mount.path().join("f"))
        .expect("the file of before");
    file.write_all(&[7; 8719]).expect("preallocated space");
    drop(file);
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    let found = std::fs::read(mount.path().join("f")).expect("the file of before");
    assert_eq!(found, [7; 8719]);
    mount.unmount();

    let image = Image::mkfs_btrfs(300, &options);
    let mut story = Story::new(11, "story");
    let mount = BtrfuseMount::read_write(image.path());
    story.begin(mount.path());
    mount.unmount();
    for _ in 0..3 {
        turn(Writer::Btrfuse, &image, Judge::strict(), &mut story, 400);
    }
}

#[test]
fn images_of_our_mkfs_go_both_ways() {
    for (seed, options) in [
        (21, &[][..]),
        (22, &["--nodesize", "4K"]),
        (23, &["--nodesize", "64K", "--csum", "blake2b"]),
        (24, &["-O", "^block-group-tree"]),
    ] {
        let image = Image::mkfs_btrfuse(300, options);
        btrfs_check(image.path());
        both_ways(&image, Judge::strict(), seed, 250);
    }
}

macro_rules! on_golden_images {
    ($($name:ident: $image:literal, seed $seed:literal;)*) => {$(
        #[test]
        fn $name() {
            let image = golden::named($image).image();
            let check = Judge::before_us(image.path());
            both_ways(&image, check, $seed, 200);
        }
    )*};
}

// What the kernel made: snapshots, reflinks, every feature in small numbers.
on_golden_images! {
    the_kernels_default_image_goes_both_ways: "default-s11", seed 31;
    the_kernels_snapshots_go_both_ways: "snapshots-s11", seed 32;
    a_block_group_tree_goes_both_ways: "bgt-s11", seed 33;
    the_kernels_small_nodes_go_both_ways: "node4k-s11", seed 34;
    the_kernels_reflinks_go_both_ways: "reflinks-s11", seed 35;
    free_space_bitmaps_go_both_ways: "fst-bitmaps-s11", seed 36;
    a_metadata_uuid_goes_both_ways: "metadata-uuid-s11", seed 37;
    many_links_go_both_ways: "many-links-s11", seed 38;
    mixed_groups_go_both_ways: "mixed-s11", seed 39;
}

/// We don't account: our first commit marks the numbers, check lists what it expects of them, and
/// the kernel's rescan makes it content again.
#[test]
fn quotas_go_both_ways() {
    let image = golden::named("quotas-s11").image();
    let check = Judge::before_us(image.path()).without_quota_accounting();
    both_ways(&image, check, 40, 200);
}

/// So many that small nodes make a tree of three levels.
const MANY: usize = 3000;

fn many_name(number: usize) -> String {
    format!("a-name-of-some-length-{number:04}")
}

fn many_files(folder: &Path) {
    std::fs::create_dir(folder).expect("a writable mount");
    for number in 0..MANY {
        // Some with an extent, so that leaves refer to data.
        let len = if number % 10 == 0 { 5000 } else { 1 };
        std::fs::write(folder.join(many_name(number)), vec![7; len]).expect("a writable mount");
    }
}

/// Everything that snapshots share is copied before it is changed, and stays as it was there.
#[test]
fn a_snapshot_keeps_what_we_change_outside() {
    for nodesize in ["4096", "16384"] {
        let image = Image::mkfs_btrfs(512, &["-n", nodesize]);
        let mut story = Story::new(41, "story");
        let mount = LoopMount::read_write(image.path());
        story.begin(mount.path());
        story.go_on(mount.path(), 600);
        many_files(&mount.path().join("many"));
        let root = mount.path();
        run(Command::new("btrfs")
            .args(["subvolume", "snapshot", "-r"])
            .arg(root)
            .arg(root.join("kept")));
        mount.unmount();
        let kept = story.frozen("kept/story");
        let shared = dump::shared_references(image.path());
        for steps in [300, 500] {
            turn(Writer::Btrfuse, &image, Judge::strict(), &mut story, steps);
            // What the snapshot still has belongs to its blocks by now, no longer to a tree: data
            // to leaves, and leaves to nodes where there are such below the root.
            let now = dump::shared_references(image.path());
            let has_nodes = nodesize == "4096";
            assert!(
                now.1 > shared.1 && (now.0 > shared.0) == has_nodes,
                "{shared:?} references by blocks, {now:?} after us"
            );
            let mount = LoopMount::read_only(image.path());
            kept.assert_told("the snapshot, by the kernel", mount.path());
            mount.unmount();
            let mount = BtrfuseMount::read_only(image.path());
            kept.assert_told("the snapshot, by us", mount.path());
            mount.unmount();
        }
        // The last user of the shared blocks goes: the kernel drops what is left of them.
        let mount = LoopMount::read_write(image.path());
        run(Command::new("btrfs")
            .args(["subvolume", "delete", "-c"])
            .arg(mount.path().join("kept")));
        run(Command::new("btrfs")
            .args(["subvolume", "sync"])
            .arg(mount.path()));
        mount.unmount();
        judge(&image, Judge::strict(), &story);
    }
}

/// A subvolume and its snapshot change by turns, each under a mount of ours that shows both, then
/// under one that shows only the snapshot; what they share stays right for both.
#[test]
fn a_snapshot_and_its_origin_change_apart() {
    for nodesize in ["4096", "16384"] {
        let image = Image::mkfs_btrfs(512, &["-n", nodesize]);
        let mount = LoopMount::read_write(image.path());
        let btrfs = |words: &[&str], paths: &[&Path]| {
            run(Command::new("btrfs").args(words).args(paths));
        };
        let at = |name: &str| mount.path().join(name);
        btrfs(&["subvolume", "create"], &[&at("origin")]);
        let mut origin = Story::new(42, "origin/story");
        origin.begin(mount.path());
        origin.go_on(mount.path(), 500);
        many_files(&at("origin/many"));
        btrfs(&["subvolume", "snapshot"], &[&at("origin"), &at("copy")]);
        btrfs(
            &["subvolume", "snapshot", "-r"],
            &[&at("copy"), &at("kept")],
        );
        mount.unmount();
        let kept = origin.frozen("kept/story");
        let mut copy = origin.frozen("copy/story");
        copy.diverge(43);
        let told = |origin: &Story, copy: &Story| {
            btrfs_check(image.path());
            let mount = LoopMount::read_only(image.path());
            for story in [origin, copy, &kept] {
                story.assert_told("the kernel's mount", mount.path());
            }
            let many = std::fs::read_dir(mount.path().join("kept/many"));
            assert_eq!(many.expect("a folder").count(), MANY);
            mount.unmount();
        };
        for round in 0..2 {
            let mount = BtrfuseMount::read_write(image.path());
            // Whoever changes a block that both have goes first once.
            let (first, second) = match round {
                0 => (&mut origin, &mut copy),
                _ => (&mut copy, &mut origin),
            };
            for _ in 0..4 {
                first.go_on(mount.path(), 60);
                second.go_on(mount.path(), 60);
            }
            // Half of these stay shared until the origin has changed them first.
            for number in (round..MANY).step_by(7) {
                let name = mount.path().join("origin/many").join(many_name(number));
                std::fs::set_permissions(name, Permissions::from_mode(0o600)).expect("there");
            }
            for number in (round..MANY / 2).step_by(7) {
                let name = mount.path().join("copy/many").join(many_name(number));
                std::fs::remove_file(name).expect("there");
            }
            for story in [&origin, &copy, &kept] {
                story.assert_told("live", mount.path());
            }
            mount.unmount();
            told(&origin, &copy);
            // The kernel's turn, in both.
            let mount = LoopMount::read_write(image.path());
            origin.go_on(mount.path(), 60);
            copy.go_on(mount.path(), 60);
            mount.unmount();
            told(&origin, &copy);
        }
        let mut alone = copy.frozen("story");
        let mount = BtrfuseMount::new(image.path(), "subvol=copy");
        alone.go_on(mount.path(), 200);
        alone.assert_told("live, alone", mount.path());
        mount.unmount();
        told(&origin, &alone.frozen("copy/story"));
        // The others go, and what they shared belongs to the snapshot alone, but still by the old
        // blocks' addresses.
        let mount = LoopMount::read_write(image.path());
        for name in ["kept", "origin"] {
            let doomed = mount.path().join(name);
            run(Command::new("btrfs")
                .args(["subvolume", "delete", "-c"])
                .arg(doomed));
        }
        run(Command::new("btrfs")
            .args(["subvolume", "sync"])
            .arg(mount.path()));
        mount.unmount();
        let before = dump::shared_references(image.path());
        let mount = BtrfuseMount::new(image.path(), "subvolid=257");
        alone.go_on(mount.path(), 200);
        for number in (2..MANY).step_by(7) {
            let name = mount.path().join("many").join(many_name(number));
            std::fs::remove_file(name).expect("there");
        }
        mount.unmount();
        let after = dump::shared_references(image.path());
        assert!(
            before.1 > 0 && after < before,
            "{before:?}, {after:?} after us"
        );
        btrfs_check(image.path());
        let mount = LoopMount::read_only(image.path());
        alone
            .frozen("copy/story")
            .assert_told("the snapshot, alone", mount.path());
        mount.unmount();
        let mount = BtrfuseMount::new(image.path(), "subvolid=257");
        alone.clear(mount.path());
        std::fs::remove_dir_all(mount.path().join("many")).expect("a writable mount");
        mount.unmount();
        btrfs_check(image.path());
        let mount = LoopMount::read_only(image.path());
        alone
            .frozen("copy/story")
            .assert_told("the snapshot, emptied", mount.path());
        mount.unmount();
    }
}

/// Skinny items switched on later: the old ones stay as they are, in the same leaves as skinny ones.
/// Both forms must be there before us, and after each of our turns.
#[test]
fn old_and_skinny_metadata_items_go_both_ways_together() {
    let image = Image::mkfs_btrfs(300, &["-n", "4096", "-O", "^skinny-metadata"]);
    let mount = LoopMount::read_write(image.path());
    many_files(&mount.path().join("many"));
    mount.unmount();
    let (old, skinny) = dump::tree_block_items(image.path());
    assert!(old > 300 && skinny == 0, "{old} old items, {skinny} skinny");
    run(Command::new("btrfstune").arg("-x").arg(image.path()));
    btrfs_check(image.path());
    both_ways(&image, Judge::strict(), 44, 300);
    // Some of the old leaves, too, are copied by us.
    let mount = BtrfuseMount::read_write(image.path());
    for number in (0..MANY).step_by(MANY / 80) {
        let name = mount.path().join("many").join(many_name(number));
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(name, mode).expect("there");
    }
    mount.unmount();
    let (left, skinny) = dump::tree_block_items(image.path());
    assert!(
        left > 50 && left < old && skinny > 50,
        "{left} of {old} old items, {skinny} skinny"
    );
    // Old items go too, and none is looked for under the other key.
    let mount = BtrfuseMount::read_write(image.path());
    for number in (0..MANY).filter(|number| number % 5 != 0) {
        let name = mount.path().join("many").join(many_name(number));
        std::fs::remove_file(name).expect("there");
    }
    mount.unmount();
    btrfs_check(image.path());
    let (last, _) = dump::tree_block_items(image.path());
    assert!(last < left, "{last} of {left} old items");
    let mount = LoopMount::read_write(image.path());
    assert_eq!(
        std::fs::read_dir(mount.path().join("many"))
            .expect("a folder")
            .count(),
        MANY / 5
    );
    std::fs::remove_dir_all(mount.path().join("many")).expect("a writable mount");
    mount.unmount();
    btrfs_check(image.path());
}

/// Relocation moves blocks that snapshots share, and leaves references by block (FULL_BACKREF,
/// shared data) also to blocks with one owner: what is copied next must pass them on.
#[test]
fn what_the_kernel_balanced_goes_both_ways() {
    let image = Image::mkfs_btrfs(600, &["-n", "4096"]);
    let mount = LoopMount::read_write(image.path());
    let btrfs = |words: &[&str], paths: &[&Path]| {
        run(Command::new("btrfs").args(words).args(paths));
    };
    let at = |name: &str| mount.path().join(name);
    btrfs(&["subvolume", "create"], &[&at("origin")]);
    let mut origin = Story::new(45, "origin/story");
    origin.begin(mount.path());
    origin.go_on(mount.path(), 400);
    many_files(&at("origin/many"));
    btrfs(&["subvolume", "snapshot"], &[&at("origin"), &at("copy")]);
    btrfs(
        &["subvolume", "snapshot", "-r"],
        &[&at("origin"), &at("kept")],
    );
    // Half of the leaves are the origin's own by now.
    for number in (0..MANY / 2).step_by(9) {
        let name = at("origin/many").join(many_name(number));
        std::fs::set_permissions(name, Permissions::from_mode(0o640)).expect("there");
    }
    btrfs_balance(mount.path());
    mount.unmount();
    btrfs_check(image.path());
    let shared = dump::shared_references(image.path());
    assert!(shared.0 > 0 && shared.1 > 0, "{shared:?} by block");
    let kept = origin.frozen("kept/story");
    let mut copy = origin.frozen("copy/story");
    copy.diverge(46);
    let told = |origin: &Story, copy: &Story| {
        btrfs_check(image.path());
        let mount = LoopMount::read_only(image.path());
        for story in [origin, copy, &kept] {
            story.assert_told("the kernel's mount", mount.path());
        }
        let many = std::fs::read_dir(mount.path().join("kept/many"));
        assert_eq!(many.expect("a folder").count(), MANY);
        let kernels = walk(mount.path());
        mount.unmount();
        let mount = BtrfuseMount::read_only(image.path());
        let mut ours = walk(mount.path());
        mount.unmount();
        let mut expected = kernels;
        excuse_compressed(image.path(), &mut expected, &mut ours);
        assert_same("balanced", &expected, &ours, &Rules::fuse());
    };
    for round in 0..2 {
        let mount = BtrfuseMount::read_write(image.path());
        let (first, second) = match round {
            0 => (&mut copy, &mut origin),
            _ => (&mut origin, &mut copy),
        };
        first.go_on(mount.path(), 100);
        second.go_on(mount.path(), 100);
        for (folder, step) in [("origin/many", 7), ("copy/many", 11)] {
            for number in (round..MANY).step_by(step) {
                let name = mount.path().join(folder).join(many_name(number));
                std::fs::remove_file(name).expect("there");
            }
        }
        mount.unmount();
        told(&origin, &copy);
        // Once more, with what we left.
        let mount = LoopMount::read_write(image.path());
        origin.go_on(mount.path(), 60);
        copy.go_on(mount.path(), 60);
        if round == 0 {
            btrfs_balance(mount.path());
        }
        mount.unmount();
        told(&origin, &copy);
    }
    let mount = BtrfuseMount::read_write(image.path());
    origin.clear(mount.path());
    for folder in ["origin/many", "copy/many"] {
        std::fs::remove_dir_all(mount.path().join(folder)).expect("a writable mount");
    }
    mount.unmount();
    told(&origin, &copy);
}

fn btrfs_balance(mount: &Path) {
    run(Command::new("btrfs")
        .args(["balance", "start", "--full-balance"])
        .arg(mount));
}
