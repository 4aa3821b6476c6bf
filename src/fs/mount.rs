//! Mounting and unmounting.
//!
//! Owns: the order of both. Invariant: a read-only mount writes nothing, not even to recover; a
//! writable one has no orphans left from before when it answers its first request; unmount
//! returns after the last commit is durable, or says that it isn't. Never: devices by path.

use super::attr::Timestamp;
use super::delayed::DelayedItems;
use super::dir;
use super::file::{self, DelayedData};
use super::filesystem::{Filesystem, Node};
use super::inode_ref::ItemLimits;
use super::inode_table::{Home, InodeTable};
use super::log_replay;
use super::node_id::{NodeIds, ROOT_DIR_OBJECTID};
use super::options::MountOptions;
use super::orphan::Evictions;
use super::subvolume::{self, Dying, ObjectIds, Snapshots};
use crate::allocator::Steal;
use crate::btree::TreeContext;
use crate::commit::{self, CommitHooks, LoneEdit, OpenOptions};
use crate::error::{Error, Result};
use crate::ondisk::csum::name_hash;
use crate::ondisk::superblock::FEATURE_INCOMPAT_EXTENDED_IREF;
use crate::ondisk::tree_block::item_size_max;
use crate::ondisk::{DirEntries, Key, ids, kind};
use crate::sync::atomic::{AtomicBool, AtomicUsize};
use crate::sync::{Arc, Mutex, RwLock, Weak, thread};
use crate::transaction::TransHandle;
use crate::units::MIB;
use crate::volume::{BlockDevice, Volume};
use std::time::Duration;

/// File content in memory that has no extents yet, over all files.
pub(in crate::fs) const DELAYED_DATA_MAX: u64 = 64 * MIB;

/// The threads of a mount.
pub(in crate::fs) struct Background {
    cleaner: thread::JoinHandle<()>,
}

/// Said where a subvolume to mount isn't there.
const SUBVOLUMES_BY_NUMBER: &str = "`btrfuse subvolume list` of a mount with -o subvolid=5 names \
                                    all, by paths as subvol= takes them";

impl Filesystem {
    /// Mounts the filesystem on `devices`. One that can be read but not written, by its features
    /// or its state, is mounted read-only; the log and [`Filesystem::read_only_reason`] say why.
    ///
    /// # Errors
    /// What can't even be read is refused with the feature's name, and so is a subvolume that
    /// isn't there.
    pub fn mount(devices: Vec<Arc<dyn BlockDevice>>, options: &MountOptions) -> Result<Arc<Self>> {
        let (volume, superblock) = Volume::open(devices, options.read_only)?;
        let volume = Arc::new(volume);
        let incompat = superblock.incompat_flags.get();
        let open_options = OpenOptions {
            read_only: options.read_only,
            nologreplay: options.nologreplay,
            replays_log: true,
            commit_interval: Duration::from_secs(options.commit_interval_secs.max(1)),
            metadata_cache_bytes: options.metadata_cache_bytes,
            background: options.background,
            discard: options.discard,
            protocol: options.protocol,
        };
        let engine = commit::open(volume.clone(), superblock, &open_options)?;
        let limits = ItemLimits {
            bytes_max: item_size_max(engine.ctx.nodesize) as usize,
            extended_refs: incompat & FEATURE_INCOMPAT_EXTENDED_IREF != 0,
        };
        // Before anything is read that it changes.
        if engine.has_log() {
            log_replay::replay(&engine, limits)?;
        }
        let read_only = if options.read_only {
            Some("the filesystem is mounted read-only".to_owned())
        } else {
            engine.read_only().map(str::to_owned)
        };
        if let Some(reason) = &read_only
            && !options.read_only
        {
            log::warn!("mounted read-only: {reason}");
        }
        let ctx = engine.ctx.clone();
        let home = Arc::new(Home {
            table: InodeTable::new(options.inodes_cached),
            evictions: Evictions::new(),
        });
        let mut fs = Self {
            delayed: DelayedItems::new(ctx.clone()),
            ctx,
            engine,
            volume,
            options: options.clone(),
            read_only,
            ids: NodeIds::new(ids::FS_TREE_OBJECTID),
            home,
            delayed_data: DelayedData::new(DELAYED_DATA_MAX),
            objectids: ObjectIds::new(),
            limits,
            rename_lock: Mutex::new(()),
            subvolumes: RwLock::new(()),
            snapshots: Snapshots::new(),
            dying: Dying::default(),
            mounted_at: Timestamp::now(),
            told_of_compression: AtomicBool::new(false),
            background: Mutex::new(None),
            unmounted: Mutex::new(None),
            turn: Mutex::new(()),
            refused: AtomicUsize::new(0),
        };
        let subvol = fs.choose_subvolume()?;
        fs.load_root_dir(subvol)?;
        fs.ids = NodeIds::new(subvol);
        let fs = Arc::new(fs);
        if fs.read_only.is_none() {
            let hooks: Weak<dyn CommitHooks> = Arc::downgrade(&fs) as Weak<dyn CommitHooks>;
            fs.engine.committer.set_hooks(hooks);
            fs.clean_all_orphans()?;
            if fs.options.background {
                let weak = Arc::downgrade(&fs);
                let cleaner = thread::Builder::new()
                    .name("cleaner".into())
                    .spawn(move || clean_until_stopped(&weak))
                    .map_err(|error| Error::device("starting the cleaner", error))?;
                *fs.background.lock() = Some(Background { cleaner });
            }
        }
        Ok(fs)
    }

