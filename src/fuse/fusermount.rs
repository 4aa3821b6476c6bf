//! Mounting and unmounting without being root, through the set-user-id program fusermount3.
//!
//! fuser could call it, but insists on opening `/dev/fuse` itself first, which users may not
//! everywhere. fusermount3 opens the device, mounts it, and hands the descriptor back over a
//! socket whose number it finds in its environment.

use super::session::{Access, Point, flags_of};
use rustix::fd::OwnedFd;
use rustix::io::FdFlags;
use rustix::mount::MountFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = "fusermount3";
const NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(libc::MS_NOSYMFOLLOW as _);
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// Mounts, and returns the connection. The error is a sentence.
pub fn mount(point: &Point) -> Result<OwnedFd, String> {
    let (ours, theirs) = UnixStream::pair().map_err(|why| format!("can't make a socket: {why}"))?;
    // Inherited by the next program that is started, and the only one: the engine starts none.
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty())
        .map_err(|why| format!("can't pass a socket on: {why}"))?;
    let child = Command::new(PROGRAM)
        .arg("-o")
        .arg(options(point))
        .arg("--")
        .arg(&point.dir)
        .env(SOCKET_VARIABLE, theirs.as_raw_fd().to_string())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| {
            format!(
                "can't run {PROGRAM} ({why}), which mounts for users; install the package fuse3"
            )
        })?;
    // Only the child holds its end now: if it fails, we read the end instead of a descriptor.
    drop(theirs);
    let device = receive(&ours);
    let output = child
        .wait_with_output()
        .map_err(|why| format!("{PROGRAM}: {why}"))?;
    match device {
        Ok(Some(device)) if output.status.success() => Ok(device),
        _ => Err(explain(&String::from_utf8_lossy(&output.stderr), point)),
    }
}

/// Unmounts what the user has mounted; `lazy` also if it is in use.
pub fn unmount(dir: &Path, lazy: bool) -> io::Result<()> {
    let mut command = Command::new(PROGRAM);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command
        .arg("--")
        .arg(dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if words.contains("busy") {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    Err(io::Error::other(words))
}

fn receive(socket: &UnixStream) -> rustix::io::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let device = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(device)
}

fn options(point: &Point) -> OsString {
    let mut list = b"subtype=btrfuse,default_permissions".to_vec();
    if point.access == Access::Everybody {
        list.extend_from_slice(b",allow_other");
    }
    let flags = flags_of(point);
    for (flag, name) in [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
        // Not every version knows it, and one that doesn't refuses.
        (NOSYMFOLLOW, "nosymfollow"),
    ] {
        if flags.contains(flag) {
            list.push(b',');
            list.extend_from_slice(name.as_bytes());
        }
    }
    // Last, with what ends an option in a path escaped.
    list.extend_from_slice(b",fsname=");
    for &byte in point.image.as_os_str().as_bytes() {
        if byte == b',' || byte == b'\\' {
            list.push(b'\\');
        }
        list.push(byte);
    }
    OsString::from_vec(list)
}

fn explain(why: &str, point: &Point) -> String {
    if why.contains("user_allow_other") {
        return "allow_other: a user may let others in only when /etc/fuse.conf has the line \
                `user_allow_other`"
            .to_owned();
    }
    if why.contains("unknown option 'nosymfollow'") {
        return "nosymfollow: the fusermount3 of this system, which mounts for users, doesn't know \
                it; leave it out, or let root mount"
            .to_owned();
    }
    if why.contains("open /dev/fuse: Permission denied") {
        return "users may not open /dev/fuse here; root allows it with `chmod 666 /dev/fuse` (a \
                udev rule does on most systems)"
            .to_owned();
    }
    let why = why.trim();
    let why = why.strip_prefix("fusermount3: ").unwrap_or(why);
    let why = if why.is_empty() {
        "fusermount3 failed without a word"
    } else {
        why
    };
    format!("can't mount on {}: {why}", point.dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_smuggle_options_in() {
        let point = Point {
            dir: "/mnt".into(),
            image: "/a,allow_other\\b".into(),
            block_device: false,
            plain_fuse: false,
            access: Access::Owner,
            read_only: true,
            flags: MountFlags::NOEXEC | NOSYMFOLLOW,
            threads: 4,
        };
        let list = options(&point).into_string().unwrap();
        assert_eq!(
            list,
            "subtype=btrfuse,default_permissions,ro,noexec,nosymfollow,fsname=/a\\,allow_other\\\\b"
        );
    }
}
