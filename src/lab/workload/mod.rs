//! A workload like fsstress that knows what must come of it: the `btrfuse stress` command, and
//! what `btrfuse lab live` runs.
//!
//! * [`spec`]: a run and its result. [`mix`]: how often what. [`features`], [`probe`]: what the
//!   filesystem can do and its user may.
//! * [`invent`], [`batch`], [`brawl`]: what a process does next, from its seed.
//! * [`operation`], [`perform`], [`mapping`], [`ways`], [`subvolume`]: the system calls.
//! * [`model`], [`content`], [`stamp`], [`verdict`], [`judge`]: what must be answered and be there.
//! * [`worker`], [`conductor`], [`log`], [`folder`], [`name`]: processes, their news and files.
//!
//! Works on any mounted directory; nothing in here knows btrfuse's engine.

pub mod batch;
pub mod brawl;
pub mod conductor;
pub mod content;
pub mod features;
pub mod folder;
pub mod invent;
pub mod judge;
pub mod log;
pub mod mapping;
pub mod mix;
pub mod model;
pub mod name;
pub mod operation;
pub mod perform;
pub mod probe;
pub mod rng;
pub mod spec;
pub mod stamp;
pub mod subvolume;
pub mod verdict;
pub mod ways;
pub mod worker;
