//! Damage is told, on real images; the unnamed alarm about orphans is not, and nothing hides behind it.

use super::*;
use crate::commit::mkfs::{self, MkfsOptions};
use crate::fs::{Caller, NodeId, Who, WriteFlags};
use std::fs::File;
use std::os::unix::fs::FileExt;

const ROOT: NodeId = NodeId::ROOT;
/// Of a file's every block, to be found again on the device.
const CONTENTS: &[u8] = b"what a user wrote, and wants to read again";

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn an_alarm_that_names_nothing_is_told_from_errors() {
    let alarm = [
        "ERROR: errors found in fs roots",
        "btrfs check ended with exit status: 1",
    ];
    assert!(is_unnamed_alarm(&lines(&alarm)));
    assert!(!is_unnamed_alarm(&[]));
    let named = ["root 5 inode 257 errors 2001, no inode item, link count wrong"];
    assert!(!is_unnamed_alarm(&lines(&[&alarm[..], &named].concat())));
}

#[test]
fn stages_are_no_complaints() {
    let said = "Opening filesystem to check...\n[1/7] checking root items\n\nERROR: x\n";
    assert_eq!(complaints_in(said), ["ERROR: x"]);
}

fn make(image: &Path) -> Arc<Filesystem> {
    let device = FileDevice::create(image, 256 << 20).unwrap();
    let options = MkfsOptions {
        nodesize: 4096,
        ..MkfsOptions::default()
    };
    mkfs::make(&device, &options).unwrap();
    drop(device);
    let device: Arc<dyn BlockDevice> = Arc::new(FileDevice::open(image, false).unwrap());
    let options = MountOptions {
        background: false,
        ..MountOptions::default()
    };
    Filesystem::mount(vec![device], &options).unwrap()
}

/// A file with two blocks; it stays open.
fn write(fs: &Filesystem, parent: NodeId, name: &str) -> NodeId {
    let file = fs
        .create(
            &Caller::default(),
            parent,
            name.as_bytes(),
            0o644,
            libc::O_RDWR,
        )
        .unwrap();
    let bytes: Vec<u8> = CONTENTS.iter().copied().cycle().take(8192).collect();
    fs.write(file.node, 0, &bytes, WriteFlags::default())
        .unwrap();
    file.node
}

/// Makes a hole in the contents of a file: a bit that has rotted.
fn rot(image: &Path) {
    let bytes = std::fs::read(image).unwrap();
    // Contents begin with a block.
    let place = (0..bytes.len())
        .step_by(4096)
        .find(|at| bytes[*at..].starts_with(CONTENTS))
        .expect("the contents");
    let file = File::options().write(true).open(image).unwrap();
    file.write_all_at(b"rot", place as u64).unwrap();
}

#[test]
fn damage_is_reported_and_a_sound_image_is_not() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.btrfs");
    let fs = make(&image);
    let file = write(&fs, ROOT, "file");
    fs.release(file);
    fs.unmount().unwrap();
    drop(fs);
    assert_eq!(check(&image).unwrap(), Vec::<String>::new());
    rot(&image);
    let found = check(&image).unwrap();
    assert!(found.len() > 1, "no words of what: {found:?}");
    assert!(
        found.iter().any(|words| words.contains("csum")),
        "{found:?}"
    );
}

/// Snapshots beside files that are open and have no names, as a power cut leaves them. Three,
/// as a tree must be large enough for some to share a leaf with such a file.
fn leave_orphans(image: &Path) {
    let mounted = image.with_extension("mounted");
    let fs = make(&mounted);
    let groups = Vec::new;
    let who = Who {
        caller: Caller::default(),
        admin: true,
        overrides: true,
        owns_all: true,
        groups: &groups,
    };
    fs.create_subvolume(&who, ROOT, b"sub").unwrap();
    let sub = fs.lookup(ROOT, b"sub").unwrap().node;
    let mut orphans = Vec::new();
    for round in 0..3 {
        for n in 0..10 {
            let kept = write(&fs, sub, &format!("kept {round} {n}"));
            fs.release(kept);
        }
        orphans.push(write(&fs, sub, "orphan"));
        fs.unlink(sub, b"orphan").unwrap();
        let source = fs.snapshot_source(sub).unwrap();
        let name = format!("snapshot {round}");
        fs.snapshot(&who, source, ROOT, name.as_bytes(), true)
            .unwrap();
    }
    // As the last snapshot's commit left it: after another one, original mode has no doubt.
    std::fs::copy(&mounted, image).unwrap();
    orphans.into_iter().for_each(|orphan| fs.release(orphan));
    fs.unmount().unwrap();
}

/// The alarm alone counts for nothing; beside damage that only the second look finds, or where
/// there is no second look, it stands.
#[test]
fn the_unnamed_alarm_about_orphans_is_discounted_and_nothing_beside_it() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.btrfs");
    leave_orphans(&image);
    let alarm = complaints(&image, "original").unwrap();
    assert!(
        is_unnamed_alarm(&alarm),
        "it raises no such alarm: {alarm:?}"
    );
    assert_eq!(check(&image).unwrap(), Vec::<String>::new());
    assert!(!image.with_extension("cleaned").exists(), "the copy stays");
    // The copy can't be made, as on a full disk: what was found before was forgotten.
    std::fs::create_dir_all(image.with_extension("cleaned").join("in the way")).unwrap();
    let found = check(&image).unwrap();
    assert!(found.starts_with(&alarm), "{found:?}");
    assert!(
        found.last().unwrap().contains("not looked into"),
        "{found:?}"
    );
    std::fs::remove_dir_all(image.with_extension("cleaned")).unwrap();
    rot(&image);
    let found = check(&image).unwrap();
    assert!(
        found.iter().any(|words| words.contains("csum")),
        "{found:?}"
    );
}

#[test]
fn what_check_cannot_open_is_damaged_too() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image.btrfs");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    assert!(!check(&image).unwrap().is_empty());
}
