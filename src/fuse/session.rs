//! A mount from its start to its end: the kernel's side made, requests served, the end awaited.
//!
//! Three ways to mount. Root mounts with mount(2) itself: a block device as `fuseblk`, so that
//! the kernel claims the device for us, anything else as `fuse`. Everybody else goes through
//! fusermount3. fuser gets the connection, however it came about.

use super::adapter::Adapter;
use super::fusermount;
use super::hand_over::HandOver;
use super::mount_id::MountId;
use crate::sync::{Arc, thread};
use fuser::{Config, SessionACL};
use rustix::fs::{Access as FileAccess, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Who may use the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody, as permissions allow.
    Everybody,
    /// Only the user who mounts.
    Owner,
}

/// Whose requests fuser hands on, on every mount. The kernel lets nobody but the owner in where
/// `allow_other` isn't given, and sends others' requests all the same: for a descriptor that was
/// handed to them, and, as root, for times that it writes back. fuser would answer those with
/// `EACCES`.
const ANYBODY: SessionACL = SessionACL::All;

/// Where and how the mount appears.
#[derive(Clone, Debug)]
pub struct Point {
    /// The directory, absolute.
    pub dir: PathBuf,
    /// The image, absolute: what `mount` and `df` show as the source.
    pub image: PathBuf,
    /// The image is a block device.
    pub block_device: bool,
    /// Plain `fuse` even for a block device.
    pub plain_fuse: bool,
    /// Who may use it.
    pub access: Access,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// `nosuid`, `nodev` and the like.
    pub flags: MountFlags,
    /// How many threads answer requests.
    pub threads: usize,
}

/// A mounted session that has agreed with the kernel and is ready to serve.
pub struct Session {
    /// None if somebody unmounted before the kernel's first request: a mount as short as that
    /// is still one that came and went, and whoever took it out expects no complaint.
    fuser: Option<fuser::Session<Adapter>>,
    unmounter: Unmounter,
    hand_over: Arc<HandOver>,
}

/// Takes the mount out of the tree, from any thread; never a mount of somebody else's that is on
/// the same directory.
#[derive(Clone, Debug)]
pub struct Unmounter {
    dir: PathBuf,
    /// None if it was gone before anybody could look.
    mount: Option<MountId>,
    by_helper: bool,
}

impl Session {
    /// `major:minor` of the mount; `None` if it was gone at once.
    pub fn device(&self) -> Option<String> {
        Some(self.unmounter.mount?.device())
    }

    /// Mounts. On an error nothing stays mounted; the text is a sentence.
    pub fn mount(adapter: Adapter, point: &Point) -> Result<Self, String> {
        let below = MountId::top_at(&point.dir).ok();
        let mut direct = Err(Errno::PERM);
        if rustix::process::geteuid().is_root() {
            direct = mount_directly(point);
        }
        let (device, by_helper) = match direct {
            Ok(device) => (device, false),
            // A user, or root without CAP_SYS_ADMIN, as in some containers.
            Err(Errno::PERM) => (fusermount::mount(point)?, true),
            Err(why) => return Err(explain(why, point)),
        };
        let top = MountId::top_at(&point.dir).ok();
        let unmounter = Unmounter {
            dir: point.dir.clone(),
            mount: top.filter(|_| top != below),
            by_helper,
        };
        let (late, hand_over) = (adapter.late.clone(), adapter.hand_over.clone());
        let ioctls = adapter.ioctls.clone();
        match fuser::Session::from_fd(adapter, device, ANYBODY, config(point)) {
            Ok(fuser) => {
                late.start(fuser.notifier());
                ioctls.changes.start(fuser.notifier());
                hand_over.start(&fuser.notifier());
                if let Some(mount) = unmounter.mount.filter(|_| !by_helper) {
                    widen_readahead(&mount.device());
                }
                Ok(Self {
                    fuser: Some(fuser),
                    unmounter,
                    hand_over,
                })
            }
            Err(why) if is_gone(&why) => Ok(Self {
                fuser: None,
                unmounter,
                hand_over,
            }),
            Err(why) => {
                let _ = unmounter.detach();
                Err(format!(
                    "the kernel's FUSE didn't agree on a protocol: {why}"
                ))
            }
        }
    }

    /// What ends the session from another thread.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// What has the kernel hand over what programs wrote, from another thread.
    pub fn hand_over(&self) -> Arc<HandOver> {
        self.hand_over.clone()
    }

    /// Answers requests until the mount is gone. Everything that the adapter holds is dropped
    /// when this returns.
    pub fn serve(self) -> io::Result<()> {
        let Self {
            fuser, unmounter, ..
        } = self;
        let Some(fuser) = fuser else {
            log::info!("unmounted before its first request");
            return Ok(());
        };
        match fuser.run() {
            Err(why) if !is_gone(&why) => {
                // The loop broke with the mount still there: nobody must hang on it.
                let _ = unmounter.detach();
                Err(why)
            }
            _ => Ok(()),
        }
    }
}

