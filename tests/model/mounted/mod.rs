//! The subject on a mount, ours or the kernel's: steps are system calls.

mod attributes;
mod content;
mod names;

use crate::step::{SLOTS, Step, path_bytes, slot_of};
use crate::subject::{AROUND, Answer, BESIDE, Subject};
use btrfuse_test_support::{BtrfuseMount, LoopMount, Manifest, walk};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde_json::Value;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Either mount of an image.
pub enum Mount {
    /// Ours.
    Ours(BtrfuseMount),
    /// The kernel's.
    Kernels(LoopMount),
}

impl Mount {
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        match self {
            Self::Ours(mount) => mount.path(),
            Self::Kernels(mount) => mount.path(),
        }
    }

    /// Unmounts, and demands that the daemon or the kernel had nothing to say.
    pub fn unmount(self) {
        match self {
            Self::Ours(mount) => mount.unmount(),
            Self::Kernels(mount) => mount.unmount(),
        }
    }
}

/// See the module.
pub struct Mounted {
    image: PathBuf,
    ours: bool,
    mount: Option<Mount>,
    case: String,
    folder: Option<OwnedFd>,
    slots: [Option<OwnedFd>; SLOTS],
}

/// What a step works on: a file opened for it, or a slot's.
enum Opened<'a> {
    Own(OwnedFd),
    Slot(BorrowedFd<'a>),
}

impl AsFd for Opened<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(file) => file.as_fd(),
            Self::Slot(file) => *file,
        }
    }
}

impl Mounted {
    /// Mounts an image by our daemon or by the kernel.
    pub fn new(image: &Path, ours: bool) -> Self {
        let mut subject = Self {
            image: image.to_owned(),
            ours,
            mount: None,
            case: String::new(),
            folder: None,
            slots: Default::default(),
        };
        subject.mount();
        subject.make_beside();
        subject
    }

    fn make_beside(&self) {
        const BTRFS_IOC_SUBVOL_CREATE: libc::c_ulong = 0x5000_940e;
        rustix::process::umask(Mode::empty());
        let top = std::fs::File::open(self.path()).expect("a mount point");
        // struct btrfs_ioctl_vol_args: fd, name[4088].
        let mut arguments = [0_u8; 4096];
        arguments[8..8 + BESIDE[0].len()].copy_from_slice(BESIDE[0].as_bytes());
        let fd = top.as_raw_fd();
        // SAFETY: the descriptor is open, and the buffer has the 4096 bytes of the command's own number.
        let result = unsafe { libc::ioctl(fd, BTRFS_IOC_SUBVOL_CREATE, arguments.as_mut_ptr()) };
        answer(result.into()).expect("a subvolume");
        let path = self.path().join(BESIDE.join("/"));
        std::fs::write(&path, "").expect("a file");
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o644)).expect("a file of our own");
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.mount.as_ref().expect("mounted").path()
    }

    fn mount(&mut self) {
        let options = "subvolid=5,noatime";
        self.mount = Some(if self.ours {
            Mount::Ours(BtrfuseMount::new(&self.image, options))
        } else {
            Mount::Kernels(LoopMount::new(&[&self.image], options))
        });
    }

    fn take_down(&mut self) {
        self.end();
        self.mount.take().expect("mounted").unmount();
    }

    fn enter(&mut self) {
        let path = self.path().join(&self.case).join(AROUND.join("/"));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.folder = Some(rustix::fs::open(path, flags, Mode::empty()).expect("a case's folder"));
    }

    fn at(&self, words: &str) -> PathBuf {
        let path = path_bytes(words);
        if path.is_empty() {
            return PathBuf::new();
        }
        let folder = self.folder.as_ref().expect("a case").as_raw_fd();
        let mut whole = OsString::from(format!("/proc/self/fd/{folder}/"));
        whole.push(OsString::from_vec(path));
        whole.into()
    }

    fn slot(&self, slot: usize) -> Result<BorrowedFd<'_>, Errno> {
        let file = self.slots.get(slot).and_then(Option::as_ref);
        file.map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn opened(&self, target: &str, flags: OFlags) -> Result<Opened<'_>, Errno> {
        match slot_of(target) {
            Some(slot) => self.slot(slot).map(Opened::Slot),
            None => {
                let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
                rustix::fs::open(self.at(target), flags, Mode::empty()).map(Opened::Own)
            }
        }
    }
}

impl Subject for Mounted {
    fn name(&self) -> &'static str {
        if self.ours { "our mount" } else { "the kernel" }
    }

    fn begin(&mut self, case: &str) {
        self.case = case.into();
        let mut path = self.path().join(case);
        for name in [&[""][..], &AROUND].concat() {
            path.push(name);
            rustix::fs::mkdir(&path, Mode::from_raw_mode(0o755)).expect("a case's folder");
        }
        self.enter();
    }

    fn step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Sync => {
                const BTRFS_IOC_SYNC: libc::c_ulong = 0x9408;
                let folder = self.folder.as_ref().expect("a case").as_raw_fd();
                // SAFETY: the descriptor is open, and this command has no argument.
                let result = unsafe { libc::ioctl(folder, BTRFS_IOC_SYNC) };
                answer(result.into())
            }
            Step::Remount => {
                self.take_down();
                self.mount();
                self.enter();
                Ok(Value::Null)
            }
            Step::Write { .. }
            | Step::Append { .. }
            | Step::Read { .. }
            | Step::Mapped { .. }
            | Step::Truncate { .. }
            | Step::Fallocate { .. }
            | Step::SeekData { .. }
            | Step::SeekHole { .. }
            | Step::Copy { .. }
            | Step::Fsync { .. }
            | Step::Tmpfile { .. } => self.data_step(step),
            Step::Chmod { .. }
            | Step::Chown { .. }
            | Step::SetTimes { .. }
            | Step::SetXattr { .. }
            | Step::GetXattr { .. }
            | Step::ListXattr { .. }
            | Step::RemoveXattr { .. }
            | Step::Stat { .. }
            | Step::Statfs { .. } => self.attribute_step(step),
            _ => self.name_step(step),
        }
    }

    fn end(&mut self) {
        self.slots = Default::default();
        self.folder = None;
    }

    fn walk(&mut self) -> Manifest {
        self.enter();
        walk(&self.path().join(&self.case))
    }

    fn peek(&mut self, on: &str, offset: u64, len: usize) -> Vec<u8> {
        let path = match slot_of(on) {
            Some(slot) => format!(
                "/proc/self/fd/{}",
                self.slot(slot).expect("open").as_raw_fd()
            )
            .into(),
            None => self.at(on),
        };
        let file = std::fs::File::open(path).expect("a file of before");
        let mut bytes = vec![0; len];
        let len = rustix::io::pread(&file, &mut bytes, offset).expect("readable");
        bytes.truncate(len);
        bytes
    }

    fn finish(mut self: Box<Self>) {
        self.take_down();
    }
}

fn done(result: Result<(), Errno>) -> Answer {
    result.map(|()| Value::Null)
}

/// What libc said, where rustix has no word for the call.
fn answer(result: i64) -> Answer {
    if result < 0 {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).expect("an errno"))
    } else {
        Ok(Value::Null)
    }
}
