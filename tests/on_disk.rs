//! What a mount of ours leaves on the disk beside the tree of files: the form of free space. Judged by
//! `dump-tree`, against the kernel's mount.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, dump};
use std::fs;
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
