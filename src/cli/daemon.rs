//! From a command to a daemon: the fork, the report to the waiting parent, and what a daemon
//! must not keep of whoever started it.
//!
//! Invariant: the fork happens before any thread exists. The parent exits only when the child
//! answered requests or said why it can't; a child that dies silently is reported as that.

use super::{Exit, Failure};
use rustix::process::{self, Resource, Rlimit, WaitOptions};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};

/// Who this process is after [`split`].
pub enum Side {
    /// The command that the user typed: hands the daemon's news on and exits.
    Parent(Child),
    /// The daemon.
    Daemon(Starter),
}

/// The parent's view of the daemon.
pub struct Child {
    pid: process::Pid,
    news: BufReader<io::PipeReader>,
}

/// The daemon's way to say how its start went.
pub struct Starter {
    news: Option<io::PipeWriter>,
    /// In the background: nothing else reaches a terminal.
    background: bool,
}

/// Forks. The daemon gets a session of its own.
pub fn split() -> Result<Side, Failure> {
    let (reader, writer) =
        io::pipe().map_err(|why| Failure::failed(format!("can't make a pipe: {why}")))?;
    io::stdout().flush().ok();
    io::stderr().flush().ok();
    // SAFETY: fork in a process with one thread: `mount` calls this before the engine, the
    // logger or the FUSE session start any, so the child inherits no lock held elsewhere.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(Failure::failed(format!(
            "can't fork: {}",
            io::Error::last_os_error()
        ))),
        0 => {
            drop(reader);
            // Fails only for a process group leader, which a fresh child isn't.
            let _ = process::setsid();
            Ok(Side::Daemon(Starter {
                news: Some(writer),
                background: true,
            }))
        }
        pid => {
            let pid = process::Pid::from_raw(pid).expect("fork returned a child's pid, not 0");
            Ok(Side::Parent(Child {
                pid,
                news: BufReader::new(reader),
            }))
        }
    }
}

impl Child {
    /// A daemon that was started by other means.
    pub fn new(pid: process::Pid, news: io::PipeReader) -> Self {
        Self {
            pid,
            news: BufReader::new(news),
        }
    }

    /// Waits until the daemon answers requests, printing its notes; or returns why it doesn't.
    pub fn wait_until_ready(mut self) -> Result<(), Failure> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = self.news.read_line(&mut line).unwrap_or(0);
            if read == 0 {
                return Err(self.died());
            }
            match line.trim_end().split_once(' ') {
                Some(("note", words)) => {
                    crate::cli::print::complain!("btrfuse: {}", unescape(words))
                }
                Some(("failed", rest)) => {
                    let (code, sentence) = rest.split_once(' ').unwrap_or(("4", rest));
                    let exit = Exit::from_number(code.parse().unwrap_or(4));
                    // The daemon is about to end; leave no zombie to our caller.
                    let _ = process::waitpid(Some(self.pid), WaitOptions::empty());
                    return Err(Failure::new(exit, unescape(sentence)));
                }
                _ if line.trim_end() == "ready" => return Ok(()),
                _ => {}
            }
        }
    }

    fn died(&self) -> Failure {
        let how = match process::waitpid(Some(self.pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => match (status.terminating_signal(), status.exit_status()) {
                (Some(signal), _) => format!("was killed by signal {signal}"),
                (None, Some(code)) => format!("exited with code {code}"),
                _ => "ended".to_owned(),
            },
            _ => "ended".to_owned(),
        };
        Failure::new(
            Exit::Bug,
            format!("the daemon {how} before it answered; its log says more (try -f)"),
        )
    }
}

impl Starter {
    /// A starter for a foreground mount: notes go to the log, nobody waits.
    pub fn foreground() -> Self {
        Self {
            news: None,
            background: false,
        }
    }

    /// A starter for a daemon whose stdin is the way to its supervisor.
    pub fn supervised(background: bool) -> Result<Self, Failure> {
        let why = |why: io::Error| Failure::failed(format!("nobody supervises: {why}"));
        let news = rustix::io::dup(io::stdin()).map_err(|no| why(no.into()))?;
        let null = File::open("/dev/null").map_err(why)?;
        rustix::stdio::dup2_stdin(&null).map_err(|no| why(no.into()))?;
        Ok(Self {
            news: Some(news.into()),
            background,
        })
    }

    /// False for a foreground mount.
    pub fn is_daemon(&self) -> bool {
        self.background
    }

    /// Something the user should know although the mount goes on.
    pub fn note(&mut self, words: &str) {
        match &mut self.news {
            Some(news) if self.background => {
                let _ = writeln!(news, "note {}", escape(words));
                log::info!("{words}");
            }
            _ => log::warn!("{words}"),
        }
    }

    /// Requests are answered: the command may return.
    pub fn ready(mut self) {
        if let Some(mut news) = self.news.take() {
            let _ = writeln!(news, "ready");
        }
    }

    /// The start failed; the parent prints the sentence and exits with the code.
    pub fn fail(mut self, failure: &Failure) {
        if let Some(mut news) = self.news.take() {
            // In the foreground the log is where the sentence will be said.
            if self.background {
                log::error!("{failure}");
            }
            let _ = writeln!(
                news,
                "failed {} {}",
                failure.exit as u8,
                escape(&failure.sentence)
            );
        }
    }
}

/// Sentences travel one a line.
fn escape(words: &str) -> String {
    words.replace('\\', "\\\\").replace('\n', "\\n")
}

fn unescape(words: &str) -> String {
    let mut plain = String::with_capacity(words.len());
    let mut chars = words.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(other) => plain.push(other),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}

/// Lets go of the caller's working directory and file mode mask: the first would keep its
/// filesystem busy, the second would take bits from the modes that programs ask for.
pub fn leave_directory() {
    let _ = process::chdir("/");
    process::umask(rustix::fs::Mode::empty());
    raise_open_files();
}

/// Lets go of the caller's terminal: stdin, stdout and stderr become `/dev/null`. Other
/// inherited descriptors aren't ours and stay open.
pub fn leave_terminal() -> io::Result<()> {
    let null: File = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// A few descriptors a thread and a device are needed; a shell's low limit must not be ours.
fn raise_open_files() {
    const WANTED: u64 = 4096;
    let limit = process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(WANTED).min(WANTED);
    if limit.current.is_some_and(|current| current < most) {
        let _ = process::setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(most),
                maximum: limit.maximum,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_several_lines_survive_the_pipe() {
        for words in ["plain", "two\nlines", "back\\slash\\n", ""] {
            assert_eq!(unescape(&escape(words)), words);
            assert!(!escape(words).contains('\n'));
        }
    }
}
