//! Stories with a name: each could have gone wrong, and says what is logged and what is committed.

use crate::cuts::{Teller, judge, record};
use crate::hashes::colliding;
use crate::{blank, caller, mount};
use btrfuse::fs::{NodeId, WriteFlags, XattrMode};
use btrfuse::volume::{BlockDevice, MemoryDevice};
use btrfuse_test_support::{Image, LoopMount, Rng};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Tells it, judges every cut, and looks at how the fsyncs were answered.
fn tell(logs: u64, commits: u64, story: impl FnOnce(&mut Teller)) {
    let story = record(&[], story);
    // One commit came before the story.
    assert_eq!(
        (story.logs, story.commits),
        (logs, commits + 1),
        "logs, commits"
    );
    let mut judging = Rng::new(logs * 100 + commits);
    story.recording.visit(&mut Rng::new(1), 1, 1, |state| {
        if let Err(words) = judge(&story.book, state, &mut judging) {
            panic!("{words}");
        }
    });
}

#[test]
fn a_new_file_is_logged_with_its_name() {
    tell(2, 0, |it| {
        it.create("a/new");
        it.write("a/new", 0, &[7; 100_000]);
        it.fsync("a/new");
        it.write("a/new", 4096, &[8; 4096]);
        it.set_xattr("a/new", "user.a", Some(b"x"));
        it.fsync("a/new");
    });
}

/// Replay would take the moved file for the one in its way, and remove it.
#[test]
fn a_file_that_takes_the_name_of_a_moved_one_is_committed() {
    tell(0, 1, |it| {
        it.rename("a/old0", "b/moved", false);
        it.create("a/old0");
        it.write("a/old0", 0, &[9; 5000]);
        it.fsync("a/old0");
    });
}

#[test]
fn a_name_is_made_and_removed_many_times_in_one_transaction() {
    tell(6, 0, |it| {
        for n in 1..=3 {
            it.create("a/journal");
            it.write("a/journal", 0, &vec![n; 9000]);
            it.fsync("a/journal");
            it.write("a/old1", 4096 * usize::from(n), &[n + 100; 4096]);
            it.fsync("a/old1");
            it.unlink("a/journal");
        }
    });
}

#[test]
fn writing_a_file_anew_beside_itself_never_loses_both() {
    tell(3, 0, |it| {
        for n in 1..=3 {
            let tmp = format!("a/tmp{n}");
            it.create(&tmp);
            it.write(&tmp, 0, &[n; 30_000]);
            it.fsync(&tmp);
            it.rename(&tmp, "a/target", false);
        }
    });
}

/// The only names that a log knows are those of new files: this one would vanish with its first name.
#[test]
fn a_logged_file_that_moves_by_link_and_unlink_is_somewhere() {
    tell(2, 0, |it| {
        it.create("a/first");
        it.write("a/first", 0, &[3; 5000]);
        it.fsync("a/first");
        it.link("a/first", "b/second");
        it.unlink("a/first");
        it.write("a/old0", 0, &[4; 5000]);
        it.fsync("a/old0");
    });
}

#[test]
fn names_that_changed_are_committed() {
    tell(0, 3, |it| {
        it.link("a/old0", "b/second");
        it.fsync("a/old0");
        it.rename("a/old1", "b/moved", false);
        it.fsync("b/moved");
        it.mkdir("c");
        it.create("c/file");
        it.fsync("c/file");
    });
}

#[test]
fn holes_truncations_and_preallocation_are_logged() {
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    tell(6, 0, |it| {
        it.truncate("a/old2", 1000);
        it.truncate("a/old2", 50_000);
        it.fsync("a/old2");
        it.fallocate("a/old1", keep | libc::FALLOC_FL_PUNCH_HOLE, 5000, 20_000);
        it.fsync("a/old1");
        it.fallocate("a/old0", keep, 20_000, 100_000);
        it.fsync("a/old0");
        it.write("a/old0", 24_000, &[5; 9000]);
        it.fsync("a/old0");
        it.fallocate("a/old0", libc::FALLOC_FL_ZERO_RANGE, 8000, 30_000);
        it.fsync("a/old0");
        it.truncate("a/old0", 0);
        it.fsync("a/old0");
    });
}

#[test]
fn attributes_and_modes_are_logged_and_removed_ones_stay_away() {
    tell(2, 0, |it| {
        it.set_xattr("a/old0", "user.a", Some(&[1; 3000]));
        it.set_xattr("a/old0", "user.b", Some(b"b"));
        it.chmod("a/old0", 0o600);
        it.fsync("a/old0");
        it.set_xattr("a/old0", "user.a", None);
        it.set_xattr("a/old0", "user.b", None);
        it.fsync("a/old0");
    });
}

#[test]
fn a_copy_by_reference_is_committed_and_its_source_logged() {
    tell(1, 1, |it| {
        it.copy("a/old2", "a/old1", 0, 40_960);
        it.write("a/old2", 8192, &[6; 4096]);
        it.fsync("a/old2");
        it.fsync("a/old1");
    });
}

