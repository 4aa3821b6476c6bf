//! Threads held in a window of the rules, while another comes by.

use super::disk::*;
use crate::extent_buffer::Kind;
use crate::sync::race_point::{Point, RaceHook, Seen, install_hook, remove_hook};
use crate::sync::thread;
use crate::sync::{Arc, Condvar, Mutex};
use crate::units::{Generation, Logical};
use std::time::Duration;

const AT: u64 = 1 << 33;
const G: Generation = Generation(7);

/// Holds the first thread that comes to a point of the block at [`AT`].
struct Gate {
    point: Point,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    came: bool,
    open: bool,
}

impl RaceHook for Gate {
    fn reached(&self, point: Point, seen: Seen) {
        let mut state = self.state.lock();
        if point != self.point || seen.bytenr != AT || state.came {
            return;
        }
        state.came = true;
        self.moved.notify_all();
        while !state.open {
            self.moved.wait(&mut state);
        }
    }

    fn done(&self, _words: &'static str, _seen: Seen) {}
}

impl Gate {
    fn install(point: Point) -> Arc<Self> {
        let gate = Arc::new(Self {
            point,
            state: Mutex::default(),
            moved: Condvar::new(),
        });
        install_hook(gate.clone());
        gate
    }

    fn await_somebody(&self) {
        let mut state = self.state.lock();
        while !state.came {
            self.moved.wait(&mut state);
        }
    }

    fn open(&self) {
        self.state.lock().open = true;
        self.moved.notify_all();
    }
}

/// An early write-out stands between DIRTY and WRITEBACK while the commit comes by. If the commit
/// took the block for clean, its superblock could be on the disk before the block is.
#[test]
fn a_commit_waits_for_a_block_that_another_thread_begins_to_write() {
    // In one word the two flags change in one step.
    for kind in kinds().into_iter().filter(|it| *it != Kind::PackedWord) {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        let gate = Gate::install(Point::WritebackBegins);
        thread::scope(|scope| {
            let early = scope.spawn(|| cache.write_out(&[Logical(AT)], G).unwrap());
            gate.await_somebody();
            let commit = scope.spawn(|| {
                let written = cache.write_out(&[Logical(AT)], G).unwrap();
                assert_eq!(
                    disk.generation_at(AT),
                    Some(7),
                    "{kind}: came back too soon"
                );
                written
            });
            // Time for a commit that doesn't wait to be done.
            thread::sleep(Duration::from_millis(50));
            gate.open();
            assert_eq!(early.join().unwrap(), [Logical(AT)]);
            assert_eq!(commit.join().unwrap(), []);
        });
        remove_hook();
    }
}
