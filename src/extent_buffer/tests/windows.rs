//! Threads held in a window of the rules, while another comes by.

use super::disk::*;
use crate::extent_buffer::Kind;
use crate::extent_buffer::events::Event;
use crate::sync::race_point::{Point, RaceHook, Seen, install_hook, remove_hook};
use crate::sync::{Arc, Condvar, Mutex, mpsc, thread};
use crate::units::{Generation, Logical};
use std::time::Duration;

const AT: u64 = 1 << 33;
const G: Generation = Generation(7);
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for a thread that isn't held to be done.
const A_WHILE: Duration = Duration::from_millis(50);

/// The hook is the process's.
static ALONE: Mutex<()> = Mutex::new(());

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

    fn done(&self, words: &'static str, seen: Seen) {
        // The last count of the block is gone, and nobody has been told.
        if words == Event::Freed.words() {
            self.reached(Point::DropDone, seen);
        }
    }
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

    /// Waits for somebody who may never come.
    fn expect_somebody(&self) {
        let mut state = self.state.lock();
        if !state.came {
            self.moved.wait_for(&mut state, A_WHILE);
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
    let _alone = ALONE.lock();
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
            thread::sleep(A_WHILE);
            gate.open();
            assert_eq!(early.join().unwrap(), [Logical(AT)]);
            assert_eq!(commit.join().unwrap(), []);
        });
        remove_hook();
    }
}

/// WRITEBACK of a block that turns out to be clean is no write, and nobody tells of its end: a
/// commit that waited for it would wait forever.
#[test]
fn a_write_out_that_finds_a_block_clean_keeps_nobody_waiting() {
    let _alone = ALONE.lock();
    for kind in kinds() {
        let disk = Disk::with_leaves([], 0);
        let cache = disk.cache(16, kind);
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        assert_eq!(cache.write_out(&[Logical(AT)], G).unwrap(), [Logical(AT)]);
        let gate = Gate::install(Point::WritebackBegins);
        let (tell, told) = mpsc::channel();
        let write_out = || {
            let (cache, tell) = (cache.clone(), tell.clone());
            thread::spawn(move || tell.send(cache.write_out(&[Logical(AT)], G).unwrap()))
        };
        write_out();
        gate.expect_somebody();
        write_out();
        thread::sleep(A_WHILE);
        gate.open();
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(PATIENCE), Ok(Vec::new()), "{kind}");
        }
        remove_hook();
    }
}

/// Between the drop of the last count and the report that it was one too early, a commit comes by
/// and can't find the block; or somebody has it read again meanwhile, and the commit finds that.
/// Either way it must not write its superblock.
#[test]
fn a_loss_that_is_not_reported_yet_is_noticed_by_the_write_out_that_meets_it() {
    let _alone = ALONE.lock();
    for (kind, is_read_again) in kinds().into_iter().flat_map(|it| [(it, false), (it, true)]) {
        let disk = Disk::with_leaves([AT], 5);
        let cache = disk.cache(16, kind);
        drop(cache.create(Logical(AT), G, 5, 0).unwrap());
        let gate = Gate::install(Point::DropDone);
        thread::scope(|scope| {
            let loser = scope.spawn(|| cache.lose(Logical(AT)));
            gate.await_somebody();
            if is_read_again {
                drop(cache.read(&of_generation(AT, 5)).unwrap());
            }
            assert_eq!(cache.write_out(&[Logical(AT)], G).unwrap(), []);
            let whole = cache.check_whole();
            gate.open();
            loser.join().unwrap();
            assert!(whole.is_err(), "{kind}, read again: {is_read_again}");
        });
        remove_hook();
    }
}
