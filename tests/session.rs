//! What the daemon and the kernel agree on, seen in the requests that arrive: the log of the FUSE
//! library says what was agreed, and each request with its size and its thread.

use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, assert_quiet, btrfs_check, run};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn talkative(image: &Path, options: &str) -> BtrfuseMount {
    BtrfuseMount::with_log_level(image, options, "fuser=debug")
}

/// The requests of one kind since `from` (a length of the log).
fn requests<'a>(log: &'a str, from: usize, kind: &str) -> Vec<&'a str> {
    let wanted = format!(" {kind}");
    let lines = log[from..].lines();
    lines.filter(|line| line.contains(&wanted)).collect()
}

fn descriptors_of_fuse(daemon: u32) -> usize {
    let folder = fs::read_dir(format!("/proc/{daemon}/fd")).expect("a running daemon");
    let targets = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| target.ends_with("dev/fuse"))
        .count()
}

fn serving_threads(daemon: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{daemon}/task")).expect("a running daemon");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("fuser-")).count()
}

#[test]
fn what_makes_a_mount_fast_is_agreed_on() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mut mount = talkative(image.path(), "subvolid=5");
    // Answered only when all is agreed on.
    fs::metadata(mount.path()).expect("a mount");
    let log = mount.log();
    for capability in [
        "FUSE_WRITEBACK_CACHE",
        "FUSE_PARALLEL_DIROPS",
        "FUSE_DO_READDIRPLUS",
        "FUSE_READDIRPLUS_AUTO",
        "FUSE_BIG_WRITES",
        "FUSE_MAX_PAGES",
        "FUSE_ASYNC_DIO",
        "FUSE_EXPORT_SUPPORT",
        "FUSE_DONT_MASK",
        "FUSE_POSIX_ACL",
        "FUSE_HANDLE_KILLPRIV_V2",
    ] {
        let line = format!("capability {capability} enabled");
        assert!(log.contains(&line), "{capability} isn't on:\n{log}");
    }
    assert!(log.contains("max write 1048576"), "small writes:\n{log}");
    let options = fs::read_to_string("/proc/self/mounts").expect("procfs");
    let ours = mount.path().to_str().expect("UTF-8");
    let line = options.lines().find(|line| line.contains(ours));
    let line = line.expect("our mount");
    assert!(line.contains("default_permissions"), "{line}");
    mount.unmount();
}

/// A mount can be taken out before the daemon has read the kernel's first request. That is a
/// mount that came and went: the image is clean, the exit code 0, and the log has no complaint.
#[test]
fn a_mount_that_is_gone_at_once_ends_well() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mut unasked = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    // On a busy machine a round that comes early enough takes longer to come.
    for round in 0.. {
        if round >= 100 && (unasked > 0 || Instant::now() > deadline) {
            break;
        }
        let mount = BtrfuseMount::gone_at_once(image.path(), "subvolid=5");
        let (status, log) = mount.wait_for_end();
        assert!(status.success(), "round {round}: {status}\n{log}");
        assert_quiet(&format!("round {round}"), &log, &[]);
        unasked += usize::from(log.contains("before its first request"));
    }
    assert!(unasked > 0, "no round was early enough to test anything");
    btrfs_check(image.path());
}

/// Each serving thread has a connection of its own.
#[test]
fn requests_are_served_by_as_many_threads_as_asked_for() {
    let image = Image::mkfs_btrfs(300, &[]);
    for (options, wanted) in [("subvolid=5,threads=3", 3), ("subvolid=5,threads=7", 7)] {
        let mount = BtrfuseMount::new(image.path(), options);
        // They start one after the other, when the first request may have been answered already.
        let deadline = Instant::now() + Duration::from_secs(10);
        while serving_threads(mount.daemon_id()) < wanted && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(serving_threads(mount.daemon_id()), wanted);
        assert_eq!(descriptors_of_fuse(mount.daemon_id()), wanted);
        mount.unmount();
    }
}

#[test]
fn writes_gather_in_the_page_cache_and_come_large() {
    let image = Image::mkfs_btrfs(600, &[]);
    let mut mount = talkative(image.path(), "subvolid=5");
    let path = mount.path().join("file");
    let flags = OFlags::WRONLY | OFlags::CREATE;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o644)).expect("a new file");
    let from = mount.log().len();
    // A program that writes 100 bytes at a time.
    for _ in 0..80_000 {
        assert_eq!(rustix::io::write(&file, &[7; 100]).expect("room"), 100);
    }
    rustix::fs::fsync(&file).expect("room");
    drop(file);
    let log = mount.log();
    let writes = requests(&log, from, "WRITE fh");
    let sizes: Vec<usize> = writes
        .iter()
        .map(|line| {
            let size = line.split(", size ").nth(1).expect("a size");
            let digits = size.split(|c: char| !c.is_ascii_digit()).next();
            digits.and_then(|it| it.parse().ok()).expect("a number")
        })
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 8_000_000);
    assert!(
        sizes.len() < 100,
        "{} requests for 80,000 writes",
        sizes.len()
    );
    assert!(sizes.contains(&(1 << 20)), "no large one: {sizes:?}");
    mount.unmount();
    btrfs_check(image.path());
}

