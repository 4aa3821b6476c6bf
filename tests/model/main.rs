//! Random steps on three filesystems at once, with the kernel's btrfs as the model: our mount and the engine
//! in this process must give the same errno, the same data, the same tree. What differs is made as short as
//! it can be, and printed as `regressions.jsonl` takes it.
//!
//! | what | where |
//! |---|---|
//! | a step in words, and which are tried | `step`, `strategy` |
//! | what a filesystem is asked, and how it answers | `subject` |
//! | ours and the kernel's mount | `mounted` |
//! | the engine, and what the kernel does in front of it | `engine`, `engine/client` |
//! | cases on all of them, and the judges of their images | `stage` |
//! | what can't be the same, and why | `excuses` |
//! | cases that were found once | `regressions` |
//! | figures | `book` |

mod book;
mod engine;
#[path = "../fs/walk.rs"]
mod engine_walk;
mod excuses;
mod mounted;
mod planted;
mod regressions;
mod stage;
mod step;
mod strategy;
mod subject;

use stage::{Images, Stage};

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// After so many cases images are judged, and fresh ones made.
const CASES_AN_IMAGE: usize = 1000;

/// What the images of a run are made with, in turn.
const FORMATS: &[&[&str]] = &[
    &[],
    &["-n", "4096"],
    &["-n", "65536"],
    &["--csum", "xxhash", "-m", "single"],
];

/// So many cases are played by default, and meet everything; fewer may not.
const CASES: usize = 400;

/// `BTRFUSE_MODEL_CASES` and `BTRFUSE_MODEL_SEED` choose; `scripts/model` sets them.
#[test]
fn every_subject_answers_as_the_kernel_does() {
    let cases = number("BTRFUSE_MODEL_CASES", CASES as u64) as usize;
    let seed = number("BTRFUSE_MODEL_SEED", 1);
    let mut total = book::Book::default();
    for (at, done) in (0..cases).step_by(CASES_AN_IMAGE).enumerate() {
        let images = Images::new(FORMATS[at % FORMATS.len()]);
        let mut stage = Stage::new(images.mounted());
        let seed = seed + at as u64;
        if let Err(found) = stage.explore(CASES_AN_IMAGE.min(cases - done), seed) {
            panic!("seed {seed}: {found}");
        }
        total.add(stage.finish());
        images.judge();
    }
    println!("{total}");
    if cases >= CASES {
        total.assert_much_was_met();
    }
}

#[test]
fn what_differed_once_does_not_again() {
    let images = Images::new(&[]);
    let mut stage = Stage::new(images.mounted());
    for (why, steps) in regressions::all() {
        if let Err(difference) = stage.play(&steps) {
            panic!("{why}: {difference}");
        }
    }
    stage.finish();
    images.judge();
}
