//! The shapes of answers that several requests share.

use super::convert;
use crate::error::Result;
use crate::fs::Attr;
use fuser::{Errno, Generation, ReplyEmpty, ReplyEntry, ReplyXattr};
use std::time::Duration;

/// The daemon is the only writer, so the kernel may believe what it was told for a day.
pub(in crate::fuse) const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// An entry that was found or made.
pub(in crate::fuse) fn entry(reply: ReplyEntry, found: Result<Attr, Errno>) {
    match found {
        Ok(attr) => {
            let (shown, keep) = convert::entry_attr(&attr);
            let attr_ttl = if keep { TTL } else { Duration::ZERO };
            reply.entry_with_ttls(&attr_ttl, &TTL, &shown, Generation(attr.generation));
        }
        Err(errno) => reply.error(errno),
    }
}

/// Nothing but success or failure.
pub(in crate::fuse) fn done(reply: ReplyEmpty, outcome: Result<(), Errno>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// An extended attribute or list of them: its size for a probe, or the bytes if they fit.
pub(in crate::fuse) fn xattr(reply: ReplyXattr, size: u32, found: Result<Vec<u8>, Errno>) {
    match found {
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
        Err(errno) => reply.error(errno),
    }
}
