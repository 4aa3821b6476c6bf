//! Walks a mounted filesystem into records: what the golden manifests hold, field by field.
//!
//! One record a directory entry, sorted by path bytes. atime and ctime are left out on purpose:
//! a walk may change the first, the order of creation decides the second.

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, StatxFlags, ioctl_getflags, openat, readlinkat,
    seek, statx,
};
use rustix::io::Errno;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// A directory entry and its inode, as the manifests spell it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Relative to the mount point; empty for the root.
    pub path: Vec<u8>,
    /// The manifest's fields, without the path.
    pub fields: Map<String, Value>,
}

/// A whole walk, sorted by path bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest(pub Vec<Record>);

impl Manifest {
    /// Reads JSON lines as `walk_manifest.py` writes them.
    pub fn parse(lines: &str) -> Self {
        let records = lines.lines().map(|line| {
            let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
                panic!("not a manifest line: {line}")
            };
            let path = match (fields.remove("path"), fields.remove("path_hex")) {
                (Some(Value::String(path)), None) if path == "." => Vec::new(),
                (Some(Value::String(path)), None) => path.into_bytes(),
                (None, Some(Value::String(hex))) => from_hex(&hex),
                _ => panic!("a manifest line without a path: {line}"),
            };
            Record { path, fields }
        });
        Self(records.collect())
    }

    /// As JSON lines.
    pub fn to_lines(&self) -> String {
        let mut out = String::new();
        for record in &self.0 {
            let mut fields = record.fields.clone();
            let (key, path) = match std::str::from_utf8(&record.path) {
                Ok("") => ("path", ".".to_owned()),
                Ok(path) => ("path", path.to_owned()),
                Err(_) => ("path_hex", to_hex(&record.path)),
            };
            fields.insert(key.into(), path.into());
            out.push_str(&Value::Object(fields).to_string());
            out.push('\n');
        }
        out
    }

    /// The record of a path.
    pub fn get(&self, path: &[u8]) -> Option<&Record> {
        self.0
            .binary_search_by(|record| record.path.as_slice().cmp(path))
            .ok()
            .map(|at| &self.0[at])
    }
}

