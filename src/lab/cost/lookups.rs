//! What a lookup costs by the rules of each protocol, alone and side by side.
//!
//! Owns: the measurement in memory, on a real tree's leaves that stay in the cache. What the
//! numbers are good for: comparing protocols with each other, in one run. Protocols take turns
//! within each round, so that whatever else the machine does falls on all of them; the result
//! is the median of the rounds' ratios. A lab build pays for its points and events in every
//! lookup; a build with `--features protocols` alone doesn't.

use crate::error::{Error, Result};
use crate::extent_buffer::Kind;
use crate::extent_buffer::cache::Cache;
use crate::lab::stage::Stage;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Barrier, thread};
use crate::units::Logical;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Lookups between two looks at the clock.
const BATCH: u64 = 256;

/// Whom the threads meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Hardly anybody: each has a leaf of its own, as long as there are leaves.
    Apart,
    /// Each other: all look up one leaf, as all searches do at the top of a tree.
    Together,
}

impl Shape {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Apart, Self::Together];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Apart => "threads spread over the leaves",
            Self::Together => "all threads one leaf",
        }
    }
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose lookups.
    pub kinds: Vec<Kind>,
    /// How many threads at once; a measurement each.
    pub threads: Vec<usize>,
    /// Rounds; each has every protocol once.
    pub rounds: usize,
    /// Of one protocol in one round.
    pub each: Duration,
}

/// What one protocol's lookups cost, with so many threads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The rules.
    pub protocol: String,
    /// How the threads met.
    pub shape: Shape,
    /// How many there were.
    pub threads: usize,
    /// Lookups and releases of all threads together, a second: the median round's.
    pub per_second: f64,
    /// Nanoseconds of one thread for one of them: the median round's.
    pub nanoseconds: f64,
    /// The time as a share of `owned`'s in the same round: the median round's. Over 1 is dearer.
    pub times_owned: f64,
    /// The smallest and the largest of these shares.
    pub spread: (f64, f64),
}

