//! What a story did, and which states may be found after a fault.
//!
//! The book has the files as programs were told that they are, and every state that may be durable: the
//! last commit, later ones whose answer was an error, and above each of them what logs said of single
//! files. Content that was told to be lost (an fsync or a commit failed) may be of any version that the
//! file had since it was last durable, byte by byte; nothing else may ever be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The unit that a read may refuse.
pub const SECTOR: usize = 4096;

/// A name's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Dir,
    Link(Vec<u8>),
    /// Which file, and its content.
    File(u64, Arc<Vec<u8>>),
}

/// All names below the top, by path.
pub type Page = BTreeMap<String, Entry>;

/// What is seen under a name.
pub enum Seen {
    Dir,
    Link(Vec<u8>),
    /// Content, and the sectors that can't be read.
    File(Vec<u8>, BTreeSet<usize>),
}

/// What is seen of everything.
#[derive(Default)]
pub struct Found {
    pub entries: BTreeMap<String, Seen>,
    /// What couldn't be listed or looked at.
    pub errors: Vec<String>,
}

/// A file in a log.
#[derive(Clone)]
struct Logged {
    file: u64,
    names: Vec<String>,
    content: Arc<Vec<u8>>,
    certain: bool,
}

/// A commit that may be the last one, and the logs after it.
#[derive(Clone)]
struct Base {
    page: Page,
    logs: Vec<Logged>,
}

/// See the module.
#[derive(Clone, Default)]
pub struct Book {
    pub page: Page,
    versions: BTreeMap<u64, Vec<Arc<Vec<u8>>>>,
    tainted: BTreeSet<u64>,
    unflushed: BTreeSet<u64>,
    bases: Vec<Base>,
    files: u64,
}

impl Book {
    /// A new file's number.
    pub fn new_file(&mut self, name: &str) {
        self.files += 1;
        let empty = Arc::new(Vec::new());
        self.versions.insert(self.files, vec![empty.clone()]);
        self.page
            .insert(name.into(), Entry::File(self.files, empty));
    }

    /// The file under a name.
    pub fn file(&self, name: &str) -> Option<(u64, Arc<Vec<u8>>)> {
        match self.page.get(name) {
            Some(Entry::File(file, content)) => Some((*file, content.clone())),
            _ => None,
        }
    }

