//! What `btrfuse mkfs` makes: `btrfs check` finds nothing in either mode, and the kernel mounts
//! it read-write, writes, and leaves it clean.

use btrfuse_test_support::btrfuse_binary;
use btrfuse_test_support::{Image, LoopMount, btrfs_check, run, run_any, temp_dir};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Checked as it is, written by the kernel, checked again.
fn judge(image: &Path) {
    btrfs_check(image);
    let mount = LoopMount::read_write(image);
    let root = mount.path();
    std::fs::create_dir(root.join("dir")).expect("a writable filesystem");
    for number in 0..200 {
        let name = root.join("dir").join(format!("file-{number}"));
        std::fs::write(name, vec![number as u8; 3000]).expect("a writable filesystem");
    }
    std::fs::write(root.join("large"), vec![7; 1 << 20]).expect("a writable filesystem");
    mount.unmount();
    btrfs_check(image);
}

#[track_caller]
fn judge_made(mib: u64, options: &[&str]) {
    let image = Image::mkfs_btrfuse(mib, options);
    judge(image.path());
}

#[test]
fn every_node_size_is_sound_for_check_and_kernel() {
    for nodesize in ["4K", "8K", "16K", "32K", "64K"] {
        judge_made(128, &["--nodesize", nodesize]);
    }
}

#[test]
fn every_checksum_is_sound_for_check_and_kernel() {
    for csum in ["crc32c", "xxhash64", "sha256", "blake2b"] {
        judge_made(128, &["--csum", csum]);
    }
}

#[test]
fn every_feature_switch_is_sound_for_check_and_kernel() {
    for list in [
        "^block-group-tree",
        "^block-group-tree,^no-holes",
        "^block-group-tree,^free-space-tree",
        "^skinny-metadata",
        "^extref",
        "^block-group-tree,^no-holes,^skinny-metadata,^extref,^free-space-tree",
    ] {
        judge_made(128, &["-O", list]);
        judge_made(128, &["-O", list, "--nodesize", "4K"]);
    }
}

#[test]
fn every_size_is_sound_for_check_and_kernel() {
    for mib in [109, 110, 256, 1000, 5 << 10, 64 << 10, 300 << 10] {
        judge_made(mib, &["-L", "sizes"]);
    }
}

#[test]
fn a_size_that_is_no_multiple_of_anything_is_sound() {
    let folder = temp_dir();
    let image = folder.path().join("odd.raw");
    let size = (150u64 << 20) + 1234;
    run(Command::new(btrfuse_binary())
        .args(["mkfs", "--size"])
        .arg(size.to_string())
        .arg(&image));
    judge(&image);
}

/// The exit code and what was said.
fn mkfs(arguments: &[&str], image: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(btrfuse_binary());
    command.arg("mkfs").args(arguments).arg(image);
    let finished = run_any(&mut command, Duration::from_secs(60));
    (finished.status.code(), finished.output())
}

#[test]
fn a_foreign_filesystem_is_overwritten_only_with_force() {
    let image = Image::blank(128);
    run(Command::new("mkfs.ext4").arg("-q").arg(image.path()));
    let before = image.digest();
    let (code, said) = mkfs(&[], image.path());
    assert!(
        code == Some(6) && said.contains("ext4") && said.contains("-f"),
        "{code:?} {said}"
    );
    let (code, said) = mkfs(&["--size", "200M"], image.path());
    assert!(code == Some(6) && said.contains("ext4"), "{code:?} {said}");
    assert_eq!(image.digest(), before, "a refusal touches nothing");
    let (code, said) = mkfs(&["-f"], image.path());
    assert_eq!(code, Some(0), "{said}");
    judge(image.path());
}

#[test]
fn an_old_btrfs_leaves_no_superblock_behind() {
    let image = Image::mkfs_btrfs(400, &[]);
    let old = image.fsid();
    let (code, said) = mkfs(&["-f"], image.path());
    assert_eq!(code, Some(0), "{said}");
    assert_ne!(image.fsid(), old);
    let dump = run(Command::new("btrfs")
        .args(["inspect-internal", "dump-super", "-a"])
        .arg(image.path()));
    assert!(!dump.stdout.contains(&old), "{}", dump.stdout);
    judge(image.path());
}

