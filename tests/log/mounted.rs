//! A real mount: programs write and fsync, then the image is copied as the power cut would leave it, and
//! the kernel replays the copy.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, btrfs_check, run};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// What the kernel shows of a copy of the image of now.
fn after_a_cut(image: &Image, look: impl FnOnce(&Path)) {
    let copy = image.copy();
    let log_root = run(Command::new("btrfs")
        .args(["inspect-internal", "dump-super"])
        .arg(copy.path()))
    .stdout
    .lines()
    .find_map(|line| line.strip_prefix("log_root\t\t").map(str::to_owned));
    assert_ne!(
        log_root.expect("a line of it").trim(),
        "0",
        "nothing was logged"
    );
    let kernel = LoopMount::read_write(copy.path());
    look(kernel.path());
    kernel.unmount();
    btrfs_check(copy.path());
}

fn content(thread: usize, file: usize) -> Vec<u8> {
    let len = 1 + (thread * 7919 + file * 104_729) % 60_000;
    (0..len)
        .map(|i| (i / 7 + thread * 31 + file) as u8)
        .collect()
}

#[test]
fn threads_that_fsync_at_once_all_find_their_files() {
    const THREADS: usize = 4;
    const FILES: usize = 60;
    let image = Image::mkfs_btrfs(512, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
    let place = |top: &Path, thread: usize| top.join(["dir", "subvol"][thread % 2]);
    std::fs::create_dir(mount.path().join("dir")).unwrap();
    let subvol = mount.path().join("subvol");
    run(Command::new(btrfuse_test_support::btrfuse_binary())
        .args(["subvolume", "create"])
        .arg(&subvol));
    mount.sync();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let dir = place(mount.path(), thread);
            scope.spawn(move || {
                for file in 0..FILES {
                    let mut new = File::create(dir.join(format!("{thread}-{file}"))).unwrap();
                    new.write_all(&content(thread, file)).unwrap();
                    new.sync_all().unwrap();
                    new.seek(SeekFrom::Start(0)).unwrap();
                    new.write_all(b"head").unwrap();
                    new.sync_data().unwrap();
                }
            });
        }
    });
    after_a_cut(&image, |top| {
        for thread in 0..THREADS {
            for file in 0..FILES {
                let mut wanted = content(thread, file);
                wanted.resize(wanted.len().max(4), 0);
                wanted[..4].copy_from_slice(b"head");
                let path = place(top, thread).join(format!("{thread}-{file}"));
                let found =
                    std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
                assert!(found == wanted, "{path:?}: {} bytes", found.len());
            }
        }
    });
    mount.unmount();
    btrfs_check(image.path());
}

