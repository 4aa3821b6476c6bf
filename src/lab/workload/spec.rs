//! What a run is, and what came of it: the words that conductor, processes, logs and reports share.

use super::features::Features;
use super::judge::Finding;
use super::mix::{Kind, Mix};
use super::operation::{Arena, Operation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The directory that was given.
    pub dir: PathBuf,
    /// How many processes.
    pub processes: u64,
    /// How many operations each, at most.
    pub steps: u64,
    /// What everything follows from.
    pub seed: u64,
    /// How often what.
    pub mix: Mix,
    /// What the filesystem can do, and its user may.
    pub features: Features,
    /// Every operation is written here before it is done.
    pub log: Option<PathBuf>,
    /// Operations come from this log instead of the seed.
    pub replay: Option<PathBuf>,
    /// One process does a log's operations in the log's order.
    pub in_order: bool,
    /// Processes compare everything at their end.
    pub verify: bool,
}

/// A line of a log; the first is the [`Spec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The process.
    pub p: u64,
    /// Its step.
    pub n: u64,
    /// Microseconds since the process began.
    pub us: u64,
    /// What it counts as.
    pub kind: Kind,
    /// Where.
    pub arena: Arena,
    /// What.
    pub op: Operation,
}

/// What a process tells its conductor, a JSON line each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum News {
    /// From time to time.
    Progress {
        /// Steps so far.
        steps: u64,
        /// An operation that takes long: what, and for how many seconds.
        stuck: Option<(String, u64)>,
    },
    /// Its end.
    End(Box<Ended>),
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Steps that were done; the next wasn't, or was answered wrongly.
    pub steps: u64,
    /// The same for each process that it played.
    pub played: Vec<Played>,
    /// How often what.
    pub counts: BTreeMap<Kind, u64>,
    /// Refusals in the shared folder that races explain.
    pub races: u64,
    /// The first wrong answer.
    pub wrong: Option<Wrong>,
    /// What wasn't as it must be at the end.
    pub findings: Vec<Finding>,
}

/// How far a process of a run came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Played {
    /// Which.
    pub process: u64,
    /// Steps that were done.
    pub steps: u64,
    /// The step of the last sync that succeeded.
    pub durable: Option<u64>,
}

/// An answer that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrong {
    /// Who asked.
    pub process: u64,
    /// In its step.
    pub step: u64,
    /// What was asked.
    pub operation: Operation,
    /// In words.
    pub words: String,
    /// The filesystem takes no more writes (`EROFS`).
    pub read_only: bool,
    /// The filesystem is full, which is the user's to change.
    pub full: bool,
}

/// What came of a whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run.
    pub spec: Spec,
    /// Operations of all processes.
    pub operations: u64,
    /// Wall time of the operations.
    pub seconds: f64,
    /// Operations a second.
    pub rate: f64,
    /// How often what.
    pub counts: BTreeMap<&'static str, u64>,
    /// Kinds that this filesystem can't do, and that were left out.
    pub lacking: Vec<&'static str>,
    /// What this user may not do there, left out too.
    pub denied: Vec<&'static str>,
    /// Refusals in the shared folder that races explain.
    pub races: u64,
    /// Wrong answers, the first of each process.
    pub wrong: Vec<Wrong>,
    /// What wasn't as it must be at the end.
    pub findings: Vec<Finding>,
    /// Processes that died or had to be killed, in words.
    pub deaths: Vec<String>,
    /// Somebody ended it early.
    pub interrupted: bool,
    /// How far each process came.
    pub played: Vec<Played>,
}

impl Summary {
    /// Every answer and everything at the end was right.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty() && self.findings.is_empty() && self.deaths.is_empty()
    }
}

/// What a run leaves beside its files, for whoever judges them on a later mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of this kind of record.
    pub version: u32,
    /// The run.
    pub spec: Spec,
    /// How far each process came.
    pub played: Vec<Played>,
}