/// Walks everything under a mount point.
#[track_caller]
pub fn walk(mount_point: &Path) -> Manifest {
    let root = rustix::fs::open(
        mount_point,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .unwrap_or_else(|error| panic!("{}: {error}", mount_point.display()));
    let mut records = Vec::new();
    visit(
        root.as_fd(),
        OsStr::new("."),
        Vec::new(),
        &Value::Null,
        &mut records,
    );
    records.sort_by(|a: &Record, b| a.path.cmp(&b.path));
    Manifest(records)
}

fn visit(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    path: Vec<u8>,
    parent_subvol: &Value,
    out: &mut Vec<Record>,
) {
    let mut fields = Map::new();
    let stat = match statx(
        parent,
        name,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS | StatxFlags::BTIME,
    ) {
        Ok(stat) => stat,
        Err(error) => {
            fields.insert("type".into(), "unreadable".into());
            fields.insert("error".into(), json!({"lstat": errno_name(error)}));
            out.push(Record { path, fields });
            return;
        }
    };
    let mut errors = Map::new();
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let mut put = |key: &str, value: Value| fields.insert(key.into(), value);
    put("type", kind_name(kind).into());
    put("mode", format!("{:04o}", stat.stx_mode & 0o7777).into());
    put("uid", stat.stx_uid.into());
    put("gid", stat.stx_gid.into());
    put("size", stat.stx_size.into());
    put("nlink", stat.stx_nlink.into());
    put("ino", stat.stx_ino.into());
    put("blocks", stat.stx_blocks.into());
    let stub = kind == FileType::Directory && stat.stx_ino == 2;
    if stub {
        put("stub", true.into());
    } else {
        put(
            "mtime_ns",
            nanoseconds(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        );
        let born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        let btime = || nanoseconds(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec);
        put("btime_ns", if born { btime() } else { Value::Null });
    }
    if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
        put("rdev", json!([stat.stx_rdev_major, stat.stx_rdev_minor]));
    }
    if kind == FileType::Symlink {
        match readlinkat(parent, name, Vec::new()).map(|target| target.into_bytes()) {
            Ok(target) => match String::from_utf8(target) {
                Ok(target) => put("target", target.into()),
                Err(raw) => put("target_hex", to_hex(raw.as_bytes()).into()),
            },
            Err(error) => errors.insert("readlink".into(), errno_name(error).into()),
        };
    }
    match xattrs(parent, name) {
        Ok(xattrs) if xattrs.is_empty() => {}
        Ok(xattrs) => {
            fields.insert("xattrs".into(), Value::Object(xattrs));
        }
        Err(error) => {
            errors.insert("xattr".into(), errno_name(error).into());
        }
    }
    if kind == FileType::RegularFile
        && let Err(error) = read_file(parent, name, stat.stx_size, &mut fields)
    {
        errors.insert("read".into(), errno_name(error).into());
    }
    let mut subvol = parent_subvol.clone();
    let mut children = None;
    if kind == FileType::Directory {
        match open_directory(parent, name) {
            Ok(directory) => {
                if !stub {
                    match subvol_of(&directory) {
                        Ok(id) => subvol = id.into(),
                        Err(error) => {
                            errors.insert("subvol".into(), errno_name(error).into());
                        }
                    }
                }
                match names_in(&directory) {
                    Ok(names) => {
                        fields.insert("entries".into(), names.len().into());
                        children = Some((directory, names));
                    }
                    Err(error) => {
                        errors.insert("readdir".into(), errno_name(error).into());
                    }
                }
            }
            Err(error) => {
                errors.insert("open".into(), errno_name(error).into());
            }
        }
    }
    fields.insert("subvol".into(), subvol.clone());
    if !errors.is_empty() {
        fields.insert("error".into(), Value::Object(errors));
    }
    out.push(Record {
        path: path.clone(),
        fields,
    });
    let Some((directory, names)) = children else {
        return;
    };
    for name in names {
        let mut child = path.clone();
        if !child.is_empty() {
            child.push(b'/');
        }
        child.extend(name.as_bytes());
        visit(directory.as_fd(), &name, child, &subvol, out);
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(parent, name, flags, Mode::empty())
}

fn names_in(directory: &OwnedFd) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Files over this are hashed by their data blocks only, as the manifests do.
const WHOLE_HASH_MAX: u64 = 256 << 20;

fn read_file(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    size: u64,
    fields: &mut Map<String, Value>,
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(parent, name, flags | OFlags::NOATIME, Mode::empty())?;
    let data = data_map(&file, size)?;
    fields.insert("data".into(), json!(data));
    let (key, digest) = if size <= WHOLE_HASH_MAX {
        ("sha256", whole_hash(&file)?)
    } else {
        ("sha256_blocks", block_hash(&file, &data)?)
    };
    fields.insert(key.into(), digest.into());
    let flags = ioctl_getflags(&file)?.bits();
    if flags != 0 {
        fields.insert("fsflags".into(), format!("{flags:#x}").into());
    }
    Ok(())
}

fn data_map(file: &OwnedFd, size: u64) -> Result<Vec<[u64; 2]>, Errno> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        at = seek(file, SeekFrom::Hole(start))?;
        out.push([start, at]);
    }
    Ok(out)
}

fn whole_hash(file: &OwnedFd) -> Result<String, Errno> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match rustix::io::pread(file, &mut buffer, at)? {
            0 => return Ok(to_hex(&hash.finalize())),
            len => {
                hash.update(&buffer[..len]);
                at += len as u64;
            }
        }
    }
}

fn block_hash(file: &OwnedFd, data: &[[u64; 2]]) -> Result<String, Errno> {
    let mut hash = Sha256::new();
    for &[start, end] in data {
        for at in (start / 4096 * 4096..end).step_by(4096) {
            let mut block = [0; 4096];
            rustix::io::pread(file, &mut block, at)?;
            if block.iter().any(|&byte| byte != 0) {
                hash.update(at.to_le_bytes());
                hash.update(block);
            }
        }
    }
    Ok(to_hex(&hash.finalize()))
}

