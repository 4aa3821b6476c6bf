//! The command line that makes a run again.

use super::plan::{Plan, Subject};

/// All that a run follows from, in words that a shell takes as they are.
pub fn command_line(plan: &Plan, subject: &Subject, seed: u64) -> String {
    let mut words = vec![
        plan.worker.to_string_lossy().into_owned(),
        "lab".into(),
        "live".into(),
    ];
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    match &subject.protocol {
        Some(protocol) => add("--protocol", protocol.clone()),
        None => {
            let binary = subject.binary.to_string_lossy();
            add("--binary", format!("{}={binary}", subject.name));
        }
    }
    add("--seed", seed.to_string());
    add("--seeds", "1".into());
    // The option has whole seconds.
    add("--each", plan.each.as_secs().max(1).to_string());
    if let Some(steps) = plan.steps {
        add("--ops", steps.to_string());
    }
    add("--procs", plan.processes.to_string());
    add("--mix", plan.mix.to_string());
    add("--nodesize", plan.nodesize.to_string());
    add("--size", plan.size_bytes.to_string());
    add("--cache", plan.cache_bytes.to_string());
    add("--commit", plan.commit_secs.to_string());
    for delay in &plan.delays {
        add("--delay", delay.clone());
    }
    for options in &plan.options {
        add("-o", options.clone());
    }
    add("--dir", plan.folder.to_string_lossy().into_owned());
    if !plan.kernel {
        words.push("--no-kernel".into());
    }
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%µ".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_change_is_quoted() {
        assert_eq!(quote("drop-tested:2000"), "drop-tested:2000");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("$HOME"), "'$HOME'");
    }
}
