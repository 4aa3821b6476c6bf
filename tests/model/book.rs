//! What was met: for every operation how often it succeeded and what it was refused with.

use crate::step::Step;
use crate::subject::Answer;
use btrfuse_test_support::walk::errno_name;
use std::collections::BTreeMap;
use std::fmt;

/// The figures of a run.
#[derive(Default)]
pub struct Book {
    cases: usize,
    steps: usize,
    excused: BTreeMap<&'static str, usize>,
    met: BTreeMap<String, BTreeMap<String, usize>>,
}

/// Operations that are refused in fewer than two ways: in how many.
const FEW_REFUSALS: &[(&str, usize)] = &[
    ("close", 1),
    ("rename, other flags", 1),
    ("sync", 0),
    ("remount", 0),
];

/// What never succeeds.
const NEVER: &[&str] = &["fallocate, other modes", "rename, other flags"];

/// So many operations, as [`Step::kind`] names them, are met in any run of some length.
const OPERATIONS: usize = 48;

impl Book {
    /// A case is over.
    pub fn case(&mut self) {
        self.cases += 1;
    }

    /// The reference's answer.
    pub fn step(&mut self, step: &Step, answer: &Answer) {
        self.steps += 1;
        let words = match answer {
            Ok(_) => "ok".into(),
            Err(error) => errno_name(*error),
        };
        let met = self.met.entry(step.kind()).or_default();
        *met.entry(words).or_default() += 1;
    }

    /// A difference that is known.
    pub fn excuse(&mut self, reason: &'static str) {
        *self.excused.entry(reason).or_default() += 1;
    }

    /// What another part of the run met.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.steps += other.steps;
        for (reason, count) in other.excused {
            *self.excused.entry(reason).or_default() += count;
        }
        for (kind, met) in other.met {
            let all = self.met.entry(kind).or_default();
            for (word, count) in met {
                *all.entry(word).or_default() += count;
            }
        }
    }

    /// Demands that each operation succeeded and was refused in several ways: a run in which nothing
    /// happens shows nothing.
    pub fn assert_much_was_met(&self) {
        let mut missing = Vec::new();
        for (kind, met) in &self.met {
            let few = FEW_REFUSALS.iter().find(|(name, _)| name == kind);
            let wanted = few.map_or(2, |(_, refusals)| *refusals);
            let refusals = met.keys().filter(|word| *word != "ok").count();
            if refusals < wanted || !met.contains_key("ok") && !NEVER.contains(&kind.as_str()) {
                missing.push(format!("{kind}: {met:?}"));
            }
        }
        assert!(
            missing.is_empty(),
            "too little was met:\n{}",
            missing.join("\n")
        );
        let kinds = self.met.len();
        assert_eq!(kinds, OPERATIONS, "operations were met:\n{self}");
    }
}

impl fmt::Display for Book {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, met) in &self.met {
            let said: Vec<String> = met.iter().map(|(word, n)| format!("{word} {n}")).collect();
            writeln!(f, "{kind:24} {}", said.join(", "))?;
        }
        for (reason, count) in &self.excused {
            writeln!(f, "excused {count} times: {reason}")?;
        }
        let refusals: usize = self
            .met
            .values()
            .map(|met| met.keys().filter(|word| *word != "ok").count())
            .sum();
        write!(
            f,
            "{} cases, {} steps of {} operations, {refusals} ways of refusal",
            self.cases,
            self.steps,
            self.met.len()
        )
    }
}
