//! Named places where the lab can hold or delay a thread.
//!
//! Owns: the names, and the hook that a lab build calls there. Never: a cost in other builds,
//! where [`race_point`] is an empty inline function.
//!
//! The places are the windows of the extent-buffer lifetime rules (`docs/extent-buffer.md`):
//! wherever a decision has been made from something that another thread may still change.

use std::fmt;
use std::str::FromStr;

macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A window in the life of an extent buffer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Point {
            $($(#[$doc])* $variant,)*
        }

        impl Point {
            /// Every point, in the order of a buffer's life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that `-o delay=NAME:µs` and reports use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

points! {
    /// A lookup found a candidate in the index and has not counted itself yet.
    LookupFound = "lookup-found",
    /// A lookup has counted itself; STALE and the tree ref are still to be looked at.
    LookupCounted = "lookup-counted",
    /// A lookup saw STALE and has not taken `refs_lock` yet.
    LookupStale = "lookup-stale",
    /// A lookup that saw STALE finds `refs_lock` taken and is about to wait for it.
    LookupWaits = "lookup-waits",
    /// A lookup is done with the protocol and owns its count.
    LookupDone = "lookup-done",
    /// A buffer is about to become dirty.
    BeforeDirty = "before-dirty",
    /// A holder is about to drop its count.
    DropEnter = "drop-enter",
    /// A dropper has found itself alone with a stale buffer that isn't under IO, and has not
    /// cleared the tree ref yet.
    DropTested = "drop-tested",
    /// The same in the drop that makes a buffer stale.
    StaleTested = "stale-tested",
    /// STALE is set and the count not yet read.
    StaleSet = "stale-set",
    /// Reclaim has found a buffer unused and not under IO, and has not cleared its tree ref yet.
    ReclaimTested = "reclaim-tested",
    /// Write-out is between DIRTY and WRITEBACK: a look from outside may see neither or both.
    WritebackBegins = "writeback-begins",
    /// A drop is over.
    DropDone = "drop-done",
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Point {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|point| point.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|point| point.name()).collect();
                format!(
                    "no delay point is called {name}; there are {}",
                    names.join(", ")
                )
            })
    }
}

/// A buffer as the lab sees it: its address, its count and its flags, as of just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which block.
    pub bytenr: u64,
    /// How many counts.
    pub refs: u32,
    /// The flags, in the bits of `extent_buffer::flags`.
    pub flags: u32,
}

/// Tells the lab that the calling thread stands at `point` of a buffer.
#[cfg(not(all(feature = "race-lab", not(btrfuse_model))))]
#[inline(always)]
pub fn race_point(_point: Point, _seen: impl FnOnce() -> Seen) {}

/// Tells the lab what the calling thread has just done to a buffer.
#[cfg(not(all(feature = "race-lab", not(btrfuse_model))))]
#[inline(always)]
pub fn race_step(_words: &'static str, _seen: impl FnOnce() -> Seen) {}

#[cfg(all(feature = "race-lab", not(btrfuse_model)))]
pub use lab::{Delay, RaceHook, install_delays, install_hook, race_point, race_step, remove_hook};

#[cfg(all(feature = "race-lab", not(btrfuse_model)))]
mod lab {
    use super::{Point, Seen};
    use std::str::FromStr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use std::time::Duration;

    use parking_lot::RwLock;

    /// What a lab does with threads; they go on when these return.
    pub trait RaceHook: Send + Sync {
        /// The calling thread stands at `point` of the buffer.
        fn reached(&self, point: Point, seen: Seen);

        /// The calling thread has just done something to the buffer.
        fn done(&self, words: &'static str, seen: Seen);
    }

    static INSTALLED: AtomicBool = AtomicBool::new(false);
    static HOOK: RwLock<Option<Arc<dyn RaceHook>>> = RwLock::new(None);
    static DELAYS_US: [AtomicU32; Point::ALL.len()] =
        [const { AtomicU32::new(0) }; Point::ALL.len()];

    /// Tells the lab that the calling thread stands at `point` of a buffer.
    #[inline]
    pub fn race_point(point: Point, seen: impl FnOnce() -> Seen) {
        // Relaxed: a point reached while a hook is being installed may miss it.
        if INSTALLED.load(Ordering::Relaxed) {
            stand_at(point, seen());
        }
    }

    /// Tells the lab what the calling thread has just done to a buffer.
    #[inline]
    pub fn race_step(words: &'static str, seen: impl FnOnce() -> Seen) {
        // Relaxed: as above.
        if INSTALLED.load(Ordering::Relaxed)
            && let Some(hook) = HOOK.read().clone()
        {
            hook.done(words, seen());
        }
    }

    #[cold]
    fn stand_at(point: Point, seen: Seen) {
        let hook = HOOK.read().clone();
        if let Some(hook) = hook {
            hook.reached(point, seen);
        }
        // Relaxed: a plain number, nothing is published with it.
        let delay_us = DELAYS_US[point as usize].load(Ordering::Relaxed);
        if delay_us > 0 {
            std::thread::sleep(Duration::from_micros(u64::from(delay_us)));
        }
    }

    /// Makes every thread that reaches a point call `hook` first. One at a time; the last wins.
    pub fn install_hook(hook: Arc<dyn RaceHook>) {
        *HOOK.write() = Some(hook);
        INSTALLED.store(true, Ordering::Relaxed);
    }

    /// Takes the hook out again. Threads inside it finish their call.
    pub fn remove_hook() {
        *HOOK.write() = None;
    }

    /// `POINT:µs`, the value of the mount option `delay=`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Delay {
        /// Where threads sleep.
        pub point: Point,
        /// For how long.
        pub delay_us: u32,
    }

    impl FromStr for Delay {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            let (point, micros) = text
                .split_once(':')
                .ok_or_else(|| format!("{text}: delay is POINT:µs"))?;
            let delay_us = micros
                .trim_end_matches("us")
                .trim_end_matches("µs")
                .parse()
                .map_err(|_| format!("{micros}: a delay is a whole number of microseconds"))?;
            Ok(Self {
                point: point.parse()?,
                delay_us,
            })
        }
    }

    /// Makes threads sleep at points, from now on and for the whole process.
    pub fn install_delays(delays: &[Delay]) {
        for delay in delays {
            DELAYS_US[delay.point as usize].store(delay.delay_us, Ordering::Relaxed);
        }
        INSTALLED.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_found_by_its_name() {
        for point in Point::ALL {
            assert_eq!(point.name().parse::<Point>().as_ref(), Ok(point));
        }
        let error = "lookup".parse::<Point>().unwrap_err();
        assert!(error.contains("lookup-counted"), "{error}");
    }

    #[cfg(all(feature = "race-lab", not(btrfuse_model)))]
    #[test]
    fn a_delay_is_a_point_and_microseconds() {
        let delay: Delay = "drop-tested:50".parse().unwrap();
        assert_eq!(
            delay,
            Delay {
                point: Point::DropTested,
                delay_us: 50
            }
        );
        assert!("drop-tested".parse::<Delay>().is_err());
        assert!("drop-tested:soon".parse::<Delay>().is_err());
    }
}
