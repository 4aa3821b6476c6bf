//! The kernel's own btrfs on an image: loop devices, a mount point, and the kernel's log.
//!
//! Invariant: when a `LoopMount` is gone, the filesystem is unmounted and forgotten by the
//! kernel and its loop devices are detached, also after a panic. Two mounts of one filesystem id
//! wait for each other, in every test process of the machine: the kernel would take the second
//! for another device of the first.

use crate::command::run;
use crate::image::fsid_of;
use crate::{KernelLog, need_root};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// A mounted image; see the module.
pub struct LoopMount {
    directory: tempfile::TempDir,
    devices: Vec<PathBuf>,
    fsid: String,
    log: KernelLog,
    mounted: bool,
    attached: bool,
    judged: bool,
    _alone: OwnedFd,
}

impl LoopMount {
    /// Mounts read-write.
    #[track_caller]
    pub fn read_write(image: &Path) -> Self {
        Self::new(&[image], "subvolid=5")
    }

    /// Mounts read-only.
    #[track_caller]
    pub fn read_only(image: &Path) -> Self {
        Self::new(&[image], "ro,subvolid=5")
    }

    /// Mounts with options as `mount -o` takes them (`noatime` if they say nothing of that), from
    /// one or several devices.
    #[track_caller]
    pub fn new(images: &[&Path], options: &str) -> Self {
        Self::try_new(images, options).unwrap_or_else(|error| {
            panic!(
                "the kernel refuses {} with {options}: {error}",
                images[0].display()
            )
        })
    }

    /// As [`LoopMount::new`]; a refusal of the kernel comes back as an error.
    pub fn try_new(images: &[&Path], options: &str) -> rustix::io::Result<Self> {
        need_root();
        let fsid = fsid_of(images[0]);
        let alone = wait_for(&fsid);
        let log = KernelLog::from_now();
        let directory = tempfile::Builder::new()
            .prefix("btrfuse-kernel-")
            .tempdir_in("/var/tmp")
            .expect("a mount point under /var/tmp");
        let mut mount_of = Self {
            directory,
            devices: Vec::new(),
            fsid,
            log,
            mounted: false,
            attached: true,
            judged: false,
            _alone: alone,
        };
        for image in images {
            mount_of.devices.push(attach(image));
        }
        let mut flags = MountFlags::NOATIME;
        let mut data = Vec::new();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => flags |= MountFlags::RDONLY,
                "noatime" => {}
                "relatime" => flags ^= MountFlags::NOATIME | MountFlags::RELATIME,
                "strictatime" => flags ^= MountFlags::NOATIME | MountFlags::STRICTATIME,
                _ => data.push(option.to_owned()),
            }
        }
        // The others are named, so that no scan of the whole machine is needed.
        for device in &mount_of.devices[1..] {
            data.push(format!("device={}", device.display()));
        }
        let data = CString::new(data.join(",")).expect("options have no NUL");
        let result = mount(
            &mount_of.devices[0],
            mount_of.directory.path(),
            "btrfs",
            flags,
            data.as_c_str(),
        );
        match result {
            Ok(()) => {
                mount_of.mounted = true;
                Ok(mount_of)
            }
            Err(error) => {
                mount_of.judged = true;
                Err(error)
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What the kernel said against it so far.
    pub fn complaints(&self) -> Vec<String> {
        self.log.complaints(&self.device_names())
    }

    /// Unmounts, and demands that the kernel logged nothing against it.
    #[track_caller]
    pub fn unmount(mut self) {
        self.take_down().unwrap_or_else(|error| panic!("{error}"));
        self.judged = true;
        self.log.assert_silent(&self.device_names());
    }

    /// Unmounts an image that is damaged on purpose, and returns what the kernel said.
    #[track_caller]
    pub fn unmount_damaged(mut self) -> Vec<String> {
        self.take_down().unwrap_or_else(|error| panic!("{error}"));
        self.judged = true;
        self.complaints()
    }

    fn device_names(&self) -> Vec<String> {
        self.devices
            .iter()
            .map(|device| {
                device
                    .file_name()
                    .expect("a node in /dev")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    fn take_down(&mut self) -> Result<(), String> {
        if self.mounted {
            retry(|| unmount(self.directory.path(), UnmountFlags::empty()))
                .map_err(|error| format!("umount {}: {error}", self.path().display()))?;
            self.mounted = false;
            // Somebody's copy of our mount namespace would keep it alive and committing.
            let alive = Path::new("/sys/fs/btrfs").join(&self.fsid);
            let deadline = Instant::now() + Duration::from_secs(20);
            while alive.exists() {
                if Instant::now() > deadline {
                    return Err(format!("the kernel still holds {} after umount", self.fsid));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        for device in &self.devices {
            // Says EBUSY or ENOENT when nothing was registered, as for a refused mount.
            let _ = Command::new("btrfs")
                .args(["device", "scan", "--forget"])
                .arg(device)
                .output()
                .map_err(|error| format!("btrfs can't be started: {error}"))?;
        }
        self.attached = false;
        for device in &self.devices {
            detach(device);
        }
        Ok(())
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        if self.mounted {
            if let Err(error) = self.take_down() {
                let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
                eprintln!("left behind: {error}");
            }
        } else if self.attached {
            // A device that is no longer ours may be another test's by now: never twice.
            for device in &self.devices {
                let _ = Command::new("losetup").arg("-d").arg(device).output();
            }
        }
        if !self.judged && !std::thread::panicking() {
            self.log.assert_silent(&self.device_names());
        }
    }
}

/// One lock a filesystem id, for all test processes of the machine: a byte of one file.
fn wait_for(fsid: &str) -> OwnedFd {
    let path = Path::new("/var/tmp/btrfuse-test-fsids.lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let byte = u64::from_str_radix(&fsid.replace('-', "")[..15], 16).expect("a filesystem id");
    // SAFETY: `flock` is plain old data, for which zero is a valid value of every field.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_start = byte.cast_signed();
    lock.l_len = 1;
    // SAFETY: the descriptor is open, and `lock` outlives the call. The lock belongs to the open
    // file, so it ends when the descriptor is dropped.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw mut lock) };
    assert!(
        result == 0,
        "waiting for {fsid}: {}",
        std::io::Error::last_os_error()
    );
    file
}

/// `losetup -f`: somebody else may take the free device between look and use, so try again.
fn attach(image: &Path) -> PathBuf {
    let mut last = String::new();
    for _ in 0..50 {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image)
            .output()
            .expect("losetup can't be started");
        if output.status.success() {
            return PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        }
        last = String::from_utf8_lossy(&output.stderr).into_owned();
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("no loop device for {}: {last}", image.display());
}

/// Somebody who scans all devices at this moment may have this one open: then the kernel detaches it
/// when they are through, and until then the image is in use.
#[track_caller]
fn detach(device: &Path) {
    let name = device.file_name().expect("a device's path");
    let place = Path::new("/sys/block").join(name).join("loop/backing_file");
    let before = std::fs::read_to_string(&place);
    run(Command::new("losetup").arg("-d").arg(device));
    let deadline = Instant::now() + Duration::from_secs(10);
    while let (Ok(before), Ok(now)) = (&before, std::fs::read_to_string(&place))
        && *before == now
    {
        assert!(
            Instant::now() < deadline,
            "{} is still attached to {}",
            device.display(),
            now.trim()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A busy mount is often only busy for a moment (a walk's last descriptor, a scanner).
pub(crate) fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match call() {
            Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}
