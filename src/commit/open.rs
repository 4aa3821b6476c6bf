//! From a volume and its superblock to running trees.
//!
//! Owns: the order in which an image is read, and what keeps it from being written.

use super::block_groups::ChunkTrees;
use super::committer::{CommitCounters, Committer};
use super::csums::Csums;
use super::engine::{Engine, OpenOptions};
use super::free_space_delta::FreeSpaceDelta;
use super::free_space_tree::FreeSpaceTree;
use super::log_tree::Logs;
use super::roots::{NamedRoots, UuidTreeComplete};
use super::{open_space, states};
use crate::allocator::{NewChunk, Reclaim, Space, SpaceConfig};
use crate::btree::{Root, RootNode, TreeContext};
use crate::error::{Error, Result};
use crate::extent_buffer::{Cache, CacheConfig};
use crate::ondisk::check::{CheckContext, Expect, check_block};
use crate::ondisk::gates::{self, Access, Want};
use crate::ondisk::superblock::{
    FEATURE_COMPAT_RO_BLOCK_GROUP_TREE, FEATURE_COMPAT_RO_FREE_SPACE_TREE,
    FEATURE_INCOMPAT_SKINNY_METADATA,
};
use crate::ondisk::tree_block::header;
use crate::ondisk::{Key, RootItem, Superblock, Uuid, ids, kind};
use crate::sync::{Arc, Mutex, RwLock};
use crate::transaction::TransactionManager;
use crate::units::Logical;
use crate::volume::{ChunkMapping, Volume};

/// No filesystem lives that long: whatever counts further than this was made up.
const GENERATION_MAX: u64 = 1 << 62;

/// Opens a filesystem. What forbids writing but not reading makes it read-only, and
/// [`Engine::read_only`] says so; then nothing reaches the volume, also where it was opened for
/// writing.
pub fn open(
    volume: Arc<Volume>,
    mut superblock: Superblock,
    options: &OpenOptions,
) -> Result<Engine> {
    // Nothing is repaired in an image that isn't known to be ours to write.
    volume.hold_writes();
    let mut reason = judge(&superblock, &volume, options)?;
    let log_waits = states::log_waits(&superblock, options)?;

    let check = CheckContext::from_superblock(&superblock)?;
    let chunk_tree_uuid = chunk_tree_uuid(&volume, &superblock, &check)?;
    let cache = Cache::new(
        volume.clone(),
        CacheConfig {
            bound_bytes: options.metadata_cache_bytes,
            chunk_tree_uuid,
            check: check.clone(),
            protocol: options.protocol,
        },
    );
    let space = Arc::new(Space::new(SpaceConfig {
        sectorsize: superblock.sectorsize.get(),
        nodesize: superblock.nodesize.get(),
        map_chunk: map_new_chunks(&volume),
    }));
    let generation = superblock.generation();
    if generation.get() >= GENERATION_MAX {
        return Err(Error::corrupt(format!(
            "the superblock's generation {generation} leaves no room for further ones"
        )));
    }
    let transactions = TransactionManager::new(generation);
    let ended = volume.clone();
    transactions.on_abort(move || ended.end_writes());
    let waiting = transactions.clone();
    space.count_waiting_extents_with(move || waiting.running().delayed_refs.len());
    let ctx = TreeContext::new(cache, space, transactions, check);

    ctx.roots.insert(chunk_root(&superblock));
    ctx.roots.insert(tree_root(&superblock));
    open_space::learn_chunks(&ctx, &volume, &superblock)?;

    let get = |objectid| named_root(&ctx, objectid);
    let named = NamedRoots {
        root: get(ids::ROOT_TREE_OBJECTID)?,
        chunk: get(ids::CHUNK_TREE_OBJECTID)?,
        extent: get(ids::EXTENT_TREE_OBJECTID)?,
        dev: get(ids::DEV_TREE_OBJECTID)?,
        csum: get(ids::CSUM_TREE_OBJECTID)?,
        fs: get(ids::FS_TREE_OBJECTID)?,
    };
    let has_group_tree = superblock.has_compat_ro(FEATURE_COMPAT_RO_BLOCK_GROUP_TREE);
    let has_free_space = superblock.has_compat_ro(FEATURE_COMPAT_RO_FREE_SPACE_TREE);
    let trees = ChunkTrees {
        chunk: named.chunk.clone(),
        dev: named.dev.clone(),
        groups: if has_group_tree {
            get(ids::BLOCK_GROUP_TREE_OBJECTID)?
        } else {
            named.extent.clone()
        },
        free_space: match has_free_space {
            true => Some(FreeSpaceTree {
                root: get(ids::FREE_SPACE_TREE_OBJECTID)?,
            }),
            false => None,
        },
        chunk_tree_uuid,
    };
    if reason.is_none() {
        reason = states::forbids_writing(&ctx, &named)?.map(|reason| reason.to_string());
    }
    open_space::load(
        &ctx,
        &volume,
        &superblock,
        &trees,
        &named.extent,
        log_waits,
        &mut reason,
    )?;

    // With a log, nothing is written before its replay has come to its end.
    if reason.is_none() && !log_waits {
        volume.release_writes();
        heal_superblocks(&volume, &mut superblock)?;
    }
    let csums = Arc::new(Csums::new(
        ctx.clone(),
        named.csum.clone(),
        superblock.csum_type()?,
    ));
    let committer = Arc::new(Committer {
        ctx: ctx.clone(),
        volume: volume.clone(),
        csums: csums.clone(),
        delta: FreeSpaceDelta::default(),
        trees,
        named,
        uuid_tree: UuidTreeComplete(
            superblock.uuid_tree_generation.get() == superblock.generation.get(),
        ),
        skinny: superblock.has_incompat(FEATURE_INCOMPAT_SKINNY_METADATA),
        discard: options.discard,
        read_only: reason.clone(),
        quota_unmarked: true.into(),
        log_waits: log_waits.into(),
        shown: Mutex::new(superblock.clone()),
        superblock: Mutex::new(superblock),
        hooks: RwLock::new(None),
        background: Mutex::new(None),
        gathering: 0.into(),
        early: Mutex::new(()),
        cleaner: Default::default(),
        logs: Logs::new(ctx.nodesize, ctx.sectorsize, csums.csum_type().size()),
        counters: CommitCounters::default(),
    });
    committer.update_global_reserve();
    watch_violations(&ctx);
    let as_reclaim: Arc<dyn Reclaim> = committer.clone();
    ctx.space.set_reclaim(Arc::downgrade(&as_reclaim));
    if reason.is_none() {
        committer.find_dead_roots()?;
    }
    let mut starts_later = None;
    if reason.is_none() && options.background {
        match log_waits {
            true => starts_later = Some(options.commit_interval),
            false => committer.start_background(options.commit_interval)?,
        }
    }
    Ok(Engine {
        ctx,
        volume,
        committer,
        csums,
        read_only: reason,
        starts_later,
    })
}

