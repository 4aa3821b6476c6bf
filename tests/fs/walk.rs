//! A walk by function calls, in the words of the golden manifests.

use btrfuse::Error;
use btrfuse::fs::{Attr, FileKind, Filesystem, NodeId, Whence};
use btrfuse_test_support::Manifest;
use btrfuse_test_support::walk::{Record, to_hex};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Everything below `top`.
pub fn walk(fs: &Filesystem, top: NodeId) -> Manifest {
    let mut records = Vec::new();
    let root = fs.getattr(top).expect("a root");
    visit(fs, &root, Vec::new(), &Value::Null, &mut records);
    records.sort_by(|a, b| a.path.cmp(&b.path));
    Manifest(records)
}

fn visit(
    fs: &Filesystem,
    attr: &Attr,
    path: Vec<u8>,
    parent_subvol: &Value,
    out: &mut Vec<Record>,
) {
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| {
        fields.insert(key.into(), value);
    };
    let kind = match attr.kind {
        FileKind::Regular => "file",
        FileKind::Directory => "dir",
        FileKind::Symlink => "symlink",
        FileKind::CharDevice => "chr",
        FileKind::BlockDevice => "blk",
        FileKind::Fifo => "fifo",
        FileKind::Socket => "socket",
    };
    put("type", kind.into());
    put("mode", format!("{:04o}", attr.mode & 0o7777).into());
    put("uid", attr.uid.into());
    put("gid", attr.gid.into());
    put("size", attr.size.into());
    put("nlink", attr.nlink.into());
    put("ino", attr.ino.into());
    put("blocks", attr.blocks.into());
    let stub = attr.kind == FileKind::Directory && attr.ino == 2;
    let subvol = if stub || attr.kind != FileKind::Directory {
        parent_subvol.clone()
    } else {
        fs.ino_lookup(attr.node, 0, 256)
            .expect("a subvolume")
            .0
            .into()
    };
    put("subvol", subvol.clone());
    if stub {
        put("stub", true.into());
    } else {
        let time = |time: btrfuse::fs::Timestamp| -> Value {
            (time.sec * 1_000_000_000 + i64::from(time.nsec)).into()
        };
        put("mtime_ns", time(attr.mtime));
        put("btime_ns", time(attr.btime));
    }
    if matches!(attr.kind, FileKind::CharDevice | FileKind::BlockDevice) {
        put(
            "rdev",
            json!([libc::major(attr.rdev), libc::minor(attr.rdev)]),
        );
    }
    if attr.kind == FileKind::Symlink {
        match String::from_utf8(fs.readlink(attr.node).expect("a target")) {
            Ok(target) => put("target", target.into()),
            Err(raw) => put("target_hex", to_hex(raw.as_bytes()).into()),
        }
    }
    let mut xattrs = Map::new();
    let list = fs.listxattr(attr.node).expect("attributes");
    for name in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let value = fs.getxattr(attr.node, name).expect("listed");
        xattrs.insert(
            String::from_utf8_lossy(name).into_owned(),
            to_hex(&value).into(),
        );
    }
    if !xattrs.is_empty() {
        put("xattrs", Value::Object(xattrs));
    }
    if attr.kind == FileKind::Regular {
        let flags = fs.get_flags(attr.node).expect("flags");
        if flags != 0 {
            put("fsflags", format!("{flags:#x}").into());
        }
        if let Err(error) = content(fs, attr, &mut put) {
            put("error", json!({"read": error.to_string()}));
        }
    }
    let mut children = Vec::new();
    if attr.kind == FileKind::Directory {
        let handle = fs.opendir(attr.node).expect("opens");
        fs.readdir(attr.node, &handle, 0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                children.push((entry.name.to_vec(), entry.ino, entry.kind));
            }
            true
        })
        .expect("lists");
        fs.releasedir(attr.node);
        put("entries", children.len().into());
    }
    out.push(Record {
        path: path.clone(),
        fields,
    });
    for (name, ino, kind) in children {
        let child = fs.lookup(attr.node, &name).expect("listed");
        assert_eq!(
            (child.ino, child.kind),
            (ino, kind),
            "the listing says something else"
        );
        let mut path = path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name);
        visit(fs, &child, path, &subvol, out);
        fs.forget(child.node, 1);
    }
}

fn content(fs: &Filesystem, attr: &Attr, put: &mut impl FnMut(&str, Value)) -> Result<(), Error> {
    let mut data = Vec::new();
    let mut at = 0;
    while at < attr.size {
        let start = match fs.seek(attr.node, at, Whence::Data) {
            Ok(start) => start,
            Err(Error::NoSuchRange) => break,
            Err(error) => return Err(error),
        };
        at = fs.seek(attr.node, start, Whence::Hole)?;
        data.push([start, at]);
    }
    let mut hash = Sha256::new();
    if attr.size <= 256 << 20 {
        let mut at = 0;
        while at < attr.size {
            let piece = fs.read(attr.node, at, 1 << 20)?;
            hash.update(&piece);
            at += piece.len() as u64;
        }
        put("sha256", to_hex(&hash.finalize()).into());
    } else {
        for [start, end] in &data {
            for at in (start / 4096 * 4096..*end).step_by(4096) {
                let mut block = fs.read(attr.node, at, 4096)?;
                block.resize(4096, 0);
                if block.iter().any(|byte| *byte != 0) {
                    hash.update(at.to_le_bytes());
                    hash.update(&block);
                }
            }
        }
        put("sha256_blocks", to_hex(&hash.finalize()).into());
    }
    put("data", json!(data));
    Ok(())
}
