//! Where the log goes: stderr, a file, or syslog.
//!
//! Owns: the process's one logger. `RUST_LOG` (as `env_logger` reads it) chooses the detail;
//! without it warnings and the engine's own notes are shown.

use super::Failure;
use log::{Level, Log, Metadata, Record};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// The log's destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Foreground programs: lines on stderr.
    Stderr,
    /// `--log FILE`: lines with the time, appended.
    File(PathBuf),
    /// Daemons: `/dev/log`, facility daemon; nowhere when the host has no syslog.
    Syslog,
}

const SYSLOG_SOCKET: &str = "/dev/log";

/// Installs the logger. Called once a process, before threads start.
pub fn start(target: &Target) -> Result<(), Failure> {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(log::LevelFilter::Info);
    // The FUSE library logs each mount and unmount as info, which we say ourselves.
    builder.filter_module("fuser", log::LevelFilter::Warn);
    builder.parse_default_env();
    match target {
        Target::Stderr => {
            builder.format(|out, record| {
                writeln!(out, "btrfuse: {}{}", word(record.level()), record.args())
            });
        }
        Target::File(path) => {
            let file = open_log(path)?;
            builder.target(env_logger::Target::Pipe(Box::new(file)));
            builder.format(|out, record| {
                let time = out.timestamp_micros();
                writeln!(
                    out,
                    "{time} btrfuse[{}] {}{}",
                    std::process::id(),
                    word(record.level()),
                    record.args()
                )
            });
        }
        Target::Syslog => {
            builder.target(env_logger::Target::Pipe(Box::new(Syslog::connect())));
            builder.format(|out, record| {
                // RFC 3164 without a time, which the receiver puts in: facility 3 is daemon.
                let severity = match record.level() {
                    Level::Error => 3,
                    Level::Warn => 4,
                    Level::Info => 6,
                    Level::Debug | Level::Trace => 7,
                };
                let pid = std::process::id();
                write!(
                    out,
                    "<{}>btrfuse[{pid}]: {}",
                    3 * 8 + severity,
                    record.args()
                )
            });
        }
    }
    let logger = builder.build();
    log::set_max_level(logger.filter());
    log::set_boxed_logger(Box::new(Honest(logger)))
        .map_err(|_| Failure::new(super::Exit::Bug, "the logger was started twice"))
}

/// A logger without alarms that are none.
struct Honest(env_logger::Logger);

impl Log for Honest {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !is_answer_too_late(record) {
            return self.0.log(record);
        }
        let metadata = Metadata::builder()
            .level(Level::Debug)
            .target(record.target())
            .build();
        if self.0.enabled(&metadata) {
            let mut late = Record::builder();
            self.0
                .log(&late.metadata(metadata).args(*record.args()).build());
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

/// The kernel has no use for the answer any more. The library answers each FUSE_INTERRUPT (a signal
/// reached a program in a system call), which mostly comes after the answer to the request itself.
fn is_answer_too_late(record: &Record<'_>) -> bool {
    const WORDS: &str = "Failed to send FUSE reply: ";
    record.target().starts_with("fuser") && {
        let words = record.args().to_string();
        let gone = io::Error::from_raw_os_error(libc::ENOENT).to_string();
        words.strip_prefix(WORDS) == Some(gone.as_str())
    }
}

/// Opens (or makes) a log file; also used to refuse a bad `--log` before the daemon starts.
pub fn open_log(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|why| {
            Failure::failed(format!(
                "can't write the log {}: {why}; choose a writable file for --log",
                path.display()
            ))
        })
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    }
}

/// A datagram a record; reconnects after syslogd was restarted, never blocks for long.
struct Syslog(Option<UnixDatagram>);

impl Syslog {
    fn connect() -> Self {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(SYSLOG_SOCKET)?;
            socket.set_write_timeout(Some(std::time::Duration::from_millis(200)))?;
            Ok(socket)
        });
        Self(socket.ok())
    }
}

impl Write for Syslog {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let sent = self.0.as_ref().map(|socket| socket.send(record));
        if !matches!(sent, Some(Ok(_))) {
            *self = Self::connect();
            if let Some(socket) = &self.0 {
                // A record that can't be sent now is lost: the log must not stop the mount.
                let _ = socket.send(record);
            }
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_nobody_waits_for_is_no_error() {
        let is_quiet = |target: &str, words: std::fmt::Arguments<'_>| {
            let record = Record::builder()
                .level(Level::Error)
                .target(target)
                .args(words)
                .build();
            is_answer_too_late(&record)
        };
        let failed = |errno| io::Error::from_raw_os_error(errno);
        let gone = failed(libc::ENOENT);
        assert!(is_quiet(
            "fuser::reply",
            format_args!("Failed to send FUSE reply: {gone}")
        ));
        let broken = failed(libc::EINVAL);
        assert!(!is_quiet(
            "fuser::reply",
            format_args!("Failed to send FUSE reply: {broken}")
        ));
        assert!(!is_quiet(
            "btrfuse::fs",
            format_args!("Failed to send FUSE reply: {gone}")
        ));
        assert!(!is_quiet("fuser::session", format_args!("{gone}")));
    }
}
