//! Full filesystems, largest offsets, files without copy-on-write.

use super::*;
use crate::allocator::Steal;
use crate::fs::access::Who;

#[test]
fn a_full_filesystem_says_so_at_the_write_and_keeps_what_it_took() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "big");
    let step = pattern(5, 1 << 20);
    let mut at = 0;
    let error = loop {
        match write(&fs, node, at, &step) {
            Ok(()) => at += step.len() as u64,
            Err(error) => break error,
        }
        assert!(at < 128 << 20);
    };
    assert!(matches!(error, Error::NoSpace), "{error}");
    fs.fsync(node, false).unwrap();
    assert_eq!(fs.getattr(node).unwrap().size, at);
    truncate(&fs, node, 4096).unwrap();
    fs.sync().unwrap();
    fs.sync().unwrap();
    write(&fs, node, 4096, &step).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

#[test]
fn preallocated_space_can_be_written_when_nothing_else_can() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let (kept, filler) = (create(&fs, "kept"), create(&fs, "filler"));
    fs.fallocate(kept, 0, 0, 4 << 20).unwrap();
    let step = pattern(9, 1 << 20);
    let mut at = 0;
    for len in [1 << 20, 1 << 16, 4096] {
        while write(&fs, filler, at, &step[..len]).is_ok() {
            at += len as u64;
        }
    }
    fs.sync().unwrap();
    assert!(matches!(write(&fs, filler, at, &step), Err(Error::NoSpace)));
    for index in 0..4 {
        write(&fs, kept, index << 20, &step).unwrap();
    }
    fs.sync().unwrap();
    assert!(
        content(&fs, kept)
            .chunks(1 << 20)
            .all(|chunk| chunk == step)
    );
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

#[test]
fn a_file_reaches_to_the_largest_offset_and_no_further() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "sparse");
    let last = i64::MAX as u64 - 1;
    write(&fs, node, last, &[7]).unwrap();
    write(&fs, node, 1 << 40, &[8; 10]).unwrap();
    assert!(matches!(
        write(&fs, node, last, &[7, 7]),
        Err(Error::FileTooBig)
    ));
    fs.sync().unwrap();
    assert_eq!(fs.read(node, last - 3, 100).unwrap(), [0, 0, 0, 7]);
    assert_eq!(fs.seek(node, 0, Whence::Data).unwrap(), 1 << 40);
    assert_eq!(fs.getattr(node).unwrap().blocks, 16);
    assert!(truncate(&fs, node, last + 2).is_err());
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    let node = look_up(&fs, "sparse");
    truncate(&fs, node, 1 << 41).unwrap();
    assert_eq!(fs.getattr(node).unwrap().blocks, 8);
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// Flags of a file without copy-on-write: what `chattr +C` sets.
const NOCOW: u32 = 0x0080_0000;

#[test]
fn files_without_copy_on_write_are_overwritten_in_place() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "nocow");
    fs.set_flags(&Caller::default(), node, NOCOW).unwrap();
    let data = pattern(3, 65_536);
    write(&fs, node, 0, &data).unwrap();
    fs.sync().unwrap();
    let at = find(&device, &data[..64]);
    let over = pattern(4, 8192);
    write(&fs, node, 0, &over).unwrap();
    fs.sync().unwrap();
    assert_eq!(find(&device, &over[..64]), at);
    assert_eq!(content(&fs, node), [&over[..], &data[8192..]].concat());
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// A flush publishes its extents in batches; when the last batch was full, nothing was left that
/// could carry the size of a file that goes on behind its last written sector.
#[test]
fn a_size_behind_a_full_batch_of_extents_reaches_the_disk() {
    for options in [&[][..], &["-O", "^no-holes"]] {
        for extents in [64, 65] {
            let device = mkfs(128, options);
            let fs = mount(&device);
            let node = create(&fs, "sparse");
            for index in 0..extents {
                write(&fs, node, index * 8192, &pattern(index, 4096)).unwrap();
            }
            truncate(&fs, node, 10 << 20).unwrap();
            fs.unmount().unwrap();
            drop(fs);
            check(&device);
            let fs = mount(&device);
            let size = fs.getattr(look_up(&fs, "sparse")).unwrap().size;
            assert_eq!(size, 10 << 20, "{extents} extents, {options:?}");
            fs.unmount().unwrap();
        }
    }
}

