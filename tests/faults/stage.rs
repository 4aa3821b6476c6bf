//! One telling of the story on a device with one fault, and what is true whatever the fault.
//!
//! Owns: the mount, the book beside it, and what the log said. Every telling runs in a thread of its own,
//! so that one that hangs is a failure with a name.

use crate::book::{Book, Found};
use crate::device::PlannedDevice;
use crate::story::{self, Op};
use crate::words;
use btrfuse::fs::{Filesystem, MountOptions, StatFs};
use btrfuse::volume::{BlockDevice, MemoryDevice};
use btrfuse::{Error, Result};
use btrfuse_test_support::check::{MODES, check, complaints};
use btrfuse_test_support::fault_plan::{Call, Fault, FaultPlan};
use btrfuse_test_support::image::SUPER_AT;
use btrfuse_test_support::{Image, LoopMount, temp_dir};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use tempfile::TempDir;

/// Longest time for one telling, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// How a telling ended.
pub struct Ended {
    /// Each step that failed.
    pub failures: Vec<(usize, Error)>,
    /// Why the mount is read-only; `None` also when there was no mount.
    pub aborted: Option<String>,
    /// The mount, or the one in the middle, was refused.
    pub refused: bool,
    /// Calls of the device that went wrong.
    pub fired: u64,
    /// Bad copies that were written anew, over all mounts.
    pub repaired: u64,
    /// What was free at the end, after an unmount that succeeded.
    pub free: Option<StatFs>,
    /// Copies that the mount at the end didn't believe.
    pub found_corrupt: u64,
    /// What was logged as a warning or an error.
    pub words: Vec<String>,
    pub device: Arc<PlannedDevice>,
    pub book: Book,
}

pub fn mount(device: Arc<dyn BlockDevice>) -> Result<Arc<Filesystem>> {
    let options = MountOptions {
        subvolid: Some(5),
        background: false,
        // What nobody uses is read from its tree again.
        inodes_cached: 0,
        ..MountOptions::default()
    };
    Filesystem::mount(vec![device], &options)
}

/// Makes the image that a telling begins with. It holds two superblocks.
pub fn scene(options: &[&str]) -> (MemoryDevice, Book) {
    let image = Image::mkfs_btrfs(256, options);
    let medium = MemoryDevice::from_reader(File::open(image.path()).unwrap()).unwrap();
    let device = Arc::new(PlannedDevice::over(&medium, FaultPlan::none()));
    let fs = mount(device.clone()).unwrap();
    let mut book = Book::default();
    book.committed(true);
    for (step, op) in story::BEFORE.iter().enumerate() {
        // Other bytes than the story's.
        let step = step + 1000;
        story::perform(&fs, step, op).unwrap();
        story::done(&mut book, step, op);
        match op {
            Op::Sync => book.committed(true),
            Op::Fsync(name) => book.logged(name, true),
            _ => {}
        }
    }
    assert!(fs.logs_and_commits().0 > 0, "no log waits");
    drop(fs);
    (device.medium().clone(), book)
}

struct Stage {
    device: Arc<PlannedDevice>,
    book: Book,
    fs: Option<Arc<Filesystem>>,
    failures: Vec<(usize, Error)>,
    aborted: Option<String>,
    refused: bool,
    ended_well: bool,
    repaired: u64,
    /// What can't be read may be missing: the medium was damaged.
    holes: bool,
}

/// Tells the story with the fault at the nth call of its kind. `killed`: the daemon is, after the operation
/// in which the fault came.
pub fn tell(
    base: &MemoryDevice,
    mut book: Book,
    fault: Option<Fault>,
    nth: u64,
    killed: bool,
) -> Ended {
    words::begin();
    let plan = fault.map_or_else(FaultPlan::none, |fault| FaultPlan::at(fault, nth));
    book.becomes_durable();
    let mut stage = Stage {
        device: Arc::new(PlannedDevice::over(base, plan)),
        book,
        fs: None,
        failures: Vec::new(),
        aborted: None,
        refused: false,
        ended_well: false,
        repaired: 0,
        holes: !matches!(fault, None | Some(Fault::Fails(..))),
    };
    stage.mount(0);
    for (step, op) in story::STORY.iter().enumerate() {
        let ends = killed && stage.device.fired() > 0;
        if ends || stage.fs.is_none() || stage.aborted.is_some() {
            break;
        }
        if story::is_possible(&stage.book, op) {
            stage.step(step + 1, op);
        }
    }
    if stage.aborted.is_some() {
        stage.refuses_everything();
    }
    if stage.fs.is_some() && !(killed && stage.device.fired() > 0) {
        stage.unmount(story::STORY.len() + 1);
    }
    stage.count();
    let ended_well = stage.ended_well;
    let free = stage.fs.take().filter(|_| ended_well).map(|fs| {
        fs.tree_context().space.verify().unwrap();
        fs.statfs().unwrap()
    });
    Ended {
        free,
        failures: stage.failures,
        aborted: stage.aborted,
        refused: stage.refused,
        fired: stage.device.fired(),
        repaired: stage.repaired,
        found_corrupt: 0,
        words: words::end(),
        device: stage.device,
        book: stage.book,
    }
}

