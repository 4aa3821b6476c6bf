//! The replay of log trees: what fsync had promised becomes part of the subvolumes' trees.
//!
//! A log has items under the keys of its subvolume's tree, for the inodes that were fsynced since the
//! last commit, and ranges of directory indexes for which it has all that there is. Each log is gone
//! through three times, as later items lean on earlier ones of other inodes:
//!
//! | pass | what | where |
//! |---|---|---|
//! | 1 | inode items, and what is gone: attributes, names, content behind the end | `inodes`, `dirs` |
//! | 2 | directory entries | `dirs` |
//! | 3 | attributes, the inodes' own names, content with its checksums | `refs`, `extents` |
//! | end | link counts; what has no name left becomes an orphan | `counts` |
//!
//! Invariant: all of it is one transaction, and nothing is written before its end. So a log that
//! can't be replayed leaves the image as it was. In a read-only mount that transaction is never
//! committed. Never: file data is read or written; it lies where the log says.
//!
//! Space isn't promised first: nobody else is there who could be hindered, and running out of it
//! leaves the image as it was, too.

mod counts;
mod dirs;
mod extents;
mod inodes;
mod links;
mod refs;
mod tree;

use super::inode_ref::ItemLimits;
use super::subvolume;
use crate::commit::Engine;
use crate::error::{Corrupt, Error, Result};
use tree::TreeReplay;

/// Replays every log of the filesystem, and makes the result durable where it may be written.
pub(in crate::fs) fn replay(engine: &Engine, limits: ItemLimits) -> Result<()> {
    let trees = replay_all(engine, limits).map_err(in_words)?;
    match engine.read_only() {
        None => log::info!("the logs of {trees} subvolumes were replayed"),
        Some(_) => log::info!(
            "the logs of {trees} subvolumes were replayed in memory; the image keeps them"
        ),
    }
    Ok(())
}

fn replay_all(engine: &Engine, limits: ItemLimits) -> Result<usize> {
    let ctx = &*engine.ctx;
    let mut log = engine.read_log()?;
    let trees = std::mem::take(&mut log.trees);
    let trans = ctx.transactions.join()?;
    for tree in &trees {
        let replayed = match subvolume::open(ctx, tree.subvolume) {
            Ok(root) => {
                TreeReplay::new(ctx, &engine.csums, &trans, limits, root, tree).run(&mut log)
            }
            Err(Error::NotFound) => {
                log::info!("subvolume {} is gone, and with it its log", tree.subvolume);
                Ok(())
            }
            Err(error) => Err(error),
        };
        replayed.map_err(|error| trans.abort(error))?;
    }
    drop(trans);
    engine.log_replayed(log)?;
    Ok(trees.len())
}

/// What the log contradicts itself or the trees in is corruption, whoever noticed it.
fn in_words(error: Error) -> Error {
    const WHAT: &str = "the log tree can't be replayed";
    const HINT: &str = "nothing was written; -o ro,nologreplay shows the last commit";
    match error {
        Error::Corrupt(Corrupt { at, slot, reason }) => Error::Corrupt(Corrupt {
            at,
            slot,
            reason: format!("{WHAT}: {reason}; {HINT}"),
        }),
        Error::NoGoodCopy(words) => Error::NoGoodCopy(format!("{WHAT}: {words}; {HINT}")),
        Error::NoSpace | Error::Aborted(_) | Error::ReadOnly(_) | Error::Device { .. } => {
            log::error!("{WHAT}: {error}; {HINT}");
            error
        }
        other => Error::corrupt(format!("{WHAT}: {other}; {HINT}")),
    }
}
