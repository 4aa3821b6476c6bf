//! `btrfuse lab replay`: the reported interleaving, forced on the real tree.

use super::{report, write};
use crate::cli::{Exit, Failure};
use crate::extent_buffer::Kind;
use crate::extent_buffer::flags::Flags;

/// Replays, prints, and judges.
pub fn replay(args: super::ReplayArgs) -> Result<(), Failure> {
    let protocol = match args.protocol.as_deref() {
        None => Kind::BUILD,
        Some(name) => name.parse().map_err(Failure::usage)?,
    };
    let outcome = crate::lab::replay::replay(protocol)
        .map_err(|error| Failure::new(Exit::Bug, format!("the replay's stage fell: {error}")))?;
    let json = json(&outcome);
    if args.json {
        crate::cli::print::say!("{json:#}");
    } else {
        crate::cli::print::say!(
            "The report of 2015, replayed on a leaf of a real tree, protocol {protocol}."
        );
        crate::cli::print::say!(
            "X is block {}. Flags: T tree ref, D dirty, S stale.\n",
            outcome.bytenr
        );
        crate::cli::print::say!("{}", outcome.table());
        for violation in &outcome.violations {
            crate::cli::print::say!("{violation}\n");
        }
        crate::cli::print::say!("{}", outcome.verdict());
    }
    report(false, args.report.as_deref(), &json)?;
    if let Some(path) = args.svg {
        write(&path, &crate::lab::drawing::svg(&outcome))?;
    }
    outcome
        .judge()
        .map_err(|words| Failure::new(Exit::Bug, words))
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
