//! Several processes at work on one folder, as fsstress: `workload FOLDER [--processes N]
//! [--steps N] [--seed N]`. Each process judges every answer that it gets; exit 0 when all were
//! right. Shows a progress bar on a terminal, and one line at the end. With `--judge` nothing is
//! done: the folder must hold what the same numbers left in it before, on whatever mount.
//!
//! With `--files N --phase create|rename|delete` they make N files between them, rename them all, or
//! delete them all instead.
//!
//! The same program with `--process I` is one of those processes.

use anyhow::{Context, bail};
use btrfuse_test_support::{many, mix};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

struct Arguments {
    folder: PathBuf,
    processes: u64,
    steps: usize,
    seed: u64,
    process: Option<u64>,
    judge: bool,
    /// Files of all processes together, and what to do with them.
    files: Option<(u64, String)>,
}

fn main() -> anyhow::Result<()> {
    let arguments = parse()?;
    if arguments.judge {
        mix::judge(
            &arguments.folder,
            arguments.seed,
            arguments.processes,
            arguments.steps,
        );
        println!(
            "workload: {} processes' files are all as they were left",
            arguments.processes
        );
        return Ok(());
    }
    match arguments.process {
        Some(process) => work(&arguments, process),
        None => conduct(&arguments),
    }
}

fn parse() -> anyhow::Result<Arguments> {
    let mut out = Arguments {
        folder: PathBuf::new(),
        processes: 4,
        steps: 500,
        seed: 1,
        process: None,
        judge: false,
        files: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> anyhow::Result<u64> {
            let value = words
                .next()
                .with_context(|| format!("{word} needs a number"))?;
            value.parse().with_context(|| format!("{word} {value}"))
        };
        match word.as_str() {
            "--processes" => out.processes = number()?,
            "--steps" => out.steps = usize::try_from(number()?)?,
            "--seed" => out.seed = number()?,
            "--judge" => out.judge = true,
            "--files" => {
                let files = number()?;
                let (Some("--phase"), Some(phase)) = (words.next().as_deref(), words.next()) else {
                    bail!("--files N is followed by --phase create, rename or delete");
                };
                out.files = Some((files, phase));
            }
            "--process" => out.process = Some(number()?),
            folder => out.folder = folder.into(),
        }
    }
    if !out.folder.is_dir() {
        bail!("usage: workload FOLDER [--processes N] [--steps N] [--seed N]");
    }
    Ok(out)
}

/// One process: a line on stdout every ten steps. A wrong answer is a panic, so a failing exit.
fn work(arguments: &Arguments, process: u64) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    let mut done = 0;
    let progress = || {
        done += 1;
        if done % 10 == 0 {
            // Nobody listening is no reason to stop.
            let _ = writeln!(stdout, "10").and_then(|()| stdout.flush());
        }
    };
    match &arguments.files {
        Some((files, phase)) => {
            let phase = many::Phase::parse(phase).context("create, rename or delete")?;
            let own = files / arguments.processes;
            many::run_phase(&arguments.folder, process, own, phase, progress);
        }
        None => {
            let Arguments {
                folder,
                seed,
                steps,
                ..
            } = arguments;
            mix::run_process(folder, *seed, process, *steps, progress);
        }
    }
    Ok(())
}

fn conduct(arguments: &Arguments) -> anyhow::Result<()> {
    let total = match &arguments.files {
        Some((files, _)) => *files,
        None => {
            mix::prepare(&arguments.folder, arguments.seed, arguments.processes);
            arguments.processes * arguments.steps as u64
        }
    };
    let started = Instant::now();
    let style = "{msg} [{wide_bar}] {pos}/{len} steps, {elapsed}";
    let bar = ProgressBar::new(total).with_style(ProgressStyle::with_template(style)?);
    bar.set_message(format!("{} processes", arguments.processes));
    let mut workers = Vec::new();
    for process in 0..arguments.processes {
        let mut worker = Command::new(std::env::current_exe()?)
            .arg(&arguments.folder)
            .args(["--seed", &arguments.seed.to_string()])
            .args(["--steps", &arguments.steps.to_string()])
            .args(["--processes", &arguments.processes.to_string()])
            .args(["--process", &process.to_string()])
            .args(arguments.files.iter().flat_map(|(files, phase)| {
                [
                    "--files".to_owned(),
                    files.to_string(),
                    "--phase".to_owned(),
                    phase.clone(),
                ]
            }))
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(worker.stdout.take().context("a pipe")?);
        let bar = bar.clone();
        let reader = std::thread::spawn(move || {
            lines
                .lines()
                .map_while(Result::ok)
                .for_each(|_| bar.inc(10));
        });
        workers.push((process, worker, reader));
    }
    let mut failed = 0;
    for (process, mut worker, reader) in workers {
        let status = worker.wait()?;
        // A reader only ends early by a panic of its own.
        reader.join().ok().context("a reader of progress")?;
        if !status.success() {
            bar.println(format!("process {process} ended with {status}"));
            failed += 1;
        }
    }
    bar.finish_and_clear();
    println!(
        "workload: {} processes, {total} steps in {:.1} s, {failed} failed",
        arguments.processes,
        started.elapsed().as_secs_f64()
    );
    if failed > 0 {
        bail!("{failed} processes got an answer that was wrong");
    }
    Ok(())
}
