//! The supplementary groups of a process, which FUSE requests don't carry.

/// The groups in `/proc/PID/status`; none for a process that this one can't see.
pub fn of_process(pid: u32) -> Vec<u32> {
    match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) if pid != 0 => parse(&status),
        _ => Vec::new(),
    }
}

fn parse(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.unwrap_or("")
        .split_whitespace()
        .filter_map(|gid| gid.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_the_status_file() {
        assert_eq!(
            parse("Name:\tsh\nGroups:\t4 24 1000 \nPid:\t1\n"),
            [4, 24, 1000]
        );
        assert!(parse("Name:\tsh\n").is_empty() && of_process(0).is_empty());
    }
}