impl Stage {
    fn mount(&mut self, step: usize) {
        match mount(self.device.clone()) {
            Ok(fs) if fs.read_only_reason().is_none() => {
                self.fs = Some(fs);
                self.ended_well = false;
            }
            Ok(fs) => {
                // Trees that only a writer needs can't be read: the rest can.
                let found = story::look(&fs);
                if let Some(why) = self.book.misfit(&found, &self.book.page, true) {
                    panic!("step {step}: {why}");
                }
                self.refused = true;
                let reason = fs.read_only_reason().unwrap_or_default();
                self.failures.push((step, Error::NoGoodCopy(reason)));
            }
            Err(error) => {
                // A replay may have been committed all the same: it is the same state.
                self.refused = true;
                self.failures.push((step, error));
            }
        }
    }

    fn step(&mut self, step: usize, op: &Op) {
        match op {
            Op::Look => self.look(step),
            Op::Remount => {
                self.unmount(step);
                if self.aborted.is_none() {
                    self.count();
                    drop(self.fs.take());
                    self.mount(step);
                }
            }
            _ => self.operate(step, op),
        }
    }

    fn operate(&mut self, step: usize, op: &Op) {
        let fs = self.fs.clone().expect("mounted");
        let (logs, commits) = fs.logs_and_commits();
        let fired = self.device.fired();
        let result = story::perform(&fs, step, op);
        let (logs, commits) = (
            fs.logs_and_commits().0 - logs,
            fs.logs_and_commits().1 - commits,
        );
        self.aborted = fs.read_only_reason();
        let is_commit = matches!(op, Op::Sync | Op::Fsync(_) | Op::Snapshot);
        // What failed before may have left nothing to write.
        let all_new = self.failures.is_empty();
        match result {
            Ok(()) => {
                story::done(&mut self.book, step, op);
                if let Op::Fsync(name) = op
                    && self.device.fired() > fired
                {
                    // It became a commit, perhaps, that lost other files' content: they are told.
                    self.book.taint_others(name);
                }
                match op {
                    _ if commits > 0 => self.book.committed(true),
                    Op::Fsync(name) => {
                        assert!(logs > 0 || !all_new, "step {step}: {op:?} wrote nothing");
                        self.book.logged(name, true);
                    }
                    Op::Sync | Op::Snapshot => {
                        assert!(!all_new, "step {step}: {op:?} didn't commit");
                    }
                    _ => {}
                }
            }
            Err(error) => {
                self.failures.push((step, error));
                story::failed(&mut self.book, step, op);
                // The trees were committed, and content was lost.
                self.book_commit(commits > 0, is_commit);
                if let Op::Fsync(name) = op {
                    self.book.logged(name, false);
                }
                if matches!(op, Op::Snapshot) {
                    let without = self.book.clone();
                    story::done(&mut self.book, step, op);
                    self.book_commit(false, true);
                    self.book.page = without.page;
                }
            }
        }
    }

    fn book_commit(&mut self, certain: bool, possible: bool) {
        if certain || possible {
            self.book.committed(certain);
        }
    }

    fn unmount(&mut self, step: usize) {
        let fs = self.fs.clone().expect("mounted");
        let commits = fs.logs_and_commits().1;
        let result = fs.unmount();
        self.ended_well = result.is_ok();
        if self.aborted.is_none() {
            self.aborted = fs.read_only_reason();
            if result.is_err() {
                self.book.taint_unflushed();
            }
            let certain = result.is_ok() || fs.logs_and_commits().1 > commits;
            self.book.committed(certain);
        } else {
            assert!(
                result.is_err(),
                "step {step}: the unmount of an aborted mount says all is well"
            );
        }
        if let Err(error) = result {
            self.failures.push((step, error));
        }
    }

    fn look(&mut self, step: usize) {
        let fs = self.fs.clone().expect("mounted");
        let fired = self.device.fired();
        let found = story::look(&fs);
        let struck = self.device.fired() > fired;
        if let Some(why) = self
            .book
            .misfit(&found, &self.book.page, self.holes || struck)
        {
            panic!("step {step}: {why}");
        }
        if let Some(error) = first_error(&found) {
            self.failures.push((step, Error::NoGoodCopy(error)));
        }
        self.aborted = fs.read_only_reason();
    }

    /// After an abort nothing reaches the device, whoever asks, and everybody is told the same.
    fn refuses_everything(&mut self) {
        let fs = self.fs.clone().expect("mounted");
        self.device.heal();
        let writes = self.device.calls(Call::Write);
        let reason = self.aborted.clone().expect("asked before");
        assert_eq!(fs.stats().read_only.as_ref(), Some(&reason));
        for op in [
            Op::Create("after"),
            Op::Write("a", 0, 100),
            Op::Sync,
            Op::Fsync("small"),
        ] {
            if let Op::Write(name, ..) | Op::Fsync(name) = op
                && !self.book.page.contains_key(name)
            {
                continue;
            }
            let Err(error) = story::perform(&fs, 0, &op) else {
                panic!("{op:?} works after {reason}");
            };
            // What the trees in memory have become can't always be looked at.
            let errno = error.errno();
            assert!(
                errno == libc::EROFS || errno == libc::ENOENT || errno == libc::EUCLEAN,
                "{op:?} after {reason}: {error}"
            );
        }
        let _whatever = story::look(&fs);
        assert_eq!(fs.read_only_reason(), Some(reason));
        assert_eq!(
            self.device.calls(Call::Write),
            writes,
            "written after the abort"
        );
    }

