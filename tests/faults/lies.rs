//! Devices that say that all is well and do something else: one write at every n is cut short, lost, lands
//! elsewhere, or never takes effect; and bits that rot.
//!
//! What a checksum stands behind is never seen wrong: it is read from the good copy, which is written over
//! the bad one, or refused. Whatever there are two good copies of is all there.

use crate::campaign::{Campaign, Figures};
use crate::stage::{Ended, find, first_error, judge_by_scrub, judge_state, judge_words};
use btrfuse_test_support::fault_plan::Fault;

const DUP: &[&str] = &["-m", "dup"];
const BOTH_DUP: &[&str] = &["-m", "dup", "-d", "dup"];
const SINGLE: &[&str] = &["-m", "single", "-n", "4096"];

fn campaign(options: &'static [&'static str], fault: Fault) -> Figures {
    let campaign = Campaign {
        options,
        fault,
        every: 1,
        checked: 6,
    };
    campaign.run(judge)
}

fn judge(campaign: &Campaign, ended: &mut Ended, is_checked: bool) {
    judge_words(ended);
    let all_there = campaign.options == BOTH_DUP;
    let mounts = campaign.options != SINGLE;
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

#[test]
fn a_write_that_is_cut_short() {
    for options in [DUP, BOTH_DUP, SINGLE] {
        campaign(options, Fault::Short);
    }
}

#[test]
fn a_write_that_is_lost() {
    for options in [DUP, BOTH_DUP, SINGLE] {
        campaign(options, Fault::Lost);
    }
}

#[test]
fn a_write_that_lands_elsewhere() {
    for options in [DUP, BOTH_DUP, SINGLE] {
        campaign(options, Fault::Misdirected);
    }
}

#[test]
fn a_place_that_stays_as_it_was() {
    for options in [DUP, BOTH_DUP, SINGLE] {
        campaign(options, Fault::Stale);
    }
}

#[test]
fn a_bit_that_rots() {
    for options in [DUP, BOTH_DUP, SINGLE] {
        campaign(options, Fault::Rots);
    }
}