/// Overwritten at random and fsynced each time, over commits that come by themselves.
#[test]
fn a_file_that_is_fsynced_again_and_again_is_as_it_was_last() {
    let image = Image::mkfs_btrfs(512, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=1");
    let path = mount.path().join("file");
    let file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut wanted = vec![0; 1 << 20];
    for round in 0u64..600 {
        let at = (round * 7919 % 250) * 4096 + round % 3;
        let data = vec![(round % 255) as u8 + 1; 100 + (round as usize * 37) % 9000];
        file.write_all_at(&data, at).unwrap();
        file.sync_data().unwrap();
        let end = at as usize + data.len();
        wanted.resize(wanted.len().max(end), 0);
        wanted[at as usize..end].copy_from_slice(&data);
        if round % 150 == 149 {
            file.set_len(wanted.len() as u64).unwrap();
            file.sync_all().unwrap();
            let copy = image.copy();
            let kernel = LoopMount::read_write(copy.path());
            assert!(
                std::fs::read(kernel.path().join("file")).unwrap() == wanted,
                "{round}"
            );
            kernel.unmount();
            btrfs_check(copy.path());
        }
    }
    drop(file);
    mount.unmount();
    btrfs_check(image.path());
}

/// Also a part of a file at a time: what is asked for later isn't passed over.
#[test]
fn what_is_written_synchronously_is_durable() {
    let image = Image::mkfs_btrfs(512, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
    for name in ["opened", "asked", "mapped", "ranges"] {
        std::fs::write(mount.path().join(name), vec![1; 50_000]).unwrap();
    }
    mount.sync();
    let run_program = "
import mmap, os, sys
top = sys.argv[1] + '/'
fd = os.open(top + 'opened', os.O_WRONLY | os.O_DSYNC)
os.pwrite(fd, b'2' * 5000, 1000)
os.pwrite(fd, b'3' * 5000, 60000)
fd = os.open(top + 'asked', os.O_WRONLY)
os.pwritev(fd, [b'2' * 5000], 1000, os.RWF_DSYNC)
fd = os.open(top + 'mapped', os.O_RDWR)
map = mmap.mmap(fd, 50000)
map[100:200] = b'2' * 100
map[40000:41000] = b'3' * 1000
map.flush(0, 4096)
map.flush()
import ctypes
fd = os.open(top + 'ranges', os.O_RDWR)
os.pwrite(fd, b'2' * 9000, 0)
os.pwrite(fd, b'3' * 9000, 30000)
libc = ctypes.CDLL(None, use_errno=True)
# SYNC_FILE_RANGE_WAIT_BEFORE | _WRITE | _WAIT_AFTER: promises nothing, and must not spoil what comes.
assert libc.sync_file_range(fd, ctypes.c_long(0), ctypes.c_long(9000), 7) == 0
os.fdatasync(fd)
os._exit(0)
";
    run(Command::new("python3")
        .args(["-c", run_program])
        .arg(mount.path()));
    let with = |len: usize, parts: &[(usize, usize, u8)]| {
        let mut content = vec![1; 50_000];
        content.resize(len, 0);
        for &(at, len, byte) in parts {
            content[at..at + len].fill(byte);
        }
        content
    };
    let expected = [
        (
            "opened",
            with(65_000, &[(1_000, 5_000, b'2'), (60_000, 5_000, b'3')]),
        ),
        ("asked", with(50_000, &[(1_000, 5_000, b'2')])),
        (
            "mapped",
            with(50_000, &[(100, 100, b'2'), (40_000, 1_000, b'3')]),
        ),
        (
            "ranges",
            with(50_000, &[(0, 9_000, b'2'), (30_000, 9_000, b'3')]),
        ),
    ];
    after_a_cut(&image, |top| {
        for (name, content) in &expected {
            assert!(std::fs::read(top.join(name)).unwrap() == *content, "{name}");
        }
    });
    mount.unmount();
}

/// A database in write-ahead mode: what it says is committed is there.
#[test]
fn a_database_finds_its_transactions() {
    let image = Image::mkfs_btrfs(512, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300");
    mount.sync();
    let fill = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + '/' + sys.argv[2] + '.db', isolation_level=None)
db.execute('pragma journal_mode=' + sys.argv[2])
db.execute('pragma synchronous=full')
db.execute('create table t(n integer primary key, v blob)')
for n in range(200):
    db.execute('insert into t values(?, ?)', (n, bytes([n % 256]) * 1500))
    if n % 3 == 0: db.execute('update t set v = ? where n = ?', (bytes([n % 256]) * 900, n // 2))
import os; os._exit(0)
";
    let judge = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1] + '/' + sys.argv[2] + '.db')
assert db.execute('pragma integrity_check').fetchall() == [('ok',)]
assert db.execute('select count(*) from t').fetchall() == [(200,)]
";
    let python = |program: &str, top: &Path, mode: &str| {
        run(Command::new("python3")
            .args(["-c", program])
            .arg(top)
            .arg(mode))
    };
    for mode in ["wal", "delete", "truncate"] {
        python(fill, mount.path(), mode);
    }
    after_a_cut(&image, |top| {
        for mode in ["wal", "delete", "truncate"] {
            python(judge, top, mode);
        }
    });
    mount.unmount();
}

/// With `notreelog` each fsync is a commit, and no log is ever named.
#[test]
fn notreelog_commits() {
    let image = Image::mkfs_btrfs(256, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,commit=300,notreelog");
    let before = image.generation();
    let mut file = File::create(mount.path().join("file")).unwrap();
    for round in 0..3 {
        file.write_all(b"more").unwrap();
        file.sync_all().unwrap();
        assert!(image.generation() > before + round, "no commit");
    }
    let copy = image.copy();
    drop(file);
    mount.unmount();
    let kernel = LoopMount::new(&[copy.path()], "ro,rescue=nologreplay,subvolid=5");
    assert_eq!(
        std::fs::read(kernel.path().join("file")).unwrap(),
        b"moremoremore"
    );
    kernel.unmount();
}