/// Takes all metadata space but `left` bytes. Smaller and smaller promises, so that little is
/// missed.
fn hog(fs: &Filesystem, left: u64) -> Vec<crate::allocator::MetaReservation> {
    let space = &fs.ctx.space;
    let spare = space.reserve_metadata(left, Steal::No).unwrap();
    let mut held = Vec::new();
    let mut bytes = 64 << 20;
    while bytes >= 4096 {
        match space.reserve_metadata(bytes, Steal::No) {
            Ok(taken) => held.push(taken),
            Err(_) => bytes /= 2,
        }
    }
    drop(spare);
    held
}

/// An operation that holds the file's write-back must not write files back to find room.
#[test]
fn a_refusal_for_space_never_waits_for_itself() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let (ended, end) = crate::sync::mpsc::channel();
    let worker = fs.clone();
    let thread = crate::sync::thread::Builder::new().spawn(move || {
        let unit = worker.ctx.space.item_update_bytes(1);
        let mut refused = 0;
        for left in 0..24 {
            for (index, what) in ["grow", "prealloc"].into_iter().enumerate() {
                let node = create(&worker, &format!("{what}{left}"));
                write(&worker, node, 0, &pattern(1, 5000)).unwrap();
                let held = hog(&worker, left * unit);
                let done = match index {
                    0 => truncate(&worker, node, 1 << 20),
                    _ => worker.fallocate(node, 0, 0, 1 << 20),
                };
                refused += u32::from(matches!(done, Err(Error::NoSpace)));
                drop(held);
                let size = worker.getattr(node).unwrap().size;
                assert_eq!(size, if done.is_ok() { 1 << 20 } else { 5000 });
                assert_eq!(content(&worker, node)[..5000], pattern(1, 5000));
            }
        }
        ended.send(refused).unwrap();
    });
    let patience = std::time::Duration::from_secs(60);
    let refused = end.recv_timeout(patience).expect("it waits for ever");
    assert!((2..48).contains(&refused), "{refused} of 48 were refused");
    thread.unwrap().join().unwrap();
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

