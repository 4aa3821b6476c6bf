//! What `examples/schedules.rs` found, which needs a build of its own.

use serde::Deserialize;

/// Its JSON.
#[derive(Clone, Debug, Deserialize)]
pub struct Schedules {
    engine: String,
    /// All cells, by rows.
    pub results: Vec<Scheduled>,
}

/// A scenario or a play of whole tree operations, by the rules of one protocol.
#[derive(Clone, Debug, Deserialize)]
pub struct Scheduled {
    /// The play's letter; `T` and a number for whole tree operations.
    pub label: String,
    /// What meets what.
    pub title: String,
    /// The rules.
    pub protocol: String,
    /// A planted fault.
    pub mutant: bool,
    /// What each scheduler did.
    pub tried: Vec<Tried>,
    /// `wins` or `loses`.
    pub verdict: String,
    /// Whether that is the registry's.
    pub as_expected: bool,
}

/// What came of one scheduler's executions.
#[derive(Clone, Debug, Deserialize)]
pub struct Tried {
    /// `random`, or `pct-N`.
    pub scheduler: String,
    /// What makes it do the same again.
    pub seed: u64,
    /// How many there were until the end or the first failure.
    pub executions: u64,
    /// The failing one, if any.
    pub failed_in: Option<u64>,
}

impl Schedules {
    /// Reads it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let schedules: Self = serde_json::from_str(json).map_err(|why| why.to_string())?;
        match schedules.engine.as_str() {
            "schedules" => Ok(schedules),
            other => Err(format!("it is of the engine {other}, not of the schedules")),
        }
    }

    /// What it found.
    pub fn cell(&self, label: &str, protocol: &str) -> Option<&Scheduled> {
        let is_it = |cell: &&Scheduled| cell.label == label && cell.protocol == protocol;
        self.results.iter().find(is_it)
    }

    /// The plays of whole tree operations: labels and titles.
    pub fn tree_plays(&self) -> Vec<(&str, &str)> {
        let mut plays: Vec<_> = self
            .results
            .iter()
            .filter(|cell| cell.is_tree())
            .map(|cell| (cell.label.as_str(), cell.title.as_str()))
            .collect();
        plays.dedup();
        plays
    }
}

impl Scheduled {
    /// Whether it is a play of whole tree operations.
    pub fn is_tree(&self) -> bool {
        self.label.starts_with('T')
    }

    /// Whether a rule was broken, a tree damaged, or all threads waited for each other.
    pub fn loses(&self) -> bool {
        self.verdict == "loses"
    }

    /// `in the 187th of pct-4, seed 1`, or how many executions there were.
    pub fn words(&self) -> String {
        let failed = self.tried.iter().find_map(|tried| {
            let nth = tried.failed_in?;
            Some(format!(
                "execution {nth} of {}, seed {}",
                tried.scheduler, tried.seed
            ))
        });
        failed.unwrap_or_else(|| {
            let all = self.tried.iter().map(|tried| tried.executions).sum::<u64>();
            super::grouped(all)
        })
    }
}