    /// Before a mount ends.
    fn count(&mut self) {
        if let Some(fs) = &self.fs {
            for device in fs.stats().devices {
                self.repaired += device.repaired;
            }
        }
    }
}

pub fn first_error(found: &Found) -> Option<String> {
    found.errors.first().cloned().or_else(|| {
        found.entries.iter().find_map(|(name, seen)| match seen {
            crate::book::Seen::File(_, bad) => {
                bad.first().map(|sector| format!("{name}: sector {sector}"))
            }
            _ => None,
        })
    })
}

/// Aborted mounts say why, once; others never.
pub fn judge_words(ended: &Ended) {
    let said = ended
        .words
        .iter()
        .filter(|line| line.contains(" aborted: "));
    let said: Vec<&String> = said.collect();
    // A mount that was refused in its replay aborts too, and nobody can ask it.
    if ended.refused {
        assert!(said.len() <= 1, "{said:?}");
        return;
    }
    assert_eq!(
        said.len(),
        usize::from(ended.aborted.is_some()),
        "{:?}",
        ended.words
    );
}

/// What the next mount shows, on a device that works.
pub fn find(ended: &mut Ended) -> Result<(Found, Arc<Filesystem>)> {
    ended.device.heal();
    let fs = mount(ended.device.clone())?;
    // Where trees that only a writer needs are damaged, it is another count.
    if fs.read_only_reason().is_none()
        && let (Some(then), Ok(now)) = (&ended.free, fs.statfs())
    {
        assert_eq!(*then, now, "space that the last mount gave to nobody");
    }
    let found = story::look(&fs);
    for device in fs.stats().devices {
        ended.found_corrupt += device.corruption_errors;
    }
    Ok((found, fs))
}

/// The found state must be one that the book allows.
pub fn judge_state(ended: &Ended, found: &Found, holes: bool) {
    let mut why = Vec::new();
    // Two logs of one transaction have superblocks of the same age: if the copies differ, nobody can say
    // which is the older one, and the first copy is believed.
    let first_copy = SUPER_AT..SUPER_AT + 4096;
    let struck = ended
        .device
        .place()
        .is_some_and(|place| first_copy.contains(&place.start));
    let pages = match holes && struck {
        true => ended.book.allowed_with_older_logs(),
        false => ended.book.allowed(),
    };
    for page in pages {
        match ended.book.misfit(found, &page, holes) {
            None => return,
            Some(words) => why.push(words),
        }
    }
    panic!(
        "the next mount shows no state that was promised: {}",
        why.join("; or ")
    );
}

/// `btrfs check` in both modes.
pub fn judge_image(device: &MemoryDevice) {
    let folder = in_memory();
    judge_file(&file_of(device, folder.path()));
}

/// The kernel's scrub finds a good copy of everything; and what it wrote anew, `btrfs check` believes.
pub fn judge_by_scrub(device: &MemoryDevice) {
    let folder = in_memory();
    let path = file_of(device, folder.path());
    let mount = LoopMount::read_write(&path);
    let scrub = Command::new("btrfs")
        .args(["scrub", "start", "-B", "-R"])
        .arg(mount.path())
        .output()
        .expect("btrfs can be started");
    let said = String::from_utf8_lossy(&scrub.stdout).into_owned();
    // It says what was bad.
    let _log = mount.unmount_damaged();
    assert!(said.contains("uncorrectable_errors: 0"), "{said}");
    judge_file(&path);
}

/// For images of a few MiB that live for a moment: a disk would be what the tests wait for.
fn in_memory() -> TempDir {
    let made = tempfile::Builder::new()
        .prefix("btrfuse-test-")
        .tempdir_in("/dev/shm");
    made.unwrap_or_else(|_| temp_dir())
}

fn file_of(device: &MemoryDevice, folder: &Path) -> PathBuf {
    let path = folder.join("image");
    device.copy_to(&File::create(&path).unwrap()).unwrap();
    path
}

fn judge_file(path: &Path) {
    for mode in MODES {
        let found = complaints(&check(path, mode));
        assert!(
            found.is_empty(),
            "check --mode={mode}:\n{}",
            found.join("\n")
        );
    }
}

/// Runs one telling and its judgement under its name, and doesn't wait for ever.
pub fn within_limit(what: String, telling: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel::<()>();
    let teller = std::thread::Builder::new()
        .name(what.clone())
        .spawn(move || {
            let _done = done;
            telling();
        })
        .unwrap();
    if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(LIMIT) {
        panic!("{what}: hangs");
    }
    if let Err(panic) = teller.join() {
        eprintln!("in {what}");
        std::panic::resume_unwind(panic);
    }
}
