//! Durability by other ways than fsync(2): io_uring's IORING_OP_WRITE and IORING_OP_FSYNC, and shared
//! mappings with msync(2). What was answered is there after the daemon was killed.

use btrfuse_test_support::ring::{Ring, Task, Told};
use btrfuse_test_support::script::bytes;
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const FILES: usize = 16;
const BLOCK: usize = 20_000;

fn pid(mount: &BtrfuseMount) -> Pid {
    Pid::from_raw(mount.daemon_id().cast_signed()).expect("a running daemon")
}

fn made(folder: &Path) -> Vec<File> {
    let make = |name: usize| File::create_new(folder.join(name.to_string()));
    (0..FILES)
        .map(|name| make(name).expect("a new file"))
        .collect()
}

fn seed(file: usize, round: usize) -> u64 {
    (file * 1000 + round) as u64
}

/// Killed, mounted again by us and then by the kernel.
fn after_a_kill(mount: BtrfuseMount, image: &Image, look: impl Fn(&Path)) {
    let (status, _) = mount.end();
    assert!(!status.success(), "killed");
    let mount = BtrfuseMount::read_write(image.path());
    look(mount.path());
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    look(mount.path());
    mount.unmount();
}

/// Sixteen files are written and made durable at once, round after round, until the daemon is gone.
#[test]
fn what_a_ring_told_to_be_durable_outlives_the_daemon() {
    for rounds in [1, 4, 9] {
        let image = Image::mkfs_btrfs(512, &[]);
        let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
        let files = made(mount.path());
        mount.sync();
        let daemon = pid(&mount);
        let (told, is_told) = std::sync::mpsc::channel();
        let killer = std::thread::spawn(move || {
            is_told.recv().expect("so many rounds");
            // Into the middle of the next.
            std::thread::sleep(Duration::from_millis(rounds as u64));
            kill_process(daemon, Signal::KILL).expect("our own child");
        });
        let mut ring = Ring::new(FILES);
        let mut durable = [0; FILES];
        let mut alive = true;
        for round in 0.. {
            let data: Vec<Vec<u8>> = (0..FILES).map(|at| bytes(seed(at, round), BLOCK)).collect();
            let tasks: Vec<Task<'_>> = files
                .iter()
                .zip(&data)
                .map(|(file, bytes)| Task {
                    file: file.as_fd(),
                    offset: (round * BLOCK) as u64,
                    bytes,
                    data_only: round % 2 == 1,
                })
                .collect();
            for (at, told) in ring.run(&tasks).into_iter().enumerate() {
                let good = Told {
                    written: Ok(BLOCK as u32),
                    durable: Ok(()),
                };
                if told == good && durable[at] == round {
                    durable[at] = round + 1;
                }
                alive &= told == good;
            }
            if !alive {
                break;
            }
            if round + 1 == rounds {
                told.send(()).expect("somebody waits for it");
            }
        }
        killer.join().expect("a kill");
        drop(files);
        assert!(durable.iter().all(|told| *told >= rounds), "{durable:?}");
        after_a_kill(mount, &image, |top| {
            for (at, rounds) in durable.iter().enumerate() {
                let found = std::fs::read(top.join(at.to_string())).expect("the file");
                for round in 0..*rounds {
                    let wanted = bytes(seed(at, round), BLOCK);
                    let place = round * BLOCK..(round + 1) * BLOCK;
                    assert!(
                        found.get(place) == Some(&wanted[..]),
                        "file {at}, round {round}"
                    );
                }
            }
        });
    }
}

/// msync(2) with MS_SYNC of a part makes that part durable: into a hole, over content, and at the end.
#[test]
fn what_msync_told_to_be_durable_outlives_the_daemon() {
    const SIZE: usize = 300_000;
    let image = Image::mkfs_btrfs(512, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
    let path = mount.path().join("mapped");
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .expect("a new file");
    file.write_all_at(&bytes(1, 100_000), 0).expect("room");
    file.set_len(SIZE as u64).expect("a hole");
    file.sync_all().expect("durable");
    let mut wanted = bytes(1, 100_000);
    wanted.resize(SIZE, 0);
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
    let place = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.as_raw_fd();
        libc::mmap(std::ptr::null_mut(), SIZE, access, libc::MAP_SHARED, fd, 0)
    };
    assert_ne!(place, libc::MAP_FAILED);
    for (at, len) in [
        (50_000, 4000),
        (90_000, 30_000),
        (200_000, 10),
        (SIZE - 5000, 5000),
    ] {
        let data = bytes(at as u64, len);
        wanted[at..at + len].copy_from_slice(&data);
        let page = at / 4096 * 4096;
        // SAFETY: the range is inside of the mapping and of the file, and nothing else refers to it; what is
        // given to msync begins at a page.
        let result = unsafe {
            let bytes = place.cast::<u8>();
            std::ptr::copy_nonoverlapping(data.as_ptr(), bytes.add(at), len);
            libc::msync(bytes.add(page).cast(), at + len - page, libc::MS_SYNC)
        };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
    kill_process(pid(&mount), Signal::KILL).expect("our own child");
    // SAFETY: this is the mapping from above, and nothing refers to it any more.
    unsafe { libc::munmap(place, SIZE) };
    drop(file);
    after_a_kill(mount, &image, |top| {
        let found = std::fs::read(top.join("mapped")).expect("the file");
        assert!(found == wanted, "what msync was answered for is lost");
    });
}