#[test]
fn truncation_to_the_same_size_gives_back_what_lies_behind() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "f");
    write(&fs, node, 0, &pattern(1, 4096)).unwrap();
    fs.fallocate(node, KEEP, 0, 1 << 20).unwrap();
    let before = fs.getattr(node).unwrap();
    assert_eq!(before.blocks, 2048);
    truncate(&fs, node, 4096).unwrap();
    let after = fs.getattr(node).unwrap();
    assert_eq!((after.blocks, after.mtime), (8, before.mtime));
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// Takes all data space.
pub fn fill(fs: &Filesystem, node: NodeId) -> u64 {
    let bytes = vec![9; 1 << 20];
    let mut size = 0;
    for step in [1 << 20, 1 << 16, 4096] {
        loop {
            match write(fs, node, size, &bytes[..step]) {
                Ok(()) => size += step as u64,
                Err(Error::NoSpace) => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    size
}

/// Whole sectors need no space to be let go, nor do sizes, nor space that is there already: room for
/// two sectors was asked for all the same.
#[test]
fn a_full_filesystem_is_punched_and_grown() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "full");
    let size = fill(&fs, node);
    fs.fallocate(node, 0, 0, size).unwrap();
    truncate(&fs, node, size + 8192).unwrap();
    fs.fallocate(node, PUNCH, 0, size).unwrap();
    fs.sync().unwrap();
    let again = create(&fs, "again");
    write(&fs, again, 0, &pattern(1, 1 << 20)).unwrap();
    assert!(content(&fs, node) == vec![0; size as usize + 8192]);
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// The zeros came first, and then there was no room for the space behind them: the caller was told of a
/// refusal, and the content was gone.
#[test]
fn a_range_that_cannot_be_zeroed_for_want_of_space_keeps_its_content() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let (node, other, ready) = (create(&fs, "f"), create(&fs, "other"), create(&fs, "ready"));
    let data = pattern(3, 1 << 20);
    write(&fs, node, 0, &data).unwrap();
    fs.fsync(node, false).unwrap();
    // What is given up there comes free nowhere.
    let copied = fs.copy_file_range(node, 0, other, 0, 1 << 20).unwrap();
    assert_eq!(copied, 1 << 20);
    fs.fallocate(ready, 0, 0, 1 << 20).unwrap();
    fs.sync().unwrap();
    fill(&fs, create(&fs, "full"));
    fs.sync().unwrap();
    let zero = libc::FALLOC_FL_ZERO_RANGE;
    let told = fs.fallocate(node, zero, 4096, 800 << 10);
    assert!(matches!(told, Err(Error::NoSpace)), "{told:?}");
    assert!(content(&fs, node) == data);
    // Preallocated space is zeros already.
    fs.fallocate(ready, zero, 0, 1 << 20).unwrap();
    fs.sync().unwrap();
    assert!(content(&fs, node) == data);
    assert!(content(&fs, ready) == vec![0; 1 << 20]);
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// A file that begins with preallocated space was thought to own all of its sectors. So the zeros
/// behind its old end were accepted, found no room when they were written back, and what a
/// truncation had cut off was there again.
#[test]
fn what_was_cut_off_stays_away_on_a_full_filesystem() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "f");
    fs.fallocate(node, 0, 0, 8192).unwrap();
    write(&fs, node, 8192, &[7; 8192]).unwrap();
    fs.sync().unwrap();
    fill(&fs, create(&fs, "full"));
    fs.sync().unwrap();
    truncate(&fs, node, 8192 + 5000).unwrap();
    let grown = truncate(&fs, node, 1 << 20);
    assert!(matches!(grown, Ok(()) | Err(Error::NoSpace)), "{grown:?}");
    fs.sync().expect("what was accepted is written");
    let mut expected = [&[0; 8192][..], &[7; 5000]].concat();
    if grown.is_ok() {
        expected.resize(1 << 20, 0);
    }
    assert!(content(&fs, node) == expected);
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// Content that found no space was missing in a snapshot, and nobody was told.
#[test]
fn a_snapshot_without_room_for_what_was_written_is_refused() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "f");
    write(&fs, node, 0, &[1; 4096]).unwrap();
    let room = fs.ctx.space.reserve_data(1 << 16).unwrap();
    fill(&fs, create(&fs, "full"));
    fs.sync().unwrap();
    drop(room);
    write(&fs, node, 0, &[2; 4096]).unwrap();
    // What it was promised goes to others, who hold all that is left.
    fs.inode(node).unwrap().data.state.lock().data_space = None;
    let rest: Vec<_> = std::iter::from_fn(|| fs.ctx.space.reserve_data(4096).ok()).collect();
    let groups = Vec::new;
    let who = Who {
        caller: Caller::default(),
        admin: true,
        overrides: true,
        owns_all: true,
        groups: &groups,
    };
    let source = fs.snapshot_source(NodeId::ROOT).unwrap();
    let snapshot = || fs.snapshot(&who, source, NodeId::ROOT, b"snapshot", true);
    let told = snapshot();
    assert!(matches!(told, Err(Error::NoSpace)), "{told:?}");
    assert!(fs.lookup(NodeId::ROOT, b"snapshot").is_err());
    drop(rest);
    snapshot().unwrap();
    let inside = fs.lookup(NodeId::ROOT, b"snapshot").unwrap().node;
    let inside = fs.lookup(inside, b"f").unwrap().node;
    assert_eq!(content(&fs, inside), [2; 4096]);
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}
