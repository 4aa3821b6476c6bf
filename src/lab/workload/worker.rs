//! One process of a run: it asks, compares each answer with its model's, and tells its conductor.
//!
//! Invariant: it ends when its conductor does (its stdin closes), at the first wrong answer, or
//! after its steps; and says how.

use super::brawl;
use super::folder::Folder;
use super::invent::Inventor;
use super::judge::judge;
use super::log::{self, Writer};
use super::model::Model;
use super::operation::{Arena, Operation};
use super::perform::perform;
use super::spec::{Ended, Line, News, Played, Spec, Wrong};
use super::verdict;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Mutex, thread};
use anyhow::Context;
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// News this often.
const TELL: Duration = Duration::from_millis(100);
/// Longer than this an operation is worth a word.
const LONG: Duration = Duration::from_secs(5);

/// What the reporting thread may see.
#[derive(Default)]
struct Now {
    steps: u64,
    doing: Option<(Operation, Instant)>,
}

/// Runs process number `process`; news go to stdout, and the end of stdin ends it.
pub fn run(spec: &Spec, process: u64) -> anyhow::Result<()> {
    rustix::process::umask(rustix::fs::Mode::empty());
    let stop = Arc::new(AtomicBool::new(false));
    let now = Arc::new(Mutex::new(Now::default()));
    watch_stdin(stop.clone())?;
    report_progress(now.clone())?;
    let mut worker = Worker::new(spec, process)?;
    while !stop.load(Ordering::Relaxed) {
        let Some(line) = worker.next() else { break };
        now.lock().doing = Some((line.op.clone(), Instant::now()));
        let goes_on = worker.step(&line)?;
        let mut now = now.lock();
        now.steps += 1;
        now.doing = None;
        if !goes_on {
            break;
        }
    }
    tell(&News::End(Box::new(worker.end())));
    Ok(())
}

fn watch_stdin(stop: Arc<AtomicBool>) -> anyhow::Result<()> {
    thread::Builder::new()
        .name("conductor".into())
        .spawn(move || {
            let mut rest = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut rest);
            // Relaxed: nothing is published with it; a step more is no harm.
            stop.store(true, Ordering::Relaxed);
        })?;
    Ok(())
}

fn report_progress(now: Arc<Mutex<Now>>) -> anyhow::Result<()> {
    thread::Builder::new()
        .name("progress".into())
        .spawn(move || {
            loop {
                thread::sleep(TELL);
                let now = now.lock();
                let stuck = now.doing.as_ref().and_then(|(operation, since)| {
                    let long = since.elapsed();
                    (long > LONG).then(|| (operation.to_string(), long.as_secs()))
                });
                let news = News::Progress {
                    steps: now.steps,
                    stuck,
                };
                drop(now);
                tell(&news);
            }
        })?;
    Ok(())
}

