//! `btrfuse lab replay`: the reported interleaving, forced on the real tree.

use super::{tell, want_writable, write};
use crate::cli::print::say;
use crate::cli::{Exit, Failure};
use crate::extent_buffer::Kind;
use crate::extent_buffer::flags::Flags;
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::scenarios::Play;
use crate::lab::explore::MARKS;
use crate::lab::lanes::Lanes;
use crate::lab::schedule;

/// Replays, prints, and judges.
pub fn replay(args: super::ReplayArgs) -> Result<(), Failure> {
    let protocol = match args.protocol.as_deref() {
        None => Kind::BUILD,
        Some(name) => name.parse().map_err(Failure::usage)?,
    };
    want_writable(args.report.as_deref())?;
    want_writable(args.svg.as_deref())?;
    if !args.scenarios.is_empty() {
        return schedules(&args, protocol);
    }
    let outcome = crate::lab::replay::replay(protocol)
        .map_err(|error| Failure::new(Exit::Bug, format!("the replay's stage fell: {error}")))?;
    let json = json(&outcome);
    if args.json {
        say!("{json:#}");
    } else {
        say!("The report of 2015, replayed on a leaf of a real tree, protocol {protocol}.");
        say!(
            "X is block {}. Flags: T tree ref, D dirty, S stale.\n",
            outcome.bytenr
        );
        say!("{}", outcome.table());
        for violation in &outcome.violations {
            say!("{violation}\n");
        }
        say!("{}", outcome.verdict());
    }
    tell(false, args.report.as_deref(), &json)?;
    if let Some(path) = args.svg {
        write(
            &path,
            &crate::lab::drawing::svg(&Lanes::of_replay(&outcome)),
        )?;
    }
    outcome
        .judge()
        .map_err(|words| Failure::new(Exit::Wrong, words))
}

fn json(outcome: &crate::lab::replay::Outcome) -> serde_json::Value {
    let steps: Vec<_> = outcome
        .rows
        .iter()
        .map(|row| {
            serde_json::json!({
                "who": row.role.name(),
                "what": row.what,
                "refs": row.seen.map(|seen| seen.refs),
                "flags": row.seen.map(|seen| Flags(seen.flags).to_string()),
            })
        })
        .collect();
    let broken: Vec<_> = outcome.violations.iter().map(ToString::to_string).collect();
    serde_json::json!({
        "protocol": outcome.protocol.name(),
        "bytenr": outcome.bytenr.0,
        "steps": steps,
        "violations": broken,
        "finder_waited": outcome.finder_waited,
        "dropper_took_tree_ref": outcome.dropper_took_tree_ref(),
        "as_expected": outcome.judge().is_ok(),
        "verdict": outcome.verdict(),
    })
}

/// Whose schedule is the picture, by its label: of a scenario both ways, the one with today's practice.
fn one_to_draw(plays: &[Play], kind: Kind) -> Result<String, Failure> {
    let play = match plays {
        [one] => one,
        [today, was] if was.as_it_was && was.scenario.letter == today.scenario.letter => today,
        _ => return Err(Failure::usage("--svg draws one scenario; name just one")),
    };
    let label = play.label();
    match play.not_applicable(kind) {
        None => Ok(label),
        Some(why) => Err(Failure::usage(format!(
            "there is nothing to draw: {label} says nothing about {kind}: {why}"
        ))),
    }
}

