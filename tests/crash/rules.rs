//! What programs were promised, rule by rule: each rule's operations are cut at every write.
//! `docs/testing.md` has the rules, and which other tests crash them.

mod content;
mod names;
mod subvolumes;

use crate::judges::{Judges, Jury};
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

fn hold(mkfs: &[&str], rules: &Rules, jury: Jury) {
    let start = Start::on(&Image::mkfs_btrfs(128, mkfs), &workloads::preparation());
    let mut judges = Judges::new(jury);
    judges.has_quotas = mkfs.contains(&"quota");
    let mut rng = Rng::new(1);
    for (rule, workload) in rules {
        let played = start.play(workload);
        let label = format!("{rule}, {mkfs:?}, {}", told(workload));
        cut(
            &mut judges,
            &played,
            &label,
            EVERY_WRITE,
            &mut rng,
            usize::MAX,
        );
    }
    judges.end();
}

#[test]
fn rules_of_content_hold_at_every_write() {
    hold(&[], &content::all(), MOSTLY_OTHER);
}

#[test]
fn rules_of_content_hold_at_every_write_with_explicit_holes() {
    let rules: Rules = content::all()
        .into_iter()
        .filter(|(rule, _)| *rule != "R5")
        .collect();
    hold(&["-n", "4096", "-O", "^no-holes"], &rules, MOSTLY_OTHER);
}

#[test]
fn rules_of_names_hold_at_every_write() {
    hold(&[], &names::all(), MOSTLY_OTHER);
}

#[test]
fn rules_of_orphans_and_subvolumes_hold_at_every_write() {
    hold(&[], &subvolumes::all(), MOSTLY_OTHER);
}

/// The kernel mends the numbers by itself, later; nothing else may come of them.
#[test]
fn rules_of_orphans_and_subvolumes_hold_with_quotas() {
    let rules = subvolumes::all();
    let rules: Rules = rules
        .into_iter()
        .filter(|(rule, _)| ["R12", "R16"].contains(rule))
        .collect();
    hold(&["-R", "quota"], &rules, MOSTLY_OTHER);
}
