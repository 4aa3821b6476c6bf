//! What FUSE requests don't carry of the process that asks: its supplementary groups, its umask, its
//! capabilities.

use std::path::PathBuf;

/// The groups in `/proc/PID/status`; none for a process that this one can't see.
pub fn groups(pid: u32) -> Vec<u32> {
    status(pid).map_or_else(Vec::new, |status| parse_groups(&status))
}

/// The umask; the usual one for a process that this one can't see.
pub fn umask(pid: u32) -> u32 {
    let known = status(pid).and_then(|status| parse_umask(&status));
    known.unwrap_or(0o022)
}

/// `CAP_DAC_OVERRIDE`, of `<linux/capability.h>`.
const DAC_OVERRIDE: u32 = 1;
/// `CAP_FOWNER`.
const FOWNER: u32 = 3;
/// `CAP_SYS_ADMIN`.
const SYS_ADMIN: u32 = 21;

/// The capabilities that a process has in this one's user namespace, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Passes every mode.
    pub fn overrides_modes(self) -> bool {
        self.0 & 1 << DAC_OVERRIDE != 0
    }

    /// Counts as the owner of everything.
    pub fn owns_all(self) -> bool {
        self.0 & 1 << FOWNER != 0
    }

    /// Is an administrator.
    pub fn administers(self) -> bool {
        self.0 & 1 << SYS_ADMIN != 0
    }
}

/// What the process may, which asks as `uid` in this one's user namespace; nothing for one that this one
/// can't see, or of another user namespace, where capabilities mean others' things.
pub fn capabilities(pid: u32, uid: u32) -> Capabilities {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/user")).ok();
    if !is_in_ours(namespace(&pid.to_string()), namespace("self"), uid) {
        return Capabilities::default();
    }
    let known = status(pid).and_then(|status| parse_capabilities(&status));
    known.unwrap_or_default()
}

/// Whether a process is in our user namespace; where it can't be looked at it may be anywhere, and whoever
/// makes a namespace has all capabilities in it. But root of ours is nobody's in another one.
fn is_in_ours(theirs: Option<PathBuf>, ours: Option<PathBuf>, uid: u32) -> bool {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => uid == 0,
    }
}

fn parse_capabilities(status: &str) -> Option<Capabilities> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = u64::from_str_radix(line?.trim(), 16).ok()?;
    Some(Capabilities(bits))
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

    #[test]
    fn capabilities_are_those_in_effect() {
        let parsed = |line| parse_capabilities(line).unwrap_or_default();
        let all = parsed("CapPrm:\t0\nCapEff:\t000001ffffffffff\n");
        assert!(all.overrides_modes() && all.administers());
        let some = parsed("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000200000\n");
        assert!(!some.overrides_modes() && some.administers());
        assert_eq!(parsed("CapEff:\t0\n"), Capabilities::default());
        assert_eq!(parsed("Name:\tsh\n"), Capabilities::default());
        assert_eq!(capabilities(0, 0), Capabilities::default());
    }

    #[test]
    fn nobody_becomes_an_administrator_by_a_namespace_of_their_own() {
        let [ours, other] = ["user:[1]", "user:[2]"].map(|it| Some(PathBuf::from(it)));
        for uid in [0, 1000] {
            assert!(is_in_ours(ours.clone(), ours.clone(), uid));
            assert!(!is_in_ours(other.clone(), ours.clone(), uid));
            // A stranger's process can't be looked at by a user's daemon.
            assert_eq!(is_in_ours(None, ours.clone(), uid), uid == 0);
        }
    }
}