/// `ls -l` asks for the directory, not for each name; and once: names and attributes stay good.
#[test]
fn listings_bring_attributes_and_the_kernel_keeps_them() {
    const FILES: usize = 500;
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let folder = mount.path().join("folder");
    fs::create_dir(&folder).expect("a writable mount");
    for number in 0..FILES {
        fs::write(folder.join(format!("file-{number}")), "x").expect("a writable mount");
    }
    mount.unmount();
    let mut mount = talkative(image.path(), "subvolid=5");
    let folder = mount.path().join("folder");
    let list = || {
        let listed = fs::read_dir(&folder).expect("a folder");
        let sizes = listed.map(|entry| {
            let found = entry.expect("an entry").metadata().expect("attributes");
            found.size()
        });
        assert_eq!(sizes.sum::<u64>(), FILES as u64);
    };
    let from = mount.log().len();
    list();
    let log = mount.log();
    let asked = |log: &str, from: usize| {
        requests(log, from, "LOOKUP name").len() + requests(log, from, "GETATTR").len()
    };
    assert!(!requests(&log, from, "READDIRPLUS").is_empty(), "{log}");
    // The first entries may be asked for one by one, before the kernel sees what it is for.
    let first = asked(&log, from);
    assert!(first < FILES / 2, "{first} questions for {FILES} names");
    let from = log.len();
    for _ in 0..5 {
        for number in 0..FILES {
            fs::metadata(folder.join(format!("file-{number}"))).expect("attributes");
        }
    }
    let log = mount.log();
    let again = asked(&log, from);
    assert!(again < FILES / 2, "{again} questions for what was known");
    // And not only for a moment.
    let from = log.len();
    std::thread::sleep(Duration::from_secs(3));
    for number in 0..FILES {
        fs::metadata(folder.join(format!("file-{number}"))).expect("attributes");
    }
    let later = asked(&mount.log(), from);
    assert!(later < FILES / 10, "{later} questions three seconds later");
    mount.unmount();
}

/// A handle names an inode for longer than the kernel's caches and the daemon do (NFS servers, backup
/// programs): it still does on a later mount.
#[test]
fn file_handles_outlive_caches_and_mounts() {
    const SCRIPT: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("raw", ctypes.c_ubyte * 128)]
def fail(what):
    raise OSError(ctypes.get_errno(), what)
what, mount, saved, names = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
if what == "take":
    with open(saved, "wb") as out:
        for name in names:
            it, path = Handle(128), os.path.join(mount, name).encode()
            libc.name_to_handle_at(-100, path, ctypes.byref(it), ctypes.byref(ctypes.c_int()), 0) and fail(name)
            out.write(bytes(it))
else:
    directory = os.open(mount, os.O_RDONLY)
    with open(saved, "rb") as handles:
        for name in names:
            it = Handle.from_buffer_copy(handles.read(ctypes.sizeof(Handle)))
            fd = libc.open_by_handle_at(directory, ctypes.byref(it), os.O_RDONLY)
            fd < 0 and fail(name)
            folder = os.path.isdir(f"/proc/self/fd/{fd}")
            print(name, "directory" if folder else os.read(fd, 9))
            assert os.fstat(fd).st_ino == os.stat(os.path.join(mount, name)).st_ino, name
"#;
    const NAMES: [&str; 4] = ["a", "a/b/file", "sub", "sub/file"];
    let image = Image::mkfs_btrfs(256, &[]);
    let kernel = LoopMount::read_write(image.path());
    let mut create = Command::new("btrfs");
    run(create
        .args(["subvolume", "create"])
        .arg(kernel.path().join("sub")));
    kernel.unmount();
    let saved = tempfile::NamedTempFile::new().unwrap();
    let handles = |what: &str, mount: &BtrfuseMount| {
        let mut python = Command::new("python3");
        python.args(["-c", SCRIPT, what]).arg(mount.path());
        run(python.arg(saved.path()).args(NAMES)).stdout
    };
    let mount = BtrfuseMount::read_write(image.path());
    fs::create_dir_all(mount.path().join("a/b")).unwrap();
    fs::write(mount.path().join("a/b/file"), "contents").unwrap();
    fs::write(mount.path().join("sub/file"), "others").unwrap();
    handles("take", &mount);
    mount.unmount();
    let mount = BtrfuseMount::read_write(image.path());
    let said = handles("open", &mount);
    assert!(said.contains("a/b/file b'contents'"), "{said}");
    assert!(said.contains("sub/file b'others'"), "{said}");
    mount.unmount();
}
