//! Random stories on a recording device; each state that a cut could leave is judged.

use crate::book::{Book, Look, Page, found_by_kernel};
use crate::recording::{CrashState, Event, Recorder, Recording};
use crate::{blank, caller, mount};
use btrfuse::fs::{Filesystem, NodeId, RenameFlags, SetAttr, WriteFlags, XattrMode};
use btrfuse::ondisk::Superblock;
use btrfuse::volume::{BlockDevice, MemoryDevice, Volume};
use btrfuse_test_support::{Image, Rng};
use std::collections::BTreeMap;
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

const SUPER_AT: u64 = 65536;

/// A mount, what was done to it, and how it should look.
pub struct Teller<'a> {
    pub fs: Arc<Filesystem>,
    pub recorder: &'a Recorder,
    pub book: Book,
    pub page: Page,
    dirs: BTreeMap<String, NodeId>,
    nodes: BTreeMap<u64, NodeId>,
}

/// What happened, for the judge.
pub struct Story {
    pub recording: Recording,
    /// The device when the daemon was killed.
    pub end: MemoryDevice,
    pub book: Book,
    /// Logs that were written, and commits.
    pub logs: u64,
    pub commits: u64,
}

/// Tells a story on a fresh image with the directories `a` and `b`, and `old0` to `old2` in `a`.
pub fn record(options: &[&str], tell: impl FnOnce(&mut Teller)) -> Story {
    let base = blank(options);
    {
        let fs = mount(Arc::new(base.clone()));
        fs.unmount().unwrap();
    }
    let recorder = Arc::new(Recorder::over(&base));
    let device: Arc<dyn BlockDevice> = recorder.clone();
    let mut teller = Teller {
        fs: mount(device),
        recorder: &recorder,
        book: Book::default(),
        page: Page::default(),
        dirs: BTreeMap::new(),
        nodes: BTreeMap::new(),
    };
    for dir in ["a", "b"] {
        teller.mkdir(dir);
    }
    for n in 0..3 {
        let name = format!("a/old{n}");
        teller.create(&name);
        teller.write(&name, 0, &vec![n as u8 + 1; 20_000 * (n + 1)]);
    }
    teller.sync();
    tell(&mut teller);
    let (fs, book) = (teller.fs, teller.book);
    let (logs, commits) = fs.logs_and_commits();
    // The daemon is killed: no last commit.
    drop(fs);
    let recorder = Arc::into_inner(recorder).expect("the filesystem is gone");
    Story {
        end: recorder.now(),
        recording: recorder.finish(base),
        book,
        logs,
        commits,
    }
}

