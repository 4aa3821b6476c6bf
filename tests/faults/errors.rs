//! `EIO` at the nth read, write and flush of a story, for every n: that one call, the place, or from
//! there on for good.

use crate::campaign::{Campaign, FORMATS, Figures, is_exhaustive};
use crate::stage::{self, Ended, find, judge_by_scrub, judge_image, judge_state, judge_words};
use btrfuse_test_support::fault_plan::Call::{self, Flush, Read, Write};
use btrfuse_test_support::fault_plan::Fault::Fails;
use btrfuse_test_support::fault_plan::Lasting::{ForGood, Once, Place};
use btrfuse_test_support::fault_plan::{Fault, Lasting};

const DUP: &[&str] = &["-m", "dup"];
const BOTH_DUP: &[&str] = &["-m", "dup", "-d", "dup"];
const SINGLE: &[&str] = &["-m", "single", "-n", "4096"];

fn campaign(options: &'static [&'static str], fault: Fault, every: u64) -> Figures {
    let campaign = Campaign {
        options,
        fault,
        every,
        checked: 6,
    };
    campaign.run(judge)
}

/// What must be true after any error of a device.
fn judge(campaign: &Campaign, ended: &mut Ended, is_checked: bool) {
    let Fails(call, lasting) = campaign.fault else {
        unreachable!("errors only")
    };
    judge_words(ended);
    for (step, error) in &ended.failures {
        let errno = error.errno();
        assert!(
            errno == libc::EIO || errno == libc::EROFS && ended.aborted.is_some(),
            "step {step}: {error}"
        );
    }
    let aborted = ended.aborted.is_some();
    if call == Flush {
        assert!(
            aborted || ended.refused,
            "a flush failed, and writing goes on"
        );
    }
    if !aborted && !ended.refused && lasting == Once {
        assert!(ended.failures.len() <= 1, "{:?}", ended.failures);
    }
    let copies = campaign.options == BOTH_DUP;
    if copies && (call, lasting) != (Read, ForGood) && call == Read {
        assert!(
            !aborted && !ended.refused && ended.failures.is_empty(),
            "{:?}",
            ended.failures
        );
    }
    let (found, fs) = find(ended).unwrap_or_else(|error| panic!("the next mount: {error}"));
    judge_state(ended, &found, false);
    fs.unmount().unwrap();
    drop(fs);
    if is_checked {
        // A copy that couldn't be written is still bad if nobody has read it: the other one is good.
        match call == Write && campaign.options.starts_with(DUP) {
            true => judge_by_scrub(ended.device.medium()),
            false => judge_image(ended.device.medium()),
        }
    }
}

#[test]
fn the_story_itself_is_told_and_kept() {
    for options in [DUP, BOTH_DUP, SINGLE] {
        let (base, book) = stage::scene(options);
        let mut ended = stage::tell(&base, book, None, 0, false);
        assert!(ended.failures.is_empty(), "{:?}", ended.failures);
        assert!(ended.words.is_empty(), "{:?}", ended.words);
        let (found, fs) = find(&mut ended).unwrap();
        judge_state(&ended, &found, false);
        fs.unmount().unwrap();
        judge_image(ended.device.medium());
        eprintln!(
            "{options:?}: {:?}",
            [Read, Write, Flush].map(|call| ended.device.calls(call))
        );
    }
}

fn every_one_of(call: Call, lasting: Lasting, every: u64) {
    let more = if is_exhaustive() { FORMATS } else { &[] };
    for options in [DUP, SINGLE].iter().chain(more) {
        let figures = campaign(options, Fails(call, lasting), every);
        assert!(figures.tellings > 3, "{figures:?}");
    }
}

#[test]
fn a_write_that_fails_once() {
    every_one_of(Write, Once, 1);
    // Only the first superblock has no second copy that could stand for it, and a failed log is made good by
    // a commit.
    let figures = campaign(BOTH_DUP, Fails(Write, Once), 1);
    assert_eq!(figures.told, 0, "{figures:?}");
}

#[test]
fn a_place_that_cannot_be_written() {
    every_one_of(Write, Place, 1);
}

#[test]
fn writes_that_fail_for_good() {
    every_one_of(Write, ForGood, 2);
}

#[test]
fn a_flush_that_fails_once() {
    every_one_of(Flush, Once, 1);
}

#[test]
fn flushes_that_fail_for_good() {
    every_one_of(Flush, ForGood, 1);
}

#[test]
fn a_read_that_fails_once() {
    every_one_of(Read, Once, 3);
}

#[test]
fn a_place_that_cannot_be_read() {
    every_one_of(Read, Place, 3);
    let figures = campaign(BOTH_DUP, Fails(Read, Place), 3);
    assert_eq!(figures.told + figures.aborted, 0, "{figures:?}");
}

#[test]
fn reads_that_fail_for_good() {
    every_one_of(Read, ForGood, 3);
}
