//! btrfuse: real btrfs images through FUSE, on a copy-on-write B-tree engine whose tree blocks
//! live in a refcounted extent-buffer cache; and a lab for the races of that cache.
//!
//! Layers, lowest first; a folder names only folders before it:
//! `units, error, sync < ondisk < volume < extent_buffer < allocator < transaction < btree <
//! commit < fs < fuse < lab < cli`. `ARCHITECTURE.md` has the map.

#[cfg(any(
    all(feature = "owned", feature = "unfixed"),
    all(feature = "owned", feature = "handshake"),
    all(feature = "unfixed", feature = "handshake"),
))]
compile_error!(
    "choose one lifetime protocol: `cargo build --release` is owned, \
     `cargo build --release --no-default-features --features unfixed` or `handshake` the others"
);
#[cfg(not(any(feature = "owned", feature = "unfixed", feature = "handshake")))]
compile_error!(
    "no lifetime protocol chosen: add `--features owned`, `--features handshake` or \
     `--features unfixed`"
);

#[cfg(not(btrfuse_model))]
pub mod allocator;
#[cfg(not(btrfuse_model))]
pub mod btree;
// Miri's own C library knows ioctl numbers of another type, and it can't follow system calls.
#[cfg(not(any(btrfuse_model, btrfuse_shuttle, miri)))]
pub mod cli;
#[cfg(not(btrfuse_model))]
pub mod commit;
pub mod error;
pub mod extent_buffer;
#[cfg(not(any(btrfuse_model, btrfuse_shuttle)))]
pub mod fs;
#[cfg(not(any(btrfuse_model, btrfuse_shuttle)))]
pub mod fuse;
#[cfg(not(any(btrfuse_model, miri)))]
pub mod lab;
#[cfg(not(btrfuse_model))]
pub mod ondisk;
pub mod sync;
#[cfg(not(btrfuse_model))]
pub mod transaction;
pub mod units;
#[cfg(not(btrfuse_model))]
pub mod volume;

pub use error::{Error, Result};