impl Teller<'_> {
    fn place(&self, name: &str) -> (NodeId, Vec<u8>) {
        let (dir, name) = name.split_once('/').expect("a name in a directory");
        (self.dirs[dir], name.as_bytes().to_vec())
    }

    fn inode(&self, name: &str) -> u64 {
        self.page.names[name]
    }

    pub fn node(&self, name: &str) -> NodeId {
        self.nodes[&self.inode(name)]
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Look)) {
        let inode = self.inode(name);
        let mut look = Look::clone(&self.page.files[&inode]);
        change(&mut look);
        self.page.files.insert(inode, Rc::new(look));
        self.book.turn(&self.page);
    }

    pub fn mkdir(&mut self, name: &str) {
        let made = self
            .fs
            .mkdir(&caller(), NodeId::ROOT, name.as_bytes(), 0o755);
        self.dirs.insert(name.to_owned(), made.unwrap().node);
        self.book.turn(&self.page);
    }

    pub fn create(&mut self, name: &str) {
        let (dir, last) = self.place(name);
        let made = self
            .fs
            .create(&caller(), dir, &last, 0o644, libc::O_RDWR)
            .unwrap();
        self.nodes.insert(made.objectid, made.node);
        self.page.names.insert(name.to_owned(), made.objectid);
        let look = Look {
            content: Vec::new(),
            mode: 0o644,
            xattrs: BTreeMap::new(),
        };
        self.page.files.insert(made.objectid, Rc::new(look));
        self.book.turn(&self.page);
    }

    pub fn write(&mut self, name: &str, at: usize, data: &[u8]) {
        let node = self.node(name);
        let wrote = self.fs.write(node, at as u64, data, WriteFlags::default());
        assert_eq!(wrote.unwrap() as usize, data.len());
        self.change(name, |look| {
            let end = at + data.len();
            look.content.resize(look.content.len().max(end), 0);
            look.content[at..end].copy_from_slice(data);
        });
    }

    pub fn truncate(&mut self, name: &str, size: usize) {
        let changes = SetAttr {
            size: Some(size as u64),
            ..SetAttr::default()
        };
        let node = self.node(name);
        self.fs.setattr(&caller(), node, &changes).unwrap();
        self.change(name, |look| look.content.resize(size, 0));
    }

    pub fn chmod(&mut self, name: &str, mode: u32) {
        let changes = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        let node = self.node(name);
        self.fs.setattr(&caller(), node, &changes).unwrap();
        self.change(name, |look| look.mode = mode);
    }

    pub fn set_xattr(&mut self, name: &str, xattr: &str, value: Option<&[u8]>) {
        let node = self.node(name);
        match value {
            Some(value) => {
                let set = self
                    .fs
                    .setxattr(node, xattr.as_bytes(), value, XattrMode::Any, false);
                set.unwrap();
            }
            None => {
                let _may_not_be_there = self.fs.removexattr(node, xattr.as_bytes());
            }
        }
        self.change(name, |look| {
            look.xattrs.remove(xattr);
            if let Some(value) = value {
                look.xattrs.insert(xattr.to_owned(), value.to_vec());
            }
        });
    }

    pub fn fallocate(&mut self, name: &str, mode: i32, at: usize, len: usize) {
        let node = self.node(name);
        self.fs
            .fallocate(node, mode, at as u64, len as u64)
            .unwrap();
        self.change(name, |look| {
            let end = at + len;
            if mode & libc::FALLOC_FL_KEEP_SIZE == 0 {
                look.content.resize(look.content.len().max(end), 0);
            }
            if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
                let end = end.min(look.content.len());
                look.content[at.min(end)..end].fill(0);
            }
        });
    }

    /// Copies by reference.
    pub fn copy(&mut self, from: &str, to: &str, at: usize, len: usize) {
        let (source, target) = (self.node(from), self.node(to));
        let copied = self
            .fs
            .copy_file_range(source, at as u64, target, at as u64, len as u64);
        let copied = copied.unwrap() as usize;
        let bytes = self.page.files[&self.inode(from)].content[at..at + copied].to_vec();
        self.change(to, |look| {
            let end = at + copied;
            look.content.resize(look.content.len().max(end), 0);
            look.content[at..end].copy_from_slice(&bytes);
        });
    }

    pub fn unlink(&mut self, name: &str) {
        let (dir, last) = self.place(name);
        self.fs.unlink(dir, &last).unwrap();
        self.page.names.remove(name);
        self.book.turn(&self.page);
    }

    pub fn link(&mut self, name: &str, new: &str) {
        let (dir, last) = self.place(new);
        self.fs.link(self.node(name), dir, &last).unwrap();
        self.page.names.insert(new.to_owned(), self.inode(name));
        self.book.turn(&self.page);
    }

    pub fn rename(&mut self, name: &str, new: &str, exchange: bool) {
        let ((dir, last), (new_dir, new_last)) = (self.place(name), self.place(new));
        let flags = RenameFlags {
            exchange,
            ..RenameFlags::default()
        };
        let renamed = self
            .fs
            .rename(&caller(), dir, &last, new_dir, &new_last, flags);
        renamed.unwrap();
        let moved = self.inode(name);
        let replaced = self.page.names.get(new).copied();
        if replaced != Some(moved) {
            self.page.names.remove(name);
            if let Some(replaced) = replaced.filter(|_| exchange) {
                self.page.names.insert(name.to_owned(), replaced);
            }
            self.page.names.insert(new.to_owned(), moved);
        }
        self.book.turn(&self.page);
    }

    pub fn fsync(&mut self, name: &str) {
        let (node, inode) = (self.node(name), self.inode(name));
        self.fs.fsync(node, false).unwrap();
        let step = self.book.turn(&self.page);
        self.book.synced.push((step, inode));
        self.recorder.acknowledge(step as u64);
    }

    /// A commit: everything is durable.
    pub fn sync(&mut self) {
        self.fs.sync().unwrap();
        let step = self.book.turn(&self.page);
        let all: Vec<u64> = self.page.files.keys().copied().collect();
        self.book
            .synced
            .extend(all.into_iter().map(|inode| (step, inode)));
        self.recorder.acknowledge(step as u64);
    }
}

