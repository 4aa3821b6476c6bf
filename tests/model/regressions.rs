//! The list of cases that were found once: they are played first, always.

use crate::step::Step;

/// Cases stand in the form in which a failure prints them, a step a line; a line `# why` opens each.
const LIST: &str = include_str!("regressions.jsonl");

/// Each case with its line of words.
pub fn all() -> Vec<(String, Vec<Step>)> {
    let mut cases: Vec<(String, Vec<Step>)> = Vec::new();
    for line in LIST.lines().filter(|line| !line.trim().is_empty()) {
        match line.strip_prefix('#') {
            Some(why) => cases.push((why.trim().to_owned(), Vec::new())),
            None => {
                let step =
                    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
                cases
                    .last_mut()
                    .expect("a line of words first")
                    .1
                    .push(step);
            }
        }
    }
    cases
}

#[test]
fn what_a_failure_prints_is_what_the_list_takes() {
    for (why, steps) in all() {
        assert!(!steps.is_empty(), "{why}");
        let lines = crate::step::to_lines(&steps);
        let again: Vec<Step> = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("a printed step"))
            .collect();
        assert_eq!(again, steps);
    }
}
