//! Why a subvolume couldn't be made, snapshotted, deleted or changed, in a sentence that says
//! what to do.

use crate::cli::Failure;
use rustix::io::Errno;
use std::path::Path;

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Create,
    Snapshot,
    Delete,
    List,
    ReadOnly,
}

impl Doing {
    const fn words(self) -> &'static str {
        match self {
            Self::Create => "make the subvolume",
            Self::Snapshot => "make the snapshot",
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
            (Errno::INVAL, Self::Delete | Self::ReadOnly | Self::Snapshot) => refused(
                "it isn't the root directory of a subvolume; `btrfuse subvolume list DIR` names \
                 those"
                    .to_owned(),
            ),
            (Errno::NOTDIR, Self::Delete) => {
                refused("it is no directory; rm(1) removes it".to_owned())
            }
            (Errno::PERM, Self::Delete) => refused(
                "only root and the mount's owner may, unless it is mounted with \
                 -o user_subvol_rm_allowed; and nobody deletes what the image mounts by default"
                    .to_owned(),
            ),
            (Errno::PERM, Self::Snapshot | Self::ReadOnly) => {
                refused("only the subvolume's owner, the mount's owner and root may".to_owned())
            }
            (Errno::NOSPC, _) => refused(
                "no space is left; `btrfuse subvolume delete` and rm(1) make some".to_owned(),
            ),
            (why, _) => refused(why.to_string()),
        }
    }
}

/// A snapshot is refused for its source or for its name.
pub fn of_snapshot(source: &Path, dest: &Path, why: Errno) -> Failure {
    match why {
        Errno::XDEV => Failure::usage(format!(
            "{} and {} aren't in one mount; a snapshot stays in its filesystem",
            source.display(),
            dest.display()
        )),
        Errno::INVAL | Errno::PERM => Doing::Snapshot.failure(source, why),
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
            (
                Doing::Snapshot,
                Errno::INVAL,
                Exit::Failed,
                "root directory",
            ),
            (Doing::ReadOnly, Errno::ROFS, Exit::Failed, "Read-only"),
        ] {
            let failure = doing.failure(Path::new("/x"), why);
            assert_eq!(failure.exit, exit, "{failure}");
            assert!(failure.sentence.contains(words), "{failure}");
            assert!(failure.sentence.contains("/x"), "{failure}");
        }
        let apart = of_snapshot(Path::new("/a"), Path::new("/b"), Errno::XDEV);
        assert_eq!(apart.exit, Exit::Usage);
    }
}