/// A random step.
fn step(teller: &mut Teller, rng: &mut Rng) {
    let names: Vec<String> = teller.page.names.keys().cloned().collect();
    let anywhere = |rng: &mut Rng| {
        let dir = ["a", "b"][rng.below(2) as usize];
        format!("{dir}/n{}", rng.below(5))
    };
    let name = rng.choose(&names).clone();
    let sizes = [1, 100, 3000, 4096, 5000, 20_000, 150_000];
    let len = *rng.choose(&sizes);
    let at = rng.below(120_000) as usize / *rng.choose(&[1, 1, 4096]) * *rng.choose(&[1, 4096]);
    let at = at % 300_000;
    let size = teller.page.files[&teller.page.names[&name]].content.len();
    match rng.below(32) {
        0..=5 => teller.write(&name, at, &vec![rng.below(255) as u8 + 1; len]),
        6..=8 => teller.write(&name, size, &vec![rng.below(255) as u8 + 1; len]),
        9 => teller.truncate(&name, at),
        10 => teller.truncate(&name, size / 2),
        11 => teller.chmod(&name, 0o600 | rng.below(64) as u32),
        12 => teller.set_xattr(&name, "user.a", Some(&vec![7; rng.below(2000) as usize])),
        13 => {
            let xattr: &str = ["user.a", "user.b"][rng.below(2) as usize];
            teller.set_xattr(&name, xattr, None);
        }
        14 => teller.set_xattr(&name, "user.b", Some(b"short")),
        15 => {
            let keep = libc::FALLOC_FL_KEEP_SIZE;
            let modes = [
                0,
                keep,
                keep | libc::FALLOC_FL_PUNCH_HOLE,
                keep | libc::FALLOC_FL_PUNCH_HOLE,
                libc::FALLOC_FL_ZERO_RANGE,
                keep | libc::FALLOC_FL_ZERO_RANGE,
            ];
            teller.fallocate(&name, *rng.choose(&modes), at, len);
        }
        16 if size > 8192 => {
            let to = rng.choose(&names).clone();
            if teller.page.names[&to] != teller.page.names[&name] {
                teller.copy(&name, &to, 0, size / 4096 * 4096);
            }
        }
        17..=19 => {
            let new = anywhere(rng);
            if !names.contains(&new) {
                teller.create(&new);
            }
        }
        20 if names.len() > 3 => teller.unlink(&name),
        21 => {
            let new = anywhere(rng);
            if !names.contains(&new) {
                teller.link(&name, &new);
            }
        }
        22..=23 => {
            let new = anywhere(rng);
            let exchange = names.contains(&new) && rng.one_in(3);
            teller.rename(&name, &new, exchange);
        }
        24 if rng.one_in(8) => teller.sync(),
        _ => teller.fsync(&name),
    }
}

/// When the first superblock was torn, the next one is put in its place: the kernel looks no further.
/// False where there is none to judge.
fn heal(device: &MemoryDevice) {
    let mut bytes = vec![0; 4096];
    device.read_at(SUPER_AT, &mut bytes).unwrap();
    if Superblock::parse_at(&bytes, SUPER_AT).is_ok() {
        return;
    }
    let (_, mut superblock) = Volume::open(vec![Arc::new(device.clone())], true).unwrap();
    superblock.bytenr = SUPER_AT.into();
    superblock.seal().unwrap();
    device.write_at(SUPER_AT, superblock.as_bytes()).unwrap();
}

