//! `btrfuse mount --supervise`: a process that mounts again when the daemon has crashed.
//!
//! The dead mount is taken away and a new one made at its place, by a new daemon that begins from what
//! is durable. Handing the kernel's connection to it would spare programs their open files, and
//! betray them: the kernel would go on to believe in writes and names that died with the old daemon's
//! memory, and the next fsync would succeed for data that is nowhere. So whoever had a file open is
//! told that it is gone (ENOTCONN), and opens it again.
//!
//! Invariant: a mount that was ended in order, by umount or a signal, isn't made again; nor one that
//! crashes over and over, as a hostile image may have it, or at whose place something else is mounted.

use super::daemon::{self, Child, Starter};
use super::mount::Wish;
use super::mountinfo::{self, At};
use super::{Exit, Failure, ask, umount, utab};
use crate::sync::thread;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// So many crashes within [`WINDOW`] end it.
const CRASHES_MAX: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// How long the dead daemon's lock of the image is waited for: it goes with its last thread.
const LOCKED: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// The daemon's command line, which nobody types.
#[derive(clap::Args, Debug)]
pub struct Args {
    image: PathBuf,
    dir: PathBuf,
    #[arg(short)]
    foreground: bool,
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    #[arg(short)]
    sloppy: bool,
    #[arg(long)]
    from_mount8: bool,
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Runs the daemon; its stdin is the way to tell how the start went.
pub fn daemon(args: Args) -> Result<(), Failure> {
    // It was started as /proc/self/exe; who holds an image is told by this name.
    let _ = rustix::thread::set_name(c"btrfuse");
    let wish = Wish {
        image: args.image,
        dir: args.dir,
        options: args.options,
        sloppy: args.sloppy,
        from_mount8: args.from_mount8,
        foreground: args.foreground,
        supervise: false,
        log: args.log,
    };
    super::mount::start_supervised(&wish).map_err(|failure| match failure.exit {
        // Nobody else says it to whoever watches.
        Exit::LastCommit if wish.foreground => failure,
        // Whoever waits for the start has been told.
        exit => Failure::new(exit, ""),
    })
}

/// Mounts `image` on `dir`, both absolute, again and again until the mount is ended in order.
pub fn run(wish: &Wish, image: &Path, dir: &Path, starter: Starter) -> Result<(), Failure> {
    let log = wish.log.as_ref();
    let log = log.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    daemon::leave_directory();
    let signals = Signals::new([SIGCHLD, SIGTERM, SIGINT, SIGHUP]);
    let mut supervisor = Supervisor {
        wish,
        image,
        dir,
        log,
        signals: match signals {
            Ok(signals) => signals,
            Err(why) => {
                let failure = Failure::failed(format!("can't watch for signals: {why}"));
                starter.fail(&failure);
                return Err(failure);
            }
        },
        crashes: Vec::new(),
        ends: false,
    };
    let mut pid = match supervisor.start() {
        Ok(pid) => pid,
        Err(failure) => {
            starter.fail(&failure);
            return Err(failure);
        }
    };
    if starter.is_daemon()
        && let Err(why) = daemon::leave_terminal()
    {
        log::warn!("can't let go of the terminal: {why}");
    }
    starter.ready();
    loop {
        let status = supervisor.wait(pid)?;
        if !supervisor.is_to_be_restarted(status)? {
            return ended(status);
        }
        pid = supervisor.restart()?;
    }
}

struct Supervisor<'a> {
    wish: &'a Wish,
    image: &'a Path,
    dir: &'a Path,
    log: Option<PathBuf>,
    signals: Signals,
    /// When the daemon crashed, of late.
    crashes: Vec<Instant>,
    /// Somebody wants the end.
    ends: bool,
}