    /// A file's content changes, under all its names but those in a snapshot.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let (file, old) = self.file(name).expect("asked before");
        let mut content = Vec::clone(&old);
        change(&mut content);
        let content = Arc::new(content);
        self.versions
            .get_mut(&file)
            .expect("made")
            .push(content.clone());
        self.unflushed.insert(file);
        for (name, entry) in &mut self.page {
            if matches!(entry, Entry::File(other, _) if *other == file) && !in_snapshot(name) {
                *entry = Entry::File(file, content.clone());
            }
        }
    }

    /// An operation on the file failed half way, or its content is lost: any version may be seen. What
    /// it was to become is one.
    pub fn taint(&mut self, name: &str, would_be: impl FnOnce(&mut Vec<u8>)) {
        if let Some((file, content)) = self.file(name) {
            let mut content = Vec::clone(&content);
            would_be(&mut content);
            self.versions
                .get_mut(&file)
                .expect("made")
                .push(content.into());
            self.tainted.insert(file);
        }
    }

    /// Bytes went from one file to another. If they may have been of any version, so may the copy.
    pub fn copied(&mut self, from: &str, from_at: usize, to: &str, at: usize, len: usize) {
        let (source, content) = self.file(from).expect("asked before");
        let (target, _) = self.file(to).expect("asked before");
        let part = |content: &[u8]| {
            let end = content.len().min(from_at + len);
            content[from_at.min(end)..end].to_vec()
        };
        let put = |into: &mut Vec<u8>, data: &[u8]| {
            into.resize(into.len().max(at + data.len()), 0);
            into[at..at + data.len()].copy_from_slice(data);
        };
        if self.tainted.contains(&source) {
            let copies = self.versions[&source].clone();
            for copy in copies {
                self.taint(to, |it| {
                    // Beyond the version's end there is nothing, which reads as zeros.
                    let end = it.len().max(at + len);
                    it.resize(end, 0);
                    it[at..at + len].fill(0);
                    put(it, &part(&copy));
                });
            }
            self.tainted.insert(target);
        }
        let data = part(&content);
        self.change(to, |it| put(it, &data));
    }

    /// Everything that wasn't written is lost, perhaps.
    pub fn taint_unflushed(&mut self) {
        self.tainted.extend(&self.unflushed);
    }

    /// As [`Book::taint_unflushed`], but for the file that was fsynced: its content is there.
    pub fn taint_others(&mut self, name: &str) {
        let kept = self.file(name).map(|(file, _)| file);
        let others = self.unflushed.iter().filter(|file| Some(**file) != kept);
        self.tainted.extend(others);
    }

    /// Everything is durable now; or, if not `certain`, it may be.
    pub fn committed(&mut self, certain: bool) {
        if certain {
            self.bases.clear();
            self.unflushed.clear();
            for (name, entry) in &self.page {
                if let Entry::File(file, content) = entry
                    && !in_snapshot(name)
                {
                    settle(&mut self.versions, &self.tainted, *file, content);
                }
            }
        }
        self.bases.push(Base {
            page: self.page.clone(),
            logs: Vec::new(),
        });
    }

    /// One file is durable now, or may be.
    pub fn logged(&mut self, name: &str, certain: bool) {
        let Some((file, content)) = self.file(name) else {
            return;
        };
        if certain {
            self.unflushed.remove(&file);
            settle(&mut self.versions, &self.tainted, file, &content);
        }
        let names = self.names_of(file);
        for base in &mut self.bases {
            base.logs.push(Logged {
                file,
                names: names.clone(),
                content: content.clone(),
                certain,
            });
        }
    }

    fn names_of(&self, file: u64) -> Vec<String> {
        let is = |(name, entry): &(&String, &Entry)| {
            matches!(entry, Entry::File(other, _) if *other == file) && !in_snapshot(name)
        };
        self.page.iter().filter(is).map(|it| it.0.clone()).collect()
    }

    /// Every state that a mount may show now.
    pub fn allowed(&self) -> Vec<Page> {
        self.bases.iter().flat_map(Base::pages).collect()
    }

    /// As [`Book::allowed`], and every log since the last commit may be the last one.
    pub fn allowed_with_older_logs(&self) -> Vec<Page> {
        let mut bases = self.bases.clone();
        for log in bases.iter_mut().flat_map(|base| &mut base.logs) {
            log.certain = false;
        }
        bases.iter().flat_map(Base::pages).collect()
    }

    /// The state that a mount shows now, where nothing is uncertain.
    pub fn becomes_durable(&mut self) {
        let mut allowed = self.allowed();
        assert_eq!(allowed.len(), 1, "nothing has failed yet");
        self.page = allowed.remove(0);
        self.committed(true);
    }

    /// Why what was found can't be `page`. `holes`: what can't be read may be missing.
    pub fn misfit(&self, found: &Found, page: &Page, holes: bool) -> Option<String> {
        if !holes && let Some(error) = found.errors.first() {
            return Some(error.clone());
        }
        for (name, seen) in &found.entries {
            let Some(entry) = page.get(name) else {
                return Some(format!("{name} shouldn't be there"));
            };
            let fits = match (entry, seen) {
                (Entry::Dir, Seen::Dir) => Ok(()),
                (Entry::Link(wanted), Seen::Link(target)) if wanted == target => Ok(()),
                (Entry::File(file, wanted), Seen::File(bytes, bad)) => match bad.first() {
                    Some(sector) if !holes => Err(format!("sector {sector} can't be read")),
                    _ => self.fits(*file, wanted, bytes, bad),
                },
                _ => Err("it is something else".into()),
            };
            if let Err(why) = fits {
                return Some(format!("{name}: {why}"));
            }
        }
        let missing = page.keys().find(|name| !found.entries.contains_key(*name));
        match missing {
            Some(name) if !holes || found.errors.is_empty() => Some(format!("{name} is missing")),
            _ => None,
        }
    }

    fn fits(
        &self,
        file: u64,
        wanted: &[u8],
        bytes: &[u8],
        bad: &BTreeSet<usize>,
    ) -> Result<(), String> {
        let byte = |content: &[u8], at: usize| content.get(at).copied().unwrap_or(0);
        let skipped = |at: &usize| bad.contains(&(at / SECTOR));
        let tainted = self.tainted.contains(&file);
        let versions = &self.versions[&file];
        let sizes = versions.iter().map(|it| it.len());
        let most = sizes.clone().max().unwrap_or(0);
        let least = sizes.min().unwrap_or(0);
        if bytes.len() != wanted.len() && !(tainted && (least..=most).contains(&bytes.len())) {
            return Err(format!("{} bytes, not {}", bytes.len(), wanted.len()));
        }
        let wrong = (0..bytes.len()).filter(|at| !skipped(at)).find(|&at| {
            bytes[at] != byte(wanted, at)
                && !(tainted && versions.iter().any(|it| byte(it, at) == bytes[at]))
        });
        match wrong {
            Some(at) => Err(format!("wrong byte at {at}")),
            None => Ok(()),
        }
    }
}

