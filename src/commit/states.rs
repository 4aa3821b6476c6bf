//! States of an image that only another program can bring to an end.
//!
//! Owns: finding them, and saying in words what the user can do.

use super::engine::OpenOptions;
use super::roots::NamedRoots;
use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::ondisk::{
    DEV_REPLACE_STATE_STARTED, DEV_REPLACE_STATE_SUSPENDED, DevReplaceItem, Key, Superblock, ids,
    kind,
};

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
pub(super) fn forbids_writing(ctx: &TreeContext, named: &NamedRoots) -> Result<Option<String>> {
    let balance = Key::new(ids::BALANCE_OBJECTID, kind::TEMPORARY_ITEM, 0);
    if ctx.get(&named.root, &balance)?.is_some() {
        return Ok(Some(
            "a balance is under way: let the Linux kernel finish or cancel it \
             (btrfs balance resume or cancel)"
                .into(),
        ));
    }
    let relocation = Key::new(ids::TREE_RELOC_OBJECTID, 0, 0);
    let cursor = ctx.search(&named.root, &relocation)?;
    if cursor
        .key()
        .is_some_and(|key| key.objectid == ids::TREE_RELOC_OBJECTID)
    {
        return Ok(Some(
            "a relocation was interrupted: mount it once with the Linux kernel".into(),
        ));
    }
    let replace = ctx.get(&named.dev, &Key::new(0, kind::DEV_REPLACE, 0))?;
    let state = replace
        .as_deref()
        .and_then(DevReplaceItem::read)
        .map(|it| it.replace_state.get());
    if matches!(
        state,
        Some(DEV_REPLACE_STATE_STARTED | DEV_REPLACE_STATE_SUSPENDED)
    ) {
        return Ok(Some(
            "a device replacement is under way: let the Linux kernel finish or cancel it \
             (btrfs replace)"
                .into(),
        ));
    }
    Ok(None)
}