pub fn judge(book: &Book, state: CrashState, rng: &mut Rng) -> Result<(), String> {
    heal(&state.device);
    let image = Image::blank(128);
    let file = File::options().write(true).open(image.path()).unwrap();
    state.device.copy_to(&file).unwrap();
    let found =
        found_by_kernel(image.path(), rng).map_err(|words| format!("{}: {words}", state.what))?;
    match book.judge(&found, state.acknowledged as usize) {
        wrong if wrong.is_empty() => Ok(()),
        wrong => Err(format!("{}:\n{}", state.what, wrong.join("\n"))),
    }
}

fn random_story(options: &[&str], seed: u64, steps: usize) {
    let mut rng = Rng::new(seed);
    let story = record(options, |teller| {
        for _ in 0..steps {
            step(teller, &mut rng);
        }
    });
    assert!(
        story.logs > 0,
        "{} logs, {} commits",
        story.logs,
        story.commits
    );
    let mut rng = Rng::new(seed + 1000);
    let mut judging = Rng::new(seed + 2000);
    let visited = story.recording.visit(&mut rng, 1, 1, |state| {
        if let Err(words) = judge(&story.book, state, &mut judging) {
            panic!("seed {seed}, {options:?}: {words}");
        }
    });
    assert!(visited > 20, "{visited} states");
    let end = CrashState {
        device: story.end,
        acknowledged: story.book.pages.len() as u64,
        what: "the end".into(),
    };
    judge(&story.book, end, &mut judging).unwrap_or_else(|words| panic!("seed {seed}: {words}"));
}

#[test]
fn every_cut_of_random_stories_keeps_what_fsync_promised() {
    for seed in seeds(1, 3) {
        random_story(&[], seed, 60);
    }
}

#[test]
fn every_cut_keeps_promises_with_explicit_holes_and_small_nodes() {
    for seed in seeds(100, 3) {
        random_story(&["-O", "^no-holes", "-n", "4096"], seed, 60);
    }
}

#[test]
fn every_cut_keeps_promises_in_an_old_format() {
    for seed in seeds(200, 2) {
        random_story(
            &["-O", "^no-holes", "-R", "^free-space-tree", "-m", "single"],
            seed,
            60,
        );
    }
}

#[test]
fn every_cut_keeps_promises_with_large_checksums_and_mixed_groups() {
    for seed in seeds(300, 1) {
        random_story(&["--csum", "sha256"], seed, 60);
        random_story(&["--mixed", "-n", "4096"], seed + 50, 60);
    }
}

/// `BTRFUSE_LOG_SEEDS` has a campaign run more.
fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    let more = std::env::var("BTRFUSE_LOG_SEEDS").ok();
    first..first + more.map_or(count, |more| more.parse().expect("a number"))
}

/// The judges see what they must see: a superblock with a log whose blocks were not flushed.
#[test]
fn a_log_that_is_named_too_early_is_noticed() {
    let story = record(&[], |teller| {
        teller.create("a/new");
        teller.write("a/new", 0, &[9; 10_000]);
        teller.fsync("a/new");
    });
    assert_eq!(story.logs, 1);
    let events = &story.recording.events;
    let last = events
        .iter()
        .rposition(|it| matches!(it, Event::Write(SUPER_AT, _)));
    let last = last.expect("a superblock");
    let flushes = events[..last].iter().enumerate().rev();
    let blocks_flushed = flushes
        .filter(|(_, it)| matches!(it, Event::Flush))
        .nth(1)
        .expect("a commit before")
        .0;
    let device = story.recording.whole(blocks_flushed);
    let Event::Write(at, bytes) = &events[last] else {
        unreachable!("a write was looked for");
    };
    device.write_at(*at, bytes).unwrap();
    let state = CrashState {
        device,
        acknowledged: 0,
        what: "too early".into(),
    };
    assert!(judge(&story.book, state, &mut Rng::new(1)).is_err());
}
