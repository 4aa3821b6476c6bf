//! Space in memory: block groups, their free ranges, reservations, devices' unallocated bytes.
//!
//! Owns: which logical byte belongs to whom while the filesystem is mounted. Never: reads or
//! changes a tree; the commit loads it and writes its decisions down. Invariant, for every
//! group: `len = used + reserved + pinned + superblocks + free`.
//!
//! The life of a range: *free* → (`alloc_*`) *reserved* → (its delayed ref runs) *used* →
//! (the last reference goes) *pinned* → (the superblock is durable) *free*. A tree block that
//! was never written goes from *reserved* straight back to *free*.

mod chunk;
mod chunk_space;
mod device_space;
mod estimate;
mod free_ranges;
mod group;
mod kind;
mod pinned;
mod reserve;
mod space;
mod state;
mod statfs;
mod superblocks;
mod trim;

pub use chunk::NewChunk;
pub use chunk_space::EmptyGroup;
pub use device_space::DeviceSpace;
pub use free_ranges::FreeRanges;
pub use group::{BlockGroup, GroupUsage};
pub use kind::{Kind, Profile, TreeSpace};
pub use pinned::PinnedSet;
pub use reserve::{DataReservation, FREED_WHEN_FULL, MetaReservation, Reclaim, Steal};
pub use space::{MapChunk, Space, SpaceConfig};
pub use statfs::{PoolNumbers, SpaceNumbers};
pub use superblocks::superblock_ranges;
