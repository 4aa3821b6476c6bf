//! A mount in a process of its own, its log in a file.
//!
//! Invariant: when a `Mounted` is gone its daemon is, by force if need be.

use super::children;
use crate::sync::thread;
use anyhow::Context;
use rustix::process::Pid;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Until it answers.
const START: Duration = Duration::from_secs(60);
/// Until the last commit is over.
const END: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);
/// Where a daemon looks for what makes its run again, to quote it in reports of broken rules.
pub const AGAIN: &str = "BTRFUSE_AGAIN";

/// Why there is no mount.
pub struct Refusal {
    /// In words.
    pub words: String,
    /// How the daemon ended, if it began, and did end.
    pub ended: Option<ExitStatus>,
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self {
            words: format!("{error:#}"),
            ended: None,
        }
    }
}

/// See the module.
pub struct Mounted {
    binary: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    daemon: Child,
    read: u64,
    ended: bool,
}

impl Mounted {
    /// Mounts with an `-o` list; returns when it answers. A report of a broken rule quotes `again`.
    pub fn new(
        binary: &Path,
        image: &Path,
        dir: &Path,
        log: &Path,
        options: &str,
        again: &str,
    ) -> Result<Self, Refusal> {
        let before = device(dir)?;
        let daemon = children::command(binary)
            .args(["mount", "-f", "--log"])
            .arg(log)
            .args(["-o", options])
            .args([image, dir])
            .env(AGAIN, again)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {}", binary.display()))?;
        children::started(Pid::from_child(&daemon));
        let mut mounted = Self {
            binary: binary.to_owned(),
            dir: dir.to_owned(),
            log: log.to_owned(),
            daemon,
            read: 0,
            ended: false,
        };
        let deadline = Instant::now() + START;
        while device(dir).is_ok_and(|now| now == before) {
            if let Ok(Some(status)) = mounted.daemon.try_wait() {
                children::ended(Pid::from_child(&mounted.daemon));
                return Err(mounted.refusal(status));
            }
            if Instant::now() > deadline {
                return Err(Refusal {
                    words: format!(
                        "{} mount didn't answer within {} s",
                        binary.display(),
                        START.as_secs()
                    ),
                    ended: None,
                });
            }
            thread::sleep(LOOK);
        }
        Ok(mounted)
    }

    fn refusal(mut self, status: ExitStatus) -> Refusal {
        self.ended = true;
        let mut said = String::new();
        if let Some(stderr) = &mut self.daemon.stderr {
            let _ = stderr.read_to_string(&mut said);
        }
        let (binary, said) = (self.binary.display(), said.trim());
        Refusal {
            words: format!("{binary} mount ended with {status}: {said}"),
            ended: Some(status),
        }
    }

    /// Where.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the log said since the last call.
    pub fn news(&mut self) -> String {
        let mut words = String::new();
        if let Ok(mut file) = File::open(&self.log)
            && file.metadata().is_ok_and(|log| log.size() > self.read)
            && file.seek(SeekFrom::Start(self.read)).is_ok()
        {
            let mut bytes = Vec::new();
            self.read += file.read_to_end(&mut bytes).unwrap_or(0) as u64;
            words = String::from_utf8_lossy(&bytes).into_owned();
        }
        words
    }

    /// Unmounts and waits for the last commit; how the daemon ended, or why it had to be killed.
    pub fn unmount(mut self) -> Result<ExitStatus, String> {
        self.end()
    }

    fn end(&mut self) -> Result<ExitStatus, String> {
        let outcome = self.take_down();
        // Not before it was waited for: until then its id is its own.
        children::ended(Pid::from_child(&self.daemon));
        outcome
    }

    fn take_down(&mut self) -> Result<ExitStatus, String> {
        self.ended = true;
        let mut umount = children::command(&self.binary)
            .arg("umount")
            .arg(&self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("can't unmount: {error}"))?;
        let asked = wait(&mut umount, END);
        let _ = umount.kill();
        let _ = umount.wait();
        let ended = match asked {
            Some(_) => wait(&mut self.daemon, END),
            None => None,
        };
        if let Some(status) = ended {
            return Ok(status);
        }
        let _ = self.daemon.kill();
        let _ = children::command("umount")
            .arg("-l")
            .arg(&self.dir)
            .output();
        let _ = self.daemon.wait();
        Err(format!(
            "the daemon hadn't ended {} s after umount and was killed",
            END.as_secs()
        ))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.end();
        }
    }
}

fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + patience;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > deadline {
            return None;
        }
        thread::sleep(LOOK);
    }
}

fn device(dir: &Path) -> anyhow::Result<u64> {
    let metadata = std::fs::metadata(dir).with_context(|| format!("{}", dir.display()))?;
    Ok(metadata.dev())
}
