//! All comparisons on live mounts together: how much each subject did, and what came of it.

use super::evidence;
use super::grouped;
use serde::Serialize;

/// What a subject did in all comparisons.
#[derive(Clone, Debug, Serialize)]
pub struct Total {
    /// Whose.
    pub subject: String,
    /// Whether these are runs of builds that people mount, which have no delay points.
    pub of_builds: bool,
    /// Runs of all of them.
    pub runs: usize,
    /// Operations of all runs.
    pub operations: u64,
    /// Runs in which a rule was broken.
    pub violations: usize,
}

impl Total {
    /// Of every subject, builds and lab builds apart, in the order of their first rows.
    pub fn of(comparisons: &[evidence::Live]) -> Vec<Self> {
        let mut out: Vec<Self> = Vec::new();
        for live in comparisons {
            let of_builds = live.is_of_builds();
            for row in live.rows.iter().filter(|row| row.runs > 0) {
                let same = |total: &&mut Self| {
                    total.subject == row.subject && total.of_builds == of_builds
                };
                let total = match out.iter_mut().find(same) {
                    Some(total) => total,
                    None => out.push_mut(Self {
                        subject: row.subject.clone(),
                        of_builds,
                        runs: 0,
                        operations: 0,
                        violations: 0,
                    }),
                };
                total.runs += row.runs;
                total.operations = total.operations.saturating_add(row.operations);
                total.violations += row.violations;
            }
        }
        out
    }

    /// `owned, as people mount it: 21,123,456 operations in 10 runs, 0 of which broke a rule`.
    pub fn words(&self) -> String {
        let build = match self.of_builds {
            true => "as people mount it",
            false => "in a lab build",
        };
        format!(
            "{}, {build}: {} operations in {} runs, {} of which broke a rule",
            self.subject,
            grouped(self.operations),
            self.runs,
            self.violations
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(protocols: &str, rows: &str) -> evidence::Live {
        let row = |row: &str| {
            let [subject, runs, operations, violations] =
                row.split(' ').collect::<Vec<_>>().try_into().unwrap();
            format!(
                r#"{{ "subject": "{subject}", "runs": {runs}, "operations": {operations},
                "seconds": 1.0, "violations": {violations}, "first_operations": null,
                "first_seconds": null, "median_operations": null, "median_seconds": null,
                "survival_operations": [], "survival_seconds": [], "rate": 1.0,
                "relative_to_owned": null, "images_damaged": 0, "images_unjudged": 0,
                "damage": {{}}, "lost": {{}}, "wrong": 0 }}"#
            )
        };
        let rows: Vec<_> = rows.split(", ").map(row).collect();
        let json = format!(
            r#"{{ "plan": {{ "subjects": [{protocols}], "delays": [], "options": [],
            "processes": 8, "cache_bytes": 1, "nodesize": 4096 }}, "rows": [{}] }}"#,
            rows.join(", ")
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn builds_and_lab_builds_are_counted_apart() {
        let lab = r#"{ "name": "owned", "protocol": "owned" }"#;
        let build = r#"{ "name": "owned", "protocol": null }"#;
        let totals = Total::of(&[
            comparison(lab, "unfixed 3 40 2, owned 3 1000 0"),
            comparison(build, "owned 10 20000000 0"),
            comparison(lab, "packed-word 0 0 0, owned 2 500 1"),
        ]);
        let words: Vec<_> = totals.iter().map(Total::words).collect();
        assert_eq!(
            words,
            [
                "unfixed, in a lab build: 40 operations in 3 runs, 2 of which broke a rule",
                "owned, in a lab build: 1,500 operations in 5 runs, 1 of which broke a rule",
                "owned, as people mount it: 20,000,000 operations in 10 runs, 0 of which broke a \
                 rule",
            ]
        );
    }
}
