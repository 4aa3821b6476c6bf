//! The same on real mounts: our daemon, and beside it the kernel's btrfs through a loop device, on a disk
//! that fails. What programs are told is compared.

use btrfuse_test_support::fault_plan::Call::{self, Flush, Read, Write};
use btrfuse_test_support::fault_plan::Fault::{self, Fails};
use btrfuse_test_support::fault_plan::Lasting::{ForGood, Once};
use btrfuse_test_support::ring::{Ring, Task};
use btrfuse_test_support::script::bytes;
use btrfuse_test_support::{
    BadDisk, BtrfuseMount, FaultPlan, Image, LoopMount, btrfs_check, btrfuse_binary, run,
};
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// Either mount of a bad disk.
enum Mount {
    Ours(BtrfuseMount),
    Kernels(LoopMount),
}

impl Mount {
    fn path(&self) -> &Path {
        match self {
            Self::Ours(mount) => mount.path(),
            Self::Kernels(mount) => mount.path(),
        }
    }

    /// Everything is durable, or it is told why not.
    fn sync(&self) -> Result<(), i32> {
        match self {
            Self::Ours(mount) => {
                let done = Command::new(btrfuse_binary())
                    .arg("sync")
                    .arg(mount.path())
                    .output();
                match done.expect("btrfuse can be started").status.success() {
                    true => Ok(()),
                    false => Err(libc::EIO),
                }
            }
            Self::Kernels(mount) => {
                let dir = File::open(mount.path()).expect("a mount point");
                rustix::fs::syncfs(&dir).map_err(rustix::io::Errno::raw_os_error)
            }
        }
    }

    /// What is said against the disk, is expected.
    fn end(self) {
        match self {
            Self::Ours(mount) => drop(mount.end()),
            Self::Kernels(mount) => drop(mount.unmount_damaged()),
        }
    }
}

/// Has a story told by both, each on a disk of its own: our answers and the kernel's.
fn told_by_both(options: &[&str], story: fn(&Mount, &BadDisk) -> Vec<String>) -> [Vec<String>; 2] {
    [true, false].map(|ours| {
        let image = Image::mkfs_btrfs(256, options);
        let disk = BadDisk::over(image.path());
        let options = "subvolid=5,commit=300";
        let mount = match ours {
            true => Mount::Ours(BtrfuseMount::new(&disk.image(), options)),
            false => Mount::Kernels(LoopMount::new(&[&disk.image()], options)),
        };
        let answers = story(&mount, &disk);
        mount.end();
        disk.heal();
        answers
    })
}

/// As [`told_by_both`]; the answers must be the same.
#[track_caller]
fn as_the_kernel(options: &[&str], story: fn(&Mount, &BadDisk) -> Vec<String>) -> Vec<String> {
    let [ours, kernels] = told_by_both(options, story);
    assert_eq!(ours, kernels, "ours and the kernel's");
    ours
}

fn answer(result: std::io::Result<()>) -> String {
    match result {
        Ok(()) => "0".into(),
        Err(error) => match error.raw_os_error() {
            Some(libc::EIO) => "EIO".into(),
            Some(libc::EROFS) => "EROFS".into(),
            _ => error.to_string(),
        },
    }
}

fn open(mount: &Mount, name: &str) -> File {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(mount.path().join(name))
        .expect("a file")
}

/// A durable file of 64 KiB, through two descriptors.
fn opened_twice(mount: &Mount) -> [File; 2] {
    let [one, two] = ["f"; 2].map(|name| open(mount, name));
    one.write_all_at(&bytes(1, 65_536), 0).expect("room");
    one.sync_all().expect("nothing fails yet");
    mount.sync().expect("nothing fails yet");
    [one, two]
}

