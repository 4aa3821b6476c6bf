//! Several threads at once: fsyncs that share a log, beside commits. Each thread has names of its own in
//! directories that all use, so that what it made durable is known whatever the others do.

use crate::judges::{Case, Judges, Jury};
use crate::play::{Start, mount};
use crate::recording::{Depth, Recorder, Recording};
use crate::step::{Hand, Step};
use crate::verbs::*;
use crate::{MOSTLY_OTHER, workloads};
use btrfuse::volume::BlockDevice;
use btrfuse_test_support::script::Allocate;
use btrfuse_test_support::{Image, Rng};
use serde_json::{Value, json};
use std::io;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

const LANES: usize = 4;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Begins,
    /// It is done; if it was refused it isn't in the list.
    Done {
        is_listed: bool,
        is_commit: bool,
    },
}

/// When what happened, in the order of the recording.
struct Clock {
    recorder: Arc<Recorder>,
    marks: Mutex<Vec<(usize, Mark)>>,
}

/// How far the threads were.
#[derive(Clone, Copy, Default)]
struct Lane {
    done: u64,
    under_way: bool,
    committed: u64,
}

/// A disk takes its time, in which others come and have something to say.
struct Slow(Arc<Recorder>);

impl BlockDevice for Slow {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.0.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        self.0.write_at(at, buf)
    }

    fn flush(&self) -> io::Result<()> {
        std::thread::sleep(Duration::from_micros(500));
        self.0.flush()
    }

    fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.0.discard(at, len)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

impl Clock {
    fn tick(&self, lane: usize, mark: Mark) {
        let mut marks = self.marks.lock().unwrap();
        marks.push((lane, mark));
        self.recorder.acknowledge(marks.len() as u64);
    }
}

fn name(lane: usize) -> String {
    format!("t{lane}-")
}

/// A thread's steps, all about its own names.
fn steps(lane: usize, rng: &mut Rng, count: usize) -> Vec<Step> {
    let names = ["A/NAMEa", "A/NAMEb", "B/NAMEc", "NAMEd", "S/NAMEe"];
    let pick = |rng: &mut Rng| rng.choose(&names).replace("NAME", &name(lane));
    let mut out: Vec<_> = names
        .iter()
        .map(|it| create(&it.replace("NAME", &name(lane))))
        .collect();
    while out.len() < count {
        let (one, two) = (pick(rng), pick(rng));
        let at = rng.below(5) * 3_000;
        let step = match rng.below(12) {
            0..2 => create(&one),
            2..5 => write(&one, at, 5_000),
            5 => append(&one, 3_000),
            6 => truncate(&one, at),
            7 => allocate(&one, Allocate::Punch, at, 4_096),
            8 => rename(&one, &two),
            9 => link(&one, &two),
            10 => unlink(&one),
            _ => set_xattr(&one, "user.a", at as u8),
        };
        out.push(step);
        match rng.below(24) {
            0..12 => out.push(fsync(&one)),
            12..14 => out.push(fsync("A")),
            14 => out.push(Step::Commit),
            _ => {}
        }
    }
    out
}

/// Plays them side by side; returns the lists of what was done.
fn play(start: &Start, lanes: &[Vec<Step>]) -> (Recording, Vec<(usize, Mark)>, Vec<Vec<Value>>) {
    let recorder = Arc::new(Recorder::over(&start.device));
    let fs = mount(Arc::new(Slow(recorder.clone())));
    let clock = Clock {
        recorder: recorder.clone(),
        marks: Mutex::new(Vec::new()),
    };
    let together = Barrier::new(lanes.len());
    let lists = std::thread::scope(|scope| {
        let threads = lanes.iter().enumerate().map(|(lane, steps)| {
            let (fs, clock, together) = (&fs, &clock, &together);
            scope.spawn(move || {
                let mut hand = Hand::on(fs);
                let mut list = Vec::new();
                together.wait();
                for step in steps {
                    clock.tick(lane, Mark::Begins);
                    let done = hand.take(step);
                    let mark = Mark::Done {
                        is_listed: done.is_some(),
                        is_commit: matches!(step, Step::Commit),
                    };
                    clock.tick(lane, mark);
                    list.extend(done);
                }
                list
            })
        });
        let threads: Vec<_> = threads.collect();
        threads
            .into_iter()
            .map(|it| it.join().expect("no panic"))
            .collect()
    });
    drop(fs);
    let marks = clock.marks.into_inner().unwrap();
    drop(clock.recorder);
    let recorder = Arc::into_inner(recorder).expect("the mount is gone");
    (recorder.finish(start.device.clone()), marks, lists)
}

/// How far they were after so many marks. A commit has what had returned when it began.
fn progress(marks: &[(usize, Mark)], count: u64) -> [Lane; LANES] {
    let mut lanes = [Lane::default(); LANES];
    let mut before_commit = [[0; LANES]; LANES];
    for &(lane, mark) in &marks[..count as usize] {
        match mark {
            Mark::Begins => {
                lanes[lane].under_way = true;
                before_commit[lane] = lanes.map(|it| it.done);
            }
            Mark::Done {
                is_listed,
                is_commit,
            } => {
                lanes[lane].under_way = false;
                lanes[lane].done += u64::from(is_listed);
                if is_commit {
                    for (it, before) in lanes.iter_mut().zip(before_commit[lane]) {
                        it.committed = it.committed.max(before);
                    }
                }
            }
        }
    }
    lanes
}

/// One round after the other until there are so many states.
pub fn cut_all(seed: u64, states: usize, jury: Jury) -> usize {
    let start = Start::on(&Image::mkfs_btrfs(128, &[]), &workloads::preparation());
    let mut judges = Judges::new(jury);
    for round in 0.. {
        let seed = seed * 1_000 + round;
        let mut rng = Rng::new(seed);
        let lanes: Vec<_> = (0..LANES).map(|lane| steps(lane, &mut rng, 16)).collect();
        let (recording, marks, lists) = play(&start, &lanes);
        let fsyncs = lists.iter().flatten().filter(|it| it["op"] == "fsync");
        assert!(fsyncs.count() > 3, "seed {seed}: little is durable");
        let lists = lists.into_iter().enumerate();
        let told = lists.map(|(lane, list)| json!({ "name": name(lane), "workload": list }));
        let history = start.history("lanes", told.collect());
        let depth = Depth {
            singles: 1,
            random: 2,
            exhaustive: 2,
            every_write: false,
        };
        recording.visit_to(depth, &mut rng, |state| {
            if judges.is_over() || judges.judged >= states {
                return;
            }
            let lanes = progress(&marks, state.acknowledged);
            let at = lanes.iter().map(|lane| {
                let begun = lane.done + u64::from(lane.under_way);
                json!({ "done": lane.done, "begun": begun, "committed": lane.committed })
            });
            judges.judge(Case {
                history: history.clone(),
                moment: json!({ "at": at.collect::<Vec<_>>() }),
                label: format!("threads, seed {seed}, after {} marks", state.acknowledged),
                state,
            });
        });
        if judges.is_over() || judges.judged >= states {
            break;
        }
    }
    judges.end()
}

#[test]
fn threads_find_what_their_fsyncs_promised_at_every_cut() {
    assert_eq!(cut_all(1, 250, MOSTLY_OTHER), 250);
}
