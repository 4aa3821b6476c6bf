//! States of an image that only another program can bring to an end.
//!
//! Owns: finding them in open trees; [`unfinished`] has the words.

use super::engine::OpenOptions;
use super::roots::NamedRoots;
use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::ondisk::gates::Reason;
use crate::ondisk::{Superblock, unfinished};

/// A log tree must be replayed before anything else is done; only the last commit can be shown.
pub(super) fn check_log(superblock: &Superblock, options: &OpenOptions) -> Result<()> {
    if superblock.log_root.get() == 0 || (options.read_only && options.nologreplay) {
        return Ok(());
    }
    Err(Error::Unsupported(
        "the image has a log tree (it was not unmounted cleanly), which can't be replayed yet: \
         mount it once with the Linux kernel, or use -o ro,nologreplay to see the last commit"
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
