//! `btrfuse lab list`, `explore` and `race`: the registry of scenarios, and two of its engines.

use super::{kinds, plays, tell, want_writable};
use crate::cli::{Exit, Failure};
use crate::extent_buffer::Kind;
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::protocol::Protocol;
use crate::extent_buffer::scenarios::mutants::MUTANTS;
use crate::extent_buffer::scenarios::{Play, native};
use crate::lab::counted;
use crate::lab::explore::{Counts, Exploration, Limits, MARKS, explore, feared};
use serde_json::{Value, json};

/// Prints the registry.
pub fn list(args: super::ListArgs) -> Result<(), Failure> {
    let plays: Vec<_> = Play::all().collect();
    if args.json {
        let entries: Vec<_> = plays.iter().map(entry).collect();
        crate::cli::print::say!("{:#}", json!({ "scenarios": entries }));
        return Ok(());
    }
    for play in plays {
        let scenario = play.scenario;
        if play.as_it_was {
            let words = scenario.was.as_ref().map_or("", |was| was.words);
            crate::cli::print::say!(
                "{:<2} as it was: {words}\n     loses: everybody\n",
                play.label()
            );
            continue;
        }
        crate::cli::print::say!(
            "{:<2} {:<26} {}",
            play.label(),
            scenario.name,
            scenario.title
        );
        match &scenario.origin {
            None => crate::cli::print::say!("     our own"),
            Some(origin) => crate::cli::print::say!(
                "     {} {} {}",
                origin.year,
                origin.commit.unwrap_or("(commit not known here)"),
                origin.subject
            ),
        }
        crate::cli::print::say!("     loses: {}", losers(&play));
        for (kind, why) in scenario.not_applicable {
            crate::cli::print::say!("     says nothing about {kind}: {why}");
        }
        crate::cli::print::say!("");
    }
    Ok(())
}

fn losers(play: &Play) -> String {
    let on = |profile| -> Vec<_> {
        let loses = |kind: &Kind| play.must_lose(*kind, profile);
        play.kinds().filter(loses).map(Kind::name).collect()
    };
    let (everywhere, weak) = (on(Profile::FullRmws), on(Profile::RelaxedFlags));
    let only_weak: Vec<_> = weak
        .into_iter()
        .filter(|name| !everywhere.contains(name))
        .map(|name| format!("{name} where atomic writes aren't full barriers"))
        .collect();
    let names: Vec<_> = everywhere
        .into_iter()
        .map(str::to_owned)
        .chain(only_weak)
        .collect();
    match names.is_empty() {
        true => "nobody".into(),
        false => names.join(", "),
    }
}

fn entry(play: &Play) -> Value {
    let scenario = play.scenario;
    let verdicts: serde_json::Map<_, _> = play
        .kinds()
        .map(|kind| {
            let by_profile: serde_json::Map<_, _> = Profile::ALL
                .iter()
                .map(|profile| {
                    let verdict = verdict_word(play.must_lose(kind, *profile));
                    (profile.name().to_owned(), verdict.into())
                })
                .collect();
            (kind.name().to_owned(), by_profile.into())
        })
        .collect();
    let not_applicable: serde_json::Map<_, _> = scenario
        .not_applicable
        .iter()
        .map(|(kind, why)| (kind.name().to_owned(), (*why).into()))
        .collect();
    json!({
        "label": play.label(),
        "name": scenario.name,
        "title": scenario.title,
        "year": scenario.origin.as_ref().map(|origin| origin.year),
        "commit": scenario.origin.as_ref().and_then(|origin| origin.commit),
        "subject": scenario.origin.as_ref().map(|origin| origin.subject),
        "as_it_was": play.as_it_was.then(|| scenario.was.as_ref().map(|was| was.words)),
        "roles": play.roles().iter().map(|role| role.name).collect::<Vec<_>>(),
        "expected": verdicts,
        "not_applicable": not_applicable,
    })
}

fn verdict_word(loses: bool) -> &'static str {
    if loses { "loses" } else { "wins" }
}

