//! Every copy of the superblock after commits of ours, and the older trees that it remembers, in
//! the words of dump-super and by the kernel.

use crate::scribble;
use btrfuse_test_support::{Image, LoopMount, btrfs_check, run};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

fn dump_super(image: &Image, options: &[&str]) -> String {
    let mut command = Command::new("btrfs");
    command.args(["inspect-internal", "dump-super"]);
    run(command.args(options).arg(image.path())).stdout
}

/// The values of a field in all copies that the dump shows.
fn values<'a>(dump: &'a str, name: &str) -> Vec<&'a str> {
    let fields = dump.lines().filter_map(|line| line.split_once('\t'));
    let named = fields.filter(|(field, _)| *field == name);
    named.map(|(_, value)| value.trim()).collect()
}

/// On a device that has all three.
#[test]
fn all_copies_of_the_superblock_are_written() {
    let image = Image::mkfs_btrfs(257 << 10, &[]);
    let before: u64 = image.generation();
    scribble(&image, &[5], 1, 300);
    let dump = dump_super(&image, &["-a"]);
    let generations = values(&dump, "generation");
    assert_eq!(generations.len(), 3, "{dump}");
    assert!(image.generation() > before);
    for generation in generations {
        assert_eq!(generation, image.generation().to_string());
    }
    let sums = values(&dump, "csum");
    assert!(
        sums.len() == 3 && sums.iter().all(|sum| sum.ends_with("[match]")),
        "{sums:?}"
    );
    let places = values(&dump, "bytenr");
    assert_eq!(places, ["65536", "67108864", "274877906944"]);
    btrfs_check(image.path());
    LoopMount::read_only(image.path()).unmount();
}

/// The newest root of the trees is gone: the kernel goes back to the commit before, which is whole.
#[test]
fn the_kernel_finds_the_commit_before_in_the_backups() {
    let image = Image::mkfs_btrfs(256, &["-m", "single"]);
    for seed in 1..4 {
        scribble(&image, &[5], seed, 200);
    }
    let dump = dump_super(&image, &["-f"]);
    let mut backups: Vec<(u64, u64)> = dump
        .lines()
        .filter_map(|line| line.trim().strip_prefix("backup_tree_root:"))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[2].parse().unwrap(), words[0].parse().unwrap())
        })
        .collect();
    backups.sort_unstable();
    let newest = image.generation();
    let generations: Vec<u64> = backups.iter().map(|(generation, _)| *generation).collect();
    assert_eq!(generations, [newest - 3, newest - 2, newest - 1, newest]);
    let root = backups[3].1;
    assert_eq!(values(&dump, "root"), [root.to_string()]);
    let place = run(Command::new("btrfs-map-logical")
        .args(["-l", &root.to_string()])
        .arg(image.path()));
    let physical = place.stdout.split("physical ").nth(1).expect("a place");
    let physical = physical.split_whitespace().next().expect("a number");
    let file = File::options().write(true).open(image.path()).unwrap();
    file.write_all_at(b"rot", physical.parse::<u64>().unwrap() + 4000)
        .unwrap();
    drop(file);
    assert!(LoopMount::try_new(&[image.path()], "ro").is_err());
    let mount = LoopMount::try_new(&[image.path()], "ro,rescue=usebackuproot")
        .expect("the kernel finds a backup");
    let names = std::fs::read_dir(mount.path()).unwrap().count();
    assert!(names > 0, "nothing is there");
    for entry in std::fs::read_dir(mount.path()).unwrap() {
        std::fs::read(entry.unwrap().path()).unwrap();
    }
    mount.unmount_damaged();
}
