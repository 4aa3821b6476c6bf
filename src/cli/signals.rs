//! How the daemon ends when it is asked to by a signal, and what a panic leaves in the log.
//!
//! SIGINT, SIGTERM and SIGHUP unmount. If programs still use the mount it is detached, what
//! they wrote is committed at once, and they get a little time; after that, or at a second
//! signal, the last commit is made under them, with all that they have written, and they see the
//! mount gone. Never: a mount of somebody else's, be it over ours or below it.

use super::ending::Ending;
use super::{Exit, Failure};
use crate::fuse::Unmounter;
use crate::sync::{Arc, thread};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::time::{Duration, Instant};

/// How long programs that still use the mount may go on after the first signal.
const GRACE: Duration = Duration::from_secs(10);

/// Starts the thread that waits for signals.
pub fn watch(unmounter: Unmounter, ending: Arc<Ending>) -> Result<(), Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|why| Failure::failed(format!("can't watch for signals: {why}")))?;
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                if !ending.is_session_over() {
                    log::info!("signal {signal}: unmounting {}", unmounter.dir().display());
                    leave(&unmounter, &ending, &mut signals_pending());
                    return;
                }
            }
        })
        .map(drop)
        .map_err(|why| Failure::failed(format!("can't start a thread: {why}")))
}

/// A second set of the same signals, to see the impatient second one.
fn signals_pending() -> Option<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP]).ok()
}

fn leave(unmounter: &Unmounter, ending: &Ending, again: &mut Option<Signals>) {
    let dir = unmounter.dir().display();
    // What the kernel's page cache holds reaches the daemon before the mount goes.
    if unmounter.is_on_top()
        && let Ok(dir) = super::ask::open(unmounter.dir())
    {
        let _ = rustix::fs::syncfs(&dir);
    }
    let mut away = unmounter.unmount();
    if away.is_ok() && until_over(ending, Duration::from_millis(500), again) {
        return;
    }
    if away.is_err() {
        away = unmounter.detach();
    }
    match &away {
        Ok(()) => log::warn!(
            "{dir} is still in use; it is detached, and ends in {} s",
            GRACE.as_secs()
        ),
        Err(why) => log::warn!(
            "{dir} can't be unmounted: {why}; it ends in {} s all the same",
            GRACE.as_secs()
        ),
    }
    if let Err(error) = ending.sync() {
        log::error!("the commit before the end failed: {error}");
    }
    if until_over(ending, GRACE, again) {
        return;
    }
    if away.is_err() {
        // What was in the way may be gone, and a dead mount is no use to anybody.
        let _ = unmounter.detach();
    }
    if until_over(ending, Duration::ZERO, &mut None) {
        return;
    }
    // The programs stay; their filesystem goes. Requests that come after the commit fail.
    log::warn!("ending while programs still use {dir}");
    ending.gather();
    let code = match ending.reach(Ok(())) {
        Ok(()) => 0,
        Err(words) => {
            if !ending.in_background {
                log::error!("{}: {words}", ending.image.display());
            }
            Exit::LastCommit as i32
        }
    };
    std::process::exit(code);
}

/// Waits until the session has ended. False after `patience` or at another signal.
fn until_over(ending: &Ending, patience: Duration, again: &mut Option<Signals>) -> bool {
    let start = Instant::now();
    loop {
        if ending.is_session_over() {
            return true;
        }
        let impatient = again
            .as_mut()
            .is_some_and(|signals| signals.pending().next().is_some());
        if impatient || start.elapsed() >= patience {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Panics go to the log, with the place and a backtrace: a daemon has no stderr.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed").to_owned();
        let trace = std::backtrace::Backtrace::force_capture();
        log::error!("bug: thread {name}: {panic}\n{trace}");
    }));
}