fn tell(news: &News) {
    if let Ok(line) = serde_json::to_string(news) {
        // Nobody listens any more: stdin says so too.
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

/// Who plays: one process, or in order all of a log's.
struct Player {
    folder: Folder,
    model: Model,
    inventor: Option<Inventor>,
    /// Models as snapshots keep them.
    frozen: HashMap<String, Model>,
    steps: u64,
    durable: Option<u64>,
}

struct Worker<'a> {
    spec: &'a Spec,
    process: u64,
    players: HashMap<u64, Player>,
    script: Option<VecDeque<Line>>,
    log: Option<Writer>,
    began: Instant,
    ended: Ended,
}

impl<'a> Worker<'a> {
    fn new(spec: &'a Spec, process: u64) -> anyhow::Result<Self> {
        let script = match &spec.replay {
            Some(path) => {
                let lines = log::read(path)?.lines;
                let own = |line: &Line| {
                    (spec.in_order || line.p == process) && !spec.features.leaves_out(line)
                };
                Some(lines.into_iter().filter(own).collect())
            }
            None => None,
        };
        let played = if spec.in_order {
            0..spec.processes
        } else {
            process..process + 1
        };
        let player = |process| {
            let player = Player {
                folder: Folder::new(&spec.dir, process),
                model: Model::new(spec.features.owner),
                inventor: script
                    .is_none()
                    .then(|| Inventor::new(spec.seed, process, &spec.mix, &spec.features)),
                frozen: HashMap::new(),
                steps: 0,
                durable: None,
            };
            (process, player)
        };
        Ok(Self {
            spec,
            process,
            players: played.map(player).collect(),
            log: spec.log.as_deref().map(Writer::append).transpose()?,
            script,
            began: Instant::now(),
            ended: Ended::default(),
        })
    }

    /// What comes next, if anything.
    fn next(&mut self) -> Option<Line> {
        if let Some(script) = &mut self.script {
            return script.pop_front();
        }
        if self.ended.steps >= self.spec.steps {
            return None;
        }
        let step = self.ended.steps;
        let player = self.players.get_mut(&self.process)?;
        let (arena, kind, op) = player.inventor.as_mut()?.next(&player.model, step);
        Some(Line {
            p: self.process,
            n: step,
            us: self.began.elapsed().as_micros() as u64,
            kind,
            arena,
            op,
        })
    }

    /// Asks and compares. False: it ends here.
    fn step(&mut self, line: &Line) -> anyhow::Result<bool> {
        if let Some(log) = &mut self.log {
            log.line(line)?;
        }
        let player = self
            .players
            .get_mut(&line.p)
            .context("a log of more processes")?;
        let answer = perform(&player.folder, line.arena, &line.op);
        let refused = answer.as_ref().err().copied();
        let verdict = match line.arena {
            Arena::Shared => match refused {
                Some(error) if !brawl::explains(&line.op, error) => Err(format!(
                    "no race explains a refusal with {}",
                    verdict::errno(error)
                )),
                Some(_) => {
                    self.ended.races += 1;
                    Ok(())
                }
                None => Ok(()),
            },
            Arena::Own => {
                // What a full or read-only filesystem refused hasn't happened.
                if matches!(refused, Some(Errno::ROFS | Errno::NOSPC | Errno::DQUOT)) {
                    Err(format!(
                        "was refused with {}",
                        verdict::errno(refused.unwrap_or(Errno::IO))
                    ))
                } else {
                    let wanted = player.model.apply(&line.op, line.n);
                    verdict::judge(&player.model, &wanted, &answer)
                        .and_then(|()| player.snapshot(&line.op, line.p))
                }
            }
        };
        if let Err(words) = verdict {
            self.ended.wrong = Some(Wrong {
                process: line.p,
                step: line.n,
                operation: line.op.clone(),
                words,
                read_only: refused == Some(Errno::ROFS),
                full: matches!(refused, Some(Errno::NOSPC | Errno::DQUOT)),
            });
            return Ok(false);
        }
        player.steps += 1;
        if matches!(line.op, Operation::Sync) {
            player.durable = Some(line.n);
        }
        *self.ended.counts.entry(line.kind).or_default() += 1;
        self.ended.steps += 1;
        Ok(true)
    }

    fn end(mut self) -> Ended {
        let mut players: Vec<_> = self.players.iter().collect();
        players.sort_by_key(|(process, _)| **process);
        for (process, player) in players {
            if self.spec.verify && self.ended.wrong.is_none() {
                self.ended
                    .findings
                    .extend(player.judge(*process, player.durable));
            }
            self.ended.played.push(Played {
                process: *process,
                steps: player.steps,
                durable: player.durable,
            });
        }
        self.ended
    }
}

impl Player {
    /// A new snapshot must hold what this process has; it is kept in mind.
    fn snapshot(&mut self, operation: &Operation, process: u64) -> Result<(), String> {
        match operation {
            Operation::Snapshot { name } => {
                let findings = judge(&self.model, &self.folder.frozen(name), process, None);
                self.frozen.insert(name.clone(), self.model.clone());
                match findings.first() {
                    None => Ok(()),
                    Some(first) => Err(format!("differs from what was snapshotted: {first}")),
                }
            }
            Operation::DropSnapshot { name } => {
                self.frozen.remove(name);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn judge(&self, process: u64, durable: Option<u64>) -> Vec<super::judge::Finding> {
        let mut findings = judge(&self.model, &self.folder, process, durable);
        for (name, model) in &self.frozen {
            findings.extend(judge(model, &self.folder.frozen(name), process, durable));
        }
        findings
    }
}

/// Imagines what a process left behind, and compares that with what is there now.
pub fn judge_process(
    spec: &Spec,
    process: u64,
    steps: u64,
    durable: Option<u64>,
) -> anyhow::Result<Vec<super::judge::Finding>> {
    let spec = Spec {
        log: None,
        in_order: false,
        steps,
        ..spec.clone()
    };
    let mut worker = Worker::new(&spec, process)?;
    while worker.ended.steps < steps
        && let Some(line) = worker.next()
    {
        worker.imagine(&line);
    }
    let player = worker.players.get(&process).context("the process")?;
    Ok(player.judge(process, durable))
}

impl Worker<'_> {
    /// As `step`, in memory only.
    fn imagine(&mut self, line: &Line) {
        if line.arena == Arena::Own
            && let Some(player) = self.players.get_mut(&line.p)
        {
            // A refusal is part of it.
            let _ = player.model.apply(&line.op, line.n);
            match &line.op {
                Operation::Snapshot { name } => {
                    player.frozen.insert(name.clone(), player.model.clone());
                }
                Operation::DropSnapshot { name } => {
                    player.frozen.remove(name);
                }
                _ => {}
            }
        }
        self.ended.steps += 1;
    }
}
