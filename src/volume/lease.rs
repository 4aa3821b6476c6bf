//! Whoever opens the image while its last commit is being written waits for the end of it.
//!
//! umount(2) of a FUSE mount returns before the daemon's last commit, and some callers have no way
//! to wait: `umount -i`, `fusermount3 -u`, a system shutting down. What they run next opens the
//! image, and a write lease (fcntl(2), `F_SETLEASE`) makes that open wait until the lease is gone,
//! 45 seconds at most (`/proc/sys/fs/lease-break-time`). Only regular files have leases, only
//! their owner and root may take them, and only while nobody else has the file open.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// fcntl(2)'s number on every architecture that Rust's libc knows as Linux; it names none.
const F_SETSIG: libc::c_int = 10;

/// Takes a write lease on the file, until all its descriptors are closed.
pub(super) fn take(file: &File) -> io::Result<()> {
    let fd = file.as_raw_fd();
    // The holder of a lease is told of a waiting open by SIGIO, which ends a process that isn't
    // prepared for it. SIGURG is ignored unless somebody asked for it.
    // SAFETY: F_SETSIG takes an int by value; no memory of ours is read or written.
    let told = unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) };
    if told == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: F_SETLEASE takes an int by value; no memory of ours is read or written.
    let taken = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) };
    if taken == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives it back before that; without one nothing happens.
pub(super) fn give_back(file: &File) {
    // SAFETY: F_SETLEASE takes an int by value; no memory of ours is read or written.
    let _ = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{mpsc, thread};
    use std::time::Duration;

    #[test]
    fn an_open_waits_for_the_end_of_the_lease() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, b"before").unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        take(&file).unwrap();
        let (sender, receiver) = mpsc::channel();
        let reader = thread::spawn(move || {
            sender.send("begin").unwrap();
            let text = std::fs::read(path).unwrap();
            sender.send("end").unwrap();
            text
        });
        assert_eq!(receiver.recv().unwrap(), "begin");
        assert!(
            receiver.recv_timeout(Duration::from_millis(300)).is_err(),
            "the open must wait"
        );
        std::os::unix::fs::FileExt::write_all_at(&file, b"after!", 0).unwrap();
        drop(file);
        assert_eq!(reader.join().unwrap(), b"after!");
    }

    #[test]
    fn a_file_that_others_have_open_for_writing_gets_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let _other = File::options().write(true).open(file.path()).unwrap();
        assert!(take(file.as_file()).is_err());
    }
}
