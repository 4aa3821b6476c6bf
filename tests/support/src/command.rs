//! Running tools with a time limit, and saying everything when one fails.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How a command ended.
pub struct Finished {
    /// Its status.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// Both outputs, for messages.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs to the end and demands success.
#[track_caller]
pub fn run(command: &mut Command) -> Finished {
    let finished = run_any(command, Duration::from_secs(300));
    assert!(
        finished.status.success(),
        "{command:?} ended with {}:\n{}",
        finished.status,
        finished.output()
    );
    finished
}

/// Runs to the end, whatever it is. A missing program and one that takes longer than `limit`
/// (it is killed) are failures of the test.
#[track_caller]
pub fn run_any(command: &mut Command, limit: Duration) -> Finished {
    // Files, not pipes: a daemon that the command leaves behind may keep them open.
    let mut stdout = tempfile::tempfile().expect("a temporary file");
    let mut stderr = tempfile::tempfile().expect("a temporary file");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().expect("a second descriptor"))
        .stderr(stderr.try_clone().expect("a second descriptor"))
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?} can't be started: {e}"));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if started.elapsed() > limit {
            child.kill().expect("our own child");
            child.wait().expect("our own child");
            panic!(
                "{command:?} took longer than {limit:?} and was killed:\n{}{}",
                text(&mut stdout),
                text(&mut stderr)
            );
        }
        // Most commands take some milliseconds, and there are thousands of them.
        let nap = started.elapsed() / 8;
        std::thread::sleep(nap.clamp(Duration::from_micros(100), Duration::from_millis(5)));
    };
    Finished {
        status,
        stdout: text(&mut stdout),
        stderr: text(&mut stderr),
    }
}

/// Everything in a file, from its start.
pub(crate) fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("a regular file");
    file.read_to_end(&mut bytes).expect("a regular file");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "took longer than")]
    fn a_stuck_command_is_ended() {
        run_any(Command::new("sleep").arg("60"), Duration::from_millis(50));
    }

    #[test]
    #[should_panic(expected = "ended with exit status: 3")]
    fn a_failing_command_fails_the_test() {
        run(Command::new("sh").args(["-c", "exit 3"]));
    }

    #[test]
    #[should_panic(expected = "can't be started")]
    fn a_missing_tool_fails_the_test() {
        run(&mut Command::new("/nonexistent/tool"));
    }
}
