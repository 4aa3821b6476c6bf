//! `btrfuse inspect` shows what dump-tree and dump-super show, of used and damaged images too.

use btrfuse_test_support::golden;
use btrfuse_test_support::{BtrfuseMount, Image, btrfuse_binary, run, run_any};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn inspect(image: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(btrfuse_binary());
    run(command.arg("inspect").arg(image).args(arguments)).stdout
}

fn lines(image: &Path, arguments: &[&str]) -> Vec<Value> {
    let text = inspect(image, arguments);
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect()
}

fn btrfs_inspect(image: &Path, arguments: &[&str]) -> String {
    run(Command::new("btrfs")
        .arg("inspect-internal")
        .args(arguments)
        .arg(image))
    .stdout
}

#[test]
fn the_superblock_has_the_facts_of_dump_super() {
    let image = golden::named("default-s11").image();
    let shown: Value =
        serde_json::from_str(&inspect(image.path(), &["super", "--json"])).expect("JSON");
    let copies = shown["superblocks"]["copies"].as_array().expect("copies");
    assert_eq!(copies.len(), 2, "a device of 256 MiB has two");
    let dump = btrfs_inspect(image.path(), &["dump-super"]);
    let mut compared = 0;
    for line in dump.lines() {
        let Some((name, value)) = line.split_once('\t') else {
            continue;
        };
        let (name, value) = (name.trim(), value.trim());
        match &copies[0][name] {
            // dump-super has it in hexadecimal.
            Value::Number(_) if name == "compat_flags" => continue,
            Value::Number(number) => assert_eq!(number.to_string(), value, "{name}"),
            Value::String(words) if matches!(name, "fsid" | "label") => assert_eq!(words, value),
            _ => continue,
        }
        compared += 1;
    }
    assert!(compared >= 15, "{compared} fields compared");
    assert!(copies.iter().all(|copy| copy["verdict"] == "good"));
}

#[test]
fn every_tree_has_the_items_of_dump_tree() {
    for name in ["default-s11", "bgt-s11", "no-skinny-s11"] {
        let image = golden::named(name).image();
        for tree in ["1", "2", "3", "4", "5", "7", "9", "10", "256"] {
            let ours = match tree {
                "1" => "root",
                "3" => "chunk",
                number => number,
            };
            let dump = btrfs_inspect(image.path(), &["dump-tree", "-t", tree]);
            let theirs = dump
                .lines()
                .filter(|line| line.trim().starts_with("item "))
                .count();
            let items = lines(image.path(), &["tree", ours, "--json"]);
            let problems: Vec<&Value> =
                items.iter().filter(|it| !it["problem"].is_null()).collect();
            assert!(problems.is_empty(), "{name} tree {tree}: {problems:?}");
            let unreadable = |it: &&Value| it.to_string().contains("unreadable");
            assert_eq!(items.iter().find(unreadable), None, "{name} tree {tree}");
            let ours = items.iter().filter(|it| !it["item"].is_null()).count();
            assert_eq!(ours, theirs, "{name} tree {tree}");
        }
    }
}

/// All devices together show everything, whatever the profile; one of a mirror shows it alone,
/// one of a stripe what it holds.
#[test]
fn every_profile_is_read_from_the_devices_that_are_given() {
    let raid = |name: &str| name.starts_with("raid") && name.ends_with("-s11");
    let sets = golden::all().into_iter().filter(|set| raid(&set.name));
    let mut seen = 0;
    for set in sets {
        let devices = set.devices();
        let mut all = Vec::new();
        for device in &devices[1..] {
            all.extend(["--device", device.path().to_str().expect("UTF-8")]);
        }
        for tree in ["2", "3", "4", "5"] {
            let name = if tree == "3" { "chunk" } else { tree };
            let mut dump = Command::new("btrfs");
            dump.args(["inspect-internal", "dump-tree", "-t", tree]);
            dump.args(devices.iter().map(Image::path));
            let theirs = run(&mut dump).stdout;
            let theirs = theirs
                .lines()
                .filter(|line| line.trim().starts_with("item "));
            let wanted = theirs.count();
            let items = |arguments: &[&str]| {
                let shown = lines(devices[0].path(), arguments);
                let items = shown.iter().filter(|it| !it["item"].is_null()).count();
                let problems = shown.iter().filter(|it| !it["problem"].is_null()).count();
                (items, problems)
            };
            let (found, problems) = items(&[&all[..], &["tree", name, "--json"]].concat());
            assert_eq!(found, wanted, "{} tree {tree}", set.name);
            assert!(
                problems == 0 || set.name.contains("rot"),
                "{} tree {tree}: {problems} problems",
                set.name
            );
            if set.name.starts_with("raid1-s") || set.name.starts_with("raid1c") {
                let alone = items(&["tree", name, "--json"]);
                assert_eq!(alone, (wanted, 0), "{} tree {tree}, one device", set.name);
            }
        }
        let shown: Value =
            serde_json::from_str(&inspect(devices[0].path(), &["--json"])).expect("JSON");
        assert_eq!(shown["image"]["access"], "none");
        assert!(
            shown["image"]["reasons"]
                .to_string()
                .contains("several devices")
        );
        seen += 1;
    }
    assert!(seen > 0, "at least a mirror is always there");
}