/// Says of protocols that were meant why a scenario says nothing about them; as JSON too.
fn not_applicable(play: Play, kinds: &[Kind], print: bool) -> Vec<Value> {
    let mut silent = Vec::new();
    for kind in kinds {
        let Some(why) = play.not_applicable(*kind) else {
            continue;
        };
        let label = play.label();
        if print {
            crate::cli::print::say!("{label:<2} {kind:<16} not applicable: {why}");
        }
        silent.push(json!({
            "label": label,
            "protocol": kind.name(),
            "not_applicable": why,
        }));
    }
    silent
}

/// What a search says of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Said {
    /// Of the protocol; "unknown" where nothing failed and not everything was looked at.
    verdict: &'static str,
    as_expected: bool,
}

impl Said {
    fn of(cell: &Cell, found: &Exploration, bounded: bool) -> Self {
        let fails = found.total().failing > 0;
        // A bound may hide a failure, and that is what it is asked for. Of a mutant it is asked what
        // it lets pass.
        let hidden = bounded && found.complete && !fails && cell.must_lose;
        Self {
            verdict: match fails || found.complete && !hidden {
                true => verdict_word(fails),
                false => "unknown",
            },
            as_expected: hidden && !cell.mutant || found.complete && fails == cell.must_lose,
        }
    }
}

/// One cell: a scenario by some rules.
struct Cell {
    play: Play,
    name: &'static str,
    rules: &'static dyn Protocol,
    must_lose: bool,
    mutant: bool,
}

fn cells(args: &super::ExploreArgs) -> Result<Vec<Cell>, Failure> {
    if args.mutants {
        let cell = |mutant: &crate::extent_buffer::scenarios::mutants::Mutant| Cell {
            play: mutant.play(),
            name: mutant.rules.name(),
            rules: mutant.rules,
            must_lose: true,
            mutant: true,
        };
        return Ok(MUTANTS.iter().map(cell).collect());
    }
    let (plays, kinds) = (plays(&args.scenarios)?, kinds(&args.protocols)?);
    let mut cells = Vec::new();
    for play in plays {
        for kind in play.kinds().filter(|kind| kinds.contains(kind)) {
            cells.push(Cell {
                play,
                name: kind.name(),
                rules: kind.rules(),
                must_lose: play.must_lose(kind, Profile::FullRmws),
                mutant: false,
            });
        }
    }
    Ok(cells)
}

/// Explores, prints, and compares with the registry.
pub fn explore_all(args: super::ExploreArgs) -> Result<(), Failure> {
    let limits = Limits {
        preemptions: args.preemptions,
        states_max: args.states,
        merge: !args.one_by_one,
    };
    want_writable(args.report.as_deref())?;
    let (mut results, mut wrong) = (Vec::new(), Vec::new());
    let cells = cells(&args)?;
    if !args.json {
        crate::cli::print::say!(
            "Schedules of one-access steps under sequential consistency, failing / explored; the \
             fewest preemptions of a failing one.\n"
        );
        if args.trace {
            crate::cli::print::say!("{MARKS}\n");
        }
    }
    if !args.mutants {
        let kinds = kinds(&args.protocols)?;
        for play in plays(&args.scenarios)? {
            results.extend(not_applicable(play, &kinds, !args.json));
        }
    }
    for cell in cells {
        let found = explore(cell.play, cell.rules, limits, feared(cell.play));
        let said = Said::of(&cell, &found, args.preemptions.is_some());
        if !said.as_expected {
            let more = match found.complete {
                true => "",
                false => " (incomplete: more --states)",
            };
            wrong.push(format!("{} under {}{more}", cell.play.label(), cell.name));
        }
        if !args.json {
            print_cell(&cell, &found, said, args.trace);
        }
        results.push(cell_json(&cell, &found, said));
    }
    tell(
        args.json,
        args.report.as_deref(),
        &json!({ "engine": "explore", "preemptions": args.preemptions, "results": results }),
    )?;
    verdict(&wrong)
}

