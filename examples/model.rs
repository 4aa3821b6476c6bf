//! Every scenario of the race lab under the model checker (loom), as a table and as JSON.
//!
//! `RUSTFLAGS="--cfg btrfuse_model" cargo run --release --target-dir target/model --example model
//! -- [LETTER...] [--preemptions N] [--report FILE]`. Exits with 1 when a verdict isn't the
//! registry's.

#[cfg(not(btrfuse_model))]
fn main() {
    eprintln!(
        "this build has no model checker; try RUSTFLAGS=\"--cfg btrfuse_model\" cargo run \
         --release --target-dir target/model --example model"
    );
    std::process::exit(1);
}

#[cfg(btrfuse_model)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    model::main()
}

#[cfg(btrfuse_model)]
mod model {
    use btrfuse::extent_buffer::lifetime::Profile;
    use btrfuse::extent_buffer::protocol::Protocol;
    use btrfuse::extent_buffer::scenarios::Play;
    use btrfuse::extent_buffer::scenarios::model::{bound, not_applicable, run};
    use btrfuse::extent_buffer::scenarios::mutants::MUTANTS;
    use serde_json::{Value, json};
    use std::error::Error;
    use std::fs::OpenOptions;
    use std::time::Instant;

    pub fn main() -> Result<(), Box<dyn Error>> {
        let (mut letters, mut preemptions, mut report) = (Vec::new(), None, None);
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--preemptions" => preemptions = Some(args.next().ok_or("how many?")?.parse()?),
                "--report" => report = Some(args.next().ok_or("which file?")?),
                _ if Play::all().any(|play| play.scenario.letter.to_string() == arg) => {
                    letters.push(arg);
                }
                _ => return Err(format!("{arg}: no letter of a scenario, and no option").into()),
            }
        }
        if let Some(path) = &report {
            // An hour's work mustn't end at a file that can't be written.
            OpenOptions::new().create(true).append(true).open(path)?;
        }
        let is_meant =
            |play: &Play| letters.is_empty() || letters.contains(&play.scenario.letter.to_string());
        let mut results = Vec::new();
        for play in Play::all().filter(is_meant) {
            if let Some(why) = not_applicable(play) {
                println!("{:<2} not applicable: {why}", play.label());
                results.push(json!({ "label": play.label(), "not_applicable": why }));
                continue;
            }
            let preemptions = preemptions.unwrap_or(bound(play));
            for kind in play.kinds() {
                for profile in Profile::ALL {
                    let must_lose = play.must_lose(kind, *profile);
                    let rules = kind.rules();
                    results.push(cell(play, rules, *profile, preemptions, must_lose, false));
                }
            }
        }
        for mutant in MUTANTS.iter().filter(|mutant| is_meant(&mutant.play())) {
            let profile = Profile::FullRmws;
            let preemptions = preemptions.unwrap_or(bound(mutant.play()));
            results.push(cell(
                mutant.play(),
                mutant.rules,
                profile,
                preemptions,
                true,
                true,
            ));
        }
        let wrong = results
            .iter()
            .filter(|cell| cell["as_expected"] == false)
            .count();
        if let Some(path) = report {
            let json = json!({ "engine": "model", "results": results });
            std::fs::write(path, format!("{json:#}\n"))?;
        }
        match wrong {
            0 => Ok(()),
            _ => Err(format!("{wrong} verdicts are not the registry's").into()),
        }
    }

    fn cell(
        play: Play,
        rules: &'static dyn Protocol,
        profile: Profile,
        preemptions: usize,
        must_lose: bool,
        mutant: bool,
    ) -> Value {
        let started = Instant::now();
        let explored = run(play, rules, profile, preemptions);
        let ms = started.elapsed().as_millis() as u64;
        let word = |loses| if loses { "loses" } else { "wins" };
        let loses = explored.failure.is_some();
        println!(
            "{:<2} {:<38} {:<19} {:>8} executions {ms:>7} ms  {}{}",
            play.label(),
            rules.name(),
            profile.name(),
            explored.executions,
            explored.failure.as_deref().unwrap_or("no rule broken"),
            if loses == must_lose {
                ""
            } else {
                "  NOT AS EXPECTED"
            },
        );
        json!({
            "label": play.label(),
            "scenario": play.scenario.name,
            "as_it_was": play.as_it_was,
            "protocol": rules.name(),
            "mutant": mutant,
            "profile": profile.name(),
            "preemptions": preemptions,
            "executions": explored.executions,
            "expected": word(must_lose),
            "verdict": word(loses),
            "as_expected": loses == must_lose,
            "words": explored.failure,
            "ms": ms,
        })
    }
}
