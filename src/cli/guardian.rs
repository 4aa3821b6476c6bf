//! A process of its own that ends the kernel's connection when the daemon was killed.
//!
//! The connection ends when the last descriptor of it is closed, and everybody who waits for an
//! answer is told then. But a thread of the daemon can be inside the kernel, with such a descriptor:
//! it asks it to forget a name, or to write a file back, and the kernel waits for a lock or a write of
//! somebody who waits for the daemon. Killed in such a moment, the daemon would never be gone, and
//! its users would wait for good. So somebody without such a descriptor ends the connection by
//! the file that the kernel has for that.
//!
//! Invariant: the file is opened while the mount lives, and stands for that connection for ever; later
//! ones with the same number are never meant.

use super::Failure;
use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The command line of that process.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The daemon.
    daemon: i32,
}

/// The process, as long as the daemon needs it.
pub struct Guardian(Child);

impl Guardian {
    /// Starts it for the mount `device` (`major:minor`). From the thread that lives as long as the
    /// daemon does: its death is what the process hears of.
    pub fn start(device: &str) -> io::Result<Self> {
        let abort = open_abort(device)?;
        // The same program, also where the file has been replaced meanwhile.
        let child = Command::new("/proc/self/exe")
            .arg("guardian")
            .arg(getpid().as_raw_nonzero().to_string())
            .stdin(Stdio::from(abort))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `connections/NUMBER/abort` of fusectl, wherever that is mounted; root needs no place for it.
fn open_abort(device: &str) -> io::Result<File> {
    let number = device
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)))
        // The kernel's own way to put both into one number.
        .map(|(major, minor)| u64::from(major) << 20 | u64::from(minor))
        .ok_or(io::ErrorKind::InvalidInput)?;
    let name = format!("{number}/abort");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let usual = Path::new("/sys/fs/fuse/connections").join(&name);
    if let Ok(file) = rustix::fs::open(&usual, flags, Mode::empty()) {
        return Ok(file.into());
    }
    let context = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let nowhere = MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, nowhere)?;
    Ok(openat(&mount, name, flags, Mode::empty())?.into())
}

/// Waits until the daemon is killed, and ends its connection.
pub fn run(args: &Args) -> Result<(), Failure> {
    let failed = |why: io::Error| Failure::failed(format!("guardian: {why}"));
    let mut deaths = signal_hook::iterator::Signals::new([libc::SIGUSR1]).map_err(failed)?;
    set_parent_process_death_signal(Some(Signal::USR1)).map_err(|why| failed(why.into()))?;
    // It may have died before it was listened for.
    if getppid() == Pid::from_raw(args.daemon) {
        let _the_daemon_s = deaths.forever().next();
    }
    let abort = rustix::io::dup(io::stdin()).map_err(|why| failed(why.into()))?;
    File::from(abort).write_all(b"1").map_err(failed)
}