fn verdict(wrong: &[String]) -> Result<(), Failure> {
    match wrong {
        [] => Ok(()),
        wrong => Err(Failure::new(
            Exit::Wrong,
            format!("not the expected verdict: {}", wrong.join(", ")),
        )),
    }
}

fn print_cell(cell: &Cell, found: &Exploration, said: Said, trace: bool) {
    let total = found.total();
    let needed = found
        .preemptions_needed()
        .map_or(String::new(), |needed| counted(needed, "preemption"));
    crate::cli::print::say!(
        "{:<2} {:<38} {:>10} / {:<12} {:<14} {:>6} states {:>8} steps {:>6} ms{}{}",
        cell.play.label(),
        cell.name,
        total.failing,
        total.explored,
        needed,
        found.states,
        found.steps,
        found.took.as_millis(),
        if found.complete { "" } else { "  INCOMPLETE" },
        if said.as_expected {
            ""
        } else {
            "  NOT AS EXPECTED"
        },
    );
    if let Some(Counts { explored, failing }) = found.watched.filter(|counts| counts.explored > 0) {
        crate::cli::print::say!(
            "   in {explored} of them the dropper runs wholly between the finder's test of STALE \
             and its lock: {failing} fail"
        );
    }
    if let Some(failure) = found.failure.as_ref().filter(|_| trace) {
        crate::cli::print::say!("\n{}      {}\n", failure.table(), failure.words);
    }
}

fn cell_json(cell: &Cell, found: &Exploration, said: Said) -> Value {
    let by_preemptions: Vec<_> = found
        .by_preemptions
        .iter()
        .copied()
        .map(counts_json)
        .collect();
    let failure = found.failure.as_ref().map(|trace| {
        let steps: Vec<_> = trace
            .steps
            .iter()
            .map(|step| {
                json!({
                    "who": trace.roles[step.role],
                    "role": step.role,
                    "what": step.what,
                    "remarks": step.remarks,
                    "refs": step.seen.refs,
                    "flags": crate::extent_buffer::flags::Flags(step.seen.flags).to_string(),
                    "mark": step.mark,
                })
            })
            .collect();
        json!({ "words": trace.words, "steps": steps })
    });
    json!({
        "label": cell.play.label(),
        "scenario": cell.play.scenario.name,
        "as_it_was": cell.play.as_it_was,
        "protocol": cell.name,
        "mutant": cell.mutant,
        "expected": verdict_word(cell.must_lose),
        "verdict": said.verdict,
        "as_expected": said.as_expected,
        "total": counts_json(found.total()),
        "by_preemptions": by_preemptions,
        "preemptions_needed": found.preemptions_needed(),
        "feared": found.watched.map(counts_json),
        "states": found.states,
        "steps": found.steps,
        "complete": found.complete,
        "ms": found.took.as_millis() as u64,
        "failure": failure,
    })
}

/// Counts can be greater than what programs take for a number.
fn counts_json(counts: Counts) -> Value {
    let number = |count: u128| match u64::try_from(count) {
        Ok(count) if count < 1 << 53 => json!(count),
        _ => json!(count.to_string()),
    };
    json!({ "explored": number(counts.explored), "failing": number(counts.failing) })
}

