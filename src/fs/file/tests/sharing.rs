//! Copies by reference: files that hold the same extents, and stay each its own.

use super::limits::fill;
use super::*;
use crate::fs::file::share::Share;
use crate::sync::{mpsc, thread};
use std::time::Duration;

const SECTOR: u64 = 4096;
const MIB: u64 = 1 << 20;

fn copy(fs: &Filesystem, from: (NodeId, u64), to: (NodeId, u64), len: u64) -> u64 {
    let mut done = 0;
    while done < len {
        let step = fs.copy_file_range(from.0, from.1 + done, to.0, to.1 + done, len - done);
        match step.unwrap() {
            0 => break,
            count => done += count,
        }
    }
    done
}

fn used_bytes(fs: &Filesystem) -> u64 {
    fs.sync().unwrap();
    let statfs = fs.statfs().unwrap();
    (statfs.blocks - statfs.free) * u64::from(statfs.block_size)
}

#[test]
fn a_copy_takes_no_space_and_both_go_their_own_ways() {
    let device = mkfs(256, &[]);
    let fs = mount(&device);
    let (a, b) = (create(&fs, "a"), create(&fs, "b"));
    let mut of_a = pattern(3, (40 * MIB + 100) as usize);
    write(&fs, a, 0, &of_a).unwrap();
    let before = used_bytes(&fs);
    assert_eq!(copy(&fs, (a, 0), (b, 0), u64::MAX / 2), of_a.len() as u64);
    assert!(
        used_bytes(&fs) - before < MIB,
        "the content was written again"
    );
    let mut of_b = of_a.clone();
    assert_eq!(content(&fs, b), of_b);
    assert_eq!(fs.getattr(b).unwrap().blocks, fs.getattr(a).unwrap().blocks);
    write(&fs, a, 5 * MIB + 17, &[1; 10_000]).unwrap();
    of_a[5 * MIB as usize + 17..][..10_000].fill(1);
    write(&fs, b, 9 * MIB, &[2; 4096]).unwrap();
    of_b[9 * MIB as usize..][..4096].fill(2);
    fs.sync().unwrap();
    assert!(content(&fs, a) == of_a && content(&fs, b) == of_b);
    fs.unlink(NodeId::ROOT, b"a").unwrap();
    fs.forget(a, 1);
    fs.release(a);
    fs.sync().unwrap();
    assert!(content(&fs, b) == of_b);
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    assert!(content(&fs, look_up(&fs, "b")) == of_b);
    fs.unmount().unwrap();
}

/// A shared extent, preallocated or of a file without copy-on-write, isn't written over.
#[test]
fn what_is_shared_is_not_written_in_place() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let (a, b) = (create(&fs, "a"), create(&fs, "b"));
    fs.fallocate(a, 0, 0, MIB).unwrap();
    write(&fs, a, 0, &[1; SECTOR as usize]).unwrap();
    assert_eq!(copy(&fs, (a, 0), (b, 0), MIB), MIB);
    let places_before = used_bytes(&fs);
    write(&fs, a, 2 * SECTOR, &[2; SECTOR as usize]).unwrap();
    write(&fs, b, 2 * SECTOR, &[3; SECTOR as usize]).unwrap();
    assert!(
        used_bytes(&fs) >= places_before + SECTOR,
        "one needs a new place"
    );
    let mut expected = vec![0; MIB as usize];
    expected[..SECTOR as usize].fill(1);
    for (node, byte) in [(a, 2), (b, 3)] {
        expected[2 * SECTOR as usize..3 * SECTOR as usize].fill(byte);
        assert!(content(&fs, node) == expected);
    }
    fs.unmount().unwrap();
    check(&device);
}

#[test]
fn copies_that_end_early_or_lie_crookedly_are_right_too() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let a = create(&fs, "a");
    let of_a = pattern(9, 100_000);
    write(&fs, a, 0, &of_a).unwrap();
    let cases = [
        (0, 0, 100_000),
        (0, 1, 50_000),
        (100, 4096 + 100, 30_000),
        (4096, 1_000_000, 8192),
        (99_000, 0, 5000),
        (4096, 8191, 4096),
        (0, 4096, 1000),
    ];
    for (n, (from, to, len)) in cases.into_iter().enumerate() {
        for old in [0, 1000, 200_000] {
            let node = create(&fs, &format!("{n}-{old}"));
            let mut expected = pattern(n as u64, old);
            write_some(&fs, node, &expected);
            let have = copy(&fs, (a, from), (node, to), len) as usize;
            assert_eq!(have, (len as usize).min(of_a.len() - from as usize));
            let end = to as usize + have;
            expected.resize(expected.len().max(end), 0);
            expected[to as usize..end].copy_from_slice(&of_a[from as usize..][..have]);
            assert!(content(&fs, node) == expected, "{n} {old}");
        }
    }
    fs.unmount().unwrap();
    check(&device);
}

