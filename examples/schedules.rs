//! The race lab's scenarios, and whole tree operations, under random schedules (shuttle), as a table
//! and as JSON.
//!
//! `RUSTFLAGS="--cfg btrfuse_shuttle" cargo run --release --features protocols --target-dir
//! target/shuttle --example schedules -- [LABEL...] [--protocol P] [--scheduler random|pct-N]
//! [--seed N] [--executions N] [--report FILE]`. A cell names seed and execution of a failure; with the
//! same `--scheduler`, `--seed` and label it fails there again. Mutants are rules of their own, and left
//! out where `--protocol` names some. Exits with 1 when a verdict isn't the registry's.

#[cfg(not(btrfuse_shuttle))]
fn main() {
    eprintln!(
        "this build has no scheduler of its own; try RUSTFLAGS=\"--cfg btrfuse_shuttle\" cargo run \
         --release --features protocols --target-dir target/shuttle --example schedules"
    );
    std::process::exit(1);
}

#[cfg(btrfuse_shuttle)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    schedules::main()
}

#[cfg(btrfuse_shuttle)]
mod schedules {
    use btrfuse::extent_buffer::Kind;
    use btrfuse::extent_buffer::lifetime::Profile;
    use btrfuse::extent_buffer::scenarios::Play;
    use btrfuse::extent_buffer::scenarios::mutants::MUTANTS;
    use btrfuse::extent_buffer::scenarios::scheduled;
    use btrfuse::lab::tree_plays;
    use btrfuse::sync::Scheduler;
    use serde_json::{Value, json};
    use std::error::Error;
    use std::fs::OpenOptions;
    use std::time::Instant;

    /// Three changes of priority find what takes two preemptions.
    const SCHEDULERS: [Scheduler; 2] = [Scheduler::Pct(4), Scheduler::Random];
    /// Executions that a winner must survive: a scenario takes microseconds, a filesystem
    /// milliseconds.
    const OF_SCENARIOS: usize = 5_000;
    const OF_TREES: usize = 100;
    /// Where a loser has not lost after so many times as many, it won't.
    const OF_LOSERS: usize = 50;

    struct Asked {
        labels: Vec<String>,
        protocols: Vec<Kind>,
        /// Whether protocols were named.
        named: bool,
        schedulers: Vec<Scheduler>,
        seed: u64,
        executions: Option<usize>,
        report: Option<String>,
    }