#[test]
fn refusals_are_one_sentence_and_leave_no_file() {
    let folder = temp_dir();
    let absent = folder.path().join("absent.raw");
    let (code, said) = mkfs(&[], &absent);
    assert!(
        code == Some(1) && said.contains("--size"),
        "{code:?} {said}"
    );
    let long = "x".repeat(256);
    for (arguments, words) in [
        (&["--size", "50M"][..], "at least 109 MiB"),
        (&["--size", "1G", "--nodesize", "128K"], "node size"),
        (&["--size", "1G", "--nodesize", "3K"], "take 4K, 8K"),
        (&["--size", "1G", "-L", &long], "at most 255 bytes"),
        (&["--size", "1G", "-L", "a\nb"], "no line break"),
        (&["--size", "1G", "--csum", "md5"], "crc32c, xxhash64"),
        (&["--size", "1G", "-U", "123"], "32 hexadecimal digits"),
        (
            &["--size", "1G", "-O", "^no-holes"],
            "block-group-tree needs",
        ),
        (&["--size", "1G", "-O", "zoned"], "`zoned`"),
        (&["--size", "1G", "--sectorsize", "64K"], "-s 64K -n 64K"),
        (&["--size", "many"], "not a size"),
    ] {
        let (code, said) = mkfs(arguments, &absent);
        assert!(
            code == Some(1) && said.contains(words),
            "{arguments:?}: {code:?} {said}"
        );
        assert!(!absent.exists(), "{arguments:?} left a file");
    }
    let (code, said) = mkfs(&["--size", "1G"], &folder.path().join("none/image"));
    assert!(
        code == Some(2) && said.contains("make it with mkdir"),
        "{code:?} {said}"
    );
    let (code, said) = mkfs(&["--size", "1G"], folder.path());
    assert!(
        code == Some(3) && said.contains("is a directory: name a file"),
        "{code:?} {said}"
    );
    // The host refuses.
    let (code, said) = mkfs(&["--size", "9000000T"], &absent);
    assert!(
        code == Some(2) && said.contains("too large"),
        "{code:?} {said}"
    );
    assert!(!absent.exists(), "too large, and left a file");
    // The image refuses: nothing about the command line is wrong.
    let small = Image::blank(50);
    let (code, said) = mkfs(&[], small.path());
    assert!(
        code == Some(3) && said.contains("109 MiB"),
        "{code:?} {said}"
    );
}

#[test]
fn label_and_uuid_are_as_they_were_given() {
    let label = "l\u{e4}bel \u{2603} ".repeat(23);
    assert!((240..=255).contains(&label.len()));
    let uuid = "6f1c5c1e-6f0a-4d56-9a0b-0123456789ab";
    let image = Image::mkfs_btrfuse(128, &["-L", &label, "-U", uuid]);
    assert_eq!(image.fsid(), uuid);
    let shown = run(Command::new("btrfs")
        .args(["filesystem", "label"])
        .arg(image.path()));
    assert_eq!(shown.stdout.trim_end_matches('\n'), label);
    btrfs_check(image.path());
}

/// An existing file keeps its size, or gets the one that was asked for, larger or smaller.
#[test]
fn an_existing_file_keeps_its_size_unless_it_is_given_one() {
    let image = Image::blank(200);
    let size = || std::fs::metadata(image.path()).expect("our image").len() >> 20;
    for (arguments, wanted) in [
        (&[][..], 200),
        (&["-f", "--size", "300M"], 300),
        (&["-f"], 300),
        (&["-f", "--size", "120M"], 120),
    ] {
        let (code, said) = mkfs(arguments, image.path());
        assert_eq!((code, size()), (Some(0), wanted), "{arguments:?}: {said}");
        btrfs_check(image.path());
    }
}

/// The golden image was made by mkfs.btrfs 6.19 with its defaults, and then used.
#[test]
fn the_defaults_are_those_of_a_new_mkfs_btrfs() {
    let kind = |image: &Path| {
        let inspect = |arguments: &[&str]| {
            let mut command = Command::new(btrfuse_binary());
            run(command.arg("inspect").arg(image).args(arguments)).stdout
        };
        let whole: serde_json::Value = serde_json::from_str(&inspect(&["--json"])).expect("JSON");
        let whole = &whole["image"];
        let features = [
            "incompat_flags",
            "compat_ro_flags",
            "csum_type",
            "nodesize",
            "sectorsize",
        ]
        // Set when a file is first compressed.
        .map(|name| {
            whole[name]
                .to_string()
                .replace("COMPRESS_LZO|COMPRESS_ZSTD|", "")
        });
        let trees: Vec<String> = whole["trees"]
            .as_array()
            .expect("trees")
            .iter()
            .map(|tree| tree["tree"].as_str().unwrap_or_default().to_owned())
            .filter(|name| !name.starts_with("subvolume"))
            .collect();
        let mut profiles: Vec<String> = inspect(&["tree", "chunk", "--json"])
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .filter_map(|it| {
                it["item"]["stripe_len"]
                    .as_u64()
                    .and(it["item"]["type"].as_str().map(str::to_owned))
            })
            .collect();
        profiles.sort();
        profiles.dedup();
        (features, trees, profiles)
    };
    let theirs = btrfuse_test_support::golden::named("bgt-s11").image();
    let ours = Image::mkfs_btrfuse(256, &[]);
    assert_eq!(kind(ours.path()), kind(theirs.path()));
}

#[test]
fn a_loop_device_is_made_through_its_claim() {
    let image = Image::blank(200);
    let attached = run(Command::new("losetup")
        .args(["--find", "--show"])
        .arg(image.path()));
    let device = Path::new(attached.stdout.trim());
    let (code, said) = mkfs(&[], device);
    let (again, refused) = mkfs(&[], device);
    let (resized, words) = mkfs(&["-f", "--size", "150M"], device);
    run(Command::new("losetup").arg("-d").arg(device));
    assert_eq!(code, Some(0), "{said}");
    assert!(again == Some(6) && refused.contains("use -f"), "{refused}");
    assert!(
        resized == Some(1) && words.contains("--size is for files"),
        "{words}"
    );
    judge(image.path());
}

#[test]
fn the_report_can_be_read_by_programs() {
    let image = Image::blank(128);
    let mut command = Command::new(btrfuse_binary());
    command
        .args(["mkfs", "--json", "-L", "machines"])
        .arg(image.path());
    let said = run(&mut command).stdout;
    let report: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(report["label"], "machines");
    assert_eq!(report["fsid"], image.fsid());
    assert_eq!(report["total_bytes"], 128 << 20);
}