/// Forces the written schedules of scenarios.
fn schedules(args: &super::ReplayArgs, kind: Kind) -> Result<(), Failure> {
    let (mut results, mut wrong, mut picture) = (Vec::new(), Vec::new(), None);
    let plays = super::plays(&args.scenarios)?;
    let drawn = match args.svg {
        Some(_) => Some(one_to_draw(&plays, kind)?),
        None => None,
    };
    if !args.json {
        say!("{MARKS}\n");
    }
    for play in plays {
        let label = play.label();
        if let Some(why) = play.not_applicable(kind) {
            if !args.json {
                say!("{label} says nothing about {kind}: {why}.\n");
            }
            results.push(serde_json::json!({
                "label": label,
                "protocol": kind.name(),
                "not_applicable": why,
            }));
            continue;
        }
        let bug = |why: String| Failure::new(Exit::Bug, format!("{label} under {kind}: {why}"));
        let written = schedule::written(play, kind)
            .ok_or_else(|| bug("no schedule breaks anybody".into()))?;
        let forced = schedule::force(play, kind.rules(), &written)
            .map_err(|why| bug(format!("the schedule did not come about: {why}")))?;
        let must = play.must_lose(kind, Profile::FullRmws);
        let as_expected = forced.broken == must;
        if !as_expected {
            wrong.push(label.clone());
        }
        let title = format!("{label}: {}, protocol {kind}", play.scenario.title);
        let verdict = match (forced.broken, as_expected) {
            (true, true) => "broken, as expected",
            (false, true) => "holds, as expected",
            (true, false) => "broken, and must hold",
            (false, false) => "holds, and must break",
        };
        if !args.json {
            say!("{title}. The schedule breaks {}.\n", written.source);
            say!("{}", forced.trace.table());
            if forced.broken {
                say!("BUG_ON: {}", forced.trace.words);
            }
            say!("{kind}: {verdict}\n");
        }
        let lanes = Lanes::of_forced(title, &forced);
        results.push(serde_json::json!({
            "label": label,
            "protocol": kind.name(),
            "schedule_of": written.source,
            "broken": forced.broken,
            "as_expected": as_expected,
            "lanes": lanes,
        }));
        if drawn.as_deref() == Some(label.as_str()) {
            picture = Some(lanes);
        }
    }
    let json = serde_json::json!({ "engine": "replay", "results": results });
    tell(args.json, args.report.as_deref(), &json)?;
    if let (Some(path), Some(lanes)) = (&args.svg, picture) {
        write(path, &crate::lab::drawing::svg(&lanes))?;
    }
    match wrong.as_slice() {
        [] => Ok(()),
        wrong => Err(Failure::new(
            Exit::Wrong,
            format!("not the expected verdict: {}", wrong.join(", ")),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(protocol: Option<&str>) -> Result<serde_json::Value, Failure> {
        let place = tempfile::tempdir().unwrap();
        let report = place.path().join("report");
        replay(super::super::ReplayArgs {
            scenarios: Vec::new(),
            protocol: protocol.map(str::to_owned),
            json: true,
            report: Some(report.clone()),
            svg: None,
        })?;
        Ok(serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap())
    }

    #[test]
    fn without_a_protocol_the_build_s_own_is_replayed() {
        let own = report(None).unwrap();
        assert_eq!(own["protocol"], Kind::BUILD.name());
        assert_eq!(own["as_expected"], true);
        assert_eq!(report(Some("unfixed")).unwrap()["protocol"], "unfixed");
        assert_eq!(report(Some("fixed-up")).unwrap_err().exit, Exit::Usage);
    }

    /// Draws with `--svg`; the picture, or how it ended.
    fn drawn(scenarios: &[&str], protocol: &str) -> Result<String, Failure> {
        let place = tempfile::tempdir().unwrap();
        let svg = place.path().join("drawn.svg");
        replay(super::super::ReplayArgs {
            scenarios: scenarios.iter().map(|name| (*name).to_owned()).collect(),
            protocol: Some(protocol.to_owned()),
            json: true,
            report: None,
            svg: Some(svg.clone()),
        })?;
        Ok(std::fs::read_to_string(svg).unwrap())
    }

    #[test]
    fn a_letter_draws_what_is_done_today_and_its_mark_what_was() {
        assert!(drawn(&["G"], "owned").unwrap().contains(">G: "));
        assert!(drawn(&["G'"], "owned").unwrap().contains(">G': "));
        for (scenarios, words) in [
            (["A", "C"].as_slice(), "just one"),
            (&["G", "G'"], "just one"),
        ] {
            let failure = drawn(scenarios, "owned").unwrap_err();
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.sentence.contains(words), "{}", failure.sentence);
        }
        let failure = drawn(&["F"], "count-under-lock").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let sentence = failure.sentence;
        assert!(
            sentence.contains("F says nothing about count-under-lock: "),
            "{sentence}"
        );
    }
}
