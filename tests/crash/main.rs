//! Power cuts: workloads of a few operations are played over a device that remembers its writes, and
//! the states that a cut can leave are judged from outside, by what programs were promised.
//!
//! `scripts/crash STATES` judges as many as are wanted, small epochs exhaustively.

mod full;
mod judges;
mod model;
mod other_kernel;
mod play;
mod rules;
mod sensitive;
mod step;
mod threads;
mod verbs;
mod words;
mod workloads;

#[path = "../fs/walk.rs"]
mod own_walk;
#[path = "../fs/player.rs"]
mod player;
#[path = "../commit/recording.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod recording;

use btrfuse_test_support::{Image, Rng};
use judges::{Case, Judges, Jury};
use model::moment;
use play::{Played, Start};
use recording::Depth;
use step::Step;

/// Most states go to the other kernel, which is five times as fast.
const MOSTLY_OTHER: Jury = Jury {
    host_every: 6,
    other: true,
    alike_every: 4,
};

const FEW: Depth = Depth {
    singles: 2,
    random: 5,
    exhaustive: 0,
    every_write: false,
};

/// Has the states of a workload judged, up to so many in all.
fn cut(
    judges: &mut Judges,
    played: &Played,
    label: &str,
    depth: Depth,
    rng: &mut Rng,
    states: usize,
) {
    played.recording.visit_to(depth, rng, |state| {
        if !judges.is_over() && judges.judged < states {
            let done = state.acknowledged;
            judges.judge(Case {
                history: played.history.clone(),
                moment: moment(done),
                label: format!("{label}, {done} operations done"),
                state,
            });
        }
    });
}

/// A kind of image, and how deep its workloads are looked at.
struct Run<'a> {
    name: &'a str,
    start: Start,
    seed: u64,
    depth: Depth,
    /// Stop after so many states.
    states: usize,
}

impl Run<'_> {
    /// Plays, and has it judged.
    fn cut_all(&self, judges: &mut Judges, workloads: &[Vec<Step>]) {
        let (mut played_steps, mut without_space) = (0, 0);
        let mut rng = Rng::new(self.seed);
        for (n, workload) in workloads.iter().enumerate() {
            if judges.is_over() || judges.judged >= self.states {
                break;
            }
            let label = format!("{}, workload {n} {}", self.name, step::told(workload));
            let played = self.start.play(workload);
            played_steps += workload.len();
            without_space += played.without_space;
            cut(judges, &played, &label, self.depth, &mut rng, self.states);
        }
        println!(
            "{}: {without_space} of {played_steps} steps met ENOSPC",
            self.name
        );
        assert_eq!(without_space > 0, self.name.contains("full"));
    }
}

/// Some of the short workloads, and some longer ones.
fn sample(rng: &mut Rng, short: usize, long: usize) -> Vec<Vec<Step>> {
    let all = workloads::all();
    let pick = (0..short).map(|_| all[rng.below(all.len() as u64) as usize].clone());
    let mut out: Vec<_> = pick.collect();
    out.extend((0..long).map(|_| workloads::random(rng, 9)));
    out
}

/// What images there are, by number; into full ones some pages go.
fn kind(number: u64, pages: u64) -> (&'static str, Start) {
    let on = |mib, mkfs: &[&str]| {
        let image = Image::mkfs_btrfs(mib, mkfs);
        move |full: bool| match full {
            true => full::start(&image, pages),
            false => Start::on(&image, &workloads::preparation()),
        }
    };
    match number {
        0 => ("an ordinary image", on(128, &[])(false)),
        1 => {
            let mkfs = ["-n", "4096", "-O", "^no-holes,^extref"];
            ("without newer features", on(128, &mkfs)(false))
        }
        2 => ("a full image", on(128, &[])(true)),
        3 => {
            let mkfs = ["--mixed", "-n", "4096"];
            // Below 64 MiB there is but one superblock, and nothing to go on with when that is torn.
            ("a full image with mixed groups", on(80, &mkfs)(true))
        }
        4 => {
            let mkfs = ["-O", "^no-holes", "-R", "^free-space-tree", "-m", "single"];
            ("in an old format", on(128, &mkfs)(false))
        }
        _ => {
            let mkfs = ["--csum", "sha256", "-n", "65536"];
            ("with large checksums and nodes", on(256, &mkfs)(false))
        }
    }
}

/// Those that are looked at each time, and all.
const FIRST_KINDS: u64 = 4;
/// What goes into full images there.
const PAGES: u64 = 3;
const KINDS: u64 = 6;

/// On several kinds of images.
#[test]
fn every_cut_leaves_what_programs_were_promised() {
    let mut judges = Judges::new(MOSTLY_OTHER);
    for number in 0..FIRST_KINDS {
        let seed = number + 1;
        let workloads = sample(&mut Rng::new(seed), 6, 2);
        let (name, start) = kind(number, PAGES);
        let run = Run {
            name,
            start,
            seed,
            depth: FEW,
            states: usize::MAX,
        };
        run.cut_all(&mut judges, &workloads);
    }
    assert!(judges.end() > 450);
}

/// Every subset of small epochs. `scripts/crash` names how many states: `BTRFUSE_CRASH_STATES`, of the
/// seed `BTRFUSE_CRASH_SEED`; and which kernels judge: `BTRFUSE_CRASH_JUDGE`, host, uml or both.
#[test]
fn as_many_cuts_as_are_wanted() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|it| it.parse().expect("a number"))
    };
    let states = number("BTRFUSE_CRASH_STATES").unwrap_or(60) as usize;
    let seed: u64 = number("BTRFUSE_CRASH_SEED").unwrap_or(1);
    let jury = match std::env::var("BTRFUSE_CRASH_JUDGE").as_deref() {
        Ok("host") => Jury {
            host_every: 1,
            other: false,
            alike_every: 1,
        },
        Ok("uml") => Jury {
            host_every: 0,
            other: true,
            alike_every: 1,
        },
        Ok("both") => Jury {
            alike_every: 1,
            ..MOSTLY_OTHER
        },
        // Of so few it isn't worth a boot.
        Err(_) => Jury {
            other: false,
            ..MOSTLY_OTHER
        },
        Ok(unknown) => panic!("BTRFUSE_CRASH_JUDGE={unknown}: host, uml or both"),
    };
    let mut judged = 0;
    for round in seed.. {
        let mut rng = Rng::new(round);
        let wanted = (states - judged).min(STATES_A_ROUND);
        judged += match round % (KINDS + 1) {
            KINDS => threads::cut_all(round, wanted, jury),
            number => {
                let mut workloads = workloads::all();
                for at in (1..workloads.len()).rev() {
                    workloads.swap(at, rng.below(at as u64 + 1) as usize);
                }
                // A longer one now and then.
                for n in (0..workloads.len()).step_by(5) {
                    workloads[n] = workloads::random(&mut rng, 9);
                }
                let (name, start) = kind(number, round / (KINDS + 1) % 12);
                let run = Run {
                    name,
                    start,
                    seed: round,
                    depth: Depth {
                        singles: 2,
                        random: 4,
                        exhaustive: 5,
                        every_write: false,
                    },
                    states: wanted,
                };
                let mut judges = Judges::new(jury);
                run.cut_all(&mut judges, &workloads);
                judges.end()
            }
        };
        println!("seed {round}: {judged} states so far");
        if judged >= states {
            break;
        }
    }
}

/// Then comes another kind of image.
const STATES_A_ROUND: usize = 2_000;
