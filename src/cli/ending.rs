//! The end of a mount: the last commit, the image given back, and whoever waits is told.
//!
//! Owns: what both threads that can come to it share: the session's, when the mount is gone, and
//! `signals`, when programs don't let go. Invariant: it happens once, and whoever returns from
//! [`Ending::reach`] may end the process, because nothing is left to be done.

use super::utab;
use crate::fs::Filesystem;
use crate::fuse::HandOver;
use crate::fuse::control::Watchers;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex};
use crate::volume::FileDevice;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the kernel may take to hand over what its cache holds: a slow disk takes in a gigabyte.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a mount ended; the error is what a user should know of it.
pub type Outcome = Result<(), String>;

/// What a mount holds as long as it isn't over.
pub struct Open {
    /// The image.
    pub device: Arc<FileDevice>,
    /// The filesystem on it.
    pub fs: Arc<Filesystem>,
}

enum State {
    Open(Open),
    Over(Outcome),
}

/// The end that a mount will have.
pub struct Ending {
    /// The image, for words.
    pub image: PathBuf,
    /// Where it was mounted.
    pub dir: PathBuf,
    /// umount(8)'s table has a line for it.
    pub registered: bool,
    /// A daemon: nobody but the log hears of the outcome.
    pub in_background: bool,
    watchers: Arc<Watchers>,
    hand_over: Arc<HandOver>,
    session_over: AtomicBool,
    /// Held by whoever ends the mount, to the end: others wait for the outcome.
    state: Mutex<State>,
}

impl Ending {
    /// Of a mount of `image` on `dir`.
    pub fn new(
        image: &Path,
        dir: &Path,
        open: Open,
        watchers: Arc<Watchers>,
        hand_over: Arc<HandOver>,
    ) -> Self {
        Self {
            image: image.to_owned(),
            dir: dir.to_owned(),
            registered: false,
            in_background: false,
            watchers,
            hand_over,
            session_over: AtomicBool::new(false),
            state: Mutex::new(State::Open(open)),
        }
    }

    /// The session has ended by itself: a signal must not cut the last commit short.
    pub fn leave_to_session(&self) {
        // Release: pairs with the Acquire in `is_session_over`.
        self.session_over.store(true, Ordering::Release);
    }

    /// True when the session's thread does all that is left.
    pub fn is_session_over(&self) -> bool {
        // Acquire: pairs with the Release in `leave_to_session`.
        self.session_over.load(Ordering::Acquire)
    }

    /// Has the kernel hand over what programs wrote through files that they still have open.
    pub fn gather(&self) {
        if !self.hand_over.wait(PATIENCE) {
            let (image, secs) = (self.image.display(), PATIENCE.as_secs());
            log::warn!(
                "{image}: what the kernel's cache holds hasn't come within {secs} s: it is left behind"
            );
        }
    }

    /// Makes everything so far durable, unless it is over already.
    pub fn sync(&self) -> crate::error::Result<()> {
        self.gather();
        match &*self.state.lock() {
            State::Open(open) => open.fs.sync(),
            State::Over(_) => Ok(()),
        }
    }

    /// Ends the mount, or waits until another thread has; the outcome is the same for all.
    /// `served`: how the session went, where that is known.
    pub fn reach(&self, served: Outcome) -> Outcome {
        let mut state = self.state.lock();
        let unfinished = State::Over(Err("a bug cut its end short".to_owned()));
        let outcome = match std::mem::replace(&mut *state, unfinished) {
            State::Open(open) => self.finish(open, served),
            State::Over(outcome) => outcome,
        };
        *state = State::Over(outcome.clone());
        outcome
    }

    fn finish(&self, open: Open, served: Outcome) -> Outcome {
        let Open { device, fs } = open;
        // Before all else: whoever unmounted without waiting for us may open the image any moment.
        device.hold_others_back();
        if self.registered {
            utab::forget(&self.dir, 0);
        }
        let outcome = match fs.unmount() {
            Ok(()) => served,
            Err(error) => Err(format!("the last commit failed: {error}")),
        };
        drop(fs);
        // A session that goes on still has the device: closing ours isn't enough.
        device.give_back();
        drop(device);
        match &outcome {
            Ok(()) => log::info!("{} unmounted", self.image.display()),
            Err(words) if self.in_background => log::error!("{}: {words}", self.image.display()),
            // In the foreground the command itself says it.
            Err(_) => {}
        }
        self.watchers.finish(outcome.clone());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::mkfs::{self, MkfsOptions};
    use crate::fs::MountOptions;
    use crate::sync::thread;

    /// The signals' thread and the session's came to the end together, and one of them ended the
    /// process before the other was done.
    #[test]
    fn who_reaches_the_end_finds_all_of_it_done() {
        let place = tempfile::tempdir().unwrap();
        let image = place.path().join("image");
        let device = FileDevice::create(&image, 256 << 20).unwrap();
        mkfs::make(&device, &MkfsOptions::default()).unwrap();
        drop(device);
        let device = Arc::new(FileDevice::open(&image, false).unwrap());
        let fs = Filesystem::mount(vec![device.clone()], &MountOptions::default()).unwrap();
        // As a session does that goes on.
        let in_use = (device.clone(), fs.clone());
        let watchers = Arc::new(Watchers::new());
        let open = Open { device, fs };
        let ending = Ending::new(&image, place.path(), open, watchers, Arc::default());
        let reached = || {
            let outcome = ending.reach(Ok(()));
            // Free for the next, though not closed.
            (outcome, FileDevice::open(&image, true).map(drop))
        };
        thread::scope(|scope| {
            let (one, two) = (scope.spawn(reached), scope.spawn(reached));
            for (outcome, next) in [one.join().unwrap(), two.join().unwrap()] {
                assert_eq!(outcome, Ok(()));
                next.unwrap();
            }
        });
        // What comes later changes nothing.
        assert_eq!(ending.reach(Err("late".to_owned())), Ok(()));
        ending.sync().unwrap();
        drop(in_use);
    }
}
