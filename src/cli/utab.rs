//! A line in libmount's table, so that plain `umount DIR` finds our helper and waits.
//!
//! umount(8) asks statfs(2) for the type of a mount, sees just "fuse", and looks for no helper
//! of ours, unless its table has a line for the mount point. `mount --fake` writes one and
//! `umount --fake` takes it out, the way libfuse did it for /etc/mtab. Best effort: without
//! the helper installed, or without root, nothing is written, and `btrfuse umount` waits anyway.

use super::mountinfo::{self, At};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

const HELPER: &str = "/sbin/umount.btrfuse";
const TABLE: &str = "/run/mount/utab";
/// Options of which mount(8) makes a line by itself after its helper is done.
const WRITTEN_BY_MOUNT: [&str; 6] = ["user", "users", "owner", "group", "_netdev", "uhelper"];

/// True when a line should be written for a mount with these `-o` lists.
pub fn wanted(lists: &[String], from_mount8: bool) -> bool {
    let by_mount = |list: &String| {
        list.split(',').any(|option| {
            let name = option.split('=').next().unwrap_or(option);
            WRITTEN_BY_MOUNT.contains(&name)
        })
    };
    rustix::process::geteuid().is_root()
        && Path::new(HELPER).exists()
        && !(from_mount8 && lists.iter().any(by_mount))
}

/// Writes the line.
pub fn remember(image: &Path, dir: &Path) {
    let Ok(At::Ours(mount)) = mountinfo::at(dir) else {
        return;
    };
    let mut command = Command::new("mount");
    command.args(["--fake", "--internal-only", "--no-canonicalize"]);
    command
        .args(["-t", &mount.kind, "-o", "rw,uhelper=btrfuse"])
        .arg(image)
        .arg(dir);
    run(command);
}

/// Takes out the lines of a mount point that is gone, down to `keep`.
pub fn forget(dir: &Path, keep: usize) {
    if !rustix::process::geteuid().is_root() || !matches!(mountinfo::at(dir), Ok(At::Nothing)) {
        return;
    }
    // Each round takes one line out; a table that doesn't change must not hold us here.
    for _ in keep..lines_of(dir) {
        let mut command = Command::new("umount");
        command
            .args(["--fake", "--internal-only", "--no-canonicalize"])
            .arg(dir);
        run(command);
    }
}

fn run(mut command: Command) {
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(why) = quiet.status() {
        log::debug!("{:?}: {why}", quiet.get_program());
    }
}

/// How many lines the table has for a mount point.
fn lines_of(dir: &Path) -> usize {
    let table = std::fs::read(TABLE).unwrap_or_default();
    let target = escape(dir.as_os_str());
    table
        .split(|&byte| byte == b'\n')
        .filter(|line| {
            line.split(|&byte| byte == b' ')
                .any(|field| field.strip_prefix(b"TARGET=") == Some(&target[..]))
        })
        .count()
}

/// As libmount writes a path: blanks and backslashes in octal.
fn escape(path: &OsStr) -> Vec<u8> {
    let mut escaped = Vec::new();
    for &byte in path.as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => {
                escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
            }
            _ => escaped.push(byte),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_as_libmount_does() {
        assert_eq!(escape(OsStr::new("/mnt/a b\\c")), b"/mnt/a\\040b\\134c");
    }

    #[test]
    fn a_line_that_mount_will_write_is_left_to_it() {
        let lists = ["rw,_netdev".to_owned()];
        assert!(!wanted(&lists, true));
    }
}
