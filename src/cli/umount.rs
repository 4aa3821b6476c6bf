//! `btrfuse umount DIR`: unmount, and wait until the last commit is durable and the image is
//! unlocked, so that `btrfuse umount DIR && btrfs check IMAGE` doesn't race.

use super::mountinfo::{self, At, MountPoint};
use super::{Exit, Failure, ask, utab};
use crate::sync::thread;
use crate::volume::{FileDevice, lock_holders};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Unmount, wait until the last commit is durable, and say if it failed.
///
/// Plain umount(8) returns before the daemon has finished, unless its helper is installed. As
/// a user, this works for mounts of one's own (through fusermount3).
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The mount point, or the image where it has only one.
    dir: PathBuf,
    /// Unmount even if files are open: the tree is detached at once, and the command still
    /// waits until the last user is gone.
    #[arg(short, long)]
    lazy: bool,
}

const EXAMPLES: &str = "Examples:\n  \
    btrfuse umount /data && btrfs check data.btrfs\n  \
    btrfuse umount --lazy /data";

/// How to unmount.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Detach now, end when the last user is gone.
    pub lazy: bool,
    /// Say what is done.
    pub verbose: bool,
    /// umount(8) called, and takes one line out of its table itself.
    pub from_umount8: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    unmount(
        &args.dir,
        How {
            lazy: args.lazy,
            ..How::default()
        },
    )
}

/// Unmounts `dir` and waits.
pub fn unmount(dir: &Path, how: How) -> Result<(), Failure> {
    let path = mountinfo::absolute(dir)?;
    let place = path.display();
    let mount = match mountinfo::at(&path)? {
        At::Ours(mount) => mount,
        At::Covered(by) => return Err(covered(&path, by)),
        At::Nothing => return unmount_image(&path, how),
    };
    let watch = match ask::open(&path) {
        // The descriptor must be closed again before the unmount, or we keep it busy ourselves.
        Ok(dir) => ask::watch(&dir).map_err(|why| why.to_string()),
        Err(why) => Err(why.sentence),
    };
    let is_dead = watch.is_err() && ask::is_dead(&path);
    let holders = lock_holders(&mount.source);
    let before = mountinfo::ours()?;
    detach(&path, how.lazy)?;
    utab::forget(&path, usize::from(how.from_umount8));
    if let Some(other) = still_at(&mount, &before, &mountinfo::ours()?) {
        // One of several mount points of one mount (bind): the daemon goes on.
        if how.verbose {
            crate::cli::print::say!(
                "{place} unmounted; still mounted at {}",
                other.path.display()
            );
        }
        return Ok(());
    }
    match watch {
        Ok(watch) => wait_for_end(watch, &mount.source, &path)?,
        Err(_) if is_dead => {
            return Err(Failure::new(
                Exit::LastCommit,
                format!(
                    "{place} is unmounted, but its daemon had died, so the changes since the last \
                     commit are lost; its log may name the reason, and {} can be mounted again",
                    mount.source.display()
                ),
            ));
        }
        Err(why) => {
            wait_for_lock(&mount.source, &holders);
            return Err(Failure::new(
                Exit::LastCommit,
                format!(
                    "{place} is unmounted, but its daemon couldn't be asked how that ended \
                     ({why}); run `btrfs check {}` before you rely on it",
                    mount.source.display()
                ),
            ));
        }
    }
    if how.verbose {
        crate::cli::print::say!("{place} unmounted");
    }
    Ok(())
}

/// As umount(8): an image names its mount point, where it has only one.
fn unmount_image(path: &Path, how: How) -> Result<(), Failure> {
    let place = path.display();
    let mut of_it = mountinfo::ours()?;
    of_it.retain(|mount| mount.source == path && mount.path != path);
    match &of_it[..] {
        [] => Err(Failure::usage(format!(
            "{place} isn't the mount point of a btrfuse mount; `grep btrfuse /proc/mounts` lists \
             them"
        ))),
        [mount] => unmount(&mount.path, how),
        [mount, ..] => Err(Failure::usage(format!(
            "{place} is mounted at several places, {} among them: name the one to unmount",
            mount.path.display()
        ))),
    }
}

fn covered(path: &Path, by: Option<MountPoint>) -> Failure {
    let place = path.display();
    Failure::busy(match by {
        Some(by) => format!(
            "something else is mounted over the btrfuse mount {place} ({}, {}): unmount that first",
            by.kind,
            by.source.display()
        ),
        None => {
            format!("the btrfuse mount {place} is hidden by a mount further up: unmount that first")
        }
    })
}

/// Another mount point of a mount of which one was taken out of the tree (a bind). One that wasn't
/// there `before` can be a new mount that was given the numbers of the one that ended.
fn still_at<'a>(
    gone: &MountPoint,
    before: &[MountPoint],
    now: &'a [MountPoint],
) -> Option<&'a MountPoint> {
    now.iter().find(|other| {
        other.number != gone.number
            && (&other.device, &other.source) == (&gone.device, &gone.source)
            && before.contains(other)
    })
}

