//! Where the log goes: stderr, a file, or syslog.
//!
//! Owns: the process's one logger. `RUST_LOG` (as `env_logger` reads it) chooses the detail;
//! without it warnings and the engine's own notes are shown.

use super::Failure;
use log::{Level, Log};
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
    log::set_boxed_logger(Box::new(logger) as Box<dyn Log>)
        .map_err(|_| Failure::new(super::Exit::Bug, "the logger was started twice"))
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