/// Why nothing may be written, as far as the superblock and the user say so.
fn judge(
    superblock: &Superblock,
    volume: &Volume,
    options: &OpenOptions,
) -> Result<Option<String>> {
    let want = match (options.read_only, options.nologreplay) {
        (false, _) => Want::ReadWrite,
        (true, false) => Want::ReadOnly,
        (true, true) => Want::ReadOnlyNoLogReplay,
    };
    let access = gates::judge(superblock, want)
        .map_err(|refusal| Error::Unsupported(refusal.to_string()))?;
    Ok(match access {
        _ if options.read_only => Some("mounted read-only".into()),
        _ if volume.is_read_only() => Some("the image was opened for reading only".into()),
        Access::ReadWrite => None,
        Access::ReadOnly { reasons } => {
            let words: Vec<String> = reasons.iter().map(ToString::to_string).collect();
            Some(words.join("; "))
        }
    })
}

/// A copy that a power cut left behind names trees whose blocks are reused from the next
/// transaction on. Should the newer copies be lost then (or be passed over by a reader that knows
/// the first one only), it would be believed: so all copies become the same first.
pub(super) fn heal_superblocks(volume: &Volume, superblock: &mut Superblock) -> Result<()> {
    if !volume.superblocks_differ() {
        return Ok(());
    }
    // Whoever writes a log names it in the first copy only: that they differ then is usual.
    let level = match superblock.log_root.get() {
        0 => log::Level::Warn,
        _ => log::Level::Info,
    };
    log::log!(
        level,
        "the copies of the superblock differ: all become that of generation {}",
        superblock.generation()
    );
    volume.write_superblocks(superblock)?;
    volume.flush()
}

fn map_new_chunks(volume: &Arc<Volume>) -> crate::allocator::MapChunk {
    let volume = volume.clone();
    Box::new(move |chunk: &NewChunk| {
        let mapping = ChunkMapping {
            len: chunk.len,
            flags: chunk.flags,
            stripe_len: chunk.stripe_len,
            stripes: chunk.stripes.clone(),
            sub_stripes: 1,
        };
        volume
            .chunks()
            .insert_chunk(Logical(chunk.logical), mapping)
    })
}

fn chunk_root(superblock: &Superblock) -> Arc<Root> {
    let (bytenr, generation, level) = superblock.chunk_tree_root();
    superblock_root(
        ids::CHUNK_TREE_OBJECTID,
        RootNode {
            bytenr,
            generation,
            level,
        },
    )
}

fn tree_root(superblock: &Superblock) -> Arc<Root> {
    let (bytenr, generation, level) = superblock.tree_root();
    superblock_root(
        ids::ROOT_TREE_OBJECTID,
        RootNode {
            bytenr,
            generation,
            level,
        },
    )
}

fn superblock_root(objectid: u64, node: RootNode) -> Arc<Root> {
    Root::new(
        Key::new(objectid, kind::ROOT_ITEM, 0),
        node,
        RootItem::zeroed(),
    )
}

fn named_root(ctx: &TreeContext, objectid: u64) -> Result<Arc<Root>> {
    ctx.roots.get(ctx, objectid).map_err(|error| match error {
        Error::NotFound => Error::corrupt(format!(
            "the root tree has no {}",
            ids::tree_name(objectid).unwrap_or("such tree")
        )),
        other => other,
    })
}

/// Every header repeats it; the chunk tree's root says what it is.
fn chunk_tree_uuid(volume: &Volume, superblock: &Superblock, check: &CheckContext) -> Result<Uuid> {
    let (at, generation, level) = superblock.chunk_tree_root();
    let expect = Expect {
        level: Some(level),
        generation: Some(generation),
        owner: Some(ids::CHUNK_TREE_OBJECTID),
        ..Expect::at(at)
    };
    let mut block = vec![0; check.nodesize as usize];
    volume.read_verified(at, &mut block, &mut |block| {
        check_block(check, &expect, block)
    })?;
    Ok(header(&block).chunk_tree_uuid)
}

/// A broken rule of the cache ends writing: what is in memory can't be trusted any more.
fn watch_violations(ctx: &Arc<TreeContext>) {
    let transactions = ctx.transactions.clone();
    ctx.cache.on_violation(move |violation| {
        transactions.abort(Error::Aborted(violation.sentence()));
    });
}
