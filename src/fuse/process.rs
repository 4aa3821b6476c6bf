//! What FUSE requests don't carry of the process that asks: its supplementary groups, its umask.

/// The groups in `/proc/PID/status`; none for a process that this one can't see.
pub fn groups(pid: u32) -> Vec<u32> {
    status(pid).map_or_else(Vec::new, |status| parse_groups(&status))
}

/// The umask; the usual one for a process that this one can't see.
pub fn umask(pid: u32) -> u32 {
    let known = status(pid).and_then(|status| parse_umask(&status));
    known.unwrap_or(0o022)
}

fn status(pid: u32) -> Option<String> {
    let path = format!("/proc/{pid}/status");
    (pid != 0).then(|| std::fs::read_to_string(path).ok())?
}

fn parse_groups(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.unwrap_or("")
        .split_whitespace()
        .filter_map(|gid| gid.parse().ok())
        .collect()
}

fn parse_umask(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(line?.trim(), 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_umask_are_read_from_the_status_file() {
        let status = "Name:\tsh\nUmask:\t0027\nGroups:\t4 24 1000 \nPid:\t1\n";
        assert_eq!(parse_groups(status), [4, 24, 1000]);
        assert_eq!(parse_umask(status), Some(0o027));
        assert!(parse_groups("Name:\tsh\n").is_empty() && groups(0).is_empty());
        assert_eq!(umask(0), 0o022);
    }
}
