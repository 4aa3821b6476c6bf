//! What a mount of ours leaves on the disk beside the tree of files: the form of free space, and good
//! copies of what had gone bad. Judged by `dump-tree`, by the kernel's mount, and by the raw bytes.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Rng, btrfs_check, dump};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

const FILES: usize = 1200;

/// Files of two sectors side by side in a large block group; then most go, in three steps.
fn fill(folder: &Path) {
    // What mkfs made is too small for two thresholds.
    let filler = fs::File::create(folder.join("filler")).expect("room");
    let all = rustix::fs::FallocateFlags::empty();
    rustix::fs::fallocate(&filler, all, 0, 8 << 20).expect("room");
    for number in 0..FILES {
        fs::write(folder.join(format!("f{number:04}")), [7; 8192]).expect("room");
    }
}

fn keep_one_in(folder: &Path, step: usize) {
    for number in (0..FILES).filter(|number| number % step != 0) {
        match fs::remove_file(folder.join(format!("f{number:04}"))) {
            Err(error) if error.raw_os_error() != Some(2) => panic!("rm {number}: {error}"),
            _ => {}
        }
    }
}

/// Whether the large block group's free space is in bitmaps after each step, by the kernel or by us.
fn forms(ours: bool) -> Vec<bool> {
    let image = Image::mkfs_btrfs(1100, &["-m", "single"]);
    let steps: [&dyn Fn(&Path); 4] = [
        &fill,
        &|folder| keep_one_in(folder, 2),
        // Fewer ranges than made it bitmaps, more than make it extents again.
        &|folder| keep_one_in(folder, 12),
        &|folder| keep_one_in(folder, 60),
    ];
    let mut forms = Vec::new();
    for step in steps {
        if ours {
            let mount = BtrfuseMount::read_write(image.path());
            step(mount.path());
            mount.unmount();
        } else {
            let mount = LoopMount::read_write(image.path());
            step(mount.path());
            mount.unmount();
        }
        btrfs_check(image.path());
        let infos = dump::free_space(image.path());
        eprintln!("ours {ours}: {infos:?}");
        let large: Vec<_> = infos.iter().filter(|(len, ..)| *len > 64 << 20).collect();
        assert_eq!(large.len(), 1, "{infos:?}");
        forms.push(large[0].2);
    }
    forms
}

/// A scattered block group's free space becomes bitmaps, stays so while it is between the two
/// thresholds, and becomes extents again, at the steps at which the kernel does it.
#[test]
fn free_space_changes_its_form_as_the_kernels_does() {
    let kernels = forms(false);
    assert_eq!(kernels, [false, true, true, false]);
    assert_eq!(forms(true), kernels);
}

/// Where these bytes are in the image.
fn places(image: &Path, bytes: &[u8]) -> Vec<u64> {
    let whole = fs::read(image).expect("our own image");
    let sectors = whole.chunks_exact(4096).enumerate();
    sectors
        .filter(|(_, sector)| *sector == bytes)
        .map(|(at, _)| at as u64 * 4096)
        .collect()
}

/// File data in two copies, of which one rots, sector by sector in turn the first and the second:
/// every read is right, and what was found rotten is written anew from the other copy.
#[test]
fn reading_repairs_a_rotten_copy_of_file_data() {
    const SECTORS: usize = 64;
    let image = Image::mkfs_btrfs(400, &["-d", "dup"]);
    let content = Rng::new(21).bytes(SECTORS * 4096);
    let mount = BtrfuseMount::read_write(image.path());
    fs::write(mount.path().join("file"), &content).expect("room");
    mount.unmount();
    let first = places(image.path(), &content[..4096]);
    let &[low, high] = &first[..] else {
        panic!("two copies, not {first:?}");
    };
    let raw = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(image.path())
        .expect("our own image");
    let copy = |at: u64| {
        let mut bytes = vec![0; content.len()];
        raw.read_exact_at(&mut bytes, at).expect("our own image");
        bytes
    };
    assert!(copy(low) == content && copy(high) == content);
    for rotten in [low, high] {
        for sector in (0..SECTORS).step_by(3) {
            let at = rotten + sector as u64 * 4096 + 100;
            raw.write_all_at(b"rot", at).expect("our own image");
        }
        assert!(copy(rotten) != content);
        // Only a copy that is asked is found rotten, and the first one is asked first.
        let said: &[&str] = match rotten == low {
            true => &["copy 2 of 2 is good"],
            false => &[],
        };
        // Nothing is repaired through a mount that may not write.
        let digest = image.digest();
        let mount = BtrfuseMount::read_only(image.path());
        assert!(fs::read(mount.path().join("file")).expect("the other copy") == content);
        mount.unmount_excusing(said);
        assert_eq!(image.digest(), digest);
        let mount = BtrfuseMount::read_write(image.path());
        assert!(fs::read(mount.path().join("file")).expect("the other copy") == content);
        match rotten == low {
            true => mount.unmount_excusing(&["copy 2 of 2 is good", "copy 1 was repaired"]),
            false => mount.unmount(),
        }
        if rotten == high {
            raw.write_all_at(&content, high).expect("our own image");
        }
        assert!(copy(low) == content && copy(high) == content);
        btrfs_check(image.path());
    }
    let mount = LoopMount::read_only(image.path());
    assert!(fs::read(mount.path().join("file")).expect("by the kernel") == content);
    mount.unmount();
}
