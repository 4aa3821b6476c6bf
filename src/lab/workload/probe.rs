//! What the filesystem under a run can do, and what its user may: asked once, by doing it.
//!
//! Invariant: what was made to ask is gone afterwards.

use super::features::Features;
use super::folder::Folder;
use super::invent::OWNERS;
use super::mapping;
use super::mix::Kind;
use super::name::Name;
use super::operation::{Allocate, Arena, Look, Operation, Replace, Seen, Special, Stat, Way};
use super::perform::perform;
use super::stamp::Stamp;
use super::subvolume;
use rustix::io::Errno;

/// Tries everything that some filesystems lack and some users may not, in `folder`, whose own
/// folder exists.
pub fn probe(folder: &Folder, subvolume: bool) -> Result<Features, Errno> {
    let features = Features {
        subvolume,
        ..Features::default()
    };
    let mut probe = Probe { folder, features };
    let (a, b) = (Name::from("probe-a"), Name::from("probe-b"));
    for path in [&a, &b] {
        probe.create(path, 0o600)?;
    }
    // Not who we are: directories and mounts may give new files to other groups.
    let stat = probe.stat(&a)?;
    probe.features.owner = (stat.uid, stat.gid);
    probe.write(&a, 9000)?;
    probe.contents(&a, &b)?;
    probe.attributes(&a)?;
    probe.modes()?;
    probe.devices(&a)?;
    probe.snapshots();
    for name in ["a", "b", "c", "d", "e", "f"].map(|end| format!("probe-{end}")) {
        let path = Name::from(name.as_str());
        match probe.ask(Operation::Unlink { path }) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    let mut features = probe.features;
    for kinds in [&mut features.lacking, &mut features.denied] {
        kinds.sort();
        kinds.dedup();
    }
    Ok(features)
}

struct Probe<'a> {
    folder: &'a Folder,
    features: Features,
}

