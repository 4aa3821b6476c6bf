//! Around every request: a panic becomes `EIO` and a log line, never a dead mount; errors that
//! an administrator must know are logged, but can't flood the log.

use super::convert;
use crate::error::{Error, Result};
use crate::sync::Mutex;
use fuser::Errno;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Runs requests and reports what went wrong with them.
#[derive(Debug, Default)]
pub struct Guard {
    limit: Mutex<Limit>,
}

impl Guard {
    /// Runs one request's work. `name` is the FUSE operation.
    pub fn run<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T, Errno> {
        // Unwind safety: the engine's locks don't poison; what a panic can leave half done
        // belongs to the running transaction, and its handle aborts that when it is unwound.
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                self.report(name, &error);
                Err(convert::errno(&error))
            }
            Err(panic) => {
                log::error!("bug: {name} panicked: {}; answered EIO", words(&*panic));
                Err(Errno::EIO)
            }
        }
    }

    fn report(&self, name: &str, error: &Error) {
        match error {
            Error::Corrupt(_) | Error::Device { .. } | Error::NoGoodCopy(_) => {
                match self.limit.lock().take(Instant::now()) {
                    Verdict::Say => log::error!("{name}: {error}"),
                    Verdict::SayLast => {
                        log::error!("{name}: {error}; more errors like this aren't logged for now");
                    }
                    Verdict::Hush => {}
                }
            }
            _ => log::debug!("{name}: {error}"),
        }
    }
}

/// What a panic said.
pub fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

const WINDOW: Duration = Duration::from_secs(10);
const LINES_MAX: u32 = 20;

/// At most [`LINES_MAX`] lines in a [`WINDOW`].
#[derive(Debug, Default)]
struct Limit {
    start: Option<Instant>,
    lines: u32,
}

enum Verdict {
    Say,
    SayLast,
    Hush,
}

impl Limit {
    fn take(&mut self, now: Instant) -> Verdict {
        if self
            .start
            .is_none_or(|start| now.duration_since(start) > WINDOW)
        {
            *self = Self {
                start: Some(now),
                lines: 0,
            };
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..LINES_MAX => Verdict::Say,
            LINES_MAX => Verdict::SayLast,
            _ => Verdict::Hush,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_answered_with_eio() {
        let guard = Guard::default();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let answer = guard.run("lookup", || -> Result<()> { panic!("index 7") });
        std::panic::set_hook(hook);
        assert_eq!(answer.unwrap_err().code(), libc::EIO);
    }

    #[test]
    fn errors_keep_their_errno() {
        let guard = Guard::default();
        assert_eq!(
            guard
                .run("rmdir", || Err::<(), _>(Error::NotEmpty))
                .unwrap_err()
                .code(),
            libc::ENOTEMPTY
        );
        assert!(guard.run("rmdir", || Ok(())).is_ok());
    }

    #[test]
    fn the_log_is_not_flooded() {
        let mut limit = Limit::default();
        let start = Instant::now();
        let said = |limit: &mut Limit, at| !matches!(limit.take(at), Verdict::Hush);
        assert_eq!(
            (0..100).filter(|_| said(&mut limit, start)).count(),
            LINES_MAX as usize
        );
        assert!(said(&mut limit, start + WINDOW * 2));
    }
}