/// R19: each descriptor that was open hears of lost content from its next fsync, once. (The kernel's btrfs
/// tells the one that found out twice.)
#[test]
fn each_descriptor_hears_of_lost_content_once() {
    let [told, kernels] = told_by_both(&[], |mount, disk| {
        let [one, two] = opened_twice(mount);
        one.write_all_at(&bytes(2, 65_536), 0).expect("memory");
        disk.plan(FaultPlan::at(Fails(Write, Once), 1));
        let mut told: Vec<String> = [&one, &one, &two, &two]
            .map(|file| answer(file.sync_all()))
            .into();
        assert_eq!(disk.fired(), 1);
        // Who comes later has nothing to hear.
        told.push(answer(open(mount, "f").sync_all()));
        one.write_all_at(&bytes(3, 65_536), 0).expect("memory");
        told.extend([&one, &two].map(|file| answer(file.sync_data())));
        told
    });
    assert_eq!(told, ["EIO", "0", "EIO", "0", "0", "0", "0"]);
    assert_eq!([&kernels[0], &kernels[2]], ["EIO"; 2]);
    assert_eq!(kernels[3..], told[3..]);
}

/// The same when nobody waits for the write: a commit of everything finds out.
#[test]
fn content_that_is_lost_behind_a_programs_back_is_told_by_fsync() {
    let told = as_the_kernel(&[], |mount, disk| {
        let [one, two] = opened_twice(mount);
        one.write_all_at(&bytes(2, 65_536), 0).expect("memory");
        disk.plan(FaultPlan::at(Fails(Write, Once), 1));
        // Ours says so here, too.
        let _whatever = mount.sync();
        assert_eq!(disk.fired(), 1);
        [&two, &one, &two, &one]
            .map(|file| answer(file.sync_all()))
            .into()
    });
    assert_eq!(told, ["EIO", "EIO", "0", "0"]);
}

/// A write that has to be durable when it returns says itself that it isn't.
#[test]
fn a_synchronous_write_answers_for_itself() {
    let told = as_the_kernel(&[], |mount, disk| {
        let [plain, other] = opened_twice(mount);
        let synchronous: File = rustix::fs::open(
            mount.path().join("f"),
            rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::DSYNC,
            rustix::fs::Mode::empty(),
        )
        .expect("a file")
        .into();
        disk.plan(FaultPlan::at(Fails(Write, Once), 1));
        let mut told = vec![answer(synchronous.write_all_at(&bytes(2, 65_536), 0))];
        told.push(answer(synchronous.write_all_at(&bytes(3, 65_536), 0)));
        told.push(answer(plain.sync_all()));
        told.push(answer(plain.sync_all()));
        disk.plan(FaultPlan::at(Fails(Write, Once), 1));
        let data = bytes(4, 65_536);
        let written =
            rustix::io::pwritev2(&plain, &[IoSlice::new(&data)], 0, ReadWriteFlags::DSYNC);
        told.push(answer(written.map(drop).map_err(Into::into)));
        told.push(answer(synchronous.write_all_at(&bytes(5, 65_536), 0)));
        told.push(answer(other.sync_all()));
        told.push(answer(other.sync_all()));
        told
    });
    assert_eq!(told[..5], ["EIO", "0", "EIO", "0", "EIO"]);
    assert_eq!(told[6..], ["EIO", "0"]);
}

/// Who asks through io_uring is told what a descriptor's own system calls are: lost content once, and what
/// was written and made durable since is good.
#[test]
fn a_ring_hears_of_lost_content() {
    let told = as_the_kernel(&[], |mount, disk| {
        let [one, two] = opened_twice(mount);
        let mut ring = Ring::new(1);
        let mut write = |seed: u64, file: &File| {
            let bytes = bytes(seed, 65_536);
            let told = ring.run(&[Task {
                file: file.as_fd(),
                offset: 0,
                bytes: &bytes,
                data_only: false,
            }]);
            assert_eq!(told[0].written, Ok(65_536));
            answer(told[0].durable.map_err(Into::into))
        };
        let mut told = vec![write(2, &one)];
        disk.plan(FaultPlan::at(Fails(Write, Once), 1));
        told.push(write(3, &one));
        assert_eq!(disk.fired(), 1);
        told.push(answer(two.sync_all()));
        told.push(answer(two.sync_all()));
        told.push(write(4, &two));
        told
    });
    assert_eq!(told, ["0", "EIO", "EIO", "0", "0"]);
}

