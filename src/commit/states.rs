//! States of an image that only another program can bring to an end.
//!
//! Owns: finding them in open trees; [`unfinished`] has the words.

use super::engine::OpenOptions;
use super::roots::NamedRoots;
use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::ondisk::gates::Reason;
use crate::ondisk::{Superblock, unfinished};

/// Whether there is a log tree to be replayed before anything else is done.
///
/// # Errors
/// There is one, and the caller doesn't replay it: only the last commit can be shown.
pub(super) fn log_waits(superblock: &Superblock, options: &OpenOptions) -> Result<bool> {
    if superblock.log_root.get() == 0 || (options.read_only && options.nologreplay) {
        return Ok(false);
    }
    if options.replays_log && !options.nologreplay {
        return Ok(true);
    }
    Err(Error::Unsupported(
        "the image has a log tree (it was not unmounted cleanly), and writing past it would lose \
         what fsync has promised: mount it without nologreplay, or use -o ro,nologreplay to see \
         the last commit"
            .into(),
    ))
}

/// Why this image can be read but not written.
pub(super) fn forbids_writing(ctx: &TreeContext, named: &NamedRoots) -> Result<Option<Reason>> {
    if ctx.get(&named.root, &unfinished::BALANCE_KEY)?.is_some() {
        return Ok(unfinished::in_root_tree(&unfinished::BALANCE_KEY));
    }
    let relocation = ctx.search(&named.root, &unfinished::RELOCATION_KEY)?.key();
    if let Some(reason) = relocation.and_then(|key| unfinished::in_root_tree(&key)) {
        return Ok(Some(reason));
    }
    let replace = ctx.get(&named.dev, &unfinished::REPLACE_KEY)?;
    Ok(replace.and_then(|item| unfinished::in_device_tree(&unfinished::REPLACE_KEY, &item)))
}
