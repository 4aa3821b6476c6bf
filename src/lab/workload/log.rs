//! The log of a run: what was asked, in the order in which it was, a JSON line each.
//!
//! A line is written before its operation is done, so the last line of a process names what hung
//! or killed it. Lines may be deleted by hand to find the few that matter: what the filesystem
//! must answer is worked out again.

use super::spec::{Line, Spec};
use anyhow::{Context, bail};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

/// Appends lines.
pub struct Writer(File);

impl Writer {
    /// To a log that [`create`] made; several processes may.
    pub fn append(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().append(true).open(path);
        Ok(Self(file.with_context(|| {
            format!("can't write the log {}", path.display())
        })?))
    }

    /// Writes one line, whole.
    pub fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.0.write_all(&bytes).context("can't write the log")
    }
}

/// Begins a log with what the run is.
pub fn create(path: &Path, spec: &Spec) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec(spec)?;
    bytes.push(b'\n');
    std::fs::write(path, bytes).with_context(|| format!("can't write the log {}", path.display()))
}

/// Reads what the run was.
pub fn read_spec(path: &Path) -> anyhow::Result<Spec> {
    let file =
        File::open(path).with_context(|| format!("can't read the log {}", path.display()))?;
    let mut first = String::new();
    BufReader::new(file).read_line(&mut first)?;
    serde_json::from_str(&first).with_context(|| {
        format!(
            "{} isn't a log of `btrfuse stress`: name a file that its --log wrote",
            path.display()
        )
    })
}

/// A log that was read.
pub struct Read {
    /// What the run was.
    pub spec: Spec,
    /// What was asked.
    pub lines: Vec<Line>,
    /// Its last line is cut short, as by a crash, and not among `lines`.
    pub torn: bool,
}

/// Reads the run and all lines. Only the last may be cut short.
pub fn read(path: &Path) -> anyhow::Result<Read> {
    let spec = read_spec(path)?;
    let file =
        File::open(path).with_context(|| format!("can't read the log {}", path.display()))?;
    let mut lines = Vec::new();
    let mut torn = None;
    for (at, line) in BufReader::new(file).lines().enumerate().skip(1) {
        let line = line.with_context(|| format!("can't read the log {}", path.display()))?;
        if let Some((at, error)) = torn {
            bail!("{} line {at} isn't an operation: {error}", path.display());
        }
        match serde_json::from_str::<Line>(&line) {
            Ok(line) => lines.push(line),
            Err(error) => torn = Some((at + 1, error)),
        }
    }
    Ok(Read {
        spec,
        lines,
        torn: torn.is_some(),
    })
}
