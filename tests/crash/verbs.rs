//! Steps by their names, for workloads to be read aloud.

use crate::step::Step;
use btrfuse_test_support::script::{Allocate, Operation, RenameKind};
use rustix::fs::FileType;

pub fn create(path: &str) -> Step {
    Step::Do(Operation::Create {
        path: path.into(),
        mode: 0o644,
    })
}

pub fn mkdir(path: &str) -> Step {
    Step::Do(Operation::Mkdir {
        path: path.into(),
        mode: 0o755,
    })
}

pub fn symlink(path: &str, target: &str) -> Step {
    Step::Do(Operation::Symlink {
        path: path.into(),
        target: target.into(),
    })
}

pub fn fifo(path: &str) -> Step {
    Step::Do(Operation::Mknod {
        path: path.into(),
        kind: FileType::Fifo,
        mode: 0o600,
        device: (0, 0),
    })
}

pub fn set_xattr(path: &str, name: &str, fill: u8) -> Step {
    Step::Do(Operation::SetXattr {
        path: path.into(),
        name: name.into(),
        value: vec![fill; 20],
    })
}

pub fn remove_xattr(path: &str, name: &str) -> Step {
    Step::Do(Operation::RemoveXattr {
        path: path.into(),
        name: name.into(),
    })
}

pub fn chmod(path: &str, mode: u32) -> Step {
    Step::Do(Operation::Chmod {
        path: path.into(),
        mode,
    })
}

pub fn link(from: &str, to: &str) -> Step {
    Step::Do(Operation::Link {
        from: from.into(),
        to: to.into(),
    })
}

pub fn unlink(path: &str) -> Step {
    Step::Do(Operation::Unlink { path: path.into() })
}

pub fn rmdir(path: &str) -> Step {
    Step::Do(Operation::Rmdir { path: path.into() })
}

pub fn rename(from: &str, to: &str) -> Step {
    rename_as(from, to, RenameKind::Plain)
}

pub fn exchange(from: &str, to: &str) -> Step {
    rename_as(from, to, RenameKind::Exchange)
}

fn rename_as(from: &str, to: &str, kind: RenameKind) -> Step {
    Step::Do(Operation::Rename {
        from: from.into(),
        to: to.into(),
        kind,
    })
}

pub fn write(path: &str, offset: u64, len: usize) -> Step {
    let seed = offset + 11;
    Step::Do(Operation::Write {
        path: path.into(),
        offset,
        len,
        seed,
    })
}

pub fn append(path: &str, len: usize) -> Step {
    Step::Do(Operation::Append {
        path: path.into(),
        len,
        seed: 21,
    })
}

pub fn truncate(path: &str, size: u64) -> Step {
    Step::Do(Operation::Truncate {
        path: path.into(),
        size,
    })
}

pub fn allocate(path: &str, what: Allocate, offset: u64, len: u64) -> Step {
    Step::Do(Operation::Fallocate {
        path: path.into(),
        what,
        offset,
        len,
    })
}

pub fn copy(from: &'static str, at: u64, to: &'static str, to_at: u64, len: u64) -> Step {
    Step::Copy {
        from,
        to,
        at,
        to_at,
        len,
    }
}

pub fn snapshot(from: &'static str, to: &'static str) -> Step {
    Step::Snapshot { from, to }
}

pub fn held_write(offset: u64, len: usize) -> Step {
    Step::HeldWrite {
        offset,
        len,
        seed: 31,
    }
}

pub fn fsync(path: &str) -> Step {
    Step::Do(Operation::Fsync { path: path.into() })
}
