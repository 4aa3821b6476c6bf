//! Random operations on files, against a vector of bytes.

use super::*;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::thread;

/// One file's story: random operations against a vector of bytes.
fn random_story(options: &[&str], seed: u64, steps: usize) {
    let device = mkfs(128, options);
    let mut fs = mount(&device);
    let node = create(&fs, "story");
    let mut story = Story::new(seed, node);
    for _ in 0..steps {
        if story.random.below(50) == 0 {
            fs.unmount().unwrap();
            drop(fs);
            check(&device);
            fs = mount(&device);
            story.node = look_up(&fs, "story");
        }
        story.step(&fs);
    }
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    story.node = look_up(&fs, "story");
    story.assert_told(&fs);
    fs.unmount().unwrap();
}

/// One file and the bytes that it should hold.
struct Story {
    seed: u64,
    random: Random,
    node: NodeId,
    model: Vec<u8>,
    span: u64,
    log: Vec<String>,
}

impl Story {
    fn new(seed: u64, node: NodeId) -> Self {
        Self {
            seed,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            node,
            model: Vec::new(),
            span: [3_000, 20_000, 300_000][(seed % 3) as usize],
            log: Vec::new(),
        }
    }

    /// One operation, on the file and on the model, and a look at both.
    fn step(&mut self, fs: &Filesystem) {
        let at = self.random.below(self.span);
        let len = 1 + self.random.below(self.span / 3);
        let kind = self.random.below(13);
        let size = self.model.len();
        self.log
            .push(format!("{kind} {at}..{} of {size}", at + len));
        if let Err(error) = self.act(fs, kind, at, len) {
            panic!("{error}; seed {}: {:#?}", self.seed, self.log);
        }
        assert_eq!(fs.getattr(self.node).unwrap().size, self.model.len() as u64);
        self.assert_told(fs);
    }

    fn act(&mut self, fs: &Filesystem, kind: u64, at: u64, len: u64) -> Result<()> {
        let node = self.node;
        let (from, to) = (at as usize, (at + len) as usize);
        match kind {
            0..=3 => {
                let data = pattern(self.random.next(), len as usize);
                write(fs, node, at, &data)?;
                self.grow(to);
                self.model[from..to].copy_from_slice(&data);
            }
            4 if self.model.len() as u64 > 2 * self.span => {
                truncate(fs, node, at)?;
                self.model.truncate(from);
            }
            4 => {
                let data = pattern(self.random.next(), len as usize);
                write(fs, node, self.model.len() as u64, &data)?;
                self.model.extend(data);
            }
            5 => {
                truncate(fs, node, at)?;
                self.model.resize(from, 0);
            }
            6 => {
                fs.fallocate(node, PUNCH, at, len)?;
                let end = to.min(self.model.len());
                if from < end {
                    self.model[from..end].fill(0);
                }
            }
            7 => {
                fs.fallocate(node, 0, at, len)?;
                self.grow(to);
            }
            8 => fs.fallocate(node, KEEP, at, len)?,
            9 => {
                fs.fallocate(node, ZERO, at, len)?;
                self.grow(to);
                self.model[from..to].fill(0);
            }
            10 => fs.fsync(node, false)?,
            11 => fs.sync()?,
            _ => {
                let expected = self
                    .model
                    .get(from..to.min(self.model.len()))
                    .unwrap_or(&[]);
                assert_eq!(fs.read(node, at, len as u32)?, expected);
            }
        }
        Ok(())
    }

    fn grow(&mut self, size: usize) {
        self.model.resize(self.model.len().max(size), 0);
    }

    fn assert_told(&self, fs: &Filesystem) {
        let found = content(fs, self.node);
        if found != self.model {
            let at = found.iter().zip(&self.model).position(|(a, b)| a != b);
            panic!(
                "seed {}: content differs from {at:?} on: {:#?}",
                self.seed, self.log
            );
        }
        self.assert_map_holds(fs);
    }

    /// Whatever SEEK_HOLE calls a hole is zeros, and the map covers the file.
    fn assert_map_holds(&self, fs: &Filesystem) {
        let size = self.model.len() as u64;
        let mut at = 0;
        while at < size {
            let data = match fs.seek(self.node, at, Whence::Data) {
                Ok(data) => data,
                Err(Error::NoSuchRange) => size,
                Err(error) => panic!("{error}; seed {}: {:#?}", self.seed, self.log),
            };
            assert!(
                self.model[at as usize..data as usize]
                    .iter()
                    .all(|&byte| byte == 0)
            );
            if data == size {
                return;
            }
            let hole = fs.seek(self.node, data, Whence::Hole).unwrap();
            assert!(hole > data && hole <= size);
            at = hole;
        }
    }
}

#[test]
fn random_stories_on_the_default_format() {
    (0..9).for_each(|seed| random_story(&[], seed, 60));
}

#[test]
fn random_stories_with_explicit_holes() {
    (10..16).for_each(|seed| random_story(&["-O", "^no-holes"], seed, 60));
}

#[test]
fn random_stories_with_small_and_large_nodes() {
    (20..23).for_each(|seed| random_story(&["-n", "4096"], seed, 60));
    (23..26).for_each(|seed| random_story(&["-n", "65536"], seed, 60));
}

#[test]
fn random_stories_with_large_sectors() {
    (30..33).for_each(|seed| random_story(&["-s", "16384", "-n", "16384"], seed, 60));
    (33..36).for_each(|seed| random_story(&["-s", "65536", "-n", "65536"], seed, 40));
}

#[test]
fn random_stories_with_other_checksums() {
    for (index, csum) in ["xxhash", "sha256", "blake2"].iter().enumerate() {
        random_story(&["--csum", csum], 40 + index as u64, 40);
    }
}

/// Writers, truncations and flushes of several files, with commits in between all the time.
#[test]
fn random_stories_side_by_side() {
    let device = mkfs(256, &["-n", "4096"]);
    let fs = mount(&device);
    let stop = AtomicBool::new(false);
    let stories: Vec<Story> = thread::scope(|scope| {
        let tellers: Vec<_> = (50..54)
            .map(|seed| {
                let fs = &fs;
                scope.spawn(move || {
                    let mut story = Story::new(seed, create(fs, &format!("s{seed}")));
                    (0..150).for_each(|_| story.step(fs));
                    story
                })
            })
            .collect();
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs.sync().unwrap();
            }
        });
        let ended: Vec<_> = tellers.into_iter().map(|teller| teller.join()).collect();
        stop.store(true, Ordering::Relaxed);
        ended.into_iter().map(|story| story.unwrap()).collect()
    });
    fs.unmount().unwrap();
    drop(fs);
    check(&device);
    let fs = mount(&device);
    for mut story in stories {
        story.node = look_up(&fs, &format!("s{}", story.seed));
        story.assert_told(&fs);
    }
    fs.unmount().unwrap();
}
