//! From logical addresses to bytes on devices.
//!
//! Owns: devices and their locks, the chunk map, superblock copies, mirrors. Knows no trees;
//! what a block means is told by the closure that verifies it.

mod device;
mod faulty_device;
mod file_device;
mod image_lock;
mod memory_device;
mod sysfs;

pub use device::BlockDevice;
pub use faulty_device::{Calls, Fault, FaultyDevice};
pub use file_device::FileDevice;
pub use image_lock::ImageLock;
pub use memory_device::MemoryDevice;
