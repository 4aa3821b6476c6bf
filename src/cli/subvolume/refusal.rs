//! Why a subvolume couldn't be made, snapshotted, deleted or changed, in a sentence that says
//! what to do.

use crate::cli::Failure;
use crate::cli::mountinfo::{self, At};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Create,
    Snapshot,
    /// A snapshot, looked at from its source.
    Source,
    Delete,
    List,
    ReadOnly,
}

impl Doing {
    const fn words(self) -> &'static str {
        match self {
            Self::Create => "make the subvolume",
            Self::Snapshot => "make the snapshot",
            Self::Source => "snapshot",
            Self::Delete => "delete",
            Self::List => "list the subvolumes of",
            Self::ReadOnly => "change or show",
        }
    }

    /// What the system's answer means here.
    pub fn failure(self, path: &Path, why: Errno) -> Failure {
        let place = path.display();
        let what = self.words();
        let refused = |words: String| Failure::failed(format!("can't {what} {place}: {words}"));
        match (why, self) {
            (Errno::NOTTY | Errno::OPNOTSUPP, _) => Failure::usage(format!(
                "{place} isn't in a btrfuse mount, nor in a btrfs of the kernel's; \
                 `grep btrfuse /proc/mounts` lists the former"
            )),
            (Errno::NOTCONN | Errno::CONNABORTED, _) => {
                refused(format!("its mount {}", crate::cli::ask::DIED))
            }
            (Errno::BUSY, _) => Failure::busy(format!(
                "can't {what} {place}: it is mounted; unmount it, and mount the subvolume that \
                 it is in"
            )),
            (Errno::EXIST, _) => refused("it exists already; choose another name".to_owned()),
            (Errno::NOTEMPTY, _) => refused(format!(
                "there are subvolumes in it; `btrfuse subvolume list {place}` names them, and they \
                 are deleted first"
            )),
            (Errno::INVAL, Self::Delete | Self::ReadOnly | Self::Source) => refused(
                "it isn't the root directory of a subvolume; `btrfuse subvolume list DIR` names \
                 those"
                    .to_owned(),
            ),
            (Errno::NOENT, Self::Delete | Self::ReadOnly | Self::Source) => refused(
                "there is none of that name; `btrfuse subvolume list DIR` names those that are \
                 there"
                    .to_owned(),
            ),
            (Errno::NOENT | Errno::NOTDIR, Self::List) => {
                refused("there is no such directory; name the mount point".to_owned())
            }
            (Errno::NOTDIR, Self::ReadOnly | Self::Source) => refused(
                "it is no directory; name the root directory of a subvolume, as `btrfuse \
                 subvolume list DIR` does"
                    .to_owned(),
            ),
            (Errno::NOTDIR, Self::Delete) => {
                refused("it is no directory; rm(1) removes it".to_owned())
            }
            (Errno::PERM, Self::Delete) => refused(
                "only root and the mount's owner may, unless it is mounted with \
                 -o user_subvol_rm_allowed"
                    .to_owned(),
            ),
            (Errno::PERM, Self::Source | Self::ReadOnly) => {
                refused("only the subvolume's owner, the mount's owner and root may".to_owned())
            }
            (Errno::NOSPC, _) => refused(
                "no space is left; `btrfuse subvolume delete` and rm(1) make some".to_owned(),
            ),
            (why, _) => refused(why.to_string()),
        }
    }
}

impl Doing {
    /// The directory that the name is to be in, or is in, can't be opened.
    pub fn parent_failure(self, path: &Path, parent: &Path, why: Errno) -> Failure {
        let (what, place, parent) = (self.words(), path.display(), parent.display());
        match (why, self) {
            (Errno::NOENT, Self::Create | Self::Snapshot) => Failure::failed(format!(
                "can't {what} {place}: there is no directory {parent}; make it with mkdir, or name \
                 one that exists"
            )),
            (Errno::NOTDIR, Self::Create | Self::Snapshot) => Failure::failed(format!(
                "can't {what} {place}: {parent} is no directory; name one that exists"
            )),
            _ => self.failure(path, why),
        }
    }
}

/// A name can't be made in a directory, or taken out of it; it may be the mount point itself.
pub fn of_name(doing: Doing, path: &Path, why: Errno) -> Failure {
    let foreign = matches!(why, Errno::NOTTY | Errno::OPNOTSUPP);
    let at = || mountinfo::absolute(path).and_then(|path| mountinfo::at(&path));
    if !foreign || !matches!(at(), Ok(At::Ours(_))) {
        return doing.failure(path, why);
    }
    let place = path.display();
    Failure::usage(match doing {
        Doing::Delete => format!(
            "{place} is itself the mount point, and what is mounted can't be deleted: mount the \
             subvolume that it is in, or name one below"
        ),
        _ => format!("{place} is itself the mount point: write {place}/NAME"),
    })
}

/// A subvolume isn't deleted. `EPERM` has two reasons, by who asks: what the mount's owner and root
/// may not is nobody's to delete.
pub fn of_delete(path: &Path, parent: &OwnedFd, why: Errno) -> Failure {
    let user = rustix::process::geteuid().as_raw();
    if why == Errno::PERM && (user == 0 || mountinfo::owner_of(parent) == Some(user)) {
        return Failure::failed(format!(
            "can't delete {}: it is what the image mounts by default (`btrfs subvolume \
             set-default` on the kernel's btrfs chooses another), or it or its directory is \
             immutable or append-only (chattr(1) changes that)",
            path.display()
        ));
    }
    of_name(Doing::Delete, path, why)
}

/// A snapshot is refused for its source or for its name. `foreign`: the source is no btrfs's.
pub fn of_snapshot(source: &Path, dest: &Path, foreign: bool, why: Errno) -> Failure {
    match why {
        Errno::NOTTY | Errno::OPNOTSUPP if foreign => Doing::Source.failure(source, why),
        Errno::NOTTY | Errno::OPNOTSUPP => of_name(Doing::Snapshot, dest, why),
        Errno::XDEV => Failure::usage(format!(
            "{} and {} aren't in one mount; a snapshot stays in its filesystem",
            source.display(),
            dest.display()
        )),
        Errno::INVAL | Errno::PERM => Doing::Source.failure(source, why),
        why => Doing::Snapshot.failure(dest, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exit;

    #[test]
    fn refusals_name_the_place_and_what_to_do() {
        for (doing, why, exit, words) in [
            (Doing::Create, Errno::NOTTY, Exit::Usage, "/proc/mounts"),
            (Doing::Create, Errno::EXIST, Exit::Failed, "another name"),
            (Doing::Delete, Errno::NOTEMPTY, Exit::Failed, "list /x"),
            (Doing::Delete, Errno::BUSY, Exit::Busy, "unmount"),
            (Doing::Delete, Errno::PERM, Exit::Failed, "user_subvol_rm"),
            (Doing::Source, Errno::INVAL, Exit::Failed, "root directory"),
            (Doing::ReadOnly, Errno::ROFS, Exit::Failed, "Read-only"),
        ] {
            let failure = doing.failure(Path::new("/x"), why);
            assert_eq!(failure.exit, exit, "{failure}");
            assert!(failure.sentence.contains(words), "{failure}");
            assert!(failure.sentence.contains("/x"), "{failure}");
        }
        let apart = of_snapshot(Path::new("/a"), Path::new("/b"), false, Errno::XDEV);
        assert_eq!(apart.exit, Exit::Usage);
    }
}
