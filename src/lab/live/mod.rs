//! The race on live mounts: builds or protocols side by side under the same workload.
//!
//! * [`plan`]: who is compared, how, and what a run is made of.
//! * [`mount`]: a daemon in a process of its own, and its log.
//! * [`place`]: the files of a run.
//! * [`again`]: the command line that makes a run again.
//! * [`run`]: one image from mkfs to the judges.
//! * [`judges`]: `btrfs check`, the kernel, and the workload's memory of what was written.
//! * [`check`]: `btrfs check`, and what of it is a false alarm.
//! * [`children`]: how all programs are started, so that a Ctrl-C is the lab's alone.
//! * [`campaign`]: the same seeds for all, interleaved, until time or patience is over.
//! * [`report`]: sums, medians, survival curves.
//! * [`text`]: the same for a terminal.

pub mod again;
pub mod campaign;
mod check;
pub mod children;
pub mod judges;
pub mod mount;
mod place;
pub mod plan;
pub mod report;
pub mod run;
mod text;
