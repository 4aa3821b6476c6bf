//! Comparisons on mounts: the best row stands in a cell, and no failure is in none.

use super::super::Report;
use super::super::evidence::LivePlan;
use super::*;

const REUSED: Point = Point::DropTested;

fn live(point: Option<Point>, rows: &[(&str, usize)]) -> evidence::Live {
    let row = |(subject, violations): &(&str, usize)| Row {
        subject: (*subject).into(),
        runs: 3,
        violations: *violations,
        relative_to_owned: Some(0.5),
        ..Row::default()
    };
    evidence::Live {
        plan: LivePlan {
            subjects: Vec::new(),
            delays: point.iter().map(|point| format!("{point}:200")).collect(),
            options: meetings(point).iter().map(|s| (*s).to_owned()).collect(),
            processes: 8,
            cache_bytes: 1 << 20,
            nodesize: 4096,
            mix: None,
            commit_secs: None,
            each: None,
        },
        rows: rows.iter().map(row).collect(),
        interrupted: false,
        runs: Vec::new(),
        earlier: false,
    }
}

/// Of all protocols, with these that break.
fn whole(point: Point, breaking: &[Kind]) -> evidence::Live {
    let broken = |kind: &Kind| if breaking.contains(kind) { 3 } else { 0 };
    let rows: Vec<_> = Kind::ALL
        .iter()
        .map(|kind| (kind.name(), broken(kind)))
        .collect();
    live(Some(point), &rows)
}

fn of(live: Vec<evidence::Live>) -> Evidence {
    Evidence {
        live,
        ..Evidence::default()
    }
}

fn at(evidence: &Evidence, label: &str, kind: Kind) -> Cell {
    cell(evidence, Play::named(label)[0], kind)
}

/// A file of two protocols came first, and took the place of the run that has all.
#[test]
fn a_comparison_of_few_protocols_empties_no_cell() {
    let few = live(Some(REUSED), &[("unfixed", 2), ("fixed", 0)]);
    let evidence = of(vec![few.clone(), whole(REUSED, &[Kind::Unfixed])]);
    for kind in Kind::ALL {
        assert_ne!(at(&evidence, "A", *kind).state, State::NotRun, "{kind}");
    }
    assert!(
        at(&evidence, "A", Kind::Unfixed)
            .words
            .starts_with("3 / 3 runs")
    );
    // By itself it is better than nothing.
    assert!(
        at(&of(vec![few]), "A", Kind::Unfixed)
            .words
            .starts_with("2 / 3 runs")
    );
}

#[test]
fn a_comparison_in_which_they_meet_comes_before_one_in_which_they_do_not() {
    let losers = [Kind::Unfixed, Kind::Handshake];
    let mut apart = whole(Point::ReclaimTested, &[]);
    apart.plan.options.clear();
    let alone = at(&of(vec![apart.clone()]), "C", Kind::Unfixed);
    assert!(alone.words.contains("without ahead=freed"), "{alone:?}");
    let evidence = of(vec![apart, whole(Point::ReclaimTested, &losers)]);
    let cell = at(&evidence, "C", Kind::Handshake);
    assert_eq!((cell.state, cell.as_expected), (State::Breaks, true));
}

#[test]
fn a_failure_in_a_further_comparison_is_a_surprise() {
    let broken = live(Some(REUSED), &[("owned", 1), ("my build", 1)]);
    let evidence = of(vec![whole(REUSED, &[Kind::Unfixed]), broken]);
    let surprises = Report::new(&evidence).surprises;
    assert_eq!(surprises.len(), 2, "{surprises:?}");
    assert!(surprises[0].contains("owned: 1 of 3") && surprises[1].contains("my build"));
    // In a cell it is said once.
    let evidence = of(vec![whole(REUSED, &[Kind::Unfixed, Kind::Owned])]);
    let surprises = Report::new(&evidence).surprises;
    assert_eq!(surprises.len(), 1, "{surprises:?}");
    assert!(surprises[0].starts_with("live: A under owned"));
}

/// 0 of 3 runs for everybody once passed as the registry's verdict.
#[test]
fn runs_that_catch_nobody_are_a_surprise_unless_they_are_short() {
    let mut evidence = of(vec![
        whole(REUSED, &[]),
        whole(Point::ReclaimTested, &[Kind::Unfixed]),
    ]);
    let surprises = Report::new(&evidence).surprises;
    assert_eq!(surprises.len(), 2, "{surprises:?}");
    assert!(surprises[0].starts_with("live: A under unfixed"));
    assert!(surprises[1].starts_with("live: C under handshake"));
    evidence.quick = true;
    assert_eq!(Report::new(&evidence).surprises, Vec::<String>::new());
}

/// Forced on threads, every protocol comes to the points that this table says it has, and to no other;
/// and so do the scenarios whose runs are those of others.
#[test]
fn points_that_cells_name_are_where_threads_stand() {
    let mut evidence = Evidence::default();
    evidence.replay().unwrap();
    let comes_to = |label: Option<&str>, kind: Kind, point: Point| {
        evidence.forced.iter().any(|cell| {
            let is_it = label.is_none_or(|label| cell.play.label() == label);
            let forced = cell.found.as_ref().ok().filter(|_| is_it);
            let steps = forced.map_or(&[][..], |(forced, _)| &forced.trace.steps);
            cell.kind == kind && steps.iter().any(|step| step.point == Some(point))
        })
    };
    for point in Play::all().filter_map(|play| widened(play).ok()) {
        for kind in Kind::ALL {
            let comes = comes_to(None, *kind, point);
            assert_eq!(comes, stands_at(*kind, point), "{kind} at {point}");
        }
    }
    for (label, point) in [
        ("G", Point::ReclaimTested),
        ("H", Point::DropTested),
        ("B", Point::DropTested),
        ("I", Point::DropTested),
        ("L", Point::WritebackBegins),
    ] {
        let why = widened(Play::named(label)[0]).unwrap_err();
        assert!(why.contains(point.name()), "{label}: {why}");
        // A freer's last drop there is A's dropper's.
        let label = if ["B", "I"].contains(&label) {
            "A"
        } else {
            label
        };
        let comes = comes_to(Some(label), Kind::Unfixed, point);
        assert!(comes, "{label}: nobody at {point}");
    }
}

#[test]
fn unwidened_runs_are_called_so_and_sleepers_have_no_speed() {
    let evidence = of(vec![
        whole(REUSED, &[Kind::Unfixed]),
        live(None, &[("owned", 0)]),
    ]);
    let is_unwidened = |kind| at(&evidence, "A", kind).words.contains("unwidened");
    assert!(is_unwidened(Kind::Owned) && is_unwidened(Kind::PackedWord));
    assert!(!is_unwidened(Kind::Unfixed) && !is_unwidened(Kind::Handshake));
    let report = Report::new(&evidence);
    let speed = |n: usize| report.live[n].rows[0].relative_to_owned;
    assert_eq!((speed(0), speed(1)), (None, Some(0.5)));
}