/// Where the bytes lie in the image, if they lie in one piece.
fn find(image: &Path, needle: &[u8]) -> u64 {
    let file = File::open(image).expect("an image");
    let mut block = vec![0; 4096];
    let size = file.metadata().expect("an image").len();
    let at = (0..size).step_by(4096).find(|&at| {
        file.read_exact_at(&mut block, at).expect("inside");
        block == needle[..4096]
    });
    at.expect("the content is on the disk")
}

/// A sector that can't be read is an error there, and nowhere else; writing it again makes it good.
#[test]
fn a_bad_sector_is_told_and_nothing_else() {
    let told = as_the_kernel(&["-d", "single"], |mount, disk| {
        let [one, _] = opened_twice(mount);
        let at = find(&disk.image(), &bytes(1, 65_536)[8192..]);
        disk.plan(FaultPlan::bad_place(at..at + 4096));
        if let Mount::Ours(_) = mount {
            drop(one);
        }
        let file = open(mount, "f");
        // Past the page cache.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
        let mut page = vec![0; 4096];
        let mut told: Vec<String> = [0, 2, 3]
            .map(|index| {
                let read = file.read_exact_at(&mut page, index * 4096);
                if read.is_ok() {
                    assert!(page == bytes(1, 65_536)[index as usize * 4096..][..4096]);
                }
                answer(read)
            })
            .into();
        file.write_all_at(&bytes(2, 4096), 8192).expect("memory");
        told.push(answer(file.sync_all()));
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
        told.push(answer(file.read_exact_at(&mut page, 8192)));
        assert!(page == bytes(2, 4096));
        told
    });
    assert_eq!(told, ["0", "EIO", "0", "0", "0"]);
}

/// After a commit that failed nothing is written any more, and everybody is told. (The kernel answers one
/// more operation with the error itself.)
#[test]
fn a_disk_that_fails_for_good_makes_the_mount_read_only() {
    let [told, kernels] = told_by_both(&[], |mount, disk| {
        let [_one, _two] = opened_twice(mount);
        std::fs::create_dir(mount.path().join("dir")).expect("memory");
        disk.plan(FaultPlan::at(Fails(Write, ForGood), 1));
        let mut told = vec![answer(
            mount.sync().map_err(std::io::Error::from_raw_os_error),
        )];
        told.push(answer(std::fs::create_dir(mount.path().join("more"))));
        told.push(answer(std::fs::rename(
            mount.path().join("f"),
            mount.path().join("g"),
        )));
        // What was there can still be read.
        told.push(answer(std::fs::read(mount.path().join("f")).map(drop)));
        told
    });
    assert_eq!(told, ["EIO", "EROFS", "EROFS", "0"]);
    assert_eq!(kernels[0], "EIO");
    assert_eq!(kernels[2..], told[2..]);
}

/// A disk may do a part and say so: that is no fault.
#[test]
fn a_disk_that_stutters_is_asked_again() {
    let image = Image::mkfs_btrfs(256, &[]);
    let disk = BadDisk::over(image.path());
    disk.stutter();
    let write = |mount: &BtrfuseMount| std::fs::write(mount.path().join("f"), bytes(7, 300_000));
    let mount = BtrfuseMount::read_write(&disk.image());
    write(&mount).unwrap();
    mount.unmount();
    let mount = BtrfuseMount::read_write(&disk.image());
    assert!(std::fs::read(mount.path().join("f")).unwrap() == bytes(7, 300_000));
    mount.unmount();
    drop(disk);
    btrfs_check(image.path());
}

/// What the daemon of one telling was asked for, and had promised.
struct Told {
    promised: Vec<(String, u64)>,
    read_only: bool,
    refused: bool,
}

