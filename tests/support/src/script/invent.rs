//! What comes next in a story: mostly what succeeds, now and then what must be refused.

use super::model::Model;
use super::operation::{Allocate, Name, Operation, RenameKind};
use crate::Rng;
use rustix::fs::FileType;

/// The next operation.
pub(super) fn invent(rng: &mut Rng, model: &Model) -> Operation {
    let crowded = model.names() > 400;
    loop {
        let operation = match rng.below(100) {
            0..=13 if !crowded => Operation::Create {
                path: new_path(rng, model),
                mode: mode(rng),
            },
            14..=19 if !crowded => Operation::Mkdir {
                path: new_path(rng, model),
                mode: mode(rng) & !0o4000 | 0o700,
            },
            20..=21 if !crowded => mknod(rng, model),
            22..=24 if !crowded => {
                let target = vec![b'a' + rng.below(26) as u8; 1 + rng.below(900) as usize];
                Operation::Symlink {
                    path: new_path(rng, model),
                    target,
                }
            }
            25..=28 => match any(rng, model, |kind| kind != FileType::Directory) {
                Some(from) => Operation::Link {
                    from,
                    to: new_path(rng, model),
                },
                None => continue,
            },
            29..=37 => match any(rng, model, |kind| kind != FileType::Directory) {
                Some(path) => Operation::Unlink { path },
                None => continue,
            },
            38..=39 => match any(rng, model, |kind| kind == FileType::Directory) {
                Some(path) => Operation::Rmdir { path },
                None => continue,
            },
            40..=47 => match rename(rng, model) {
                Some(operation) => operation,
                None => continue,
            },
            48..=74 => match any(rng, model, |kind| kind == FileType::RegularFile) {
                Some(path) => data(rng, model, path),
                None => continue,
            },
            75..=82 => match any(rng, model, may_have_xattrs) {
                Some(path) => xattr(rng, model, path),
                None => continue,
            },
            83..=87 => match any(rng, model, |kind| kind != FileType::Symlink) {
                Some(path) if model.peek(&path) == Some(FileType::Directory) => Operation::Chmod {
                    path,
                    mode: mode(rng) & !0o4000 | 0o700,
                },
                Some(path) => Operation::Chmod {
                    path,
                    mode: mode(rng),
                },
                None => continue,
            },
            88..=91 => match any(rng, model, |_| true) {
                Some(path) => {
                    let (uid, gid) = (*rng.choose(OWNERS), *rng.choose(OWNERS));
                    Operation::Chown { path, uid, gid }
                }
                None => continue,
            },
            92..=97 => match any(rng, model, |_| true) {
                Some(path) => {
                    let (atime, mtime) = (time(rng), time(rng));
                    Operation::SetTimes { path, atime, mtime }
                }
                None => continue,
            },
            98 => match any(rng, model, |kind| kind == FileType::RegularFile) {
                Some(path) if rng.one_in(4) => Operation::Fsync { path },
                _ => continue,
            },
            _ => refused(rng, model),
        };
        return operation;
    }
}

const OWNERS: &[u32] = &[0, 1, 5, 1000, 65_534, 4_294_967_294];

fn may_have_xattrs(kind: FileType) -> bool {
    matches!(kind, FileType::RegularFile | FileType::Directory)
}

fn any(rng: &mut Rng, model: &Model, wanted: impl Fn(FileType) -> bool) -> Option<Name> {
    let paths = model.paths(wanted);
    if paths.is_empty() {
        None
    } else {
        Some(rng.choose(&paths).clone())
    }
}

fn new_path(rng: &mut Rng, model: &Model) -> Name {
    let mut path = match any(rng, model, |kind| kind == FileType::Directory) {
        // Deep enough to be a tree, and never near PATH_MAX.
        Some(parent) if !rng.one_in(4) && parent.len() < 1500 => parent,
        _ => Vec::new(),
    };
    if !path.is_empty() {
        path.push(b'/');
    }
    match rng.below(20) {
        0 => path.extend(std::iter::repeat_n(b'n', 255 - rng.below(40) as usize)),
        // Not UTF-8.
        1 => path.extend([b'x', 0xff, 0x80 + rng.below(64) as u8, b'\n', b' ']),
        2 => path.extend(format!("größe-{}", rng.below(1000)).as_bytes()),
        _ => path.extend(
            format!(
                "{}{}",
                rng.choose(&["file", "d", "note.", "a-b-"]),
                rng.below(5000)
            )
            .as_bytes(),
        ),
    }
    path
}

fn mode(rng: &mut Rng) -> u32 {
    match rng.below(6) {
        0 => (rng.below(0o10000)) as u32,
        1 => 0o755,
        2 => 0o600,
        _ => 0o644,
    }
}

fn time(rng: &mut Rng) -> (i64, u32) {
    let seconds = match rng.below(6) {
        0 => 0,
        1 => -(rng.below(2_000_000_000) as i64),
        2 => 2_147_483_648 + rng.below(4_000_000_000) as i64,
        _ => 1_500_000_000 + rng.below(200_000_000) as i64,
    };
    (seconds, rng.below(1_000_000_000) as u32)
}

