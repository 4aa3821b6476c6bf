//! One kind of fault at every call of the story, and the figures.

use crate::book::Book;
use crate::stage::{self, Ended, within_limit};
use btrfuse::volume::MemoryDevice;
use btrfuse_test_support::fault_plan::Fault;
use std::sync::{Arc, Mutex};

/// What came of many tellings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub tellings: u64,
    /// The mount, or the one in the middle, was refused.
    pub refused: u64,
    /// The transaction was aborted.
    pub aborted: u64,
    /// Some operation answered an error, and the mount went on.
    pub told: u64,
    /// Nobody noticed, but that a copy was written anew.
    pub repaired: u64,
    /// Nobody noticed before the next mount: it read around a bad copy, or refused content.
    pub later: u64,
    /// Nobody noticed.
    pub silent: u64,
}

impl Figures {
    fn count(&mut self, ended: &Ended) {
        self.tellings += 1;
        let counter = match () {
            () if ended.refused => &mut self.refused,
            () if ended.aborted.is_some() => &mut self.aborted,
            () if !ended.failures.is_empty() => &mut self.told,
            () if ended.repaired > 0 => &mut self.repaired,
            () if ended.found_corrupt > 0 => &mut self.later,
            () => &mut self.silent,
        };
        *counter += 1;
    }
}

/// Which calls are struck, and how the states that are left are judged.
pub struct Campaign {
    pub options: &'static [&'static str],
    pub fault: Fault,
    /// Every so many calls.
    pub every: u64,
    /// Every so many tellings `btrfs check` looks at the image.
    pub checked: u64,
}

/// Further formats, for when all is done.
pub const FORMATS: &[&[&str]] = &[
    &["-m", "single", "-O", "^no-holes", "--csum", "xxhash"],
    &["-m", "dup", "-n", "4096", "-R", "^free-space-tree"],
    &["--mixed", "-n", "4096"],
];

/// How much is done: all of it when `BTRFUSE_FAULTS` is set.
pub fn is_exhaustive() -> bool {
    std::env::var_os("BTRFUSE_FAULTS").is_some()
}

impl Campaign {
    /// Tells the story once for each call of the fault's kind. `judge` sees each end.
    pub fn run(&self, judge: fn(&Self, &mut Ended, bool)) -> Figures {
        let (base, book) = stage::scene(self.options);
        let figures = Arc::new(Mutex::new(Figures::default()));
        let (every, checked) = if is_exhaustive() {
            (1, 1)
        } else {
            (self.every, self.checked)
        };
        let mut nth = 1;
        loop {
            let before = figures.lock().unwrap().tellings;
            let what = format!("{:?} {:?} at {nth}", self.options, self.fault);
            let is_checked = before % checked == 0;
            self.tell(&base, &book, nth, is_checked, what, judge, &figures);
            if figures.lock().unwrap().tellings == before {
                break;
            }
            nth += every;
        }
        let figures = *figures.lock().unwrap();
        eprintln!("{:?} {:?}: {figures:?}", self.options, self.fault);
        figures
    }

    #[allow(clippy::too_many_arguments)]
    fn tell(
        &self,
        base: &MemoryDevice,
        book: &Book,
        nth: u64,
        is_checked: bool,
        what: String,
        judge: fn(&Self, &mut Ended, bool),
        figures: &Arc<Mutex<Figures>>,
    ) {
        let (base, book, figures) = (base.clone(), book.clone(), figures.clone());
        let campaign = Self { ..*self };
        within_limit(what, move || {
            // Both ends take twice the time.
            let ends: &[bool] = match is_exhaustive() {
                true => &[true, false],
                false => &[!nth.is_multiple_of(3)],
            };
            for &killed in ends {
                let mut ended = stage::tell(&base, book.clone(), Some(campaign.fault), nth, killed);
                if ended.fired == 0 {
                    return;
                }
                judge(&campaign, &mut ended, is_checked);
                figures.lock().unwrap().count(&ended);
            }
        });
    }
}
