//! From logical addresses to bytes on devices.
//!
//! Owns: devices and their locks, the chunk map, superblock copies, mirrors. Knows no trees;
//! what a block means is told by the closure that verifies it.

mod chunk_map;
mod device;
mod faulty_device;
mod file_device;
mod image_lock;
mod lease;
mod member;
mod memory_device;
mod stripes;
mod superblocks;
mod sysfs;
#[expect(
    clippy::module_inception,
    reason = "the file of the type that gives the layer its name"
)]
mod volume;

pub use chunk_map::{ChunkMap, ChunkMapping, Extent, profile};
pub use device::BlockDevice;
pub use faulty_device::{Calls, Fault, FaultyDevice};
pub use file_device::FileDevice;
pub use image_lock::{ImageLock, lock_holders};
pub use member::DeviceErrors;
pub use memory_device::MemoryDevice;
pub use volume::Volume;

#[cfg(test)]
mod tests;
