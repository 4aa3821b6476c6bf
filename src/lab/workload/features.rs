//! What a run may ask for: what the filesystem under it can do, and what its user may.
//!
//! Both are found out by trying ([`super::probe`]), never from a user's number: root of a
//! container may less than root, and a process with capabilities more than a user.

use super::mix::{Kind, Mix};
use super::operation::{Arena, Operation, Special};
use super::spec::Line;
use serde::{Deserialize, Serialize};

/// Kinds that are left out, and who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// User and group of new files.
    pub owner: (u32, u32),
    /// `tree` is a subvolume.
    pub subvolume: bool,
    /// Attributes of some kilobytes, dozens a file.
    pub large_xattrs: bool,
    /// May make devices.
    pub devices: bool,
    /// May name attributes `trusted.`.
    pub trusted: bool,
    /// Opens files whatever their mode says, and keeps set-id bits when it writes.
    pub any_mode: bool,
    /// What the filesystem can't.
    pub lacking: Vec<Kind>,
    /// What it can, and this user may not.
    pub denied: Vec<Kind>,
}

impl Features {
    /// Whether a kind is left out.
    pub fn lacks(&self, kind: Kind) -> bool {
        self.lacking.contains(&kind) || self.denied.contains(&kind)
    }

    /// The mix without what is left out.
    pub fn restrict(&self, mix: &Mix) -> Mix {
        let mut mix = mix.clone();
        for kind in self.lacking.iter().chain(&self.denied) {
            mix.without(*kind);
        }
        mix
    }

    /// A mode for a file as near to `mode` as this user can use: readable and writable by its
    /// owner, and without the set-id bits that users lose whenever they write.
    pub fn mode(&self, mode: u32) -> u32 {
        match self.any_mode {
            true => mode,
            false => mode & 0o777 | 0o600,
        }
    }

    /// The same for what may be a directory, which its owner must be able to pass.
    pub fn brawl_mode(&self, mode: u32) -> u32 {
        match self.any_mode {
            true => mode,
            false => mode & 0o777 | 0o700,
        }
    }

    /// Whether a line of a log, which somebody else may have written elsewhere, is left out.
    pub fn leaves_out(&self, line: &Line) -> bool {
        if self.lacks(line.kind) {
            return true;
        }
        match &line.op {
            Operation::Mknod { what, mode, .. } => {
                let device = matches!(what, Special::Character { .. } | Special::Block { .. });
                (device && !self.devices) || self.mode(*mode) != *mode
            }
            Operation::Create { mode, .. } => self.mode(*mode) != *mode,
            // Of a directory too: its mode lets the owner in, and may be sticky.
            Operation::Chmod { mode, .. } => match line.arena {
                Arena::Own => self.mode(mode & 0o6777) != mode & 0o6777,
                Arena::Shared => self.brawl_mode(*mode) != *mode,
            },
            Operation::SetXattr { name, .. }
            | Operation::GetXattr { name, .. }
            | Operation::RemoveXattr { name, .. } => {
                self.lacks(Kind::Setfattr) || (name.starts_with("trusted.") && !self.trusted)
            }
            _ => false,
        }
    }

    /// What this user may not, for the report.
    pub fn denials(&self) -> Vec<&'static str> {
        let parts = [
            (self.devices, Kind::Mknod, "mknod of devices"),
            (self.trusted, Kind::Setfattr, "setfattr of trusted.*"),
            (
                self.any_mode,
                Kind::Chmod,
                "modes that shut the owner out, set-id bits",
            ),
        ];
        let kinds = self.denied.iter().map(|kind| kind.name());
        let parts = parts
            .into_iter()
            .filter(|(may, kind, _)| !may && !self.lacks(*kind));
        kinds.chain(parts.map(|(.., words)| words)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::workload::stamp::Stamp;

    fn line(kind: Kind, op: Operation) -> Line {
        Line {
            p: 0,
            n: 0,
            us: 0,
            kind,
            arena: Arena::Own,
            op,
        }
    }

    #[test]
    fn what_a_user_may_not_is_left_out_of_a_log_that_root_wrote() {
        let root = Features {
            devices: true,
            trusted: true,
            any_mode: true,
            ..Features::default()
        };
        let user = Features {
            denied: vec![Kind::Chown],
            ..Features::default()
        };
        let device = Special::Block { major: 1, minor: 2 };
        let mknod = |what, mode| Operation::Mknod {
            path: "a".into(),
            what,
            mode,
        };
        let create = |mode| Operation::Create {
            path: "a".into(),
            mode,
        };
        let chmod = |mode| Operation::Chmod {
            path: "a".into(),
            mode,
        };
        let attribute = |name: &str| Operation::SetXattr {
            path: "a".into(),
            name: name.into(),
            len: 1,
            stamp: Stamp::new(0, 0),
        };
        let chown = Operation::Chown {
            path: "a".into(),
            uid: 1,
            gid: 1,
        };
        for (kind, operation, left_out) in [
            (Kind::Mknod, mknod(device, 0o600), true),
            (Kind::Mknod, mknod(Special::Fifo, 0o600), false),
            (Kind::Creat, create(0o4755), true),
            (Kind::Creat, create(0o444), true),
            (Kind::Creat, create(0o644), false),
            (Kind::Chmod, chmod(0o000), true),
            (Kind::Chmod, chmod(0o1755), false),
            (Kind::Setfattr, attribute("trusted.s-1"), true),
            (Kind::Setfattr, attribute("user.s-1"), false),
            (Kind::Chown, chown, true),
        ] {
            let line = line(kind, operation);
            assert_eq!(user.leaves_out(&line), left_out, "{}", line.op);
            assert!(!root.leaves_out(&line), "{}", line.op);
        }
        assert!(root.denials().is_empty());
        assert_eq!(user.denials().len(), 4, "{:?}", user.denials());
    }
}