/// Runs scenarios on real threads.
pub fn race(args: super::RaceArgs) -> Result<(), Failure> {
    want_writable(args.report.as_deref())?;
    let delays: Vec<crate::sync::race_point::Delay> = args
        .delays
        .iter()
        .map(|text| text.parse().map_err(Failure::usage))
        .collect::<Result<_, _>>()?;
    crate::sync::race_point::install_delays(&delays);
    let (plays, kinds) = (plays(&args.scenarios)?, kinds(&args.protocols)?);
    let (mut results, mut wrong) = (Vec::new(), Vec::new());
    for play in plays {
        results.extend(not_applicable(play, &kinds, !args.json));
        for kind in play.kinds().filter(|kind| kinds.contains(kind)) {
            let rounds = native::race(play, kind.rules(), args.rounds);
            let must_lose = play.must_lose(kind, Profile::NATIVE);
            // A loser that had luck is no surprise; a winner that lost is.
            if rounds.broken > 0 && !must_lose {
                wrong.push(format!("{} under {kind}", play.label()));
            }
            if !args.json {
                crate::cli::print::say!(
                    "{:<2} {kind:<16} {:>8} of {} rounds broke a rule  {}",
                    play.label(),
                    rounds.broken,
                    rounds.run,
                    rounds.words.as_deref().unwrap_or("")
                );
            }
            results.push(json!({
                "label": play.label(),
                "scenario": play.scenario.name,
                "as_it_was": play.as_it_was,
                "protocol": kind.name(),
                "rounds": rounds.run,
                "broken": rounds.broken,
                "words": rounds.words,
                "may_lose": must_lose,
            }));
        }
    }
    tell(
        args.json,
        args.report.as_deref(),
        &json!({ "engine": "race", "delays": args.delays, "results": results }),
    )?;
    verdict(&wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the command says of cells, as JSON, and how it ends.
    fn explored(
        scenarios: &[&str],
        change: impl FnOnce(&mut super::super::ExploreArgs),
    ) -> (Vec<Value>, Result<(), Exit>) {
        let place = tempfile::tempdir().unwrap();
        let report = place.path().join("report");
        let mut args = super::super::ExploreArgs {
            scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
            protocols: Vec::new(),
            preemptions: None,
            trace: false,
            mutants: false,
            one_by_one: false,
            states: 5_000_000,
            json: true,
            report: Some(report.clone()),
        };
        change(&mut args);
        let ended = explore_all(args).map_err(|failure| failure.exit);
        let json: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
        (json["results"].as_array().unwrap().clone(), ended)
    }

    #[test]
    fn a_search_that_gave_up_says_nothing() {
        for preemptions in [None, Some(5)] {
            let (cells, ended) = explored(&["A"], |args| {
                args.protocols = vec!["unfixed".into(), "owned".into()];
                args.preemptions = preemptions;
                args.states = 10;
            });
            assert_eq!(ended, Err(Exit::Wrong));
            for cell in &cells {
                assert_eq!(cell["verdict"], "unknown", "{cell:#}");
                assert_eq!(cell["as_expected"], false, "{cell:#}");
            }
        }
    }

    /// A bound may hide how somebody loses, and it isn't said then that they win; but a mutant that is
    /// hidden from has shown that nothing was checked.
    #[test]
    fn a_bound_hides_losers_but_no_mutants() {
        let (cells, ended) = explored(&["A"], |args| {
            args.protocols = vec!["unfixed".into()];
            args.preemptions = Some(0);
        });
        assert_eq!(ended, Ok(()));
        assert_eq!(cells[0]["verdict"], "unknown");
        let mutants = |preemptions, states| {
            explored(&[], |args| {
                args.mutants = true;
                args.preemptions = preemptions;
                args.states = states;
            })
        };
        let (cells, ended) = mutants(Some(0), 5_000_000);
        assert_eq!(ended, Err(Exit::Wrong));
        assert!(cells.iter().all(|cell| cell["as_expected"] == false));
        assert_eq!(mutants(Some(3), 5).1, Err(Exit::Wrong));
        assert_eq!(mutants(None, 5_000_000).1, Ok(()));
    }

    #[test]
    fn what_a_scenario_says_nothing_about_is_named_with_the_reason() {
        let (cells, ended) = explored(&["F"], |args| {
            args.protocols = vec!["count-under-lock".into()];
        });
        assert_eq!((cells.len(), ended), (1, Ok(())));
        assert_eq!(cells[0]["protocol"], "count-under-lock");
        assert!(cells[0]["not_applicable"].is_string(), "{cells:#?}");
    }

    #[test]
    fn a_report_that_has_no_place_is_refused_before_the_work() {
        let place = tempfile::tempdir().unwrap();
        want_writable(None).unwrap();
        want_writable(Some(&place.path().join("report"))).unwrap();
        for file in [place.path().join("not/there"), place.path().to_owned()] {
            assert_eq!(want_writable(Some(&file)).unwrap_err().exit, Exit::Failed);
        }
    }
}
