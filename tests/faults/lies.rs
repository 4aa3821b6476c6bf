//! Devices that say that all is well and do something else: one write at every n is cut short, lost, lands
//! elsewhere, or never takes effect; and bits that rot.
//!
//! What a checksum stands behind is never seen wrong: it is read from the good copy, which is written over
//! the bad one, or refused. Whatever there are two good copies of is all there.

use crate::campaign::{Campaign, FORMATS, Figures, is_exhaustive};
use crate::stage::{Ended, find, first_error, judge_by_scrub, judge_state, judge_words};
use btrfuse_test_support::fault_plan::Fault;

const DUP: &[&str] = &["-m", "dup"];
const BOTH_DUP: &[&str] = &["-m", "dup", "-d", "dup"];
const SINGLE: &[&str] = &["-m", "single", "-n", "4096"];

fn campaign(options: &'static [&'static str], fault: Fault) -> Figures {
    let campaign = Campaign {
        options,
        fault,
        every: 2,
        checked: 6,
    };
    campaign.run(judge)
}

fn judge(campaign: &Campaign, ended: &mut Ended, is_checked: bool) {
    judge_words(ended);
    let all_there = campaign.options == BOTH_DUP;
    let mounts = all_there || campaign.options.starts_with(DUP);
    if all_there {
        assert!(ended.failures.is_empty(), "{:?}", ended.failures);
    }
    if mounts {
        assert!(
            !ended.refused && ended.aborted.is_none(),
            "{:?}",
            ended.failures
        );
    }
    let (found, fs) = match find(ended) {
        Ok(found) => found,
        Err(error) if !mounts => {
            let errno = error.errno();
            assert!(errno == libc::EIO || errno == libc::EUCLEAN, "{error}");
            return;
        }
        Err(error) => panic!("the next mount: {error}"),
    };
    judge_state(ended, &found, true);
    if all_there {
        assert_eq!(first_error(&found), None);
    }
    if mounts {
        assert!(found.errors.is_empty(), "{:?}", found.errors);
    }
    let whole = first_error(&found).is_none();
    let result = fs.unmount();
    drop(fs);
    assert!(result.is_ok() || !mounts, "{result:?}");
    // What nobody has read is still bad, but for one copy.
    if is_checked && all_there && whole {
        judge_by_scrub(ended.device.medium());
    }
}

fn every_one(fault: Fault) {
    let more = if is_exhaustive() { FORMATS } else { &[] };
    for options in [DUP, BOTH_DUP, SINGLE].iter().chain(more) {
        campaign(options, fault);
    }
}

#[test]
fn a_write_that_is_cut_short() {
    every_one(Fault::Short);
}

#[test]
fn a_write_that_is_lost() {
    every_one(Fault::Lost);
}

#[test]
fn a_write_that_lands_elsewhere() {
    every_one(Fault::Misdirected);
}

#[test]
fn a_place_that_stays_as_it_was() {
    every_one(Fault::Stale);
}

#[test]
fn a_bit_that_rots() {
    every_one(Fault::Rots);
}