impl Supervisor<'_> {
    /// Starts a daemon and waits until it answers.
    fn start(&self) -> Result<Pid, Failure> {
        let failed = |what: &str, why: io::Error| Failure::failed(format!("can't {what}: {why}"));
        let (news, writer) = io::pipe().map_err(|why| failed("make a pipe", why))?;
        // The same program, also where the file has been replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("supervised").args([self.image, self.dir]);
        for list in &self.wish.options {
            command.arg("-o").arg(list);
        }
        for (is, option) in [
            (self.wish.foreground, "-f"),
            (self.wish.sloppy, "-s"),
            (self.wish.from_mount8, "--from-mount8"),
        ] {
            if is {
                command.arg(option);
            }
        }
        if let Some(log) = &self.log {
            command.arg("--log").arg(log);
        }
        // A terminal's Ctrl-C is for us alone, and handed on once: the daemon takes a second one for
        // impatience.
        command.stdin(Stdio::from(writer)).process_group(0);
        let child = command
            .spawn()
            .map_err(|why| failed("start a daemon", why))?;
        // Our end of the pipe, or its end would never be seen.
        drop(command);
        let pid = Pid::from_child(&child);
        Child::new(pid, news).wait_until_ready()?;
        Ok(pid)
    }

    /// Waits for the daemon's end, and hands on what we are told.
    fn wait(&mut self, pid: Pid) -> Result<WaitStatus, Failure> {
        loop {
            match waitpid(Some(pid), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => return Ok(status),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(why) => return Err(Failure::failed(format!("lost the daemon: {why}"))),
            }
            // It may have ended just before; then its SIGCHLD is among these.
            for signal in self.signals.wait() {
                let signal = match signal {
                    SIGTERM => Signal::TERM,
                    SIGINT => Signal::INT,
                    SIGHUP => Signal::HUP,
                    _ => continue,
                };
                self.ends = true;
                // Gone already, perhaps.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Whether the mount is still to be there, and only its daemon isn't.
    fn is_to_be_restarted(&mut self, status: WaitStatus) -> Result<bool, Failure> {
        // Ended in order, perhaps by a signal of its own; what is mounted in it may have kept its mount
        // in the tree.
        const IN_ORDER: [i32; 2] = [0, Exit::LastCommit as i32];
        if status
            .exit_status()
            .is_some_and(|code| IN_ORDER.contains(&code))
        {
            return Ok(false);
        }
        let is_ours = match mountinfo::at(self.dir)? {
            At::Ours(mount) => mount.source == self.image && ask::is_dead(self.dir),
            At::Covered(_) => {
                log::error!(
                    "the daemon of {} {}; it isn't started again, as something is mounted over it",
                    self.dir.display(),
                    how(status)
                );
                return Ok(false);
            }
            At::Nothing => false,
        };
        if !is_ours {
            return Ok(false);
        }
        log::error!(
            "the daemon of {} {}: what wasn't durable is lost, and files that were open must be \
             opened again",
            self.dir.display(),
            how(status)
        );
        if !self.may_crash_again() {
            return Ok(false);
        }
        for signal in self.signals.pending() {
            self.ends |= signal != SIGCHLD;
        }
        if self.ends {
            self.clear()?;
        }
        Ok(!self.ends)
    }

    /// Notes a crash; whether it is one that another start may mend.
    fn may_crash_again(&mut self) -> bool {
        self.crashes.retain(|crash| crash.elapsed() < WINDOW);
        self.crashes.push(Instant::now());
        if self.crashes.len() < CRASHES_MAX {
            return true;
        }
        log::error!(
            "{} crashes within {} s: {} isn't mounted again; `umount -l {}` clears what is left",
            self.crashes.len(),
            WINDOW.as_secs(),
            self.image.display(),
            self.dir.display()
        );
        false
    }

    /// Takes the dead mount out of the tree.
    fn clear(&self) -> Result<(), Failure> {
        umount::detach(self.dir, true)?;
        utab::forget(self.dir, 0);
        Ok(())
    }

    fn restart(&mut self) -> Result<Pid, Failure> {
        let crashed = Instant::now();
        self.clear()?;
        loop {
            match self.start() {
                Ok(pid) => {
                    log::warn!(
                        "{} is mounted on {} again, {:.2} s after the crash",
                        self.image.display(),
                        self.dir.display(),
                        crashed.elapsed().as_secs_f64()
                    );
                    return Ok(pid);
                }
                Err(failure) if failure.exit == Exit::Busy && crashed.elapsed() < LOCKED => {
                    thread::sleep(LOOK);
                }
                // Before it answered, and perhaps after it had mounted.
                Err(failure) if failure.exit == Exit::Bug && self.may_crash_again() => {
                    log::error!("{failure}");
                    if matches!(mountinfo::at(self.dir), Ok(At::Ours(_))) && ask::is_dead(self.dir)
                    {
                        self.clear()?;
                    }
                }
                Err(failure) => {
                    log::error!("{} can't be mounted again: {failure}", self.image.display());
                    return Err(failure);
                }
            }
        }
    }
}

fn how(status: WaitStatus) -> String {
    match (status.terminating_signal(), status.exit_status()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, code) => format!("ended with code {}", code.unwrap_or_default()),
    }
}

/// The daemon's outcome is ours. It has said why.
fn ended(status: WaitStatus) -> Result<(), Failure> {
    match status.exit_status() {
        Some(0) => Ok(()),
        Some(code) => {
            let exit = Exit::from_number(u8::try_from(code).unwrap_or(Exit::Bug as u8));
            Err(Failure::new(exit, ""))
        }
        None => Err(Failure::new(
            Exit::LastCommit,
            format!("the daemon {}, and isn't started again", how(status)),
        )),
    }
}
