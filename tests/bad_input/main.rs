//! Hostile and damaged images: each is refused, or read with errors in words. Never a panic,
//! never more than 10 seconds, never more than 512 MiB.
//!
//! Three sources: images whose metadata is rewritten here at random, with checksums that fit
//! (always); the damaged golden images; and, with `BTRFUSE_CORPORA`, the images of other
//! programs' test suites, damaged on purpose or found by fuzzers.

mod corpora;
mod explore;
mod mutate;

use btrfuse_test_support::golden;
use corpora::Sample;
use explore::{Outcome, explore, write_to};
use mutate::Mutator;
use std::path::Path;

/// Explores each sample, and says of all what was wrong, not only of the first. Returns how
/// many could be mounted.
#[track_caller]
fn judge(samples: impl Iterator<Item = Sample>, act: fn(&Path) -> Outcome) -> usize {
    let (mut explored, mut mounted, mut complaints) = (0, 0, Vec::new());
    for sample in samples {
        let outcome = act(sample.image.path());
        explored += 1;
        mounted += usize::from(outcome.mounted);
        complaints.extend(
            outcome
                .complaints
                .iter()
                .map(|it| format!("{}: {it}", sample.name)),
        );
    }
    eprintln!("{explored} images explored, {mounted} of them mounted");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    mounted
}

#[test]
fn rewritten_metadata_is_refused_or_read_with_words() {
    let mutator = Mutator::over(golden::named("default-s11").image());
    let mounted = judge((0..40).map(|seed| mutator.mutate(seed)), explore);
    assert!(mounted >= 10, "most mistakes are deeper than a mount looks");
}

/// Other trees, other items, other sizes than the default's.
#[test]
fn rewritten_metadata_of_other_formats_is_refused_or_read_with_words() {
    for (number, name) in ["bgt-s11", "no-skinny-s11", "mixed-s11", "node4k-s11"]
        .into_iter()
        .enumerate()
    {
        let mutator = Mutator::over(golden::named(name).image());
        let first = 1000 * (number as u64 + 1);
        judge((first..first + 4).map(|seed| mutator.mutate(seed)), explore);
        judge(
            (first + 4..first + 8).map(|seed| mutator.mutate(seed)),
            write_to,
        );
    }
}

#[test]
fn rewritten_superblocks_are_refused_or_read_with_words() {
    let mutator = Mutator::over(golden::named("default-s11").image());
    judge((0..40).map(|seed| mutator.mutate_superblock(seed)), explore);
}

#[test]
fn writers_on_rewritten_metadata_end_in_words() {
    let mutator = Mutator::over(golden::named("default-s11").image());
    let mounted = judge((500..540).map(|seed| mutator.mutate(seed)), write_to);
    assert!(mounted >= 10, "most mistakes are deeper than a mount looks");
}

#[test]
fn damaged_golden_images_are_refused_or_read_with_words() {
    let damaged = |name: &str| {
        ["super-bad", "-rot", "powercut"]
            .iter()
            .any(|it| name.contains(it))
    };
    judge(
        golden::all()
            .into_iter()
            .filter(|set| damaged(&set.name))
            .map(Sample::golden),
        explore,
    );
}

#[test]
fn images_for_check_programs_are_refused_or_read_with_words() {
    judge(
        corpora::samples("fsck-tests/").chain(corpora::samples("misc-tests/")),
        explore,
    );
}

#[test]
fn images_from_fuzzers_are_refused_or_read_with_words() {
    judge(corpora::samples("fuzz-tests/"), explore);
}

/// The harness itself: what dies, hangs or says nothing is noticed.
mod planted {
    use super::explore::judge_end;
    use std::process::Command;

    fn ended(script: &str) -> Option<String> {
        let status = Command::new("sh")
            .args(["-c", script])
            .status()
            .expect("a shell");
        judge_end("planted", status, "some words")
    }

    #[test]
    fn ordinary_ends_pass_and_deaths_are_complaints() {
        assert_eq!(ended("exit 0"), None);
        assert_eq!(ended("exit 3"), None);
        for death in ["exit 101", "exit 4", "kill -SEGV $$", "kill -ABRT $$"] {
            assert!(ended(death).is_some(), "{death}");
        }
        let success = Command::new("true").status().expect("coreutils");
        assert!(judge_end("planted", success, "thread 'main' panicked at x").is_some());
        let refused = Command::new("sh")
            .args(["-c", "exit 3"])
            .status()
            .expect("a shell");
        assert!(
            judge_end("planted", refused, "").is_some(),
            "a refusal without words"
        );
    }
}
