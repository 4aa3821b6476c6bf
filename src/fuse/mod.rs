//! The mount: FUSE requests in, [`crate::fs`] calls out.
//!
//! The only folder that names `fuser`. Nothing here knows trees or extents; nothing below
//! knows FUSE.

pub mod control;
