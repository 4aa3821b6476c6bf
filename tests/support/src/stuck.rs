//! What a process that should have ended is doing: each thread's name and where it waits, for the
//! message of a failed test.

use std::fmt::Write;
use std::fs::read_to_string;
use std::process::Command;

/// The threads of `pid`: names, kernel stacks, and where gdb is installed also their own.
pub fn threads(pid: u32) -> String {
    let mut out = String::from("its threads:\n");
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    for task in tasks.into_iter().flatten().flatten() {
        let read = |what: &str| read_to_string(task.path().join(what)).unwrap_or_default();
        let (name, stack) = (read("comm"), read("stack"));
        let _ = writeln!(out, "{} waits in", name.trim());
        for line in stack.lines().take(6) {
            let _ = writeln!(out, "    {line}");
        }
    }
    let gdb = Command::new("gdb")
        .args([
            "--batch",
            "--quiet",
            "-ex",
            "thread apply all backtrace 24",
            "-p",
        ])
        .arg(pid.to_string())
        .output();
    match gdb {
        Ok(said) => out.push_str(&String::from_utf8_lossy(&said.stdout)),
        Err(_) => out.push_str("(with gdb installed, their own stacks would be here)\n"),
    }
    out
}
