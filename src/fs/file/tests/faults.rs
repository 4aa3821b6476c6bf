//! Devices that fail, lie, or lose power under a file.

use super::*;

#[test]
fn a_bad_sector_is_an_error_with_one_copy_and_repaired_with_two() {
    for (profile, readable) in [("single", false), ("dup", true)] {
        let device = mkfs(256, &["-d", profile]);
        let fs = mount(&device);
        let node = create(&fs, "f");
        let data = pattern(77, 40_960);
        write(&fs, node, 0, &data).unwrap();
        fs.unmount().unwrap();
        drop(fs);
        let at = find(&device, &data[8192..8192 + 64]);
        device.flip(at + 5, 1).unwrap();
        let fs = mount(&device);
        let node = look_up(&fs, "f");
        match fs.read(node, 0, 40_960) {
            Ok(read) => assert!(readable && read == data),
            Err(error) => assert!(!readable && error.errno() == libc::EIO, "{error}"),
        }
        assert_eq!(fs.read(node, 0, 8192).unwrap(), data[..8192]);
        fs.unmount().unwrap();
        if readable {
            check(&device);
        }
    }
}

#[test]
fn a_failed_write_back_is_told_by_fsync_once_and_loses_nothing_else() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let (bad, good) = (create(&fs, "bad"), create(&fs, "good"));
    write(&fs, good, 0, &pattern(1, 10_000)).unwrap();
    fs.sync().unwrap();
    write(&fs, bad, 0, &pattern(2, 100_000)).unwrap();
    device.plan(Fault::FailWrite(1));
    assert!(fs.fsync(bad, false).is_err());
    device.heal();
    fs.fsync(bad, false).unwrap();
    fs.fsync(good, false).unwrap();
    assert_eq!(content(&fs, good), pattern(1, 10_000));
    for start in fs.ctx.space.group_starts() {
        let group = fs.ctx.space.group(start.into()).unwrap();
        assert_eq!(group.usage.reserved, 0, "space that nobody has: {group:?}");
    }
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// Whoever writes content back when nobody waits for it leaves the failure to the next fsync.
#[test]
fn a_failure_behind_a_programs_back_is_told_by_its_next_fsync() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "bad");
    fs.sync().unwrap();
    write(&fs, node, 0, &pattern(2, 100_000)).unwrap();
    device.plan(Fault::FailWrite(1));
    assert!(flush_inode(&fs, &fs.inode(node).unwrap()).is_err());
    device.heal();
    assert!(fs.fsync(node, false).is_err());
    fs.fsync(node, false).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// An fsync that had to commit wrote all files' content, and answered with the failure of any of them: a
/// database was told that its own file was lost, for a disk that had failed somebody else.
#[test]
fn a_file_that_is_durable_says_so_whatever_another_one_has_lost() {
    for by_directory in [false, true] {
        let device = mkfs(128, &[]);
        let fs = mount(&device);
        let (bad, good) = (create(&fs, "bad"), create(&fs, "good"));
        fs.sync().unwrap();
        write(&fs, good, 0, &pattern(1, 10_000)).unwrap();
        flush_inode(&fs, &fs.inode(good).unwrap()).unwrap();
        // A name that isn't logged.
        fs.link(good, NodeId::ROOT, b"again").unwrap();
        write(&fs, bad, 0, &pattern(2, 100_000)).unwrap();
        device.plan(Fault::FailWrite(1));
        let durable = if by_directory { NodeId::ROOT } else { good };
        fs.fsync(durable, false).unwrap();
        device.heal();
        assert_eq!(fs.logs_and_commits().0, 0, "that was no commit");
        fs.fsync(good, false).unwrap();
        assert!(fs.fsync(bad, false).is_err(), "who has it open hears of it");
        fs.fsync(bad, false).unwrap();
        drop(fs);
        check(&device);
        let fs = mount(&device);
        assert_eq!(content(&fs, look_up(&fs, "again")), pattern(1, 10_000));
    }
}

