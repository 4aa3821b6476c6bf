//! Devices that fail while a log is written: an fsync that succeeded is kept all the same, one that
//! failed says so, and the image is whole.

use crate::book::{Book, Look, Page};
use crate::cuts::judge;
use crate::recording::CrashState;
use crate::{blank, caller, mount};
use btrfuse::fs::{Filesystem, NodeId, WriteFlags};
use btrfuse::volume::{BlockDevice, Fault, FaultyDevice, MemoryDevice};
use btrfuse_test_support::Rng;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

struct Stage {
    device: Arc<FaultyDevice<MemoryDevice>>,
    fs: Arc<Filesystem>,
    node: NodeId,
    book: Book,
    page: Page,
}

impl Stage {
    /// A committed file of 20,000 ones.
    fn new(base: &MemoryDevice) -> Self {
        let device = Arc::new(FaultyDevice::over(Arc::new(base.clone())));
        let as_device: Arc<dyn BlockDevice> = device.clone();
        let fs = mount(as_device);
        let file = fs
            .create(&caller(), NodeId::ROOT, b"file", 0o644, libc::O_RDWR)
            .unwrap();
        let look = Look {
            content: vec![1; 20_000],
            mode: 0o644,
            xattrs: BTreeMap::new(),
        };
        fs.write(file.node, 0, &look.content, WriteFlags::default())
            .unwrap();
        fs.sync().unwrap();
        let page = Page {
            names: BTreeMap::from([("file".to_owned(), file.objectid)]),
            files: BTreeMap::from([(file.objectid, Rc::new(look))]),
        };
        let mut book = Book::default();
        book.turn(&page);
        book.synced.push((0, file.objectid));
        Self {
            device,
            fs,
            node: file.node,
            book,
            page,
        }
    }

    /// Writes a sector and fsyncs, and says whether that was answered well.
    fn change(&mut self, byte: u8) -> bool {
        let data = [byte; 4096];
        let written = self.fs.write(self.node, 4096, &data, WriteFlags::default());
        if written.is_err() {
            return false;
        }
        let (&inode, look) = self.page.files.iter().next().unwrap();
        let mut look = Look::clone(look);
        look.content[4096..8192].copy_from_slice(&data);
        self.page.files.insert(inode, Rc::new(look));
        let step = self.book.turn(&self.page);
        let answer = self.fs.fsync(self.node, false);
        if answer.is_ok() {
            self.book.synced.push((step, inode));
        }
        answer.is_ok()
    }

    /// The daemon is killed now.
    fn judge(self, what: &str) {
        let state = CrashState {
            device: MemoryDevice::clone(self.device.inner()),
            acknowledged: self.book.pages.len() as u64,
            what: what.to_owned(),
        };
        if let Err(words) = judge(&self.book, state, &mut Rng::new(5)) {
            panic!("{words}");
        }
    }
}

/// An fsync writes an extent, the blocks of two trees side by side, twice, and two superblocks.
const WRITES: u64 = 5;

#[test]
fn a_write_that_fails_once_is_made_good_by_a_commit_or_told() {
    let base = blank(&[]);
    let mut answered = 0;
    for nth in 1..=WRITES {
        let mut stage = Stage::new(&base);
        stage.device.plan(Fault::FailWrite(nth));
        let first = stage.change(2);
        answered += u64::from(first);
        let (logs, commits) = stage.fs.logs_and_commits();
        assert!(
            logs + commits > 1 || !first,
            "write {nth}: nothing was written"
        );
        // Only the content's own failure is told: it is lost.
        assert!(first || nth == 1, "write {nth}");
        assert!(stage.change(3), "write {nth}: the next fsync");
        stage.judge(&format!("write {nth} failed"));
    }
    assert_eq!(answered, WRITES - 1);
}

/// A flush that failed may have lost anything: nothing is written any more.
#[test]
fn a_flush_that_fails_ends_the_mount() {
    let base = blank(&[]);
    for nth in 1..=2 {
        let mut stage = Stage::new(&base);
        assert!(stage.change(2));
        stage.device.plan(Fault::FailFlush(nth));
        assert!(!stage.change(3), "flush {nth}");
        assert!(!stage.change(4), "flush {nth}: the mount goes on");
        stage.judge(&format!("flush {nth} failed"));
    }
}

#[test]
fn a_cut_during_a_log_keeps_what_was_told_before() {
    let base = blank(&[]);
    for nth in 1..=WRITES {
        let mut stage = Stage::new(&base);
        assert!(stage.change(2));
        stage.device.plan(Fault::PowerCut(nth));
        assert!(!stage.change(3), "write {nth}");
        stage.judge(&format!("cut at write {nth}"));
    }
}

/// A copy of the superblock that couldn't be written names the log before, whose blocks the next logs
/// would take: with the first copy torn by a cut, that one is replayed.
#[test]
fn after_a_superblock_copy_that_failed_nothing_more_is_logged() {
    let base = blank(&[]);
    let mut stage = Stage::new(&base);
    assert!(stage.change(2));
    stage.device.plan(Fault::FailWrite(WRITES));
    assert!(stage.change(3));
    assert_eq!(stage.fs.logs_and_commits(), (2, 1));
    for byte in 4..8 {
        assert!(stage.change(byte));
    }
    let (logs, commits) = stage.fs.logs_and_commits();
    assert_eq!((logs, commits), (2 + 3, 1 + 1), "one committed");
    stage.judge("a copy failed");
}
