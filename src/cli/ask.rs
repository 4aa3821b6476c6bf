//! Questions to the daemon behind a mount: the ioctls of [`crate::fuse::control`], asked.

use super::{Failure, mountinfo};
use crate::fs::Stats;
use crate::fuse::control::{self, NAME_BYTES, STATS_BYTES};
use rustix::ioctl::{Getter, NoArg, Setter, ioctl};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;

/// Said of a mount that the kernel has no daemon for any more.
pub const DIED: &str = "has lost its daemon, which died: `btrfuse umount DIR` (or `umount -l DIR`) \
                        clears it, its log may name the reason, and the image can be mounted again \
                        with all that was committed";

/// A mount without a daemon.
pub fn is_dead(dir: &Path) -> bool {
    let asked = rustix::fs::statfs(dir);
    asked.is_err_and(|why| {
        [rustix::io::Errno::NOTCONN, rustix::io::Errno::CONNABORTED].contains(&why)
    })
}

/// Opens a directory of a mount to ask through.
pub fn open(dir: &Path) -> Result<File, Failure> {
    let flags =
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, rustix::fs::Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(rustix::io::Errno::NOTCONN | rustix::io::Errno::CONNABORTED) => Err(Failure::failed(
            format!("the mount of {} {DIED}", dir.display()),
        )),
        Err(rustix::io::Errno::NOTDIR) => Err(Failure::failed(format!(
            "{} is no directory: name the mount point, or a directory in the mount",
            dir.display()
        ))),
        Err(rustix::io::Errno::NOENT) => Err(Failure::failed(format!(
            "there is no directory {}; `grep btrfuse /proc/mounts` lists the mounts",
            dir.display()
        ))),
        Err(why) => Err(Failure::failed(format!(
            "can't open {}: {why}",
            dir.display()
        ))),
    }
}

/// As [`open`], of a mount of ours only: elsewhere the numbers of our requests may mean anything.
pub fn open_ours(dir: &Path) -> Result<File, Failure> {
    let file = open(dir)?;
    let place = dir.display();
    let metadata = file
        .metadata()
        .map_err(|why| Failure::failed(format!("can't ask {place}: {why}")))?;
    let (major, minor) = (
        rustix::fs::major(metadata.dev()),
        rustix::fs::minor(metadata.dev()),
    );
    let device = format!("{major}:{minor}");
    let ours = mountinfo::ours()?;
    match ours.iter().any(|mount| mount.device == device) {
        true => Ok(file),
        false => Err(Failure::usage(format!(
            "{place} isn't in a btrfuse mount; `grep btrfuse /proc/mounts` lists them"
        ))),
    }
}

/// What the mount has done and met.
pub fn stats(dir: &File) -> std::io::Result<Stats> {
    // SAFETY: STATS encodes "read, 8192 bytes", and the answer is an array of so many, of which any
    // contents are valid.
    let answer = unsafe { ioctl(dir, Getter::<{ control::STATS }, [u8; STATS_BYTES]>::new()) }?;
    let len = answer.iter().position(|byte| *byte == 0);
    let json = &answer[..len.unwrap_or(STATS_BYTES)];
    Ok(serde_json::from_slice(json)?)
}

/// How a full commit went that did reach the daemon.
pub enum Committed {
    /// Everything is durable.
    All,
    /// Everything but writes that the filesystem had refused: what refused them.
    ButForRefused(rustix::io::Errno),
}

/// A full commit of everything that was written before.
///
/// syncfs(2) first: it makes the kernel begin to hand over what its page cache still holds, in large
/// pieces; the daemon waits for the rest. It also tells, once, of writes that failed earlier.
pub fn full_commit(dir: &File) -> rustix::io::Result<Committed> {
    let handed_over = rustix::fs::syncfs(dir);
    // SAFETY: BTRFS_IOC_SYNC takes no argument, so the daemon or kernel touches none of our
    // memory, on whatever file `dir` is.
    unsafe { ioctl(dir, NoArg::<{ control::SYNC }>::new()) }?;
    Ok(match handed_over {
        Ok(()) => Committed::All,
        Err(why) => Committed::ButForRefused(why),
    })
}

/// A pending answer to "how did it end?".
pub struct Watch {
    daemon: UnixStream,
}

/// Asks the daemon to tell us how the mount ends.
pub fn watch(dir: &File) -> std::io::Result<Watch> {
    let name = control::fresh_name()?;
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes())?)?;
    let mut argument = [0u8; NAME_BYTES];
    argument[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: WATCH encodes "write, 96 bytes", and the argument is an array of 96 initialised
    // bytes that lives through the call; nothing is written back.
    unsafe {
        ioctl(
            dir,
            Setter::<{ control::WATCH }, [u8; NAME_BYTES]>::new(argument),
        )
    }?;
    // The daemon connected before it answered the ioctl.
    let (daemon, _) = listener.accept()?;
    Ok(Watch { daemon })
}

impl Watch {
    /// Waits at most `patience` for the end. `None`: not yet. `Some(None)`: the daemon died.
    pub fn wait(
        &mut self,
        patience: Option<std::time::Duration>,
    ) -> Option<Option<Result<(), String>>> {
        let _ = self.daemon.set_read_timeout(patience);
        let mut line = String::new();
        // Lines are written whole, so a timeout loses nothing of one.
        match BufReader::new(&self.daemon).read_line(&mut line) {
            Ok(_) => Some(control::read_outcome(&line)),
            Err(why) if why.kind() == std::io::ErrorKind::WouldBlock => None,
            Err(_) => Some(None),
        }
    }
}
