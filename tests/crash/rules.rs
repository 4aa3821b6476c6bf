//! What programs were promised, rule by rule: each rule's operations are cut at every write.
//! `docs/testing.md` has the rules, and which other tests crash them.

mod content;
mod names;
mod subvolumes;

use crate::judges::Judges;
use crate::play::Start;
use crate::recording::Depth;
use crate::step::{Step, told};
use crate::{MOSTLY_OTHER, cut, workloads};
use btrfuse_test_support::{Image, Rng};

/// A rule's number, and what is done.
type Rules = Vec<(&'static str, Vec<Step>)>;

/// A cut at every write; all subsets of a few.
const EVERY_WRITE: Depth = Depth {
    singles: 0,
    random: 2,
    exhaustive: 4,
    every_write: true,
};

fn hold(judges: &mut Judges, mkfs: &[&str], rules: &Rules) {
    let start = Start::on(&Image::mkfs_btrfs(128, mkfs), &workloads::preparation());
    judges.has_quotas = mkfs.contains(&"quota");
    let mut rng = Rng::new(1);
    for (rule, workload) in rules {
        let played = start.play(workload);
        let label = format!("{rule}, {mkfs:?}, {}", told(workload));
        cut(judges, &played, &label, EVERY_WRITE, &mut rng, usize::MAX);
    }
}

/// Those of them that another kind of image could make different.
fn only(rules: Rules, wanted: &[&str]) -> Rules {
    rules
        .into_iter()
        .filter(|(rule, _)| wanted.contains(rule))
        .collect()
}

#[test]
fn rules_of_content_hold_at_every_write() {
    let mut judges = Judges::new(MOSTLY_OTHER);
    hold(&mut judges, &[], &content::all());
    let explicit_holes = ["-n", "4096", "-O", "^no-holes"];
    let rules = only(content::all(), &["R2", "R3", "R4"]);
    hold(&mut judges, &explicit_holes, &rules);
    assert!(judges.end() > 600);
}

#[test]
fn rules_of_names_hold_at_every_write() {
    let mut judges = Judges::new(MOSTLY_OTHER);
    hold(&mut judges, &[], &names::all());
    assert!(judges.end() > 400);
}

/// With quotas too: the kernel mends their numbers by itself, later; nothing else may come of them.
#[test]
fn rules_of_orphans_and_subvolumes_hold_at_every_write() {
    let mut judges = Judges::new(MOSTLY_OTHER);
    hold(&mut judges, &[], &subvolumes::all());
    hold(
        &mut judges,
        &["-R", "quota"],
        &only(subvolumes::all(), &["R16"]),
    );
    assert!(judges.end() > 600);
}
