//! A place in a listing (`d_off`) stays good while names come and go, for as long as the directory
//! lives: also for another opening of it and after a remount. The kernel's btrfs is asked the same.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, run};
use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom, seek};
use std::collections::BTreeSet;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const NAMES: usize = 2000;

fn open(folder: &Path) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(folder, flags, Mode::empty()).expect("a folder")
}

/// Up to `most` names from where the descriptor stands, with the place after each.
fn read(folder: &OwnedFd, most: usize) -> Vec<(String, u64)> {
    // Small, so that the kernel asks often.
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let mut listed = Vec::new();
    let mut raw = RawDir::new(folder, &mut buffer);
    while let Some(entry) = raw.next() {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().to_str().expect("our own names");
        if name != "." && name != ".." {
            listed.push((name.to_owned(), entry.next_entry_cookie()));
        }
        if listed.len() == most {
            break;
        }
    }
    listed
}

fn name(number: usize) -> String {
    format!("name-{number:05}")
}

/// On a fresh folder of a mount: the places of one listing, and what is found from each of them
/// after changes on both sides of it.
fn places_stay(mount: &Path) -> Vec<(u64, String)> {
    let folder = mount.join("folder");
    fs::create_dir(&folder).expect("a writable mount");
    for number in 0..NAMES {
        fs::write(folder.join(name(number)), "").expect("a writable mount");
    }
    let listing = open(&folder);
    let first = read(&listing, NAMES / 2);
    assert_eq!(first.len(), NAMES / 2);
    let order: Vec<String> = first.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(order, (0..NAMES / 2).map(name).collect::<Vec<_>>());
    // Every third name goes, the ones at the places too, and others come.
    let gone: BTreeSet<String> = (0..NAMES).step_by(3).map(name).collect();
    for name in &gone {
        fs::remove_file(folder.join(name)).expect("there");
    }
    for number in 0..300 {
        fs::write(folder.join(format!("later-{number}")), "").expect("a writable mount");
    }
    let mut found = Vec::new();
    let other = open(&folder);
    for (at, place) in first.iter().enumerate().skip(5).step_by(97) {
        // The next one that is still there, not one twice and none left out.
        let (_, place) = (&place.0, place.1);
        let next = (at + 1..NAMES).map(name).find(|it| !gone.contains(it));
        for descriptor in [&listing, &other] {
            seek(descriptor, SeekFrom::Start(place)).expect("a place");
            let rest = read(descriptor, 40);
            let expected: Vec<String> = (at + 1..NAMES)
                .map(name)
                .filter(|it| !gone.contains(it))
                .take(40)
                .collect();
            let names: Vec<String> = rest.into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, expected, "from place {place} after {}", name(at));
        }
        found.push((place, next.expect("names are left")));
    }
    // To the end: everything that stayed, once.
    seek(&listing, SeekFrom::Start(first[99].1)).expect("a place");
    let rest: Vec<String> = read(&listing, usize::MAX)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("name"))
        .collect();
    let expected: Vec<String> = (100..NAMES)
        .map(name)
        .filter(|it| !gone.contains(it))
        .collect();
    assert_eq!(rest, expected);
    found
}

fn still_good(mount: &Path, places: &[(u64, String)]) {
    let listing = open(&mount.join("folder"));
    for (place, next) in places.iter().rev() {
        seek(&listing, SeekFrom::Start(*place)).expect("a place");
        assert_eq!(&read(&listing, 1)[0].0, next, "from place {place}");
    }
}

/// "." and ".." are listed with the numbers that stat(2) shows, also across the border of a
/// subvolume; above the mount's root is itself.
fn dots_are_right(mount: &Path) {
    let number = |path: &Path| fs::metadata(path).expect("a folder").ino();
    for (path, above) in [
        ("", ""),
        ("dir", ""),
        ("dir/below", "dir"),
        ("dir/sub", "dir"),
        ("dir/sub/inside", "dir/sub"),
    ] {
        let folder = open(&mount.join(path));
        let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
        let mut raw = RawDir::new(&folder, &mut buffer);
        let mut dots = Vec::new();
        while let Some(entry) = raw.next() {
            let entry = entry.expect("a readable folder");
            if entry.file_name().to_bytes().starts_with(b".") {
                assert_eq!(entry.file_type(), FileType::Directory);
                dots.push((entry.file_name().to_owned(), entry.ino()));
            }
        }
        let expected = [
            (c".".to_owned(), number(&mount.join(path))),
            (c"..".to_owned(), number(&mount.join(above))),
        ];
        assert_eq!(dots, expected, "in {path:?}");
    }
}

#[test]
fn dots_have_the_numbers_that_stat_shows() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = LoopMount::read_write(image.path());
    fs::create_dir_all(mount.path().join("dir/below")).expect("a writable mount");
    run(Command::new("btrfs")
        .args(["subvolume", "create"])
        .arg(mount.path().join("dir/sub")));
    fs::create_dir(mount.path().join("dir/sub/inside")).expect("a writable mount");
    dots_are_right(mount.path());
    mount.unmount();
    let mount = BtrfuseMount::read_only(image.path());
    dots_are_right(mount.path());
    mount.unmount();
}

#[test]
fn places_in_a_listing_stay_good() {
    let image = Image::mkfs_btrfs(300, &["-n", "4096"]);
    let mount = BtrfuseMount::read_write(image.path());
    let places = places_stay(mount.path());
    mount.unmount();
    btrfs_check(image.path());
    let mount = BtrfuseMount::read_only(image.path());
    still_good(mount.path(), &places);
    mount.unmount();
}

#[test]
fn the_kernels_places_stay_good() {
    let image = Image::mkfs_btrfs(300, &["-n", "4096"]);
    let mount = LoopMount::read_write(image.path());
    let places = places_stay(mount.path());
    mount.unmount();
    let mount = LoopMount::read_only(image.path());
    still_good(mount.path(), &places);
    mount.unmount();
}
