//! The cache of tree blocks and the rules by which a buffer lives: `docs/extent-buffer.md`.
//!
//! * [`lifetime`], [`flags`]: what the rules are made of; [`protocol`]: the rules, one file each.
//! * [`index`]: address to slot, read without a lock; [`slots`]: memory that is never freed.
//! * [`buffer`] (a count), [`guards`] (a lock), [`cache`] (find, insert, free), [`io`] (read and
//!   create), [`write_out`], [`reclaim`] and [`eviction`] (the bound), [`readahead`].
//! * [`violation`], [`events`]: what is said when a rule was broken.

pub mod events;
pub mod flags;
pub mod index;
pub mod lifetime;
pub mod protocol;
#[cfg(any(feature = "race-lab", btrfuse_model, btrfuse_shuttle))]
pub mod scenarios;

// The model build stops here: contents, memory and I/O are no part of what it explores.
#[cfg(not(btrfuse_model))]
pub mod backing;
#[cfg(not(btrfuse_model))]
pub mod buffer;
#[cfg(not(btrfuse_model))]
pub mod cache;
#[cfg(not(btrfuse_model))]
mod eviction;
#[cfg(not(btrfuse_model))]
pub mod guards;
#[cfg(not(btrfuse_model))]
mod io;
#[cfg(not(btrfuse_model))]
mod readahead;
#[cfg(not(btrfuse_model))]
mod reclaim;
#[cfg(not(btrfuse_model))]
mod slots;
#[cfg(not(btrfuse_model))]
pub mod violation;
#[cfg(not(btrfuse_model))]
mod write_out;

#[cfg(not(btrfuse_model))]
pub use buffer::EbRef;
#[cfg(not(btrfuse_model))]
pub use cache::{Cache, CacheConfig};
#[cfg(not(btrfuse_model))]
pub use guards::{ReadGuard, WriteGuard};
pub use protocol::Kind;
#[cfg(all(feature = "race-lab", not(btrfuse_model)))]
pub use readahead::follow_freed;
#[cfg(all(feature = "race-lab", not(btrfuse_model)))]
pub use reclaim::press;
#[cfg(not(btrfuse_model))]
pub use violation::{Broken, Violation, set_again};

#[cfg(all(test, not(btrfuse_model)))]
mod tests;