impl Probe<'_> {
    fn ask(&self, operation: Operation) -> Result<Seen, Errno> {
        perform(self.folder, Arena::Own, &operation)
    }

    fn create(&self, path: &Name, mode: u32) -> Result<(), Errno> {
        let path = path.clone();
        self.ask(Operation::Create { path, mode }).map(drop)
    }

    fn write(&self, path: &Name, len: u64) -> Result<(), Errno> {
        let write = Operation::Write {
            path: path.clone(),
            offset: 0,
            len,
            stamp: Stamp::new(0, 0),
            way: Way::At,
        };
        self.ask(write).map(drop)
    }

    fn chmod(&self, path: &Name, mode: u32) -> Result<(), Errno> {
        let path = path.clone();
        self.ask(Operation::Chmod { path, mode }).map(drop)
    }

    fn stat(&self, path: &Name) -> Result<Stat, Errno> {
        match self.ask(Operation::Stat { path: path.clone() })? {
            Seen::Stat(stat) => Ok(stat),
            _ => Err(Errno::IO),
        }
    }

    /// Leaves a kind out if it was refused in words that say "not here" or "not you"; every
    /// other refusal is the run's first finding.
    fn judge<T>(&mut self, kind: Kind, answer: Result<T, Errno>) -> Result<bool, Errno> {
        match answer {
            Ok(_) => return Ok(true),
            Err(Errno::PERM | Errno::ACCESS) => self.features.denied.push(kind),
            Err(
                Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::INVAL
                | Errno::NOTTY
                | Errno::NODEV
                | Errno::XDEV,
            ) => self.features.lacking.push(kind),
            Err(other) => return Err(other),
        }
        Ok(false)
    }

    fn contents(&mut self, a: &Name, b: &Name) -> Result<(), Errno> {
        let fallocate = |what| Operation::Fallocate {
            path: b.clone(),
            what,
            offset: 0,
            len: 8192,
        };
        let copy = Operation::Copy {
            from: a.clone(),
            from_offset: 0,
            to: b.clone(),
            offset: 10_000,
            len: 9000,
        };
        let clone = Operation::Clone {
            from: a.clone(),
            from_offset: 0,
            to: b.clone(),
            offset: 4096,
            len: 4096,
        };
        let write = |way| Operation::Write {
            path: b.clone(),
            offset: 8192,
            len: 4096,
            stamp: Stamp::new(0, 0),
            way,
        };
        let read = Operation::Read {
            path: b.clone(),
            offset: 0,
            len: 8192,
            look: Look::Direct,
        };
        let seek = Operation::Seek {
            path: a.clone(),
            offset: 0,
        };
        let exchange = Operation::Rename {
            from: a.clone(),
            to: b.clone(),
            replace: Replace::Exchange,
        };
        for (kind, operation) in [
            (Kind::Fallocate, fallocate(Allocate::KeepSize)),
            (Kind::Punch, fallocate(Allocate::Punch)),
            (Kind::Zero, fallocate(Allocate::Zero)),
            (Kind::Copyrange, copy),
            (Kind::Clonerange, clone),
            (Kind::Dwrite, write(Way::Direct)),
            (Kind::Splice, write(Way::Spliced)),
            (Kind::Dread, read),
            (Kind::Seek, seek),
            (Kind::Rexchange, exchange),
        ] {
            let answer = self.ask(operation);
            self.judge(kind, answer)?;
        }
        let mapped = mapping::write(&self.folder.path(Arena::Own, a), 0, &[1]);
        if !self.judge(Kind::Mwrite, mapped)? {
            self.features.lacking.push(Kind::Mread);
        }
        Ok(())
    }

    fn attributes(&mut self, a: &Name) -> Result<(), Errno> {
        let set = |name: String, len| {
            self.ask(Operation::SetXattr {
                path: a.clone(),
                name,
                len,
                stamp: Stamp::new(0, 0),
            })
        };
        let small = set("user.s-0".to_owned(), 10);
        let trusted = small.is_ok() && set("trusted.s-0".to_owned(), 10).is_ok();
        let large = small.is_ok() && (1..40).all(|n| set(format!("user.s-{n}"), 1500).is_ok());
        self.features.trusted = trusted;
        self.features.large_xattrs = large;
        if !self.judge(Kind::Setfattr, small)? {
            self.features
                .lacking
                .extend([Kind::Removefattr, Kind::Getfattr, Kind::Listfattr]);
        }
        if !large {
            self.features.lacking.push(Kind::Xbatch);
        }
        Ok(())
    }

    /// Files that aren't the user's, by mode or by owner.
    fn modes(&mut self) -> Result<(), Errno> {
        const SET_ID: u32 = 0o6711;
        let (e, f) = (Name::from("probe-e"), Name::from("probe-f"));
        self.create(&e, SET_ID)?;
        self.write(&e, 1)?;
        let kept = self.stat(&e)?.mode == SET_ID;
        self.chmod(&e, 0)?;
        self.features.any_mode = kept && self.write(&e, 1).is_ok();
        self.create(&f, 0o600)?;
        let answer = self.foreign(&f);
        self.judge(Kind::Chown, answer).map(drop)
    }

    /// A file that was given away must still be ours to change.
    fn foreign(&self, path: &Name) -> Result<(), Errno> {
        for owner in OWNERS {
            self.ask(Operation::Chown {
                path: path.clone(),
                uid: *owner,
                gid: *owner,
            })?;
            self.chmod(path, 0o600)?;
            self.write(path, 1)?;
        }
        Ok(())
    }

    /// Also of the kind that a whiteout is, at the name that it takes away.
    fn devices(&mut self, a: &Name) -> Result<(), Errno> {
        let mknod = Operation::Mknod {
            path: "probe-d".into(),
            what: Special::Character { major: 1, minor: 2 },
            mode: 0o600,
        };
        self.features.devices = self.ask(mknod).is_ok();
        let whiteout = self.ask(Operation::Rename {
            from: a.clone(),
            to: "probe-c".into(),
            replace: Replace::Whiteout,
        });
        self.judge(Kind::Rwhiteout, whiteout).map(drop)
    }

    fn snapshots(&mut self) {
        if !self.features.subvolume {
            return self.features.lacking.push(Kind::Snapshot);
        }
        // Users may make subvolumes, but not remove them unless a mount option says so; what is
        // empty goes as a directory does, a snapshot would stay.
        let path = self.folder.snapshot("probe");
        let empty = subvolume::create(&path).and_then(|()| subvolume::destroy(&path));
        if empty.is_err() {
            let _ = rustix::fs::rmdir(&path);
            return self.features.denied.push(Kind::Snapshot);
        }
        let name = || "probe".to_owned();
        let made = self.ask(Operation::Snapshot { name: name() });
        if made.is_err() || self.ask(Operation::DropSnapshot { name: name() }).is_err() {
            self.features.lacking.push(Kind::Snapshot);
        }
    }
}