/// Takes a mount out of the tree, as root or as the user who made it.
pub fn detach(path: &Path, lazy: bool) -> Result<(), Failure> {
    use rustix::mount::{UnmountFlags, unmount};
    let mut flags = UnmountFlags::NOFOLLOW;
    if lazy {
        flags |= UnmountFlags::DETACH;
    }
    let why = match unmount(path, flags) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::PERM) => return detach_as_user(path, lazy),
        Err(why) => why,
    };
    if why == rustix::io::Errno::BUSY {
        return Err(busy(path));
    }
    Err(Failure::failed(format!(
        "can't unmount {}: {why}",
        path.display()
    )))
}

/// fusermount3 is set-user-id root and unmounts what its caller mounted.
fn detach_as_user(path: &Path, lazy: bool) -> Result<(), Failure> {
    let Err(why) = crate::fuse::unmount_as_user(path, lazy) else {
        return Ok(());
    };
    match (why.raw_os_error(), why.kind()) {
        (Some(libc::EBUSY), _) => Err(busy(path)),
        (_, std::io::ErrorKind::NotFound) => Err(Failure::failed(format!(
            "can't unmount {} as a user without fusermount3; install the package fuse3",
            path.display()
        ))),
        _ if why.to_string().contains("not found in /etc/mtab") => Err(Failure::failed(format!(
            "can't unmount {}, which somebody else has mounted: only they and root can",
            path.display()
        ))),
        _ => Err(Failure::failed(format!(
            "can't unmount {}: {why}",
            path.display()
        ))),
    }
}

fn busy(path: &Path) -> Failure {
    if let Some(inner) = mountinfo::inside(path).unwrap_or_default().last() {
        return Failure::busy(format!(
            "{} is busy: {} ({}) is mounted in it: unmount that first",
            path.display(),
            inner.path.display(),
            inner.kind
        ));
    }
    Failure::busy(format!(
        "{0} is busy: end the programs that use it (`fuser -vm {0}` lists them) or detach it \
         with --lazy",
        path.display()
    ))
}

/// Without an answer to wait for, the image's lock says when the daemon is done with it: when it
/// is free, or only others than the `holders` of before have it.
fn wait_for_lock(image: &Path, holders: &[u32]) {
    while let Err(crate::Error::Busy(_)) = FileDevice::open(image, true) {
        if is_passed_on(holders, &lock_holders(image)) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether somebody else has a lock now. Of other pid namespaces nobody is seen: then it is only
/// known to be free when it is.
fn is_passed_on(before: &[u32], now: &[u32]) -> bool {
    !now.is_empty() && !now.iter().any(|holder| before.contains(holder))
}

fn wait_for_end(mut watch: ask::Watch, image: &Path, path: &Path) -> Result<(), Failure> {
    let outcome = match watch.wait(Some(Duration::from_secs(10))) {
        Some(outcome) => outcome,
        None => {
            crate::cli::print::complain!(
                "btrfuse: waiting for the last commit of {}; if this takes long, a program \
                 still uses {} (an open file, another mount namespace)",
                image.display(),
                path.display()
            );
            watch.wait(None).unwrap_or(None)
        }
    };
    match outcome {
        Some(Ok(())) => Ok(()),
        Some(Err(words)) => Err(Failure::new(
            Exit::LastCommit,
            format!(
                "{} is unmounted, but its last commit failed ({words}), so the changes since \
                 the commit before are lost",
                path.display()
            ),
        )),
        None => Err(Failure::new(
            Exit::LastCommit,
            format!(
                "{} is unmounted, but its daemon died before the last commit, so the changes \
                 since the commit before are lost; its log may name the reason",
                path.display()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(number: u64, device: &str, path: &str, source: &str) -> MountPoint {
        MountPoint {
            number,
            device: device.to_owned(),
            path: path.into(),
            source: source.into(),
            kind: "fuse.btrfuse".to_owned(),
        }
    }

    /// `umount A` took a mount of B, started in the same moment, for another mount point of A, and
    /// came back before A's last commit.
    #[test]
    fn only_a_mount_point_of_before_can_be_another_one_of_the_same_mount() {
        let gone = mount(40, "0:50", "/a", "/a.img");
        let bind = mount(41, "0:50", "/bind", "/a.img");
        let before = [gone.clone(), bind.clone()];
        assert_eq!(still_at(&gone, &before, &[]), None);
        let now = [bind.clone()];
        assert_eq!(still_at(&gone, &before, &now), Some(&bind));
        // Device numbers, and those of mounts, are given again at once.
        let other = mount(40, "0:50", "/b", "/b.img");
        assert_eq!(still_at(&gone, &before, &[other]), None);
        let other = mount(42, "0:50", "/b", "/b.img");
        assert_eq!(
            still_at(&gone, &[gone.clone(), other.clone()], &[other]),
            None
        );
        let again = mount(42, "0:50", "/a", "/a.img");
        assert_eq!(still_at(&gone, &before, &[again]), None);
    }

    #[test]
    fn a_lock_is_waited_for_only_while_the_daemon_has_it() {
        assert!(!is_passed_on(&[7], &[7]));
        assert!(!is_passed_on(&[7, 8], &[8, 9]));
        assert!(is_passed_on(&[7], &[8]));
        assert!(is_passed_on(&[], &[8]));
        assert!(!is_passed_on(&[7], &[]));
    }
}