fn xattrs(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Map<String, Value>, Errno> {
    // There is no lgetxattrat: the magic link leads there, whatever the depth.
    let mut path = OsString::from(format!("/proc/self/fd/{}/", parent.as_raw_fd()));
    path.push(name);
    let mut names = vec![0_u8; 65_536];
    let len = rustix::fs::llistxattr(&path, &mut names[..])?;
    let mut out = Map::new();
    let mut value = vec![0_u8; 65_536];
    for key in names[..len]
        .split(|&byte| byte == 0)
        .filter(|key| !key.is_empty())
    {
        let key = OsStr::from_bytes(key);
        let len = rustix::fs::lgetxattr(&path, key, &mut value[..])?;
        out.insert(
            key.to_string_lossy().into_owned(),
            to_hex(&value[..len]).into(),
        );
    }
    Ok(out)
}

/// The tree that an open directory's inode belongs to.
pub fn subvol_of(directory: impl AsFd) -> Result<u64, Errno> {
    const BTRFS_IOC_INO_LOOKUP: libc::c_ulong = 0xd000_9412;
    // struct btrfs_ioctl_ino_lookup_args: treeid, objectid, name[4080].
    let mut arguments = [0_u64; 512];
    arguments[1] = 256;
    let fd = directory.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for the whole call, and the buffer has the 4096 bytes that
    // the command's own encoding says.
    let result = unsafe { libc::ioctl(fd, BTRFS_IOC_INO_LOOKUP, arguments.as_mut_ptr()) };
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).expect("an errno"));
    }
    Ok(arguments[0])
}

fn nanoseconds(seconds: i64, nanoseconds: u32) -> Value {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    match i64::try_from(total) {
        Ok(total) => total.into(),
        Err(_) => total.to_string().into(),
    }
}

fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "dir",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "chr",
        FileType::BlockDevice => "blk",
        FileType::Unknown => "unknown",
    }
}

/// The name that programs use; the number where we have none.
pub fn errno_name(error: Errno) -> String {
    let known = match error {
        Errno::PERM => "EPERM",
        Errno::NOENT => "ENOENT",
        Errno::IO => "EIO",
        Errno::TOOBIG => "E2BIG",
        Errno::BADF => "EBADF",
        Errno::FAULT => "EFAULT",
        Errno::NODEV => "ENODEV",
        Errno::TXTBSY => "ETXTBSY",
        Errno::SPIPE => "ESPIPE",
        Errno::ACCESS => "EACCES",
        Errno::BUSY => "EBUSY",
        Errno::EXIST => "EEXIST",
        Errno::XDEV => "EXDEV",
        Errno::NOTDIR => "ENOTDIR",
        Errno::ISDIR => "EISDIR",
        Errno::INVAL => "EINVAL",
        Errno::NOTTY => "ENOTTY",
        Errno::FBIG => "EFBIG",
        Errno::NOSPC => "ENOSPC",
        Errno::ROFS => "EROFS",
        Errno::MLINK => "EMLINK",
        Errno::RANGE => "ERANGE",
        Errno::NAMETOOLONG => "ENAMETOOLONG",
        Errno::NOTEMPTY => "ENOTEMPTY",
        Errno::LOOP => "ELOOP",
        Errno::NODATA => "ENODATA",
        Errno::OVERFLOW => "EOVERFLOW",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        Errno::STALE => "ESTALE",
        Errno::UCLEAN => "EUCLEAN",
        Errno::NXIO => "ENXIO",
        Errno::NOSYS => "ENOSYS",
        Errno::NOTCONN => "ENOTCONN",
        other => return other.raw_os_error().to_string(),
    };
    known.to_owned()
}

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            write!(out, "{byte:02x}").expect("strings grow");
            out
        })
}

fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}