fn mknod(rng: &mut Rng, model: &Model) -> Operation {
    let kinds = &[
        FileType::Fifo,
        FileType::Socket,
        FileType::CharacterDevice,
        FileType::BlockDevice,
    ];
    let kind = *rng.choose(kinds);
    let device = match kind {
        FileType::Fifo | FileType::Socket => (0, 0),
        _ => (rng.below(4096) as u32, rng.below(1 << 20) as u32),
    };
    Operation::Mknod {
        path: new_path(rng, model),
        kind,
        mode: mode(rng),
        device,
    }
}

fn rename(rng: &mut Rng, model: &Model) -> Option<Operation> {
    let from = any(rng, model, |_| true)?;
    let (to, kind) = match rng.below(10) {
        0 => (any(rng, model, |_| true)?, RenameKind::Exchange),
        1 => (any(rng, model, |_| true)?, RenameKind::NoReplace),
        2 => (new_path(rng, model), RenameKind::Whiteout),
        3 | 4 => (any(rng, model, |_| true)?, RenameKind::Plain),
        5 => (new_path(rng, model), RenameKind::NoReplace),
        _ => (new_path(rng, model), RenameKind::Plain),
    };
    // The kernel answers the same name, and a name below itself, before it looks at anything.
    (from != to).then_some(Operation::Rename { from, to, kind })
}

fn data(rng: &mut Rng, model: &Model, path: Name) -> Operation {
    let size = model.size(&path);
    let offset = match rng.below(8) {
        0 => 0,
        1 => size,
        2 => size / 4096 * 4096,
        3 => size + rng.below(1 << 20),
        4 => rng.below(64) * 4096,
        _ => rng.below(size.max(1)),
    };
    let offset = if offset > 48 << 20 {
        rng.below(1 << 20)
    } else {
        offset
    };
    let len = match rng.below(10) {
        0..=2 => 1 + rng.below(100),
        3..=6 => 1 + rng.below(20_000),
        7..=8 => 4096 * (1 + rng.below(32)),
        _ => 1 + rng.below(400_000),
    };
    let seed = rng.next_u64();
    match rng.below(16) {
        0..=7 => Operation::Write {
            path,
            offset,
            len: len as usize,
            seed,
        },
        8..=9 => Operation::Append {
            path,
            len: len as usize,
            seed,
        },
        10 => Operation::Truncate {
            path,
            size: rng.below(size.max(1) * 2),
        },
        11 => Operation::Truncate { path, size: offset },
        12 => Operation::Truncate { path, size: 0 },
        // Far beyond what one would store.
        13 if rng.one_in(8) => {
            let offset = (1 << 40) + rng.below(1 << 30);
            Operation::Write {
                path,
                offset,
                len: 100,
                seed,
            }
        }
        _ => {
            let what = *rng.choose(&[
                Allocate::Grow,
                Allocate::KeepSize,
                Allocate::Punch,
                Allocate::Punch,
                Allocate::Zero,
                Allocate::ZeroKeepSize,
            ]);
            Operation::Fallocate {
                path,
                what,
                offset,
                len,
            }
        }
    }
}

fn xattr(rng: &mut Rng, model: &Model, path: Name) -> Operation {
    let present = model.xattrs(&path);
    if !present.is_empty() && rng.one_in(3) {
        return Operation::RemoveXattr {
            path,
            name: rng.choose(&present).clone(),
        };
    }
    let space = rng.choose(&["user", "user", "trusted", "security"]);
    let name = match rng.below(8) {
        0 => format!("{space}.{}", "long".repeat(30)),
        _ => format!("{space}.attribute-{}", rng.below(12)),
    };
    let len = match rng.below(6) {
        0 => 0,
        1 => rng.below(3000),
        _ => rng.below(60),
    };
    let value = rng.bytes(len as usize);
    Operation::SetXattr { path, name, value }
}

fn refused(rng: &mut Rng, model: &Model) -> Operation {
    let there = any(rng, model, |_| true).unwrap_or_else(|| b"nothing".to_vec());
    let absent = [new_path(rng, model), b"-absent".to_vec()].concat();
    let absent = if absent.len() > 200 {
        b"absent".to_vec()
    } else {
        absent
    };
    match rng.below(7) {
        0 => Operation::Create {
            path: there,
            mode: 0o644,
        },
        1 => Operation::Mkdir {
            path: there,
            mode: 0o755,
        },
        2 => Operation::Unlink { path: absent },
        3 => Operation::Rmdir { path: there },
        4 => Operation::Rename {
            from: absent,
            to: there,
            kind: RenameKind::Plain,
        },
        5 => Operation::Link {
            from: there.clone(),
            to: there,
        },
        _ => Operation::RemoveXattr {
            path: absent,
            name: "user.none".into(),
        },
    }
}
