//! What a command can ask of the daemon behind a mount, through ioctls on any of its
//! directories: a full commit, and to be told how the mount ends.
//!
//! The mount is its own address and guards itself: whoever can't open its root can't ask.
//!
//! - Full commit: `BTRFS_IOC_SYNC`, as on the kernel's btrfs.
//! - [`STATS`]: counters and errors since the mount began ([`crate::fs::Stats`]), as JSON.
//! - [`WATCH`]: the caller listens on a socket in the abstract namespace and names it. The
//!   daemon connects at once, and when all is over (last commit done, image unlocked) it
//!   writes one line, `ok` or `failed WORDS`, and closes. A connection that ends without a
//!   line means that the daemon died. Only root and the owner of the mount may watch.

use crate::error::{Error, Result};
use crate::sync::Mutex;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// Bytes of a [`WATCH`] argument: the socket's name, zero padded.
pub const NAME_BYTES: usize = 96;

/// The ioctl: direction write, [`NAME_BYTES`], type 0xBF, number 1. The size is part of the
/// number, which is what lets it pass through FUSE.
pub const WATCH: u32 = (1 << 30) | ((NAME_BYTES as u32) << 16) | (0xBF << 8) | 1;

/// Bytes of the answer to [`STATS`]: JSON, zero padded.
pub const STATS_BYTES: usize = 8192;

/// What the mount has done and met: direction read, [`STATS_BYTES`], type 0xBF, number 4. Whoever can
/// open a directory of the mount may ask.
pub const STATS: u32 = (2 << 30) | ((STATS_BYTES as u32) << 16) | (0xBF << 8) | 4;

/// `BTRFS_IOC_SYNC`: `_IO(0x94, 8)`.
pub const SYNC: u32 = 0x0000_9408;
/// `BTRFS_IOC_START_SYNC`: `_IOR(0x94, 24, __u64)`, answers a generation.
pub const START_SYNC: u32 = 0x8008_9418;
/// `BTRFS_IOC_WAIT_SYNC`: `_IOW(0x94, 22, __u64)`.
pub const WAIT_SYNC: u32 = 0x4008_9416;

/// The commands that wait for the mount's end.
#[derive(Debug, Default)]
pub struct Watchers {
    sockets: Mutex<Vec<UnixStream>>,
}

impl Watchers {
    /// Nobody watches yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Connects to the socket that a [`WATCH`] argument names.
    pub fn add(&self, argument: &[u8]) -> Result<()> {
        let end = argument
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(argument.len());
        let name = &argument[..end];
        if name.is_empty() {
            return Err(Error::Invalid("the socket to report to has no name"));
        }
        let connected = SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixStream::connect_addr(&address));
        let socket = connected.map_err(|why| Error::device("connect to the watcher", why))?;
        // A watcher that stops reading must not hold up the daemon's end.
        let _ = socket.set_write_timeout(Some(Duration::from_secs(1)));
        let mut sockets = self.sockets.lock();
        // An unmount that finds the mount busy gives up and leaves its socket behind.
        sockets.retain(is_watched);
        sockets.push(socket);
        Ok(())
    }

    /// Tells everybody how it ended, and lets them go.
    pub fn finish(&self, outcome: std::result::Result<(), String>) {
        let line = match outcome {
            Ok(()) => "ok\n".to_owned(),
            Err(words) => format!("failed {}\n", words.replace('\n', " ")),
        };
        for mut socket in self.sockets.lock().drain(..) {
            // A watcher that is gone doesn't care.
            let _ = socket.write_all(line.as_bytes());
        }
    }
}

/// Whether somebody still holds the other end.
fn is_watched(socket: &UnixStream) -> bool {
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    matches!(
        rustix::net::recv(socket, &mut [0u8][..], flags),
        Err(Errno::AGAIN)
    )
}

/// What [`Watchers::finish`] wrote, read on the other side; `None`: the daemon died.
pub fn read_outcome(line: &str) -> Option<std::result::Result<(), String>> {
    match line.trim_end() {
        "ok" => Some(Ok(())),
        other => other
            .strip_prefix("failed ")
            .map(|words| Err(words.to_owned())),
    }
}

/// A socket name that nobody else uses, for one watch.
pub fn fresh_name() -> io::Result<String> {
    let mut random = [0u8; 16];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut random)?;
    let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("btrfuse-watch-{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    fn listen() -> (UnixListener, Vec<u8>) {
        let name = fresh_name().unwrap();
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let mut argument = name.into_bytes();
        argument.resize(NAME_BYTES, 0);
        (UnixListener::bind_addr(&address).unwrap(), argument)
    }

    #[test]
    fn a_watcher_hears_how_the_mount_ended() {
        for outcome in [Ok(()), Err("no space left".to_owned())] {
            let watchers = Watchers::new();
            let (listener, argument) = listen();
            watchers.add(&argument).unwrap();
            watchers.finish(outcome.clone());
            let mut line = String::new();
            listener
                .accept()
                .unwrap()
                .0
                .read_to_string(&mut line)
                .unwrap();
            assert_eq!(read_outcome(&line), Some(outcome));
        }
    }

    #[test]
    fn a_daemon_that_dies_leaves_no_outcome() {
        let watchers = Watchers::new();
        let (listener, argument) = listen();
        watchers.add(&argument).unwrap();
        drop(watchers);
        let mut line = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut line)
            .unwrap();
        assert_eq!(read_outcome(&line), None);
    }

    /// Each `btrfuse umount` of a busy mount once left the daemon with one more descriptor.
    #[test]
    fn watchers_that_gave_up_are_let_go() {
        let watchers = Watchers::new();
        let (patient, argument) = listen();
        watchers.add(&argument).unwrap();
        for _ in 0..5 {
            let (listener, argument) = listen();
            watchers.add(&argument).unwrap();
            drop(listener.accept().unwrap());
        }
        assert_eq!(watchers.sockets.lock().len(), 2);
        watchers.finish(Ok(()));
        let mut line = String::new();
        let (mut socket, _) = patient.accept().unwrap();
        socket.read_to_string(&mut line).unwrap();
        assert_eq!(read_outcome(&line), Some(Ok(())));
    }

    #[test]
    fn a_nameless_or_absent_socket_is_an_error() {
        let watchers = Watchers::new();
        assert!(watchers.add(&[0; NAME_BYTES]).is_err());
        assert!(watchers.add(b"btrfuse-watch-nobody").is_err());
    }
}
