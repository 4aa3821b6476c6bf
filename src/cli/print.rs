//! Lines for stdout, which may be closed: `btrfuse lab list | head -1`.
//!
//! Invariant: no command panics because nobody reads it. The first refusal is kept for the end
//! of `main`; the command goes on in silence, so that nothing it made or mounted stays behind.

use super::Failure;
use crate::sync::OnceLock;
use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

static REFUSED: OnceLock<std::io::Error> = OnceLock::new();

/// Prints a line; [`say!`] is its macro.
pub fn line(words: Arguments<'_>) {
    if REFUSED.get().is_none()
        && let Err(why) = writeln!(std::io::stdout().lock(), "{words}")
    {
        let _ = REFUSED.set(why);
    }
}

/// The failure of all printing so far. Whoever has read enough is none.
pub fn finish() -> Result<(), Failure> {
    let flushed = std::io::stdout().flush();
    match REFUSED.get().or(flushed.as_ref().err()) {
        Some(why) if why.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("can't write to stdout: {why}")))
        }
        _ => Ok(()),
    }
}

/// `println!` for a stdout that may be closed.
macro_rules! say {
    ($($words:tt)*) => { $crate::cli::print::line(format_args!($($words)*)) };
}
/// `eprintln!` for a stderr that may be closed.
macro_rules! complain {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr().lock(), $($words)*);
    }};
}
pub(crate) use {complain, say};
