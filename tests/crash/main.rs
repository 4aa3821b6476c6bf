//! Power cuts: workloads of a few operations are played over a device that remembers its writes, and
//! the states that a cut can leave are judged from outside, by what programs were promised.
//!
//! `scripts/crash STATES` judges as many as are wanted, small epochs exhaustively.

mod judges;
mod play;
mod workloads;

#[path = "../fs/walk.rs"]
mod own_walk;
#[path = "../fs/player.rs"]
mod player;
#[path = "../commit/recording.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod recording;

use btrfuse_test_support::{Image, Rng};
use judges::Judges;
use play::Start;
use recording::Depth;
use workloads::Step;

/// A kind of image, and how its workloads are chosen.
struct Run<'a> {
    mkfs: &'a [&'a str],
    seed: u64,
    workloads: Vec<Vec<Step>>,
    depth: Depth,
    /// Stop after so many.
    states: usize,
}

/// Plays and judges; returns how many states there were. All failures are told, up to a dozen.
fn cut(run: Run) -> usize {
    let start = Start::on(&Image::mkfs_btrfs(128, run.mkfs));
    let mut judges = Judges::new();
    let mut rng = Rng::new(run.seed);
    let mut failures = Vec::new();
    for (n, workload) in run.workloads.iter().enumerate() {
        if failures.len() >= 12 || judges.judged >= run.states {
            break;
        }
        let played = start.play(workload);
        judges.begin(&played.operations, &start.manifest, &start.bytes);
        played.recording.visit_to(run.depth, &mut rng, |state| {
            if failures.len() < 12 && judges.judged < run.states {
                let what = state.what.clone();
                let done = state.acknowledged;
                if let Err(why) = judges.judge(state) {
                    failures.push(format!(
                        "{:?}, workload {n} {workload:?}, {done} operations done, {what}: {why}",
                        run.mkfs
                    ));
                }
            }
        });
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    println!(
        "{} states, {} with a torn superblock",
        judges.judged, judges.torn
    );
    judges.judged
}

/// Every so many-th of the short workloads, and some longer ones.
fn sample(rng: &mut Rng, short: usize, long: usize) -> Vec<Vec<Step>> {
    let all = workloads::all();
    let pick = (0..short).map(|_| all[rng.below(all.len() as u64) as usize].clone());
    let mut out: Vec<_> = pick.collect();
    out.extend((0..long).map(|_| workloads::random(rng, 9)));
    out
}

const FEW: Depth = Depth {
    singles: 2,
    random: 5,
    exhaustive: 0,
};

#[test]
fn every_cut_leaves_what_programs_were_promised() {
    let workloads = sample(&mut Rng::new(1), 25, 5);
    let states = cut(Run {
        mkfs: &[],
        seed: 1,
        workloads,
        depth: FEW,
        states: usize::MAX,
    });
    assert!(states >= 900, "{states}");
}

#[test]
fn every_cut_leaves_what_programs_were_promised_without_newer_features() {
    let workloads = sample(&mut Rng::new(2), 25, 5);
    let states = cut(Run {
        mkfs: &["-n", "4096", "-O", "^no-holes,^extref"],
        seed: 2,
        workloads,
        depth: FEW,
        states: usize::MAX,
    });
    assert!(states >= 900, "{states}");
}

/// The judges say no: to a device that has nothing of what was acknowledged.
#[test]
fn what_was_durable_and_is_not_there_is_told() {
    use btrfuse_test_support::script::Operation;
    let start = Start::on(&Image::mkfs_btrfs(128, &[]));
    let mut judges = Judges::new();
    let create = Operation::Create {
        path: "A/new".into(),
        mode: 0o600,
    };
    let write = Operation::Write {
        path: "foo".into(),
        offset: 5,
        len: 7,
        seed: 8,
    };
    let unlink = Operation::Unlink {
        path: "A/bar".into(),
    };
    for (operation, expected) in [
        (create, "is gone"),
        (write, "content"),
        (unlink, "leads to"),
    ] {
        let played = start.play(&[Step::Do(operation), Step::Commit]);
        judges.begin(&played.operations, &start.manifest, &start.bytes);
        let told = judges.judge(recording::CrashState {
            device: played.recording.whole(0),
            acknowledged: 2,
            what: String::new(),
        });
        let why = told.expect_err("nothing of it is there");
        assert!(why.contains(expected), "{why}");
    }
}

/// Every subset of small epochs. `scripts/crash` names how many states: `BTRFUSE_CRASH_STATES`, of the
/// seed `BTRFUSE_CRASH_SEED`.
#[test]
fn as_many_cuts_as_are_wanted() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|it| it.parse().expect("a number"))
    };
    let states = number("BTRFUSE_CRASH_STATES").unwrap_or(200) as usize;
    let seed: u64 = number("BTRFUSE_CRASH_SEED").unwrap_or(1);
    let mut judged = 0;
    for round in seed.. {
        let mut rng = Rng::new(round);
        let mut workloads = workloads::all();
        for at in (1..workloads.len()).rev() {
            workloads.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let kinds: [&[&str]; 2] = [&[], &["-n", "4096", "-O", "^no-holes,^extref"]];
        judged += cut(Run {
            mkfs: kinds[(round % 2) as usize],
            seed: round,
            workloads,
            depth: Depth {
                singles: 2,
                random: 4,
                exhaustive: 12,
            },
            states: states - judged,
        });
        if judged >= states {
            break;
        }
    }
}