    /// Writes everything, deletes what nobody can reach any more, commits, and stops the
    /// threads. Only the first call does anything; the others wait for it, and answer the same.
    pub fn unmount(&self) -> Result<()> {
        let mut unmounted = self.unmounted.lock();
        unmounted.get_or_insert_with(|| self.end()).clone()
    }

    fn end(&self) -> Result<()> {
        self.home.evictions.stop();
        let background = self.background.lock().take();
        if let Some(background) = background {
            // The last reference may be the cleaner's own.
            if background.cleaner.thread().id() != thread::current().id() {
                let _ = background.cleaner.join();
            }
        }
        let mut result = Ok(());
        if self.read_only.is_none() && self.ctx.transactions.check().is_ok() {
            result = self.settle_everything();
        } else {
            drop(self.home.table.let_all_go());
        }
        let closed = self.engine.shutdown();
        if self.read_only.is_some() {
            return Ok(());
        }
        result.and(closed)
    }

    fn settle_everything(&self) -> Result<()> {
        for inode in self.home.table.let_all_go() {
            if inode.meta.lock().nlink == 0 {
                file::discard_delayed(self, &inode);
            }
        }
        let flushed = file::flush_all(self);
        // Items of unlinked inodes hold them in memory until they are written.
        let cleaned = self
            .reserve(1, Steal::Yes)
            .and_then(|reservation| {
                self.with_trans(reservation, |trans| self.delayed.flush(trans, usize::MAX))
            })
            .and_then(|()| self.clean());
        match cleaned {
            // The commit writes the items all the same, and orphan items name the inodes.
            Err(Error::NoSpace) => {
                log::warn!("no space is left to delete what was unlinked: the next mount does it");
            }
            other => other?,
        }
        match flushed {
            // There may be some now.
            Err(Error::NoSpace) => file::flush_all(self),
            other => other,
        }
    }

    /// Makes everything durable, also that the space of unlinked files is free.
    pub fn sync(&self) -> Result<()> {
        if self.read_only.is_some() {
            return Ok(());
        }
        let flushed = file::flush_all(self);
        self.clean_for_space();
        self.engine.committer.commit()?;
        flushed
    }

    /// Why nothing can be written, or `None` on a writable mount that is sound.
    pub fn read_only_reason(&self) -> Option<String> {
        self.read_only.clone().or_else(|| {
            self.ctx
                .transactions
                .check()
                .err()
                .map(|error| error.to_string())
        })
    }