/// Files are written anew beside themselves, as editors do, and the mount ends.
fn replace_files(disk: &BadDisk, call: Call, plan: FaultPlan) -> Told {
    let mut told = Told {
        promised: Vec::new(),
        read_only: false,
        refused: false,
    };
    // Reads are made while it is mounted; then memory has it all.
    if call == Read {
        disk.plan(plan.clone());
    }
    let mut mount = match BtrfuseMount::try_new(&disk.image(), "subvolid=5,commit=300") {
        Ok(mount) => mount,
        Err(why) => {
            assert!(
                disk.fired() > 0 && why.words.contains("Input/output error"),
                "{why}"
            );
            told.refused = true;
            return told;
        }
    };
    if call != Read {
        disk.plan(plan);
    }
    for round in 1..=3_u64 {
        for name in ["a", "b"] {
            let seed = round * 10 + u64::from(name == "b");
            let at = |name: &str| mount.path().join(name);
            let replaced = (|| {
                let file = File::create(at("new"))?;
                file.write_all_at(&bytes(seed, 50_000), 0)?;
                file.sync_all()?;
                std::fs::rename(at("new"), at(name))?;
                File::open(at(name))?.sync_all()
            })();
            match replaced {
                Ok(()) => told.promised.push((name.to_owned(), seed)),
                Err(error) => {
                    let errno = error.raw_os_error();
                    assert!(matches!(errno, Some(libc::EIO | libc::EROFS)), "{error}");
                }
            }
        }
    }
    let fired = disk.fired();
    let stats = run(Command::new(btrfuse_binary())
        .args(["stats", "--json"])
        .arg(mount.path()));
    let stats: serde_json::Value = serde_json::from_str(&stats.stdout).expect("JSON");
    told.read_only = !stats["read_only"].is_null();
    let aborts = |log: &str| log.matches(" aborted: ").count();
    assert_eq!(
        aborts(&mount.log()),
        usize::from(told.read_only),
        "{}",
        mount.log()
    );
    let device = &stats["devices"][0];
    let counted = ["read_errors", "write_errors", "flush_errors"]
        .map(|kind| device[kind].as_u64().expect("a number"));
    assert_eq!(counted.iter().sum::<u64>(), fired, "{device}");
    let (status, log) = mount.end();
    told.refused = !status.success();
    assert!(aborts(&log) <= 1, "{log}");
    assert!(
        status.success() || aborts(&log) == 1 || log.contains("is lost"),
        "{status}: {log}"
    );
    told
}

/// What a program was told is there, is there, or something newer; the image is sound.
fn keeps_promises(fault: Fault, nths: impl Iterator<Item = u64>) {
    let base = Image::mkfs_btrfs(256, &["-m", "single"]);
    let (mut read_only, mut tellings) = (0, 0);
    for nth in nths {
        let image = base.copy();
        let disk = BadDisk::over(image.path());
        let told = replace_files(&disk, fault.call(), FaultPlan::at(fault, nth));
        let fired = disk.fired();
        drop(disk);
        btrfs_check(image.path());
        let mount = BtrfuseMount::read_write(image.path());
        let mut last = std::collections::BTreeMap::new();
        last.extend(told.promised.iter().cloned());
        for (name, seed) in last {
            let found = std::fs::read(mount.path().join(&name)).expect("it was promised");
            let newer = (0..10).map(|step| seed + 10 * step);
            let mut newer = newer.filter(|seed| *seed < 40);
            assert!(
                newer.any(|seed| found == bytes(seed, 50_000)),
                "{fault:?} at {nth}: {name} is not what was promised"
            );
        }
        // Copies that differ are worth a warning.
        drop(mount.unmount_to_log());
        if fired == 0 {
            break;
        }
        tellings += 1;
        read_only += u64::from(told.read_only || told.refused);
    }
    eprintln!("{fault:?} on a mount: {tellings} tellings, {read_only} ended read-only");
    assert!(tellings > 0);
}

fn some(count: u64, every: u64) -> impl Iterator<Item = u64> {
    let every = if crate::campaign::is_exhaustive() {
        1
    } else {
        every
    };
    (1..count).step_by(every as usize)
}

#[test]
fn what_a_mount_has_promised_survives_a_write_that_fails() {
    keeps_promises(Fails(Write, Once), some(200, 9));
    keeps_promises(Fails(Write, ForGood), some(200, 17));
}

#[test]
fn what_a_mount_has_promised_survives_a_flush_that_fails() {
    keeps_promises(Fails(Flush, Once), some(100, 4));
}

#[test]
fn what_a_mount_has_promised_survives_reads_that_fail() {
    keeps_promises(Fails(Read, Once), some(100, 3));
}