#[test]
fn a_device_of_another_filesystem_is_refused() {
    let (one, two) = (Image::mkfs_btrfuse(128, &[]), Image::mkfs_btrfuse(128, &[]));
    let mut command = Command::new(btrfuse_binary());
    command.arg("inspect").arg(one.path());
    command.arg("--device").arg(two.path());
    let finished = run_any(&mut command, Duration::from_secs(10));
    assert_eq!(finished.status.code(), Some(3), "{}", finished.output());
    assert!(
        finished.stderr.contains("leave it out"),
        "{}",
        finished.stderr
    );
}

#[test]
fn what_keeps_a_mount_from_writing_is_said_before_it_is_tried() {
    let image = golden::named("seed-s11-seed-only").image();
    let shown: Value = serde_json::from_str(&inspect(image.path(), &["--json"])).expect("JSON");
    assert_eq!(shown["image"]["access"], "read-only");
    let hint = shown["image"]["reasons"][0]["hint"].to_string();
    assert!(hint.contains("btrfstune"), "{hint}");
}

/// A mount replays it.
#[test]
fn a_log_keeps_nobody_from_writing() {
    let image = golden::named("log0-s11-p24").image();
    let shown: Value = serde_json::from_str(&inspect(image.path(), &["--json"])).expect("JSON");
    assert_eq!(shown["image"]["access"], "read-write");
}

#[test]
fn an_image_in_use_is_shown_with_a_warning() {
    let image = Image::mkfs_btrfuse(128, &["-L", "busy"]);
    let mount = BtrfuseMount::read_write(image.path());
    std::fs::write(mount.path().join("file"), "content").expect("a writable mount");
    mount.sync();
    let mut command = Command::new(btrfuse_binary());
    let shown = run(command
        .arg("inspect")
        .arg(image.path())
        .args(["tree", "fs"]));
    assert!(shown.stdout.contains("\"file\""), "{}", shown.stdout);
    assert!(
        shown.stderr.contains("without the lock"),
        "{}",
        shown.stderr
    );
    mount.unmount();
}

#[test]
fn damage_is_named_and_the_rest_is_shown() {
    let image = golden::named("default-s11").image();
    let blocks = lines(image.path(), &["tree", "fs", "--json"]);
    let child = blocks
        .iter()
        .find_map(|it| it["blockptr"].as_u64())
        .expect("a tree of two levels");
    let items_before = blocks.iter().filter(|it| !it["item"].is_null()).count();
    let map = run(Command::new("btrfs-map-logical")
        .args(["-l", &child.to_string()])
        .arg(image.path()));
    let file = File::options()
        .write(true)
        .open(image.path())
        .expect("our image");
    let mut copies = 0;
    for line in map.stdout.lines() {
        let physical = line
            .split("physical ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let at: u64 = physical.and_then(|it| it.parse().ok()).expect("an address");
        file.write_all_at(b"damage", at + 5000).expect("our image");
        copies += 1;
        if copies == 1 {
            // One good copy is left: everything is shown, and the bad one is named.
            let shown = lines(image.path(), &["tree", "fs", "--json"]);
            assert_eq!(
                shown.iter().filter(|it| !it["item"].is_null()).count(),
                items_before
            );
            assert!(
                shown
                    .iter()
                    .any(|it| it["problem"].to_string().contains("checksum"))
            );
        }
    }
    assert_eq!(copies, 2, "metadata is DUP");
    let shown = lines(image.path(), &["tree", "fs", "--json"]);
    let items = shown.iter().filter(|it| !it["item"].is_null()).count();
    assert!(
        items > 0 && items < items_before,
        "{items} of {items_before}"
    );
    let words = inspect(image.path(), &["block", &child.to_string()]);
    assert!(
        words.contains("checksum does not match") && words.contains("INODE"),
        "{words}"
    );
}

#[test]
fn refusals_say_what_to_do() {
    let image = Image::mkfs_btrfuse(128, &[]);
    let blank = Image::blank(64);
    let foreign = Image::blank(64);
    run(Command::new("mkfs.ext4").arg("-q").arg(foreign.path()));
    for (image, arguments, code, words) in [
        (&image, &["tree", "shoe"][..], 1, "take root, extent"),
        (&image, &["tree", "log"], 3, "no log tree"),
        (&image, &["tree", "300"], 3, "no tree 300"),
        (&image, &["block", "1"], 3, "no chunk has the address 1"),
        (&image, &["block", "0x1"], 3, "1"),
        (&image, &["block", "0xg"], 1, "0xg"),
        (&blank, &[], 3, "btrfs"),
        (
            &foreign,
            &[],
            3,
            "it holds an ext2, ext3 or ext4 filesystem",
        ),
    ] {
        let mut command = Command::new(btrfuse_binary());
        command.arg("inspect").arg(image.path()).args(arguments);
        let finished = run_any(&mut command, Duration::from_secs(10));
        let said = finished.output();
        assert_eq!(finished.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn a_reader_that_has_read_enough_is_no_error() {
    let image = golden::named("default-s11").image();
    let script = format!(
        "{} inspect {} tree fs | head -n 1",
        btrfuse_binary().display(),
        image.path().display()
    );
    let finished = run(Command::new("bash").args(["-o", "pipefail", "-c", &script]));
    assert_eq!(
        (finished.stdout.as_str(), finished.stderr.as_str()),
        ("block\n", "")
    );
}