/// The kernel refuses these before they get here; whoever comes another way gets the same answer.
#[test]
fn ranges_of_one_file_must_not_overlap() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let node = create(&fs, "a");
    let data = pattern(5, 100_000);
    write(&fs, node, 0, &data).unwrap();
    for (from, to) in [(0, 0), (0, 4096), (8192, 4096), (0, 8191)] {
        let refused = fs.copy_file_range(node, from, node, to, 8192);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{from} {to}");
    }
    assert!(content(&fs, node) == data);
    assert_eq!(copy(&fs, (node, 0), (node, 8192), 8192), 8192);
    fs.unmount().unwrap();
    check(&device);
}

fn write_some(fs: &Filesystem, node: NodeId, data: &[u8]) {
    if !data.is_empty() {
        write(fs, node, 0, data).unwrap();
    }
}

/// Three files that copy from each other and themselves, among all else that changes extents.
fn random_copies(options: &[&str], seed: u64, steps: usize) {
    const SPAN: u64 = 300_000;
    let names = ["x", "y", "z"];
    let device = mkfs(128, options);
    let mut fs = mount(&device);
    let mut nodes: Vec<NodeId> = names.iter().map(|name| create(&fs, name)).collect();
    let mut models: Vec<Vec<u8>> = vec![Vec::new(); names.len()];
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for step in 0..steps {
        if random.below(60) == 0 {
            fs.unmount().unwrap();
            drop(fs);
            check(&device);
            fs = mount(&device);
            nodes = names.iter().map(|name| look_up(&fs, name)).collect();
        }
        let mut at = random.below(SPAN);
        let mut len = 1 + random.below(SPAN / 3);
        let n = random.below(3) as usize;
        let (node, model) = (nodes[n], &mut models[n]);
        match random.below(12) {
            0..=2 => {
                let data = pattern(random.next(), len as usize);
                write(&fs, node, at, &data).unwrap();
                model.resize(model.len().max((at + len) as usize), 0);
                model[at as usize..][..len as usize].copy_from_slice(&data);
            }
            3 => {
                fs.fallocate(node, PUNCH, at, len).unwrap();
                let end = ((at + len) as usize).min(model.len());
                if (at as usize) < end {
                    model[at as usize..end].fill(0);
                }
            }
            4 => fs.fallocate(node, KEEP, at, len).unwrap(),
            5 => {
                truncate(&fs, node, at).unwrap();
                model.resize(at as usize, 0);
            }
            6 => fs.fsync(node, false).unwrap(),
            7 => fs.sync().unwrap(),
            _ => {
                let m = random.below(3) as usize;
                let mut target = random.below(SPAN);
                if random.below(4) > 0 {
                    (at, target) = (at / SECTOR * SECTOR, target / SECTOR * SECTOR);
                }
                if m == n {
                    // A copy behind the file's end makes more of it to copy.
                    let there = (models[n].len() as u64).saturating_sub(at);
                    len = len.min(at.abs_diff(target)).min(there);
                }
                let have = copy(&fs, (node, at), (nodes[m], target), len) as usize;
                let bytes: Vec<u8> = models[n]
                    .iter()
                    .skip(at as usize)
                    .take(len as usize)
                    .copied()
                    .collect();
                assert_eq!(have, bytes.len(), "step {step} seed {seed}");
                if have > 0 {
                    let model = &mut models[m];
                    model.resize(model.len().max(target as usize + have), 0);
                    model[target as usize..][..have].copy_from_slice(&bytes);
                }
            }
        }
        for (n, node) in nodes.iter().enumerate() {
            assert!(
                content(&fs, *node) == models[n],
                "step {step} seed {seed} file {n}"
            );
        }
    }
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    for (n, name) in names.iter().enumerate() {
        assert!(
            content(&fs, look_up(&fs, name)) == models[n],
            "seed {seed} file {n}"
        );
    }
    fs.unmount().unwrap();
}

#[test]
fn random_copies_keep_every_file_its_own() {
    for seed in 0..4 {
        random_copies(&[], seed, 150);
        random_copies(&["-O", "^no-holes", "-n", "4096"], seed + 100, 150);
    }
}