/// A truncation that ends half way says how long the file is now: what it left isn't hidden behind
/// a smaller size, to come back as content when the file grows.
#[test]
fn a_truncation_that_fails_half_way_tells_the_size_that_it_reached() {
    let pristine = mkfs(128, &["-n", "4096", "-m", "single"]);
    let fs = mount(&pristine);
    let node = create(&fs, "f");
    let sectors = 1200;
    let mut old = vec![0; sectors * 8192];
    for (index, pair) in old.chunks_mut(8192).enumerate() {
        pair[..4096].copy_from_slice(&pattern(index as u64 + 5, 4096));
        write(&fs, node, index as u64 * 8192, &pair[..4096]).unwrap();
    }
    truncate(&fs, node, old.len() as u64).unwrap();
    fs.unmount().unwrap();
    drop(fs);
    let mut reached = Vec::new();
    for failing in 1.. {
        let device: Device = Arc::new(FaultyDevice::over(Arc::new(MemoryDevice::clone(
            pristine.inner(),
        ))));
        let fs = mount(&device);
        let node = look_up(&fs, "f");
        // A bad block is read again: nothing can be read from here on.
        (failing..failing + 200).for_each(|nth| device.plan(Fault::FailRead(nth)));
        let done = truncate(&fs, node, 0);
        device.heal();
        if fs.read_only_reason().is_some() {
            // It failed inside a transaction, which is nobody's ordinary error.
            continue;
        }
        let size = fs.getattr(node).unwrap().size;
        if done.is_ok() {
            assert_eq!(size, 0);
            break;
        }
        reached.push(size);
        let mut expected = old[..size as usize].to_vec();
        assert!(content(&fs, node) == expected, "{size} bytes are left");
        expected.resize(old.len(), 0);
        truncate(&fs, node, old.len() as u64).unwrap();
        assert!(content(&fs, node) == expected, "grown from {size} bytes");
        fs.unmount().unwrap();
        drop(fs);
        check(&device);
    }
    // At once, and after some of it was gone.
    assert!(reached.contains(&(old.len() as u64)), "{reached:?}");
    assert!(reached.iter().any(|&size| size < old.len() as u64));
}

/// What is durable after each fsync survives a power cut at any write; nothing is half there.
#[test]
fn a_power_cut_at_any_write_leaves_the_last_fsync_or_something_newer() {
    let pristine = mkfs(128, &[]);
    for cut in (1..120).step_by(7) {
        let device: Device = Arc::new(FaultyDevice::over(Arc::new(MemoryDevice::clone(
            pristine.inner(),
        ))));
        let fs = mount(&device);
        let node = create(&fs, "f");
        fs.fsync(node, false).unwrap();
        device.plan(Fault::PowerCut(cut));
        let mut model: Vec<u8> = Vec::new();
        let mut durable = model.clone();
        let mut random = Random(cut.wrapping_mul(7919) | 1);
        for _ in 0..40 {
            let at = random.below(60_000);
            let data = pattern(random.next(), 1 + random.below(30_000) as usize);
            let done = match random.below(4) {
                0 => truncate(&fs, node, at).map(|()| model.resize(at as usize, 0)),
                1 => fs.fsync(node, false).map(|()| durable = model.clone()),
                _ => write(&fs, node, at, &data).map(|()| {
                    model.resize(model.len().max(at as usize + data.len()), 0);
                    model[at as usize..][..data.len()].copy_from_slice(&data);
                }),
            };
            if done.is_err() {
                break;
            }
        }
        drop(fs);
        device.heal();
        check(&device);
        let fs = mount(&device);
        let after = content(&fs, look_up(&fs, "f"));
        assert!(
            after == durable || after == model,
            "cut {cut}: {} bytes",
            after.len()
        );
        fs.unmount().unwrap();
    }
}

/// What is behind the end in its sector stays on disk when a file is cut, until it grows again: the zeros
/// are written with what grows it. When that failed, nobody wrote them: what had been cut off was content
/// again, and the next fsync said that all was well.
#[test]
fn what_was_cut_off_stays_away_when_the_growth_is_lost() {
    type Step = fn(&Filesystem, NodeId);
    let again: Step = |fs, node| write(fs, node, 8192, &[2; 4096]).unwrap();
    let behind: Step = |fs, node| write(fs, node, 20_000, &[3; 4096]).unwrap();
    let longer: Step = |fs, node| truncate(fs, node, 30_000).unwrap();
    let shorter: Step = |fs, node| truncate(fs, node, 8192).unwrap();
    for old in [4096, 100] {
        for step in [again, behind, longer, shorter] {
            let device = mkfs(128, &[]);
            let fs = mount(&device);
            let node = create(&fs, "f");
            write(&fs, node, 0, &vec![1; old]).unwrap();
            fs.sync().unwrap();
            truncate(&fs, node, 90).unwrap();
            fs.fsync(node, false).unwrap();
            write(&fs, node, 8192, &[2; 4096]).unwrap();
            device.plan(Fault::FailWrite(1));
            assert!(fs.fsync(node, false).is_err());
            device.heal();
            let head = [&[1; 90][..], &[0; 8102]].concat();
            assert!(fs.read(node, 0, 8192).unwrap() == head, "{old}: read");
            step(&fs, node);
            fs.fsync(node, false).unwrap();
            let expected = content(&fs, node);
            assert!(expected[..8192] == head, "{old}: written again");
            drop(fs);
            let fs = mount(&device);
            let found = content(&fs, look_up(&fs, "f"));
            assert!(found == expected, "{old}: after a cut");
            fs.unmount().unwrap();
            drop(fs);
            check(&device);
        }
    }
}
