//! The mount: FUSE requests in, [`crate::fs`] calls out.
//!
//! The only folder that names `fuser`. Nothing here knows trees or extents; nothing below
//! knows FUSE. [`Session`] mounts and serves, `dispatch.rs` translates requests one by one,
//! [`control`] is how a command reaches the daemon, [`subvolumes`] how it asks for those.

mod adapter;
mod answer;
mod changes;
pub mod control;
mod convert;
mod dispatch;
mod fusermount;
mod guard;
mod hand_over;
mod handles;
mod ioctls;
mod late_errors;
mod mount_id;
mod negotiate;
mod process;
mod seeks;
mod session;
pub mod subvolumes;

pub use adapter::Adapter;
pub use fusermount::unmount as unmount_as_user;
pub use hand_over::HandOver;
pub use mount_id::MountId;
pub use session::{Access, Point, Session, Unmounter, default_threads};
