//! Programs that judge, mount and copy: children that a Ctrl-C doesn't reach.

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