    /// The subvolume that the options name, else the default one.
    fn choose_subvolume(&self) -> Result<u64> {
        let no_such = |what: String| {
            Error::Unsupported(format!(
                "there is no subvolume {what}: {SUBVOLUMES_BY_NUMBER}"
            ))
        };
        if let Some(subvolid) = self.options.subvolid {
            // 0 is an old name of the top level.
            let subvolid = if subvolid == 0 {
                ids::FS_TREE_OBJECTID
            } else {
                subvolid
            };
            match subvolume::open(&self.ctx, subvolid) {
                Ok(_) => {}
                Err(Error::NotFound) => return Err(no_such(subvolid.to_string())),
                Err(error) => return Err(error),
            }
            let Some(path) = &self.options.subvol else {
                return Ok(subvolid);
            };
            // An old line in fstab, after somebody went back to a snapshot: as the kernel, rather
            // nothing than the wrong one of the two.
            let found = self.subvolume_at(path)?;
            if found != subvolid {
                let path = String::from_utf8_lossy(path);
                return Err(Error::Unsupported(format!(
                    "subvol={path} is subvolume {found}, not {subvolid} as subvolid= says: leave \
                     one of them out"
                )));
            }
            return Ok(subvolid);
        }
        match &self.options.subvol {
            Some(path) => self.subvolume_at(path),
            None => default_subvolume(&self.ctx),
        }
    }

    /// The subvolume whose top directory is at `path`, from the top level on.
    fn subvolume_at(&self, path: &[u8]) -> Result<u64> {
        let no_such = |why: &str| {
            let path = String::from_utf8_lossy(path);
            Error::Unsupported(format!("subvol={path}: {why}; {SUBVOLUMES_BY_NUMBER}"))
        };
        let absent = "there is no such subvolume";
        let mut dir = self.load_root_dir(ids::FS_TREE_OBJECTID)?;
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            let target = match dir.want_dir() {
                Ok(()) => dir::find(&self.ctx, &dir, name)?,
                Err(_) => None,
            };
            let next = match target {
                Some(target) => self.follow(&dir, target, name)?,
                None => return Err(no_such(absent)),
            };
            match next {
                Node::Inode(inode) => dir = inode,
                Node::Stub(_) => return Err(no_such(absent)),
            }
        }
        if dir.objectid != ROOT_DIR_OBJECTID {
            return Err(no_such("that is a directory, and no subvolume"));
        }
        Ok(dir.root.objectid)
    }

    /// Called at the end of an operation, without locks: helps those who can't keep up.
    pub(in crate::fs) fn after_change(&self) {
        if self.read_only.is_some() {
            return;
        }
        self.help_cleaner();
        self.help_writer();
        if let Err(error) = self.engine.committer.throttle() {
            log::debug!("throttling: {error}");
        }
    }
}

/// What `btrfs subvolume set-default` chose.
pub(in crate::fs) fn default_subvolume(ctx: &TreeContext) -> Result<u64> {
    let tree = ctx.roots.get(ctx, ids::ROOT_TREE_OBJECTID)?;
    let hash = u64::from(name_hash(b"default"));
    let key = Key::new(ids::ROOT_TREE_DIR_OBJECTID, kind::DIR_ITEM, hash);
    let chosen = ctx.get_with(&tree, &key, |bytes| {
        DirEntries::find_name(bytes, b"default").map(|entry| entry.location.objectid)
    })?;
    Ok(chosen.flatten().unwrap_or(ids::FS_TREE_OBJECTID))
}

fn clean_until_stopped(fs: &Weak<Filesystem>) {
    while let Some(fs) = fs.upgrade() {
        if fs.home.evictions.is_stopped() {
            return;
        }
        fs.look_after_dying();
        match fs.evict_one(Duration::from_millis(500)) {
            Ok(_) => {}
            Err(Error::Aborted(_)) => return,
            Err(Error::NoSpace) => fs.home.evictions.pause(Duration::from_millis(500)),
            Err(error) => {
                log::warn!(
                    "deleting an unlinked inode failed, the next mount tries again: {error}"
                );
            }
        }
    }
}

impl CommitHooks for Filesystem {
    fn before_commit(&self) -> Result<()> {
        // A failure waits in its inode for the next fsync; it must not keep the others from
        // being committed.
        if let Err(error) = file::flush_all(self) {
            log::error!("writing back data before a commit: {error}");
        }
        Ok(())
    }

    fn flush_delayed_items(&self, trans: &TransHandle) -> Result<()> {
        self.delayed.flush(trans, usize::MAX)
    }

    fn next_lone_edit(&self) -> Option<LoneEdit<'_>> {
        self.next_snapshot()
    }
}
