//! What `examples/model.rs` found, which needs a build of its own.

use serde::Deserialize;

/// Its JSON.
#[derive(Clone, Debug, Deserialize)]
pub struct Model {
    engine: String,
    /// All cells.
    pub results: Vec<Explored>,
}

/// A scenario under one protocol and profile, or why the model checker says nothing of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Explored {
    /// The play's letter.
    pub label: String,
    /// Why there is nothing else.
    pub not_applicable: Option<String>,
    /// The rules.
    pub protocol: String,
    /// A planted mutant.
    pub mutant: bool,
    /// The processor.
    pub profile: String,
    /// How many executions there were until the end or the first failure.
    pub executions: u64,
    /// `wins` or `loses`.
    pub verdict: String,
    /// Whether that is the registry's.
    pub as_expected: bool,
}

impl Model {
    /// Reads it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let model: Self = serde_json::from_str(json).map_err(|why| why.to_string())?;
        match model.engine.as_str() {
            "model" => Ok(model),
            other => Err(format!("it is of the engine {other}, not of the model")),
        }
    }

    /// Why the model says nothing of a play.
    pub fn silent(&self, label: &str) -> Option<&str> {
        let entry = self.results.iter().find(|cell| cell.label == label);
        entry.and_then(|cell| cell.not_applicable.as_deref())
    }

    /// What it found.
    pub fn cell(&self, label: &str, protocol: &str, profile: &str) -> Option<&Explored> {
        self.results.iter().find(|cell| {
            cell.label == label && cell.protocol == protocol && cell.profile == profile
        })
    }

    /// Executions of a protocol in all plays and profiles that it doesn't lose.
    pub fn executions(&self, protocol: &str) -> u64 {
        let of = |cell: &&Explored| cell.protocol == protocol && cell.verdict == "wins";
        self.results
            .iter()
            .filter(of)
            .map(|cell| cell.executions)
            .sum()
    }

    /// `B (relaxed-flags)` for each play, as it is today, and profile that a protocol loses.
    pub fn lost(&self, protocol: &str) -> Vec<String> {
        let of = |cell: &&Explored| {
            cell.protocol == protocol && cell.verdict == "loses" && !cell.label.ends_with('\'')
        };
        let lost = self.results.iter().filter(of);
        lost.map(|cell| format!("{} ({})", cell.label, cell.profile))
            .collect()
    }
}
