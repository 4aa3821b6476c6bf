//! Programs that judge, mount and copy: children that a Ctrl-C doesn't reach.

use crate::sync::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A program in a process group of its own. A terminal's Ctrl-C goes to all of the foreground's
/// group: a judge that it killed would be taken for one that found damage, and a umount for one
/// that failed. It is for the lab alone, which lets them finish and reports.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // Another group may not read from the terminal.
    command.process_group(0).stdin(Stdio::null());
    command
}

/// Daemons of mounts that are up.
static DAEMONS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Remembers a daemon, until [`ended`].
pub fn started(daemon: Pid) {
    DAEMONS.lock().push(daemon);
}

/// Forgets it; its id may be somebody else's soon.
pub fn ended(daemon: Pid) {
    DAEMONS.lock().retain(|other| *other != daemon);
}

/// Asks all daemons to unmount and end: this process is about to, and nobody else would.
pub fn end_daemons() {
    for daemon in DAEMONS.lock().iter() {
        let _ = kill_process(*daemon, Signal::TERM);
    }
}
