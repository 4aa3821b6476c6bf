//! Sums, curves and failures; and that the terminal has them all.

use super::*;
use crate::lab::live::run::Broken;

/// The textbook: 6 of 10 broken, 4 seen only until some time.
#[test]
fn survival_counts_a_sound_run_until_its_end() {
    let points = survival(&[(1.0, true), (2.0, false), (3.0, true), (4.0, false)]);
    let shares: Vec<f64> = points.iter().map(|point| point.surviving).collect();
    assert_eq!(shares, [1.0, 0.75, 0.375]);
    assert_eq!(median(&points), Some(3.0));
    // One broke when the other's work was over: half of two, whoever comes first in the list.
    for order in [[true, false], [false, true]] {
        let points = survival(&order.map(|broken| (5.0, broken)));
        assert_eq!(points.last().map(|point| point.surviving), Some(0.5));
    }
    assert_eq!(
        median(&survival(&[(1.0, true), (9.0, false), (9.0, false)])),
        None
    );
    assert_eq!(median(&survival(&[(5.0, true), (7.0, true)])), Some(5.0));
    assert_eq!(median(&survival(&[])), None);
}

fn plan(names: &[&str]) -> Plan {
    let subject = |name: &&str| plan::Subject {
        name: (*name).into(),
        binary: "/bin/true".into(),
        protocol: None,
        version: None,
    };
    let mix = crate::lab::workload::mix::Mix::parse("empty-leaves").unwrap();
    Plan::new(names.iter().map(subject).collect(), "btrfuse".into(), mix)
}

fn held(subject: &str, seed: u64) -> Run {
    Run {
        subject: subject.into(),
        seed,
        again: format!("btrfuse lab live --seed {seed}"),
        operations: 100,
        seconds: 2.0,
        ..Run::default()
    }
}

fn broke(subject: &str, seed: u64) -> Run {
    Run {
        violation: Some(Broken {
            operations: 40,
            seconds: 0.5,
            what: "BUG_ON it".into(),
            report: "BUG_ON it".into(),
        }),
        ..held(subject, seed)
    }
}

fn report(runs: Vec<Run>) -> Report {
    Report::new(&plan(&["unfixed", "owned"]), runs, false, 9.0)
}

#[test]
fn what_may_break_may_do_nothing_else() {
    assert_eq!(
        report(vec![broke("unfixed", 1), held("owned", 1)]).failures(),
        [""; 0]
    );
    let owned = report(vec![broke("owned", 1)]).failures();
    assert_eq!(owned, ["owned, seed 1: BUG_ON it"]);
    // A hang, a crash or wrong contents were excused with the rule.
    let hung = Run {
        daemon: Some("the daemon hadn't ended and was killed".into()),
        ..broke("unfixed", 2)
    };
    let wrong = Run {
        wrong: vec!["process 1 step 2: read: must read 7 bytes, and reads 6".into()],
        ..broke("unfixed", 3)
    };
    for (run, words) in [(hung, "was killed"), (wrong, "must read 7 bytes")] {
        let report = report(vec![run]);
        let failures = report.failures();
        assert!(
            failures.len() == 1 && failures[0].contains(words),
            "{failures:?}"
        );
        assert!(
            report.rows[0]
                .failure()
                .unwrap()
                .contains("1 wrong answers")
        );
        assert!(report.text().contains(words), "{}", report.text());
    }
}

/// `btrfs check` wasn't installed, and every image passed for sound.
#[test]
fn an_image_that_nobody_judged_is_not_called_sound() {
    let mut unjudged = broke("unfixed", 1);
    let sound = report(vec![unjudged.clone()]);
    assert!(sound.text().contains("no image is damaged"));
    assert_eq!(sound.unjudged(), [""; 0]);
    unjudged.judgement.unchecked = Some("btrfs check: nowhere".into());
    unjudged
        .judgement
        .not_asked
        .push("nobody compared the files".into());
    let report = report(vec![unjudged]);
    assert_eq!(report.rows[0].images_unjudged, 1);
    let text = report.text();
    assert!(!text.contains("no image is damaged"), "{text}");
    for words in [
        "1 of 1 images unjudged",
        "btrfs check: nowhere",
        "nobody compared the files",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(
        report.unjudged(),
        ["unfixed: 1 of 1 images unjudged: btrfs check: nowhere"]
    );
    assert!(report.rows[0].failure().unwrap().contains("unjudged"));
}

#[test]
fn losses_are_told_by_kind() {
    let mut run = held("owned", 1);
    let lost = |names, promised| Lost { names, promised };
    let losses = [(Loss::Missing, lost(3, 0)), (Loss::OldContents, lost(2, 1))];
    run.judgement.losses = losses.into_iter().collect();
    let row = report(vec![run.clone()]).rows.remove(1);
    assert_eq!(
        row.failure().unwrap(),
        "1 files with old contents, which were durable"
    );
    run.judgement.losses.insert(Loss::OldContents, lost(2, 0));
    let row = report(vec![run]).rows.remove(1);
    assert_eq!(
        row.failure().unwrap(),
        "3 names missing, 2 files with old contents"
    );
}

/// The terminal had neither the curves nor the operations to the first.
#[test]
fn the_text_tells_when_rules_broke_and_how_to_see_it_again() {
    let runs = vec![broke("unfixed", 1), held("unfixed", 2), held("owned", 1)];
    let text = report(runs).text();
    for line in [
        "unfixed: the first rule broke after 40 operations, 0.50 s; half of the runs within 40 \
         operations, 0.50 s",
        "unfixed: surviving by time: 50 % from 0.50 s",
        "unfixed: surviving by operations: 50 % from 40",
        "  again: btrfuse lab live --seed 1",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}: {text}");
    }
    assert!(!text.contains("owned: surviving"), "{text}");
}

/// It was divided by nothing, and came out as the slowest.
#[test]
fn a_run_that_got_nowhere_says_nothing_about_speed() {
    let nowhere = Run {
        operations: 0,
        seconds: 0.0,
        daemon: Some("it didn't begin".into()),
        ..held("unfixed", 1)
    };
    assert!(nowhere.got_nowhere());
    let report = report(vec![
        nowhere,
        held("owned", 1),
        held("unfixed", 2),
        held("owned", 2),
    ]);
    assert_eq!(report.rows[0].relative_to_owned, Some(1.0));
    assert_eq!(report.failures(), ["unfixed, seed 1: it didn't begin"]);
}
