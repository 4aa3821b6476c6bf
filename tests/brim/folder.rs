//! One writer's folder, and what must be in it: whatever was answered with success can be read, and what
//! was refused left things as they were.
//!
//! Invariant: a block's tag is the number of the write that was acknowledged last. After a write that
//! was refused it may be the old or the new one: the page cache may have it, the filesystem not.

use crate::files::{close, create, pattern, refused};
use btrfuse_test_support::Rng;
use rustix::fs::{Advice, FallocateFlags, XattrFlags};
use rustix::io::{Errno, Result};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Content is told apart by so many bytes.
pub const BLOCK: u64 = 4096;

/// What one block may hold: pieces of `pattern(tag)`, or zeros for tag 0.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Block {
    now: u64,
    perhaps: u64,
}

impl Block {
    fn sure(tag: u64) -> Self {
        Self {
            now: tag,
            perhaps: tag,
        }
    }

    fn is_sure(self) -> bool {
        self.now == self.perhaps
    }
}

#[derive(Clone)]
enum Node {
    File { len: u64, blocks: Vec<Block> },
    Symlink(u64),
    Folder,
}

#[derive(Clone)]
struct Inode {
    node: Node,
    attributes: Vec<(u64, usize)>,
}

/// See the module.
#[derive(Clone)]
pub struct Folder {
    path: PathBuf,
    rng: Rng,
    next: u64,
    names: BTreeMap<String, usize>,
    inodes: Vec<Inode>,
}

/// How often something was done, and how often there was no space.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub done: u64,
    pub refused: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.refused += other.refused;
    }
}

impl Tally {
    fn count(&mut self, refused: bool) {
        self.done += u64::from(!refused);
        self.refused += u64::from(refused);
    }
}

impl Folder {
    /// Nothing in it yet. It is made by [`Folder::make`].
    pub fn new(path: PathBuf, seed: u64) -> Self {
        Self {
            path,
            rng: Rng::new(seed),
            next: seed << 32,
            names: BTreeMap::new(),
            inodes: Vec::new(),
        }
    }

    /// mkdir; false when there is no space.
    pub fn make(&self) -> bool {
        !refused("mkdir", rustix::fs::mkdir(&self.path, 0o755.into()))
    }

