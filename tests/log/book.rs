//! What a story did, and what may be left of it after a cut.
//!
//! The book has every inode's and every name's state after each step, and which step made which inode
//! durable. After a cut an inode must be as it was at that step or later, at the names that it had
//! then or later, and a name that always led to something must lead to something.

use btrfuse_test_support::check::{check, complaints};
use btrfuse_test_support::{LoopMount, Rng};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

/// What one can see of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Look {
    pub content: Vec<u8>,
    pub mode: u32,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// The state after one step.
#[derive(Clone, Default)]
pub struct Page {
    pub names: BTreeMap<String, u64>,
    pub files: BTreeMap<u64, Rc<Look>>,
}

/// See the module.
#[derive(Default)]
pub struct Book {
    pub pages: Vec<Page>,
    /// Step and inode.
    pub synced: Vec<(usize, u64)>,
}

/// What the kernel found.
pub struct Found {
    names: BTreeMap<String, u64>,
    files: BTreeMap<u64, Look>,
}

impl Page {
    fn names_of(&self, inode: u64) -> impl Iterator<Item = &String> {
        let names = self.names.iter();
        names.filter_map(move |(name, &it)| (it == inode).then_some(name))
    }
}

impl Book {
    /// Writes down how things are now; answers with the step's number.
    pub fn turn(&mut self, page: &Page) -> usize {
        self.pages.push(page.clone());
        self.pages.len() - 1
    }

    /// What is wrong with what was found, when all steps up to `told` had been answered.
    pub fn judge(&self, found: &Found, told: usize) -> Vec<String> {
        let mut last: BTreeMap<u64, usize> = BTreeMap::new();
        for &(step, inode) in self.synced.iter().filter(|(step, _)| *step <= told) {
            last.insert(inode, step);
        }
        let mut wrong = Vec::new();
        for (&inode, &step) in &last {
            self.judge_inode(found, inode, &self.pages[step..], &mut wrong);
        }
        wrong
    }

    fn judge_inode(&self, found: &Found, inode: u64, since: &[Page], wrong: &mut Vec<String>) {
        let allowed: BTreeSet<&String> = since.iter().flat_map(|it| it.names_of(inode)).collect();
        let here: Vec<&String> = found
            .names
            .iter()
            .filter_map(|(name, &it)| (it == inode).then_some(name))
            .collect();
        for name in here.iter().filter(|name| !allowed.contains(**name)) {
            wrong.push(format!(
                "inode {inode} is at {name}, where it never was since"
            ));
        }
        if here.is_empty()
            && since
                .iter()
                .all(|page| page.names_of(inode).next().is_some())
        {
            wrong.push(format!("inode {inode} is lost, of {allowed:?}"));
        }
        for name in since[0].names_of(inode) {
            let kept = |page: &Page| page.names.get(name) == Some(&inode);
            if since.iter().all(kept) && !here.contains(&name) {
                wrong.push(format!("inode {inode} lost its name {name}"));
            }
            let led = |page: &Page| page.names.contains_key(name);
            if since.iter().all(led) && !found.names.contains_key(name) {
                wrong.push(format!("{name} leads nowhere"));
            }
        }
        if let Some(look) = found.files.get(&inode) {
            let was = |page: &Page| page.files.get(&inode).is_some_and(|it| **it == *look);
            if !since.iter().any(was) {
                let first = since[0].files.get(&inode);
                wrong.push(format!(
                    "inode {inode} at {here:?} is like at no step since: {}",
                    first.map_or_else(String::new, |it| difference(it, look))
                ));
            }
        }
    }
}

fn difference(wanted: &Look, found: &Look) -> String {
    let (a, b) = (&wanted.content, &found.content);
    let at = a.iter().zip(b).position(|(a, b)| a != b);
    format!(
        "{} bytes, {} wanted, first difference at {at:?}; mode {:o} and {:o}; attributes {:?} and {:?}",
        b.len(),
        a.len(),
        found.mode,
        wanted.mode,
        found.xattrs.keys(),
        wanted.xattrs.keys()
    )
}

/// What the kernel shows of an image after it has replayed the log; `btrfs check` sees the image before
/// and after.
pub fn found_by_kernel(image: &Path, rng: &mut Rng) -> Result<Found, String> {
    let mode = ["original", "lowmem"][rng.below(2) as usize];
    checked(image, mode).map_err(|words| format!("before the replay: {words}"))?;
    let mount = LoopMount::try_new(&[image], "subvolid=5")
        .map_err(|error| format!("the kernel refuses to mount: {error}"))?;
    let mut found = Found {
        names: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let walked = walk(mount.path(), mount.path(), &mut found);
    mount.unmount();
    walked.map_err(|error| format!("reading: {error}"))?;
    checked(image, mode).map_err(|words| format!("after the replay: {words}"))?;
    Ok(found)
}

fn checked(image: &Path, mode: &str) -> Result<(), String> {
    match complaints(&check(image, mode)) {
        found if found.is_empty() => Ok(()),
        found => Err(format!("check --mode={mode}:\n{}", found.join("\n"))),
    }
}

fn walk(top: &Path, dir: &Path, found: &mut Found) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let meta = std::fs::symlink_metadata(&path)?;
        if meta.is_dir() {
            walk(top, &path, found)?;
            continue;
        }
        let name = path.strip_prefix(top).expect("below").display().to_string();
        found.names.insert(name, meta.ino());
        if meta.is_file() {
            let mut xattrs = BTreeMap::new();
            for name in ["user.a", "user.b"] {
                let mut value = vec![0; 70_000];
                if let Ok(len) = rustix::fs::lgetxattr(&path, name, &mut value[..]) {
                    value.truncate(len);
                    xattrs.insert(name.to_owned(), value);
                }
            }
            let look = Look {
                content: std::fs::read(&path)?,
                mode: meta.mode() & 0o7777,
                xattrs,
            };
            found.files.insert(meta.ino(), look);
        }
    }
    Ok(())
}

#[test]
fn the_book_notices_what_a_cut_must_not_do() {
    let look = |byte: u8| {
        Rc::new(Look {
            content: vec![byte],
            mode: 0o644,
            xattrs: BTreeMap::new(),
        })
    };
    let page = |name: &str, byte: u8| Page {
        names: BTreeMap::from([(name.to_owned(), 300), ("n".to_owned(), 301)]),
        files: BTreeMap::from([(300, look(byte))]),
    };
    let mut book = Book::default();
    for (name, byte) in [("a", 1), ("a", 2), ("b", 3)] {
        book.turn(&page(name, byte));
    }
    book.synced = vec![(1, 300)];
    let found = |name: &str, byte: u8| Found {
        names: page(name, byte).names,
        files: BTreeMap::from([(300, Look::clone(&look(byte)))]),
    };
    assert!(book.judge(&found("a", 2), 1).is_empty());
    assert!(book.judge(&found("b", 3), 2).is_empty());
    assert_eq!(book.judge(&found("a", 1), 2).len(), 1, "older than told");
    assert!(book.judge(&found("a", 1), 0).is_empty(), "not told yet");
    assert_eq!(
        book.judge(&found("c", 2), 2).len(),
        1,
        "a name from nowhere"
    );
    let nothing = Found {
        names: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    assert_eq!(book.judge(&nothing, 2).len(), 1, "lost");
}
