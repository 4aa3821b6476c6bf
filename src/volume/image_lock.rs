//! Two mounts of one image exclude each other.
//!
//! Owns: an advisory lock on the image for as long as it is in use: exclusive for writers,
//! shared for readers. Each lock is taken twice, as `flock` (what mkfs, udev and losetup
//! respect) and as an open-file-description lock (what virtual machines respect; it survives
//! our fork and covers byte ranges). A loop device is seen through: the same range of its
//! backing file is locked, so the file and its loop devices exclude each other too.
//!
//! Never: waits for longer than a moment. Invariant: the locks live as long as the
//! [`ImageLock`]; the kernel drops them when the process dies.

use super::sysfs;
use crate::{Error, Result};
use rustix::fs::FlockOperation;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// udev probes a block device under a shared lock for a moment after each close.
const PATIENCE: Duration = Duration::from_millis(500);

/// The locks on one image; dropping it gives them back.
#[derive(Debug)]
pub struct ImageLock {
    /// Descriptors that carry the locks: of the image itself, and of what is below it.
    files: Vec<File>,
}

impl ImageLock {
    /// Locks the image that is open as `file`.
    pub fn take(file: &File, path: &Path, shared: bool) -> Result<Self> {
        let failed = |error| Error::device(format!("lock {}", path.display()), error);
        let metadata = file.metadata().map_err(failed)?;
        // A duplicate shares the open file description, and so the locks, with the original.
        let mut files = vec![file.try_clone().map_err(failed)?];
        lock_file(&files[0], path, None, shared)?;
        if metadata.file_type().is_block_device() {
            for below in sysfs::backing_files(metadata.rdev()) {
                match open_backing(&below.path, shared) {
                    Ok(backing) => {
                        lock_file(&backing, &below.path, below.range, shared)?;
                        files.push(backing);
                    }
                    // Another mount namespace's path, or deleted since: the lock on the loop
                    // device itself is all that can be had.
                    Err(error) => log::warn!(
                        "{}: its backing file {} can't be locked: {error}",
                        path.display(),
                        below.path.display()
                    ),
                }
            }
            if let Some(user) = sysfs::kernel_mount(metadata.rdev())
                && (!shared || user.writable)
            {
                return Err(kernel_has_it(path, path, &user));
            }
        } else {
            refuse_looped(path, &metadata, shared)?;
        }
        Ok(Self { files })
    }

    /// Gives the locks back before the files are closed.
    pub fn release(&self) {
        for file in &self.files {
            let _ = set_range(file, 0..0, libc::F_UNLCK);
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
        }
    }
}

/// A backing file is locked for writing only if it can be opened so.
fn open_backing(path: &Path, shared: bool) -> io::Result<File> {
    File::options().read(true).write(!shared).open(path)
}

/// An image file that is attached to a loop device has a second page cache and possibly a
/// kernel mount.
fn refuse_looped(path: &Path, image: &std::fs::Metadata, shared: bool) -> Result<()> {
    for attached in sysfs::loops_over(image.dev(), image.ino()) {
        let mounted = sysfs::kernel_mount(attached.rdev);
        if let Some(user) = mounted
            && (!shared || user.writable)
        {
            return Err(kernel_has_it(path, &attached.path, &user));
        }
        if !shared && !attached.read_only {
            return Err(Error::Busy(format!(
                "{} is attached to {}: detach it (losetup -d {}) or mount {} instead",
                path.display(),
                attached.path.display(),
                attached.path.display(),
                attached.path.display()
            )));
        }
    }
    Ok(())
}

fn kernel_has_it(path: &Path, device: &Path, user: &sysfs::KernelMount) -> Error {
    let through = if path == device {
        String::new()
    } else {
        format!(" through {}", device.display())
    };
    Error::Busy(match &user.mount_point {
        Some(dir) => format!(
            "{} is mounted by the kernel{through} on {}: umount {} first",
            path.display(),
            dir.display(),
            dir.display()
        ),
        None => format!(
            "{} is in use by the kernel's btrfs{through}: unmount it first (perhaps in another \
             mount namespace)",
            path.display()
        ),
    })
}

/// The words for a block device that refuses an exclusive open.
pub(super) fn busy_block_device(path: &Path) -> Error {
    let user = std::fs::metadata(path)
        .ok()
        .and_then(|meta| sysfs::kernel_mount(meta.rdev()));
    match user {
        Some(user) => kernel_has_it(path, path, &user),
        None => Error::Busy(format!(
            "{} is held by the kernel (a mounted filesystem, device-mapper, md or swap): `lsblk \
             {}` and `findmnt` show by what; release it first",
            path.display(),
            path.display()
        )),
    }
}

/// Both locks on one file. `range` narrows them to the bytes that a partition or a loop device
/// with an offset shows; then the flock, which knows no ranges, is left out.
fn lock_file(file: &File, path: &Path, range: Option<Range<u64>>, shared: bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let taken = match range {
            None => flock(file, shared).and_then(|()| lock_range(file, 0..0, shared)),
            Some(ref range) => lock_range(file, range.clone(), shared),
        };
        match taken {
            Ok(()) => return Ok(()),
            Err(error) if would_block(&error) && Instant::now() < until => {
                crate::sync::thread::sleep(Duration::from_millis(20));
            }
            Err(error) if would_block(&error) => return Err(in_use(file, path)),
            // Some network filesystems have no locks at all; refusing would help nobody.
            Err(error) if error.raw_os_error() == Some(libc::ENOLCK) => {
                log::warn!("{} can't be locked here: {error}", path.display());
                return Ok(());
            }
            Err(error) => return Err(Error::device(format!("lock {}", path.display()), error)),
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES))
}