    /// The same content, elsewhere: in a snapshot, or on the next mount.
    pub fn at(&self, root: &Path) -> Self {
        let name = self.path.file_name().expect("a folder's name");
        Self {
            path: root.join(name),
            ..self.clone()
        }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    fn tag(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn enter(&mut self, name: String, node: Node) {
        let attributes = Vec::new();
        self.inodes.push(Inode { node, attributes });
        self.names.insert(name, self.inodes.len() - 1);
    }

    /// What the next file of a filling of so many bytes is: its length, smaller after refusals, whether
    /// it is preallocated, and whether it is synced.
    pub fn draw_file(&mut self, total: u64, refusals: u32) -> (u64, bool, bool) {
        // A large image would take minutes of small files.
        let scale = total.div_ceil(64 << 20);
        let most = match self.rng.below(8) {
            0..=2 => (64 << 10) * scale,
            3..=5 => (1 << 20) * scale,
            6 => (4 << 20) * scale,
            _ => total / 8,
        };
        let len = (1 + self.rng.below(most)) >> (3 * refusals);
        (len.max(1), self.rng.one_in(6), self.rng.one_in(8))
    }

    /// A file of so many bytes: written, or preallocated and not written. What was refused is removed
    /// again, which must work.
    pub fn file(&mut self, len: u64, preallocate: bool, sync: bool) -> bool {
        let tag = self.tag();
        let name = format!("f{tag:x}");
        let path = self.path_of(&name);
        let file = match create(&path) {
            Ok(file) => file,
            answer => return !refused("creating a file", answer),
        };
        let count = len.div_ceil(BLOCK);
        let written = match preallocate {
            true => rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len),
            false => (0..len)
                .step_by(1 << 20)
                .try_for_each(|at| write_at(&file, at, (len - at).min(1 << 20), tag + at / BLOCK)),
        };
        let synced = match sync {
            true => rustix::fs::fsync(&file),
            false => Ok(()),
        };
        if refused("writing a file", written.and(synced).and(close(file))) {
            remove(&path);
            return false;
        }
        let first = if preallocate { 0 } else { tag };
        let blocks = (0..count)
            .map(|at| Block::sure(if first == 0 { 0 } else { first + at }))
            .collect();
        self.next += count;
        self.enter(name, Node::File { len, blocks });
        true
    }

    /// Something that takes metadata only.
    pub fn name(&mut self) -> bool {
        let tag = self.tag();
        let name = format!("n{tag:x}");
        let path = self.path_of(&name);
        let kind = self.rng.below(10);
        match kind {
            0 => self.file(0, false, false),
            1..=3 => {
                let len = 1000 + self.rng.below(1000);
                self.file(len, false, false)
            }
            4 | 5 => {
                let made = std::os::unix::fs::symlink(target(tag), &path);
                let done = !refused("symlink", ours(made));
                if done {
                    self.enter(name, Node::Symlink(tag));
                }
                done
            }
            6 => {
                let done = !refused("mkdir", rustix::fs::mkdir(&path, 0o755.into()));
                if done {
                    self.enter(name, Node::Folder);
                }
                done
            }
            7 => {
                let Some((other, at)) = self.any(|node| matches!(node, Node::File { .. })) else {
                    return true;
                };
                let linked = ours(fs::hard_link(self.path_of(&other), &path));
                if linked == Err(Errno::MLINK) {
                    // An old format's limit, a few hundred names in one folder.
                    return true;
                }
                let done = !refused("link", linked);
                if done {
                    self.names.insert(name, at);
                }
                done
            }
            _ => {
                let Some((other, at)) = self.any(|node| !matches!(node, Node::Symlink(_))) else {
                    return true;
                };
                let len = 500 + self.rng.below(2500) as usize;
                let value = pattern(tag, len);
                let key = format!("user.{tag:x}");
                let flags = XattrFlags::CREATE;
                let set = rustix::fs::setxattr(self.path_of(&other), key, &value, flags);
                let done = !refused("setxattr", set);
                if done {
                    self.inodes[at].attributes.push((tag, len));
                }
                done
            }
        }
    }

    fn any(&mut self, want: impl Fn(&Node) -> bool) -> Option<(String, usize)> {
        if self.names.is_empty() {
            return None;
        }
        for _ in 0..8 {
            // Names begin with the tag, so a random one is near a random place.
            let tag = self.next - self.rng.below((self.next & 0xffff_ffff) + 1);
            let from = format!("{}{tag:x}", if self.rng.one_in(2) { "f" } else { "n" });
            let near = self.names.range(from..).next();
            let (name, at) = near.or(self.names.first_key_value()).expect("not empty");
            if want(&self.inodes[*at].node) {
                return Some((name.clone(), *at));
            }
        }
        None
    }

    /// Writes over some blocks of a file that is there, in place for a program.
    pub fn overwrite(&mut self, sync: bool, tally: &mut Tally) {
        let Some((name, at)) = self.any(|node| matches!(node, Node::File { len: 1.., .. })) else {
            return;
        };
        let Node::File { len, blocks } = &self.inodes[at].node else {
            unreachable!("chosen above");
        };
        let (len, count) = (*len, blocks.len() as u64);
        let first = self.rng.below(count);
        let some = 1 + self.rng.below((count - first).min(64));
        let range = first as usize..(first + some) as usize;
        if !blocks[range.clone()].iter().all(|block| block.is_sure()) {
            return;
        }
        let tag = self.tag();
        self.next += some;
        let start = first * BLOCK;
        let bytes = (some * BLOCK).min(len - start);
        let written = open(&self.path_of(&name)).and_then(|file| {
            let written = write_at(&file, start, bytes, tag);
            let synced = if sync {
                rustix::fs::fsync(&file)
            } else {
                Ok(())
            };
            written.and(synced).and(close(file))
        });
        let refused = refused("overwriting", written);
        tally.count(refused);
        let Node::File { blocks, .. } = &mut self.inodes[at].node else {
            unreachable!("chosen above");
        };
        for (new, block) in (tag..).zip(&mut blocks[range]) {
            block.perhaps = new;
            if !refused {
                block.now = new;
            }
        }
    }

    /// Cuts a file at the end of a block, at any byte, or to nothing. Only the second may need space,
    /// unless a snapshot shares the file.
    pub fn truncate(&mut self, shared: bool, tally: &mut Tally) {
        let Some((name, at)) = self.any(|node| matches!(node, Node::File { len: 1.., .. })) else {
            return;
        };
        let Node::File { len, .. } = self.inodes[at].node else {
            unreachable!("chosen above");
        };
        let shorter = match self.rng.below(3) {
            0 => 0,
            1 => self.rng.below(len.div_ceil(BLOCK)) * BLOCK,
            _ => self.rng.below(len),
        };
        let cut = open(&self.path_of(&name)).and_then(|file| {
            let cut = rustix::fs::ftruncate(&file, shorter);
            cut.and(close(file))
        });
        let refused = refused("truncate", cut);
        assert!(
            !refused || shared || shorter % BLOCK != 0,
            "truncating to {shorter} was refused"
        );
        tally.count(refused);
        if !refused && let Node::File { len, blocks } = &mut self.inodes[at].node {
            *len = shorter;
            blocks.truncate(shorter.div_ceil(BLOCK) as usize);
        }
    }

    /// mv, which keeps the number in the name.
    pub fn rename(&mut self, tally: &mut Tally) {
        let Some((name, _)) = self.any(|_| true) else {
            return;
        };
        let new = format!("{name}-{:x}", self.tag());
        let moved = fs::rename(self.path_of(&name), self.path_of(&new));
        let refused = refused("mv", ours(moved));
        tally.count(refused);
        if !refused {
            let at = self.names.remove(&name).expect("chosen above");
            self.names.insert(new, at);
        }
    }

    /// rm of one name, any of them. `Err` when there was no space for it.
    pub fn remove_one(&mut self) -> std::result::Result<(), String> {
        let Some((name, at)) = self.any(|_| true) else {
            return Ok(());
        };
        let path = self.path_of(&name);
        let removed = match self.inodes[at].node {
            Node::Folder => fs::remove_dir(&path),
            _ => fs::remove_file(&path),
        };
        if refused("rm", ours(removed)) {
            return Err(format!("rm {}: no space", path.display()));
        }
        self.names.remove(&name);
        Ok(())
    }

    /// rmdir of the folder itself, empty by now.
    pub fn remove(&self) {
        fs::remove_dir(&self.path)
            .unwrap_or_else(|error| panic!("rmdir {}: {error}", self.path.display()));
    }

    /// Everything that is there, and nothing else, with its content; from the filesystem, as far as the
    /// page cache can be told to let go.
    pub fn verify(&self) {
        let entries = fs::read_dir(&self.path).expect("a folder");
        let mut found: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("ASCII")
            })
            .collect();
        found.sort();
        let mut expected: Vec<&String> = self.names.keys().collect();
        expected.sort();
        assert!(
            found.iter().eq(expected.iter().copied()),
            "{}: {} names, {} are expected",
            self.path.display(),
            found.len(),
            expected.len()
        );
        for (name, &at) in &self.names {
            self.verify_one(&self.path_of(name), &self.inodes[at]);
        }
    }

    fn verify_one(&self, path: &Path, inode: &Inode) {
        match &inode.node {
            Node::Folder => assert!(path.is_dir(), "{} is no folder", path.display()),
            Node::Symlink(tag) => {
                let leads = fs::read_link(path).expect("a symlink");
                assert_eq!(leads.to_str(), Some(&*target(*tag)), "{}", path.display());
            }
            Node::File { len, blocks } => {
                let file = fs::File::open(path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let has = file.metadata().expect("open").size();
                assert_eq!(has, *len, "{}'s size", path.display());
                let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
                let mut got = vec![0; BLOCK as usize];
                for (at, block) in (0..).step_by(BLOCK as usize).zip(blocks) {
                    let got = &mut got[..(len - at).min(BLOCK) as usize];
                    file.read_exact_at(got, at)
                        .unwrap_or_else(|error| panic!("{} at {at}: {error}", path.display()));
                    let is = |tag: u64| match tag {
                        0 => got.iter().all(|byte| *byte == 0),
                        tag => *got == pattern(tag, got.len())[..],
                    };
                    assert!(
                        is(block.now) || (!block.is_sure() && is(block.perhaps)),
                        "{} at {at}: not what write {:x} put there",
                        path.display(),
                        block.now
                    );
                }
            }
        }
        for &(tag, len) in &inode.attributes {
            let mut got = vec![0_u8; 8192];
            let key = format!("user.{tag:x}");
            let have = rustix::fs::getxattr(path, &key, &mut got[..])
                .unwrap_or_else(|error| panic!("{} of {}: {error}", key, path.display()));
            assert!(
                got[..have] == pattern(tag, len),
                "{key} of {}",
                path.display()
            );
        }
    }
}

fn open(path: &Path) -> Result<std::os::fd::OwnedFd> {
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, 0.into())
}

/// Blocks with the tags from that of `first` on; `at` is where a block begins.
fn write_at(file: impl AsFd, at: u64, len: u64, first: u64) -> Result<()> {
    let mut bytes = Vec::with_capacity(len as usize);
    for (tag, from) in (first..).zip((0..len).step_by(BLOCK as usize)) {
        bytes.extend(pattern(tag, (len - from).min(BLOCK) as usize));
    }
    let mut done = 0;
    while done < bytes.len() {
        done += rustix::io::pwrite(&file, &bytes[done..], at + done as u64)?;
    }
    Ok(())
}

/// A symlink's target, long enough to take space.
fn target(tag: u64) -> String {
    format!("{tag:x}-").repeat(1200 / 10)
}

fn ours(answer: std::io::Result<()>) -> Result<()> {
    answer.map_err(|error| Errno::from_io_error(&error).expect("an errno"))
}

/// What was refused in the middle goes again: on a full filesystem, and always.
fn remove(path: &Path) {
    fs::remove_file(path)
        .unwrap_or_else(|error| panic!("rm {} on a full filesystem: {error}", path.display()));
}
