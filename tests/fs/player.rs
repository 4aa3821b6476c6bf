//! Operations of a script, done on a filesystem by function call.

use btrfuse::Result;
use btrfuse::fs::{
    Caller, Filesystem, NodeId, RenameFlags, SetAttr, SetTime, Timestamp, WriteFlags, XattrMode,
};
use btrfuse_test_support::script::{Allocate, Operation, RenameKind, bytes};
use rustix::io::Errno;

/// Who does all of it.
pub const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    umask: 0,
    pid: 1,
};

/// The node of a path below `top`, with one lookup counted.
pub fn find(fs: &Filesystem, top: NodeId, path: &[u8]) -> Result<NodeId> {
    let mut at = top;
    for name in path
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty())
    {
        let next = fs.lookup(at, name);
        if at != top {
            fs.forget(at, 1);
        }
        at = next?.node;
    }
    Ok(at)
}

/// Calls `act` with the parent of a path and the last name.
pub fn in_parent<T>(
    fs: &Filesystem,
    top: NodeId,
    path: &[u8],
    act: impl FnOnce(NodeId, &[u8]) -> Result<T>,
) -> Result<T> {
    let cut = path.iter().rposition(|byte| *byte == b'/');
    let (parent, name) = cut.map_or((&b""[..], path), |cut| (&path[..cut], &path[cut + 1..]));
    let parent = find(fs, top, parent)?;
    let done = act(parent, name);
    if parent != top {
        fs.forget(parent, 1);
    }
    done
}

/// Calls `act` with the node of a path.
fn on<T>(
    fs: &Filesystem,
    top: NodeId,
    path: &[u8],
    act: impl FnOnce(NodeId) -> Result<T>,
) -> Result<T> {
    let node = find(fs, top, path)?;
    let done = act(node);
    if node != top {
        fs.forget(node, 1);
    }
    done
}

/// As a program's write: open, write, close.
fn opened<T>(fs: &Filesystem, node: NodeId, act: impl FnOnce() -> Result<T>) -> Result<T> {
    fs.open(node, libc::O_RDWR)?;
    let done = act();
    fs.release(node);
    done
}

/// Does it below `top`; the answer is in the model's words.
pub fn answer(
    fs: &Filesystem,
    top: NodeId,
    operation: &Operation,
) -> std::result::Result<(), Errno> {
    apply(fs, top, operation).map_err(|error| Errno::from_raw_os_error(error.errno()))
}

fn apply(fs: &Filesystem, top: NodeId, operation: &Operation) -> Result<()> {
    let made = |attr: btrfuse::fs::Attr| fs.forget(attr.node, 1);
    match operation {
        Operation::Create { path, mode } => in_parent(fs, top, path, |dir, name| {
            let attr = fs.create(&CALLER, dir, name, *mode, libc::O_RDWR | libc::O_EXCL)?;
            fs.release(attr.node);
            made(attr);
            Ok(())
        }),
        Operation::Mkdir { path, mode } => in_parent(fs, top, path, |dir, name| {
            fs.mkdir(&CALLER, dir, name, mode & 0o1777).map(made)
        }),
        Operation::Mknod {
            path,
            kind,
            mode,
            device,
        } => in_parent(fs, top, path, |dir, name| {
            let rdev = libc::makedev(device.0, device.1);
            fs.mknod(&CALLER, dir, name, kind.as_raw_mode() | mode, rdev)
                .map(made)
        }),
        Operation::Symlink { path, target } => in_parent(fs, top, path, |dir, name| {
            fs.symlink(&CALLER, dir, name, target).map(made)
        }),
        Operation::Link { from, to } => on(fs, top, from, |node| {
            in_parent(fs, top, to, |dir, name| fs.link(node, dir, name).map(made))
        }),
        Operation::Unlink { path } => in_parent(fs, top, path, |dir, name| fs.unlink(dir, name)),
        Operation::Rmdir { path } => in_parent(fs, top, path, |dir, name| fs.rmdir(dir, name)),
        Operation::Rename { from, to, kind } => in_parent(fs, top, from, |dir, name| {
            let mut flags = RenameFlags::default();
            match kind {
                RenameKind::Plain => {}
                RenameKind::NoReplace => flags.no_replace = true,
                RenameKind::Exchange => flags.exchange = true,
                RenameKind::Whiteout => flags.whiteout = true,
            }
            in_parent(fs, top, to, |to, new| {
                fs.rename(&CALLER, dir, name, to, new, flags)
            })
        }),
        Operation::Write {
            path,
            offset,
            len,
            seed,
        } => on(fs, top, path, |node| {
            opened(fs, node, || {
                let data = bytes(*seed, *len);
                fs.write(node, *offset, &data, WriteFlags::default())
                    .map(drop)
            })
        }),
        Operation::Append { path, len, seed } => on(fs, top, path, |node| {
            opened(fs, node, || {
                let end = fs.getattr(node)?.size;
                fs.write(node, end, &bytes(*seed, *len), WriteFlags::default())
                    .map(drop)
            })
        }),
        Operation::Truncate { path, size } => on(fs, top, path, |node| {
            set(
                fs,
                node,
                SetAttr {
                    size: Some(*size),
                    ..SetAttr::default()
                },
            )
        }),
        Operation::Fallocate {
            path,
            what,
            offset,
            len,
        } => on(fs, top, path, |node| {
            let mode = match what {
                Allocate::Grow => 0,
                Allocate::KeepSize => libc::FALLOC_FL_KEEP_SIZE,
                Allocate::Punch => libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                Allocate::Zero => libc::FALLOC_FL_ZERO_RANGE,
                Allocate::ZeroKeepSize => libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE,
            };
            fs.fallocate(node, mode, *offset, *len)
        }),
        Operation::SetXattr { path, name, value } => on(fs, top, path, |node| {
            fs.setxattr(node, name.as_bytes(), value, XattrMode::Any, false)
        }),
        Operation::RemoveXattr { path, name } => {
            on(fs, top, path, |node| fs.removexattr(node, name.as_bytes()))
        }
        Operation::Chmod { path, mode } => on(fs, top, path, |node| {
            set(
                fs,
                node,
                SetAttr {
                    mode: Some(*mode),
                    ..SetAttr::default()
                },
            )
        }),
        Operation::Chown { path, uid, gid } => on(fs, top, path, |node| {
            set(
                fs,
                node,
                SetAttr {
                    uid: Some(*uid),
                    gid: Some(*gid),
                    ..SetAttr::default()
                },
            )
        }),
        Operation::SetTimes { path, atime, mtime } => on(fs, top, path, |node| {
            let time = |(sec, nsec): (i64, u32)| Some(SetTime::At(Timestamp { sec, nsec }));
            let changes = SetAttr {
                atime: time(*atime),
                mtime: time(*mtime),
                ..SetAttr::default()
            };
            set(fs, node, changes)
        }),
        Operation::Fsync { path } => on(fs, top, path, |node| fs.fsync(node, false)),
    }
}

fn set(fs: &Filesystem, node: NodeId, changes: SetAttr) -> Result<()> {
    fs.setattr(&CALLER, node, &changes).map(drop)
}
