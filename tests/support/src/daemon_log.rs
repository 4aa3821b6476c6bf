//! The daemon's log as a judge: a sound mount ends without an error or a warning in it.
//!
//! Owns: which lines are complaints. The words before them are those of `src/cli/logging.rs`;
//! `a_complaint_in_the_log_fails_a_test` in `tests/mounted.rs` holds that they still are.

/// What begins a line of the log on stderr that somebody must explain.
const COMPLAINTS: [&str; 2] = ["btrfuse: error: ", "btrfuse: warning: "];

/// What must be nowhere, whatever a test expects.
const BUGS: [&str; 3] = ["BUG_ON", "panicked at", "error: bug: "];

/// The complaints of a log that no excuse covers, and the excuses that covered nothing.
pub fn judge_log(log: &str, excuses: &[&str]) -> Vec<String> {
    let is_bug = |line: &str| BUGS.iter().any(|word| line.contains(word));
    let is_complaint = |line: &str| COMPLAINTS.iter().any(|start| line.starts_with(start));
    let is_excused = |line: &str| excuses.iter().any(|words| line.contains(words));
    let said = log
        .lines()
        .filter(|line| is_bug(line) || (is_complaint(line) && !is_excused(line)))
        .map(|line| format!("the daemon's log says {line:?}"));
    let idle = excuses
        .iter()
        .filter(|words| !log.lines().any(|l| is_complaint(l) && l.contains(**words)))
        .map(|words| format!("the daemon's log doesn't say {words:?}"));
    said.chain(idle).collect()
}

/// Fails the test if the log complains of more, or of less, than `excuses` (parts of lines).
#[track_caller]
pub fn assert_quiet(what: &str, log: &str, excuses: &[&str]) {
    let wrong = judge_log(log, excuses);
    assert!(wrong.is_empty(), "{what}: {}\n{log}", wrong.join("\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "btrfuse: /a/error: mounted on /m (protocol: owned)\n\
        btrfuse: warning: address 5: copy 2 was repaired\n\
        btrfuse: error: read: no good copy\n";

    #[test]
    fn planted_complaints_are_found_and_excused_one_by_one() {
        assert_eq!(judge_log(LOG, &[]).len(), 2);
        assert_eq!(judge_log(LOG, &["was repaired"]).len(), 1);
        assert!(judge_log(LOG, &["was repaired", "no good copy"]).is_empty());
        let idle = judge_log(LOG, &["was repaired", "no good copy", "superblock"]);
        assert_eq!(idle, ["the daemon's log doesn't say \"superblock\""]);
        assert_eq!(judge_log("thread x panicked at y\n", &["y"]).len(), 2);
    }
}