/// What a log refers to is neither given away nor forgotten when the file changes on.
#[test]
fn extents_of_a_log_stay_when_the_file_drops_them() {
    tell(2, 0, |it| {
        it.write("a/old0", 0, &[1; 200_000]);
        it.fsync("a/old0");
        for n in 2..10 {
            it.write("a/old0", 0, &vec![n; 200_000]);
            it.truncate("a/old0", 0);
            it.create(&format!("b/other{n}"));
            it.write(&format!("b/other{n}"), 0, &vec![n; 200_000]);
        }
        it.write("a/old1", 0, &[1; 200]);
        it.fsync("a/old1");
    });
}

#[test]
fn an_fsync_of_what_has_not_changed_writes_nothing() {
    tell(1, 0, |it| {
        it.fsync("a/old0");
        it.write("a/old1", 0, b"news");
        it.fsync("a/old1");
        it.fsync("a/old1");
        it.fsync("a/old1");
    });
}

/// The last commit doesn't know where the bytes of a new chunk are.
#[test]
fn what_lies_in_a_new_chunk_is_committed() {
    tell(1, 1, |it| {
        it.create("a/large");
        it.write("a/large", 0, &[1; 30 << 20]);
        it.fsync("a/large");
        it.write("a/large", 0, &[2; 4096]);
        it.fsync("a/large");
    });
}

/// Names with one hash share an item of the directory. One was removed, another took its room and was
/// logged: the item of the last commit has no room for it, and the image couldn't be mounted any more.
#[test]
fn a_name_for_which_the_last_commit_has_no_room_is_committed() {
    let device = Arc::new(blank(&["-n", "4096"]));
    let fs = mount(device.clone());
    let dir = fs.mkdir(&caller(), NodeId::ROOT, b"dir", 0o755).unwrap();
    let names = colliding(40);
    let create = |name: &[u8]| fs.create(&caller(), dir.node, name, 0o644, libc::O_RDWR);
    let fit = names.iter().take_while(|name| create(name).is_ok()).count();
    assert!((5..names.len()).contains(&fit), "{fit} names fit");
    fs.sync().unwrap();
    fs.unlink(dir.node, &names[0]).unwrap();
    let made = create(&names[fit]).unwrap();
    fs.write(made.node, 0, &[7; 5000], WriteFlags::default())
        .unwrap();
    fs.fsync(made.node, false).unwrap();
    assert_eq!(content_after_cut(&device, "dir", &names[fit]), [7; 5000]);
}

/// The number of a directory that was deleted after the last commit went to a new file, if that was the
/// first thing that was made since the mount. Replay found a directory where the log had a file.
#[test]
fn the_number_of_a_deleted_directory_goes_to_nobody() {
    let device = Arc::new(blank(&[]));
    let fs = mount(device.clone());
    let old = fs.mkdir(&caller(), NodeId::ROOT, b"dir", 0o755).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    let fs = mount(device.clone());
    let dir = fs.lookup(NodeId::ROOT, b"dir").unwrap();
    assert_eq!(dir.objectid, old.objectid);
    fs.rmdir(NodeId::ROOT, b"dir").unwrap();
    // Somebody still uses it, so this commit has it.
    fs.sync().unwrap();
    fs.forget(dir.node, 1);
    fs.clean().unwrap();
    let made = fs.create(&caller(), NodeId::ROOT, b"new", 0o644, libc::O_RDWR);
    let made = made.unwrap();
    fs.write(made.node, 0, &[7; 5000], WriteFlags::default())
        .unwrap();
    fs.fsync(made.node, false).unwrap();
    assert_eq!(content_after_cut(&device, ".", b"new"), [7; 5000]);
    assert_ne!(made.objectid, old.objectid);
}

/// What the kernel, and we, find after a power cut.
fn content_after_cut(device: &MemoryDevice, dir: &str, name: &[u8]) -> Vec<u8> {
    let image = Image::blank(128);
    let file = File::options().write(true).open(image.path()).unwrap();
    device.copy_to(&file).unwrap();
    let copy: Arc<dyn BlockDevice> =
        Arc::new(MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap());
    let fs = mount(copy);
    let mut parent = NodeId::ROOT;
    if dir != "." {
        parent = fs.lookup(parent, dir.as_bytes()).unwrap().node;
    }
    let node = fs.lookup(parent, name).unwrap().node;
    let ours = fs.read(node, 0, 1 << 20).unwrap();
    let kernel = LoopMount::read_write(image.path());
    let path = kernel.path().join(dir).join(OsStr::from_bytes(name));
    let theirs = std::fs::read(path).unwrap();
    kernel.unmount();
    assert_eq!(ours, theirs);
    ours
}

/// A log is made in memory: what an inode brings is bounded, its attributes too.
#[test]
fn an_inode_with_megabytes_of_attributes_is_committed() {
    tell(0, 1, |it| {
        it.create("a/new");
        let node = it.node("a/new");
        for n in 0..200 {
            let (name, value) = (format!("user.{n}"), vec![n as u8; 15_000]);
            let set = it
                .fs
                .setxattr(node, name.as_bytes(), &value, XattrMode::Any, false);
            set.unwrap();
        }
        it.fs.fsync(node, false).unwrap();
    });
}
