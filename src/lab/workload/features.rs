//! What the filesystem under a run can do: asked once, by doing it.

use super::folder::Folder;
use super::mapping;
use super::mix::{Kind, Mix};
use super::name::Name;
use super::operation::{Allocate, Arena, Operation, Replace, Special, Way};
use super::perform::perform;
use super::stamp::Stamp;
use super::subvolume;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Kinds that are left out, and who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// May make devices, give files away, and name attributes beyond `user.`.
    pub root: bool,
    /// User and group of new files.
    pub owner: (u32, u32),
    /// `tree` is a subvolume.
    pub subvolume: bool,
    /// Attributes of some kilobytes, dozens a file.
    pub large_xattrs: bool,
    /// Zeroing and allocating a range beyond the end.
    pub lacking: Vec<Kind>,
}

impl Features {
    /// Tries everything that some filesystems lack, in `folder`, whose own folder exists.
    pub fn probe(folder: &Folder, subvolume: bool) -> Result<Self, Errno> {
        let root = rustix::process::geteuid().is_root();
        let mut features = Self {
            root,
            owner: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
            subvolume,
            large_xattrs: true,
            lacking: Vec::new(),
        };
        let stamp = Stamp::new(0, 0);
        let (a, b) = (Name::from("probe-a"), Name::from("probe-b"));
        let ask = |operation: Operation| perform(folder, Arena::Own, &operation).map(drop);
        for path in [&a, &b] {
            ask(Operation::Create {
                path: path.clone(),
                mode: 0o600,
            })?;
        }
        ask(Operation::Write {
            path: a.clone(),
            offset: 0,
            len: 9000,
            stamp,
            way: Way::At,
        })?;
        let fallocate = |what| Operation::Fallocate {
            path: b.clone(),
            what,
            offset: 0,
            len: 8192,
        };
        let rename = |replace| Operation::Rename {
            from: a.clone(),
            to: b.clone(),
            replace,
        };
        let large = |n: usize| Operation::SetXattr {
            path: a.clone(),
            name: format!("user.s-{n}"),
            len: if n == 0 { 10 } else { 1500 },
            stamp,
        };
        let copy = Operation::Copy {
            from: a.clone(),
            from_offset: 0,
            to: b.clone(),
            offset: 10_000,
            len: 9000,
        };
        for (kind, operation) in [
            (Kind::Fallocate, fallocate(Allocate::KeepSize)),
            (Kind::Punch, fallocate(Allocate::Punch)),
            (Kind::Zero, fallocate(Allocate::Zero)),
            (Kind::Copyrange, copy),
            (
                Kind::Seek,
                Operation::Seek {
                    path: a.clone(),
                    offset: 0,
                },
            ),
            (Kind::Rexchange, rename(Replace::Exchange)),
            (Kind::Setfattr, large(0)),
        ] {
            if let Err(error) = ask(operation) {
                lacks(kind, error)?;
                features.lacking.push(kind);
            }
        }
        if features.lacks(Kind::Setfattr) {
            features
                .lacking
                .extend([Kind::Removefattr, Kind::Getfattr, Kind::Listfattr]);
        }
        features.large_xattrs =
            !features.lacks(Kind::Setfattr) && (1..40).all(|n| ask(large(n)).is_ok());
        if !features.large_xattrs {
            features.lacking.push(Kind::Xbatch);
        }
        if let Err(error) = mapping::write(&folder.path(Arena::Own, &a), 0, &[1]) {
            lacks(Kind::Mwrite, error)?;
            features.lacking.extend([Kind::Mwrite, Kind::Mread]);
        }
        let whiteout = Operation::Rename {
            from: a.clone(),
            to: Name::from("probe-c"),
            replace: Replace::Whiteout,
        };
        match root {
            true => {
                if let Err(error) = ask(whiteout) {
                    lacks(Kind::Rwhiteout, error)?;
                    features.lacking.push(Kind::Rwhiteout);
                }
                let what = Special::Character { major: 1, minor: 2 };
                let mknod = Operation::Mknod {
                    path: "probe-d".into(),
                    what,
                    mode: 0o600,
                };
                // Also for root of a container, who may not.
                if ask(mknod).is_err() {
                    features.root = false;
                    features.lacking.extend([Kind::Rwhiteout, Kind::Chown]);
                }
            }
            false => features.lacking.extend([Kind::Rwhiteout, Kind::Chown]),
        }
        let name = || "probe".to_owned();
        if !subvolume || ask(Operation::Snapshot { name: name() }).is_err() {
            features.lacking.push(Kind::Snapshot);
        } else if ask(Operation::DropSnapshot { name: name() }).is_err() {
            // Users may make them, but not remove them.
            features.lacking.push(Kind::Snapshot);
        }
        for name in ["probe-a", "probe-b", "probe-c", "probe-d"] {
            match ask(Operation::Unlink { path: name.into() }) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        features.lacking.sort();
        features.lacking.dedup();
        Ok(features)
    }

    /// Whether a kind is left out.
    pub fn lacks(&self, kind: Kind) -> bool {
        self.lacking.contains(&kind)
    }

    /// The mix without what is lacking.
    pub fn restrict(&self, mix: &Mix) -> Mix {
        let mut mix = mix.clone();
        for kind in &self.lacking {
            mix.without(*kind);
        }
        mix
    }
}

/// A refusal that says "not here"; every other is the run's first finding.
fn lacks(_kind: Kind, error: Errno) -> Result<(), Errno> {
    match error {
        Errno::OPNOTSUPP
        | Errno::NOSYS
        | Errno::INVAL
        | Errno::NOTTY
        | Errno::PERM
        | Errno::ACCESS
        | Errno::NODEV
        | Errno::XDEV => Ok(()),
        other => Err(other),
    }
}

/// Makes the folder `tree`: as a subvolume where that is possible; whether it was.
pub fn make_tree(folder: &Folder) -> Result<bool, Errno> {
    match subvolume::create(folder.tree()) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Err(Errno::EXIST),
        Err(_) => {
            rustix::fs::mkdir(folder.tree(), rustix::fs::Mode::from_raw_mode(0o755))?;
            Ok(false)
        }
    }
}