/// Whether the kernel says that the connection ended, as it does after an unmount: with `ENODEV`
/// (`NotConnected` in fuser's words), or with `ECONNABORTED` to a thread that was just being
/// handed a request.
fn is_gone(why: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, NotConnected};
    matches!(why.kind(), NotConnected | ConnectionAborted)
}

impl Unmounter {
    /// Unmounts unless somebody uses the mount, or has mounted over it (`EBUSY`).
    pub fn unmount(&self) -> io::Result<()> {
        self.take_out(false)
    }

    /// Takes it out of the tree now; the session ends when the last user is gone. Mounts over it
    /// or in it are in the way (`EBUSY`): the kernel would take them out with ours.
    pub fn detach(&self) -> io::Result<()> {
        if self.mount.is_some_and(|mount| mount.carries_others()) {
            return Err(in_the_way("another mount is on it"));
        }
        self.take_out(true)
    }

    fn take_out(&self, lazy: bool) -> io::Result<()> {
        if !self.is_on_top() {
            return match self.mount.is_some_and(|mount| mount.is_in_tree()) {
                true => Err(in_the_way("another mount covers it")),
                // Somebody was faster; what is on the directory now is theirs.
                false => Ok(()),
            };
        }
        if self.by_helper {
            return fusermount::unmount(&self.dir, lazy);
        }
        let mut flags = UnmountFlags::NOFOLLOW;
        flags.set(UnmountFlags::DETACH, lazy);
        Ok(rustix::mount::unmount(self.dir.as_path(), flags)?)
    }

    /// Whether the directory leads to our mount.
    pub fn is_on_top(&self) -> bool {
        let top = MountId::top_at(&self.dir).ok();
        top.is_some() && top == self.mount
    }

    /// The mount point.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn in_the_way(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, what)
}

/// How many threads answer requests when nobody says: an fsync or a read from a slow disk
/// holds one, and the others must go on.
pub fn default_threads() -> usize {
    thread::available_parallelism().map_or(4, |cpus| (cpus.get() * 2).clamp(4, 16))
}

fn config(point: &Point) -> Config {
    let mut config = Config::default();
    config.n_threads = Some(point.threads);
    // A connection of its own for each thread needs the device, which users may lack.
    let device = rustix::fs::access("/dev/fuse", FileAccess::READ_OK | FileAccess::WRITE_OK);
    config.clone_fd = device.is_ok();
    config.acl = ANYBODY;
    config
}

/// The flags of the mount point, with what follows from the rest.
pub(in crate::fuse) fn flags_of(point: &Point) -> MountFlags {
    if point.read_only {
        point.flags | MountFlags::RDONLY
    } else {
        point.flags
    }
}

/// mount(2), as `fuseblk` if that fits, else as `fuse`. Returns the connection.
fn mount_directly(point: &Point) -> Result<OwnedFd, Errno> {
    if point.block_device && !point.plain_fuse {
        match mount_as("fuseblk.btrfuse", ",blksize=4096", point) {
            Ok(device) => return Ok(device),
            Err(Errno::PERM) => return Err(Errno::PERM),
            // Kernels without fuseblk, devices that somebody else has claimed for writing.
            Err(why) => log::info!("no fuseblk mount ({why}); mounting as fuse"),
        }
    }
    mount_as("fuse.btrfuse", "", point)
}

fn mount_as(kind: &str, more: &str, point: &Point) -> Result<OwnedFd, Errno> {
    let device = rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let other = match point.access {
        Access::Everybody => ",allow_other",
        Access::Owner => "",
    };
    let data = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions{other}{more}",
        device.as_raw_fd(),
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::INVAL);
    let source = text(point.image.as_os_str().as_bytes())?;
    let data = text(data.as_bytes())?;
    rustix::mount::mount(
        &source,
        &point.dir,
        kind,
        flags_of(point),
        Some(data.as_c_str()),
    )?;
    Ok(device)
}

fn explain(why: Errno, point: &Point) -> String {
    let dir = point.dir.display();
    match why {
        Errno::NOENT => "there is no /dev/fuse here; load it with `modprobe fuse`".to_owned(),
        Errno::NODEV => "this kernel has no FUSE; load it with `modprobe fuse`".to_owned(),
        Errno::BUSY => format!("{dir} is in use as a mount point by somebody else"),
        _ => format!("can't mount on {dir}: {why}"),
    }
}

/// The kernel starts a FUSE mount with 128 KiB of readahead; root may ask for more. Best
/// effort: only speed depends on it.
fn widen_readahead(device: &str) {
    const READAHEAD_KIB: &str = "1024";
    for name in [device.to_owned(), format!("{device}-fuseblk")] {
        let _ = std::fs::write(
            format!("/sys/class/bdi/{name}/read_ahead_kb"),
            READAHEAD_KIB,
        );
    }
}
