//! What each thread of a play does, and what must come of it.

use super::Scene;
use crate::error::{Error, Result};
use crate::lab::stage::INODE_STEP;
use crate::ondisk::check::Expect;
use crate::ondisk::ids::FIRST_FREE_OBJECTID;
use crate::ondisk::key::{Key, kind};

/// An item kind without a meaning, which the checker lets pass.
pub(super) const ITEM: u8 = 253;
/// So long that a few fill a leaf.
const ITEM_BYTES: usize = 700;
/// Two or three leaves of them.
pub(super) const ITEMS: u64 = 12;
/// Inodes that a walk looks at: those around a writer's items.
const WALKED: u64 = 40;

/// The `n`th item of a writer: between two inodes, so that it has leaves of its own.
pub(super) fn key(writer: u64, n: u64) -> Key {
    let inode = FIRST_FREE_OBJECTID + super::INODES / 4 * writer * INODE_STEP;
    Key::new(inode + n, ITEM, 0)
}

pub(super) fn contents(writer: u64, n: u64) -> Vec<u8> {
    vec![(writer * 16 + n) as u8; ITEM_BYTES]
}

pub(super) fn nothing_more(_: &Scene) -> Result<()> {
    Ok(())
}

/// Comes by the leaf on its path, and lets it go at last.
pub(super) fn hold_path(scene: &Scene) -> Result<()> {
    let stage = &scene.stage;
    drop(stage.ctx().search(&stage.root, &stage.victim.first)?);
    Ok(())
}

/// Deletes everything in a leaf, which frees it.
pub(super) fn empty_leaf(scene: &Scene) -> Result<()> {
    let stage = &scene.stage;
    let trans = stage.ctx().transactions.join()?;
    let range = stage.victim.first..=stage.victim.last;
    stage.ctx().delete_range(&trans, &stage.root, range)?;
    Ok(())
}

/// Inserts into a full leaf, which splits, and is given an address.
pub(super) fn split_leaf(scene: &Scene) -> Result<()> {
    scene.stage.insert_splitter()
}

/// Fills leaves and empties them, twice.
pub(super) fn churn(scene: &Scene, writer: u64) -> Result<()> {
    let stage = &scene.stage;
    for _ in 0..2 {
        let trans = stage.ctx().transactions.join()?;
        for n in 1..=ITEMS {
            let data = contents(writer, n);
            stage
                .ctx()
                .insert(&trans, &stage.root, &key(writer, n), &data)?;
        }
        let range = key(writer, 1)..=key(writer, ITEMS);
        let gone = stage.ctx().delete_range(&trans, &stage.root, range)?;
        if gone != ITEMS {
            return Err(Error::corrupt(format!(
                "{gone} of {ITEMS} items were there"
            )));
        }
    }
    Ok(())
}

/// Inserts, each item in a transaction that may be another.
pub(super) fn write(scene: &Scene, writer: u64) -> Result<()> {
    let stage = &scene.stage;
    for n in 1..=ITEMS {
        let trans = stage.ctx().transactions.join()?;
        let data = contents(writer, n);
        stage
            .ctx()
            .insert(&trans, &stage.root, &key(writer, n), &data)?;
    }
    Ok(())
}

/// What [`write`] wrote is there.
pub(super) fn written(scene: &Scene, writer: u64) -> Result<()> {
    let stage = &scene.stage;
    for n in 1..=ITEMS {
        let found = stage.ctx().get(&stage.root, &key(writer, n))?;
        if found != Some(contents(writer, n)) {
            let words = format!("item {n} of writer {writer} isn't as it was written");
            return Err(Error::corrupt(words));
        }
    }
    Ok(())
}

pub(super) fn commit(scene: &Scene) -> Result<()> {
    scene.stage.engine.committer.commit()
}

/// Sees each inode that was there from the start once, in order, whatever comes and goes between.
pub(super) fn walk(scene: &Scene) -> Result<()> {
    let stage = &scene.stage;
    let first = Key::new(key(1, 0).objectid, kind::INODE_ITEM, 0);
    let mut cursor = stage.ctx().search(&stage.root, &first)?;
    let (mut seen, mut last) = (0, None);
    while let Some(at) = cursor.key() {
        if last >= Some(at) {
            return Err(Error::corrupt(format!("{at} comes after {last:?}")));
        }
        last = Some(at);
        let lasting = at.kind == kind::INODE_ITEM && (at.objectid - 256).is_multiple_of(INODE_STEP);
        seen += u64::from(lasting);
        if seen == WALKED {
            return Ok(());
        }
        if lasting && at.objectid != first.objectid + (seen - 1) * INODE_STEP {
            return Err(Error::corrupt(format!(
                "inode {} is out of turn",
                at.objectid
            )));
        }
        cursor.next()?;
    }
    Err(Error::corrupt(format!(
        "only {seen} of {WALKED} inodes were seen"
    )))
}

pub(super) fn write_early(scene: &Scene) -> Result<()> {
    scene.stage.engine.committer.write_early()
}

pub(super) fn reclaim(scene: &Scene) -> Result<()> {
    scene.stage.ctx().cache.shrink_to(0);
    Ok(())
}

/// The root and a leaf, locked for writing in one order or the other.
pub(super) fn lock_both(scene: &Scene, downwards: bool) -> Result<()> {
    let stage = &scene.stage;
    let cache = &stage.ctx().cache;
    let top = cache.read(&Expect::at(stage.root.node().bytenr))?;
    let leaf = cache.read(&Expect::at(stage.victim.bytenr))?;
    let (first, second) = if downwards { (top, leaf) } else { (leaf, top) };
    let first = first.into_write();
    drop(second.into_write());
    drop(first);
    Ok(())
}

/// Planted: what a commit is to write loses one block, the leaf that everybody knows.
pub(super) fn forget_dirty(scene: &Scene) -> Result<()> {
    let stage = &scene.stage;
    let running = stage.ctx().transactions.running();
    running.dirty_blocks.remove(stage.victim.bytenr);
    Ok(())
}
