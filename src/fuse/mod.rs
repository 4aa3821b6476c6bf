//! The mount: FUSE requests in, [`crate::fs`] calls out.
//!
//! The only folder that names `fuser`. Nothing here knows trees or extents; nothing below
//! knows FUSE. [`Session`] mounts and serves, [`adapter`] translates requests one by one,
//! [`control`] is how a command reaches the daemon.

mod adapter;
pub mod control;
mod convert;
mod fusermount;
mod groups;
mod guard;
mod handles;
mod negotiate;
mod session;

pub use adapter::Adapter;
pub use fusermount::unmount as unmount_as_user;
pub use session::{Access, Point, Session, Unmounter, default_threads};