/// The content is durable: what the file had before, and lost nothing of, never comes back.
fn settle(
    versions: &mut BTreeMap<u64, Vec<Arc<Vec<u8>>>>,
    tainted: &BTreeSet<u64>,
    file: u64,
    content: &Arc<Vec<u8>>,
) {
    if !tainted.contains(&file) {
        versions.insert(file, vec![content.clone()]);
    }
}

impl Base {
    /// Every choice among what logs may say.
    fn pages(&self) -> Vec<Page> {
        let mut pages = vec![self.page.clone()];
        let files: BTreeSet<u64> = self.logs.iter().map(|log| log.file).collect();
        for file in files {
            let logs: Vec<&Logged> = self.logs.iter().filter(|log| log.file == file).collect();
            let last = logs.iter().rposition(|log| log.certain);
            let unlogged = if last.is_none() {
                pages.clone()
            } else {
                Vec::new()
            };
            let choices = &logs[last.unwrap_or(0)..];
            let with = |log: &Logged| pages.iter().map(|page| over(page, log)).collect::<Vec<_>>();
            pages = choices
                .iter()
                .flat_map(|log| with(log))
                .chain(unlogged)
                .collect();
        }
        pages
    }
}

fn over(page: &Page, log: &Logged) -> Page {
    let mut page = page.clone();
    page.retain(|name, entry| {
        in_snapshot(name) || !matches!(entry, Entry::File(file, _) if *file == log.file)
    });
    for name in &log.names {
        page.insert(name.clone(), Entry::File(log.file, log.content.clone()));
    }
    page
}

/// What is in the snapshot stands still.
pub fn in_snapshot(name: &str) -> bool {
    name.starts_with("snap/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(entries: &[(&str, &[u8], &[usize])]) -> Found {
        let file = |(name, bytes, bad): &(&str, &[u8], &[usize])| {
            let seen = Seen::File(bytes.to_vec(), bad.iter().copied().collect());
            ((*name).to_owned(), seen)
        };
        Found {
            entries: entries.iter().map(file).collect(),
            errors: Vec::new(),
        }
    }

    #[test]
    fn the_book_notices_what_a_fault_must_not_do() {
        let mut book = Book::default();
        book.new_file("a");
        book.change("a", |it| it.extend([1; 100]));
        book.committed(true);
        book.change("a", |it| it.fill(2));
        let fits = |book: &Book, found: &Found, holes| {
            let pages = book.allowed();
            pages
                .iter()
                .any(|page| book.misfit(found, page, holes).is_none())
        };
        let old: &[u8] = &[1; 100];
        let new: &[u8] = &[2; 100];
        assert!(fits(&book, &seen(&[("a", old, &[])]), false));
        assert!(
            !fits(&book, &seen(&[("a", new, &[])]), false),
            "never durable"
        );
        assert!(!fits(&book, &seen(&[]), true), "lost");
        assert!(!fits(
            &book,
            &seen(&[("a", old, &[]), ("b", old, &[])]),
            true
        ));
        assert!(
            !fits(&book, &seen(&[("a", old, &[0])]), false),
            "unreadable"
        );
        assert!(fits(&book, &seen(&[("a", &[9; 100], &[0])]), true));
        assert!(
            !fits(&book, &seen(&[("a", &[9; 100], &[])]), true),
            "wrong bytes"
        );
        let mut mixed = old.to_vec();
        mixed[50..].fill(2);
        let mixed = seen(&[("a", &mixed, &[])]);
        assert!(!fits(&book, &mixed, false), "a mix");
        book.logged("a", true);
        assert!(fits(&book, &seen(&[("a", new, &[])]), false));
        assert!(
            !fits(&book, &seen(&[("a", old, &[])]), false),
            "older than told"
        );
        book.change("a", |it| it.fill(3));
        book.logged("a", false);
        assert!(fits(&book, &seen(&[("a", new, &[])]), false));
        assert!(fits(&book, &seen(&[("a", &[3; 100], &[])]), false));
        book.taint_unflushed();
        assert!(!fits(&book, &mixed, false), "from before it was durable");
        let mut mixed = new.to_vec();
        mixed[50..].fill(3);
        let mixed = seen(&[("a", &mixed, &[])]);
        assert!(fits(&book, &mixed, false));
        assert!(!fits(&book, &seen(&[("a", &[9; 100], &[])]), false));
    }
}