impl Row {
    /// The spread, as people read it.
    pub fn between(&self) -> String {
        format!("({:.2} to {:.2})", self.spread.0, self.spread.1)
    }
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lookups {
    /// Whether points and events of the lab were paid for too.
    pub in_lab_build: bool,
    /// How many rounds were measured.
    pub rounds: usize,
    /// A protocol, a shape and a number of threads each.
    pub rows: Vec<Row>,
}

/// Measures; `progress` hears after each round how many of how many are over, and says whether to
/// go on.
pub fn lookups(plan: &Plan, progress: &mut dyn FnMut(usize, usize) -> bool) -> Result<Lookups> {
    let stages: Vec<(Kind, Stage)> = plan
        .kinds
        .iter()
        .map(|kind| Ok((*kind, Stage::set(*kind)?)))
        .collect::<Result<_>>()?;
    let cells: Vec<(Shape, usize)> = Shape::ALL
        .into_iter()
        .flat_map(|shape| plan.threads.iter().map(move |threads| (shape, *threads)))
        .filter(|(shape, threads)| *threads > 1 || *shape == Shape::Apart)
        .collect();
    // Nanoseconds a lookup, by cell, protocol and round.
    let mut seen = vec![vec![Vec::new(); stages.len()]; cells.len()];
    let mut rounds = 0;
    for round in 0..plan.rounds {
        for (cell, (shape, threads)) in cells.iter().enumerate() {
            for turn in 0..stages.len() {
                // Nobody is always first.
                let who = (turn + round) % stages.len();
                let (_, stage) = &stages[who];
                seen[cell][who].push(measure(stage, *shape, *threads, plan.each)?);
            }
        }
        rounds = round + 1;
        if !progress(rounds, plan.rounds) {
            break;
        }
    }
    let owned = stages.iter().position(|(kind, _)| *kind == Kind::Owned);
    let mut rows = Vec::new();
    for ((shape, threads), seen) in cells.iter().zip(&seen) {
        for ((kind, _), times) in stages.iter().zip(seen) {
            let base = owned.map_or(times, |owned| &seen[owned]);
            let shares: Vec<f64> = times
                .iter()
                .zip(base)
                .map(|(time, base)| time / base)
                .collect();
            let nanoseconds = median(times);
            rows.push(Row {
                protocol: kind.name().to_owned(),
                shape: *shape,
                threads: *threads,
                per_second: *threads as f64 * 1e9 / nanoseconds,
                nanoseconds,
                times_owned: median(&shares),
                spread: (
                    shares.iter().copied().fold(f64::INFINITY, f64::min),
                    shares.iter().copied().fold(0.0, f64::max),
                ),
            });
        }
    }
    for (_, stage) in &stages {
        stage.ctx().cache.close_readahead();
    }
    Ok(Lookups {
        in_lab_build: cfg!(feature = "race-lab"),
        rounds,
        rows,
    })
}

/// Nanoseconds that a thread needs for a lookup and a release, when `threads` do nothing else.
fn measure(stage: &Stage, shape: Shape, threads: usize, time: Duration) -> Result<f64> {
    let cache = &stage.ctx().cache;
    let leaf = |n: usize| match shape {
        Shape::Apart => stage.leaves[n % stage.leaves.len()].bytenr,
        Shape::Together => stage.leaves[0].bytenr,
    };
    let (begin, over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let (lookups, nanoseconds) = (AtomicU64::new(0), AtomicU64::new(0));
    let all_there = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|n| {
                let (begin, over) = (&begin, &over);
                let (lookups, nanoseconds) = (&lookups, &nanoseconds);
                let at = leaf(n);
                scope.spawn(move || {
                    begin.wait();
                    let started = Instant::now();
                    let (mut done, mut there) = (0, true);
                    // Relaxed, here and below: plain flags and sums, read after the threads ended.
                    while there && !over.load(Ordering::Relaxed) {
                        there = look_up(cache, at);
                        done += BATCH;
                    }
                    let took = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    lookups.fetch_add(done, Ordering::Relaxed);
                    nanoseconds.fetch_add(took, Ordering::Relaxed);
                    there
                })
            })
            .collect();
        begin.wait();
        thread::sleep(time);
        over.store(true, Ordering::Relaxed);
        workers
            .into_iter()
            .all(|worker| worker.join().unwrap_or(false))
    });
    if !all_there {
        return Err(Error::corrupt(
            "a leaf that nobody frees has left the cache: the measurement says nothing",
        ));
    }
    let done = lookups.load(Ordering::Relaxed).max(1);
    Ok(nanoseconds.load(Ordering::Relaxed) as f64 / done as f64)
}

/// A batch of lookups and releases; false when the leaf isn't in the cache.
fn look_up(cache: &Cache, at: Logical) -> bool {
    (0..BATCH).all(|_| std::hint::black_box(cache.find(at)).is_some())
}

/// The middle one, or between the two middle ones; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        len if len % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_shape_and_number_of_threads_is_measured_against_owned() {
        let plan = Plan {
            kinds: Kind::ALL.to_vec(),
            threads: vec![1, 2],
            rounds: 3,
            each: Duration::from_millis(2),
        };
        let mut heard = Vec::new();
        let lookups = lookups(&plan, &mut |done, all| {
            heard.push((done, all));
            true
        });
        let lookups = lookups.unwrap();
        assert_eq!(heard, [(1, 3), (2, 3), (3, 3)]);
        // One thread meets nobody, whatever the shape.
        assert_eq!(lookups.rows.len(), Kind::ALL.len() * 3);
        for row in &lookups.rows {
            assert!(row.nanoseconds > 0.0 && row.per_second > 0.0, "{row:?}");
            assert!(
                row.spread.0 <= row.times_owned && row.times_owned <= row.spread.1,
                "{row:?}"
            );
            assert!(
                row.protocol != "owned" || row.spread == (1.0, 1.0),
                "{row:?}"
            );
        }
    }

    #[test]
    fn a_leaf_that_is_gone_is_no_measurement() {
        let mut gone = Stage::set(Kind::Owned).unwrap();
        gone.leaves[0].bytenr = Logical(0x40_0000_0000);
        let time = Duration::from_millis(1);
        assert!(measure(&gone, Shape::Apart, 1, time).is_err());
        gone.ctx().cache.close_readahead();
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