/// Copies in both directions at once, beside writers: no deadlock, and each sector is somebody's.
#[test]
fn copies_both_ways_at_once_end() {
    let device = mkfs(256, &[]);
    let fs = mount(&device);
    let nodes = [create(&fs, "a"), create(&fs, "b")];
    for (n, node) in nodes.iter().enumerate() {
        write(&fs, *node, 0, &vec![n as u8 + 1; MIB as usize]).unwrap();
        fs.fallocate(*node, KEEP, MIB, MIB).unwrap();
    }
    crate::sync::thread::scope(|scope| {
        for n in 0..2 {
            let (fs, nodes) = (&fs, &nodes);
            scope.spawn(move || {
                let mut random = Random(n as u64 + 7);
                for _ in 0..200 {
                    let at = random.below(512) * SECTOR;
                    let len = (1 + random.below(32)) * SECTOR;
                    match random.below(3) {
                        0 => write(fs, nodes[n], at, &vec![n as u8 + 1; len as usize]).unwrap(),
                        _ => {
                            copy(fs, (nodes[n], at), (nodes[1 - n], at), len);
                        }
                    }
                }
            });
        }
    });
    for node in nodes {
        let all = content(&fs, node);
        assert!(
            all.chunks(SECTOR as usize)
                .all(|sector| { sector[0] <= 2 && sector.iter().all(|byte| *byte == sector[0]) })
        );
    }
    fs.unmount().unwrap();
    check(&device);
}

/// With no space left, the copy counted on writing the target in place, and then waited until nobody of
/// the subvolume did: for itself.
#[test]
fn a_copy_on_a_full_filesystem_doesnt_wait_for_itself() {
    let device = mkfs(128, &[]);
    let fs = mount(&device);
    let (a, b) = (create(&fs, "a"), create(&fs, "b"));
    fs.fallocate(a, 0, 0, MIB).unwrap();
    let mut of_a = pattern(3, 40_960);
    write(&fs, a, 0, &of_a).unwrap();
    of_a.resize(MIB as usize, 0);
    fs.sync().unwrap();
    fill(&fs, create(&fs, "full"));
    fs.sync().unwrap();
    // What others hold that are about to write.
    let rest: Vec<_> = std::iter::from_fn(|| fs.ctx.space.reserve_data(SECTOR).ok()).collect();
    let (ended, end) = mpsc::channel();
    let copier = fs.clone();
    let thread = thread::spawn(move || {
        let copied = copier.copy_file_range(a, 0, b, 0, MIB);
        ended.send(copied).unwrap();
    });
    let copied = end.recv_timeout(Duration::from_secs(60));
    assert_eq!(copied.expect("it waits for ever").unwrap(), MIB);
    thread.join().unwrap();
    assert!(content(&fs, b) == of_a);
    drop(rest);
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
}

/// Extents came to a file while the size on disk waited for what somebody else had written behind them. A
/// cut then left content behind the end, where a growing file has zeros.
#[test]
fn a_cut_beside_a_writer_leaves_no_copy_behind_the_end() {
    for options in [&[][..], &["-O", "^no-holes"]] {
        let device = mkfs(128, options);
        let fs = mount(&device);
        let (a, b) = (create(&fs, "a"), create(&fs, "b"));
        write(&fs, a, 0, &[1; 65_536]).unwrap();
        write(&fs, b, 0, &[2; 100]).unwrap();
        fs.sync().unwrap();
        truncate(&fs, b, 8192).unwrap();
        fs.sync().unwrap();
        let (from, to) = (fs.inode(a).unwrap(), fs.inode(b).unwrap());
        let share = Share {
            fs: &fs,
            from: &from,
            source: 0..65_536,
            to: &to,
            target: 8192,
        };
        // By somebody else, between the copy's flush and its first extent.
        write(&fs, b, MIB, &[3; 4096]).unwrap();
        assert_eq!(share.step(0..65_536).unwrap(), 65_536);
        fs.engine.committer.commit_trees().unwrap();
        drop((from, to, fs));
        check(&device);
        let fs = mount(&device);
        let b = look_up(&fs, "b");
        let size = fs.getattr(b).unwrap().size as usize;
        truncate(&fs, b, MIB).unwrap();
        let found = content(&fs, b);
        assert!(found[..100] == [2; 100] && found[100..8192] == [0; 8092]);
        assert!(found[8192..size] == vec![1; size - 8192], "what is there");
        assert!(found[size..] == vec![0; MIB as usize - size], "{size}");
        fs.unmount().unwrap();
        drop(fs);
        check(&device);
    }
}