    fn asked() -> Result<Asked, Box<dyn Error>> {
        let mut asked = Asked {
            labels: Vec::new(),
            protocols: Vec::new(),
            named: false,
            schedulers: Vec::new(),
            seed: 1,
            executions: None,
            report: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--protocol" => asked.protocols.push(value()?.parse()?),
                "--scheduler" => asked.schedulers.push(value()?.parse()?),
                "--seed" => asked.seed = value()?.parse()?,
                "--executions" => asked.executions = Some(value()?.parse()?),
                "--report" => asked.report = Some(value()?),
                _ if is_label(&arg) => asked.labels.push(arg),
                _ => return Err(format!("{arg}: no label of a play, and no option").into()),
            }
        }
        asked.named = !asked.protocols.is_empty();
        if asked.protocols.is_empty() {
            asked.protocols = Kind::ALL.to_vec();
        }
        if asked.schedulers.is_empty() {
            asked.schedulers = SCHEDULERS.to_vec();
        }
        Ok(asked)
    }

    fn is_label(word: &str) -> bool {
        let trees = || tree_plays::ALL.iter().any(|play| play.label == word);
        Play::all().any(|play| play.label() == word) || trees()
    }

    /// What a cell is about.
    struct Subject<'a> {
        label: String,
        title: &'a str,
        protocol: &'a str,
        mutant: bool,
        must_lose: bool,
    }

    pub fn main() -> Result<(), Box<dyn Error>> {
        let asked = asked()?;
        if let Some(path) = &asked.report {
            // An hour's work mustn't end at a file that can't be written.
            OpenOptions::new().create(true).append(true).open(path)?;
        }
        let is_meant = |label: &str| {
            asked.labels.is_empty() || asked.labels.iter().any(|wanted| wanted == label)
        };
        let mut results = Vec::new();
        for play in Play::all().filter(|play| is_meant(&play.label())) {
            for kind in play.kinds().filter(|kind| asked.protocols.contains(kind)) {
                let subject = Subject {
                    label: play.label(),
                    title: play.scenario.title,
                    protocol: kind.name(),
                    mutant: false,
                    must_lose: play.must_lose(kind, Profile::FullRmws),
                };
                results.push(cell(
                    &asked,
                    &subject,
                    OF_SCENARIOS,
                    |scheduler, executions| {
                        scheduled::run(play, kind.rules(), scheduler, asked.seed, executions)
                    },
                ));
            }
        }
        // They are rules of their own, which no --protocol names.
        let planted = MUTANTS.iter().filter(|_| !asked.named);
        for mutant in planted.filter(|one| is_meant(&one.play().label())) {
            let subject = Subject {
                label: mutant.play().label(),
                title: mutant.scenario.title,
                protocol: mutant.rules.name(),
                mutant: true,
                must_lose: true,
            };
            results.push(cell(
                &asked,
                &subject,
                OF_SCENARIOS,
                |scheduler, executions| {
                    scheduled::run(
                        mutant.play(),
                        mutant.rules,
                        scheduler,
                        asked.seed,
                        executions,
                    )
                },
            ));
        }
        for play in tree_plays::ALL.iter().filter(|play| is_meant(play.label)) {
            for kind in &asked.protocols {
                let subject = Subject {
                    label: play.label.to_owned(),
                    title: play.title,
                    protocol: kind.name(),
                    mutant: play.planted,
                    must_lose: play.must_lose(*kind),
                };
                results.push(cell(&asked, &subject, OF_TREES, |scheduler, executions| {
                    play.run(*kind, scheduler, asked.seed, executions)
                }));
            }
        }
        let is_wrong = |cell: &&Value| cell["as_expected"] == false;
        let wrong = results.iter().filter(is_wrong).count();
        if let Some(path) = &asked.report {
            let json = json!({ "engine": "schedules", "results": results });
            std::fs::write(path, format!("{json:#}\n"))?;
        }
        match wrong {
            0 => Ok(()),
            _ => Err(format!("{wrong} verdicts are not the registry's").into()),
        }
    }

    /// Whoever must lose has to lose to one of the schedulers, and whoever must win wins against all.
    fn cell(
        asked: &Asked,
        subject: &Subject<'_>,
        executions: usize,
        run: impl Fn(Scheduler, usize) -> (u64, Option<String>),
    ) -> Value {
        let executions = asked.executions.unwrap_or(match subject.must_lose {
            true => executions * OF_LOSERS,
            false => executions,
        });
        let mut tried = Vec::new();
        let mut lost: Option<String> = None;
        for scheduler in &asked.schedulers {
            if lost.is_some() {
                break;
            }
            let started = Instant::now();
            let (executions, failure) = run(*scheduler, executions);
            let ms = started.elapsed().as_millis() as u64;
            println!(
                "{:<3} {:<38} {:<7} {executions:>8} executions {ms:>7} ms  {}",
                subject.label,
                subject.protocol,
                scheduler.name(),
                failure
                    .as_deref()
                    .unwrap_or("no rule broken")
                    .lines()
                    .next()
                    .unwrap_or_default(),
            );
            lost = failure.clone();
            tried.push(json!({
                "scheduler": scheduler.name(),
                "seed": asked.seed,
                "executions": executions,
                "failed_in": failure.is_some().then_some(executions),
                "words": failure,
                "ms": ms,
            }));
        }
        let word = |loses| if loses { "loses" } else { "wins" };
        let as_expected = lost.is_some() == subject.must_lose;
        if !as_expected {
            let must = if subject.must_lose { "lose" } else { "win" };
            println!("    NOT AS EXPECTED: it must {must}");
        }
        json!({
            "label": subject.label,
            "title": subject.title,
            "protocol": subject.protocol,
            "mutant": subject.mutant,
            "tried": tried,
            "expected": word(subject.must_lose),
            "verdict": word(lost.is_some()),
            "as_expected": as_expected,
            "words": lost,
        })
    }
}
