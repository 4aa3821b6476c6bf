//! The on-disk format: bytes only, no I/O, no locks.
//!
//! Structs carry the uapi's names in CamelCase (`struct btrfs_inode_item` is [`InodeItem`]) and
//! the uapi's field names; each has `SIZE`, `read`, `read_mut` and `zeroed`. Bytes of a device
//! are hostile: [`check`] judges a tree block once, when it is read and again before it is
//! written; after that the views of [`tree_block`] index freely. The iterators over items with
//! variable parts never panic, checked or not.

mod disk_struct;

pub mod check;
pub mod csum;
pub mod describe;
pub mod gates;
pub mod ids;
pub mod key;
pub mod superblock;
pub mod tree_block;
pub mod unfinished;

mod balance;
mod block_group;
mod chunk;
mod device;
mod dir;
mod extent;
mod file_extent;
mod free_space;
mod inode;
mod quota;
mod root;
mod verity;

pub use balance::*;
pub use block_group::*;
pub use chunk::*;
pub use csum::CsumType;
pub use device::*;
pub use dir::*;
pub use extent::*;
pub use file_extent::*;
pub use free_space::*;
pub use inode::*;
pub use key::{DiskKey, Key, kind};
pub use quota::*;
pub use root::*;
pub use superblock::{RootBackup, Superblock};
pub use verity::*;

/// Little-endian field types and the traits that turn structs to bytes and back. Other layers
/// take them from here.
pub use zerocopy::little_endian::{U16, U32, U64};
pub use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub(crate) use disk_struct::disk_struct;

/// A UUID as the disk holds it.
pub type Uuid = [u8; 16];

/// A UUID in its usual form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
pub fn uuid_words(uuid: &Uuid) -> String {
    let mut words = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            words.push('-');
        }
        words.push_str(&format!("{byte:02x}"));
    }
    words
}

/// Longest file name, in bytes.
pub const NAME_LEN_MAX: usize = 255;
