//! Content that is written over in place, and the snapshots that mustn't see it change.
//!
//! Owns: who of a tree's writers counts on changing an extent where it lies (NODATACOW files,
//! preallocated ranges), and the order between them and a snapshot. Invariant: while a snapshot
//! is taken nobody is between the look that found an extent to be its file's alone and the tree
//! that says what was written.
//!
//! A writer never waits: who gets no pass writes to a new extent. A snapshot waits for the
//! passes that are out, in two steps. *Promises* first: content in memory for which no space was
//! set aside, as it would go to its old place; it is flushed before the second step, the *writes*.

use super::roots::Root;
use crate::sync::{Arc, Condvar, Mutex};

/// The two things that a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// Content goes into memory with no space set aside.
    Promise,
    /// Content goes to its old place.
    Write,
}

#[derive(Debug, Default)]
struct Counts {
    barred: u32,
    passes: u32,
}

/// A tree's passes.
#[derive(Default)]
pub(super) struct InPlaceGate {
    /// By [`InPlace`].
    counts: Mutex<[Counts; 2]>,
    /// The last pass has come back.
    returned: Condvar,
}

/// Somebody counts on writing in place, until it is dropped.
pub struct InPlacePass {
    root: Arc<Root>,
    what: InPlace,
}

/// Nobody writes in place, until it is dropped.
pub struct InPlaceBar {
    root: Arc<Root>,
    what: InPlace,
}

impl Root {
    /// Lets the caller count on writing in place; `None` while a snapshot is being taken.
    pub fn pass_in_place(self: &Arc<Self>, what: InPlace) -> Option<InPlacePass> {
        let counts = &mut self.in_place.counts.lock()[what as usize];
        if counts.barred > 0 {
            return None;
        }
        counts.passes += 1;
        let root = self.clone();
        Some(InPlacePass { root, what })
    }

    /// No new passes from now on; returns when those that are out have come back. Their holders
    /// may commit meanwhile.
    pub fn bar_in_place(self: &Arc<Self>, what: InPlace) -> InPlaceBar {
        let mut counts = self.in_place.counts.lock();
        counts[what as usize].barred += 1;
        while counts[what as usize].passes > 0 {
            self.in_place.returned.wait(&mut counts);
        }
        drop(counts);
        let root = self.clone();
        InPlaceBar { root, what }
    }
}

impl Drop for InPlacePass {
    fn drop(&mut self) {
        self.root.in_place.counts.lock()[self.what as usize].passes -= 1;
        self.root.in_place.returned.notify_all();
    }
}

impl Drop for InPlaceBar {
    fn drop(&mut self) {
        self.root.in_place.counts.lock()[self.what as usize].barred -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btree::RootNode;
    use crate::ondisk::RootItem;
    use crate::ondisk::key::Key;
    use crate::sync::thread;
    use crate::units::{Generation, Logical};

    fn root() -> Arc<Root> {
        let node = RootNode {
            bytenr: Logical(0),
            generation: Generation(1),
            level: 0,
        };
        Root::new(Key::new(5, 132, 0), node, RootItem::zeroed())
    }

    #[test]
    fn a_bar_waits_for_passes_and_gives_none() {
        let root = root();
        let pass = root.pass_in_place(InPlace::Write).unwrap();
        let waiter = {
            let root = root.clone();
            thread::spawn(move || root.bar_in_place(InPlace::Write))
        };
        while root.pass_in_place(InPlace::Write).is_some() {
            thread::yield_now();
        }
        assert!(
            root.pass_in_place(InPlace::Promise).is_some(),
            "another thing"
        );
        assert!(!waiter.is_finished());
        drop(pass);
        let bar = waiter.join().unwrap();
        assert!(root.pass_in_place(InPlace::Write).is_none());
        drop(bar);
        assert!(root.pass_in_place(InPlace::Write).is_some());
    }
}