fn in_use(file: &File, path: &Path) -> Error {
    let holders = file
        .metadata()
        .map(|meta| sysfs::lock_holders(meta.dev(), meta.ino()));
    let holder = match holders.unwrap_or_default().first() {
        Some(&pid) => format!(" ({})", sysfs::process(pid)),
        None => String::new(),
    };
    Error::Busy(format!(
        "{} is in use by another process{holder}: unmount it there first (btrfuse umount DIR)",
        path.display()
    ))
}

/// The processes that hold a lock on the image at `path`, as far as this one can see them.
pub fn lock_holders(path: &Path) -> Vec<u32> {
    std::fs::metadata(path)
        .map(|meta| sysfs::lock_holders(meta.dev(), meta.ino()))
        .unwrap_or_default()
}

fn flock(file: &File, shared: bool) -> io::Result<()> {
    let operation = match shared {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    Ok(rustix::fs::flock(file, operation)?)
}

/// An open-file-description lock on `range`; `0..0` is the whole file, however it grows.
fn lock_range(file: &File, range: Range<u64>, shared: bool) -> io::Result<()> {
    set_range(
        file,
        range,
        if shared { libc::F_RDLCK } else { libc::F_WRLCK },
    )
}

fn set_range(file: &File, range: Range<u64>, kind: libc::c_int) -> io::Result<()> {
    let position = |value: u64| libc::off_t::try_from(value).unwrap_or(libc::off_t::MAX);
    let request = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: position(range.start),
        l_len: position(range.end.saturating_sub(range.start)),
        // Must be zero for this kind of lock.
        l_pid: 0,
    };
    // SAFETY: F_OFD_SETLK only reads the structure behind the pointer, which is valid for the
    // whole call, and the descriptor is open as long as `file` is borrowed.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &request) };
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FileDevice;
    use super::*;

    #[test]
    fn writers_exclude_everyone_and_readers_only_writers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let writer = FileDevice::create(&path, 4096).unwrap();
        for read_only in [false, true] {
            let error = FileDevice::open(&path, read_only).unwrap_err();
            assert!(matches!(error, Error::Busy(_)), "{error}");
            assert!(
                error.to_string().contains("in use by another process"),
                "{error}"
            );
        }
        drop(writer);
        let reader = FileDevice::open(&path, true).unwrap();
        let second = FileDevice::open(&path, true).unwrap();
        assert!(matches!(
            FileDevice::open(&path, false),
            Err(Error::Busy(_))
        ));
        drop((reader, second));
        FileDevice::open(&path, false).unwrap();
    }

    #[test]
    fn ranges_of_one_file_exclude_only_what_they_overlap() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let [first, second, third] = [(); 3].map(|()| {
            File::options()
                .read(true)
                .write(true)
                .open(file.path())
                .unwrap()
        });
        lock_range(&first, 0..100, false).unwrap();
        lock_range(&second, 100..200, false).unwrap();
        assert!(would_block(
            &lock_range(&third, 199..300, false).unwrap_err()
        ));
        assert!(would_block(&lock_range(&third, 0..0, true).unwrap_err()));
        lock_range(&third, 200..300, false).unwrap();
    }

    /// Gone with the value.
    struct Loop(String);

    impl Loop {
        fn over(image: &Path, options: &[&str]) -> Self {
            let mut losetup = std::process::Command::new("losetup");
            let made = losetup
                .args(["--find", "--show"])
                .args(options)
                .arg(image)
                .output()
                .expect("losetup is installed");
            assert!(made.status.success(), "losetup needs root: {made:?}");
            let name = String::from_utf8(made.stdout).expect("a path");
            Self(name.trim().to_owned())
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = std::process::Command::new("losetup")
                .args(["-d", &self.0])
                .status();
        }
    }

    #[test]
    fn a_loop_device_and_its_file_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        drop(FileDevice::create(&path, 1 << 20).unwrap());
        let attached = Loop::over(&path, &[]);
        let error = FileDevice::open(&path, false).unwrap_err();
        assert!(error.to_string().contains(&attached.0), "{error}");
        let through = FileDevice::open(&attached.0, false).unwrap();
        assert!(matches!(FileDevice::open(&path, true), Err(Error::Busy(_))));
        drop(through);
        let reader = FileDevice::open(&path, true).unwrap();
        assert!(matches!(
            FileDevice::open(&attached.0, false),
            Err(Error::Busy(_))
        ));
        drop(reader);
        FileDevice::open(&attached.0, false).unwrap();
    }

    #[test]
    fn two_loop_devices_over_halves_of_one_file_are_used_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        drop(FileDevice::create(&path, 2 << 20).unwrap());
        let limit = ["--sizelimit", "1048576"];
        let first = Loop::over(&path, &limit);
        let second = Loop::over(&path, &["--offset", "1048576"]);
        let both = Loop::over(&path, &[]);
        let _first = FileDevice::open(&first.0, false).unwrap();
        let _second = FileDevice::open(&second.0, false).unwrap();
        assert!(matches!(
            FileDevice::open(&both.0, false),
            Err(Error::Busy(_))
        ));
    }
}
