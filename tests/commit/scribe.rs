//! Writes valid items into a file tree without the filesystem layer: xattrs on inodes that
//! exist, and small files with data, so that commits have something to do.

use btrfuse::Result;
use btrfuse::btree::Root;
use btrfuse::commit::{Engine, OpenOptions, open};
use btrfuse::ondisk::csum::name_hash;
use btrfuse::ondisk::{
    DirItem, FILE_EXTENT_REG, FT_REG_FILE, FT_XATTR, FileExtentItem, InodeItem, InodeRef, Key, kind,
};
use btrfuse::transaction::{RefKind, TransHandle};
use btrfuse::units::Logical;
use btrfuse::volume::{BlockDevice, FileDevice, Volume};
use btrfuse_test_support::Rng;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Opens an image file without background threads.
pub fn open_image(path: &Path) -> Engine {
    let device = FileDevice::open(path, false).expect("an image of ours");
    open_device(Arc::new(device)).expect("an image that can be opened")
}

/// Opens any device without background threads.
pub fn open_device(device: Arc<dyn BlockDevice>) -> Result<Engine> {
    let (volume, superblock) = Volume::open(vec![device], false)?;
    let options = OpenOptions {
        background: false,
        ..OpenOptions::default()
    };
    open(Arc::new(volume), superblock, &options)
}

/// What the scribe needs to know of a file that it made.
struct File {
    name: Vec<u8>,
    index: u64,
    extent: Option<(Logical, u64)>,
}

/// Edits one file tree.
pub struct Scribe<'e> {
    engine: &'e Engine,
    root: Arc<Root>,
    inodes: Vec<u64>,
    xattrs: Vec<Key>,
    files: BTreeMap<u64, File>,
    next_inode: u64,
    next_index: u64,
    prefix: String,
}

impl<'e> Scribe<'e> {
    /// For the tree `objectid`; `prefix` keeps the names of several scribes apart.
    pub fn new(engine: &'e Engine, objectid: u64, prefix: &str) -> Self {
        Self::try_new(engine, objectid, prefix).expect("a readable tree")
    }

    /// As [`Scribe::new`]; `None` when the tree can't be read.
    pub fn try_new(engine: &'e Engine, objectid: u64, prefix: &str) -> Option<Self> {
        let ctx = &engine.ctx;
        let root = ctx.roots.get(ctx, objectid).ok()?;
        let mut inodes = Vec::new();
        let mut next_index = 2;
        let mut cursor = ctx.search(&root, &Key::MIN).ok()?;
        while let Some(key) = cursor.key() {
            if key.kind == kind::INODE_ITEM && (256..1 << 40).contains(&key.objectid) {
                inodes.push(key.objectid);
            }
            if key.kind == kind::DIR_INDEX && key.objectid == 256 {
                next_index = key.offset + 1;
            }
            if !cursor.next().ok()? {
                break;
            }
        }
        let salt = u64::from(name_hash(prefix.as_bytes())) % 1000;
        let next_inode = inodes.last().copied().unwrap_or(256).max(256) + 1 + salt * 1_000_000;
        let xattrs = Vec::new();
        let files = BTreeMap::new();
        let (prefix, next_index) = (prefix.into(), next_index + salt * 1_000_000);
        Some(Self {
            engine,
            root,
            inodes,
            xattrs,
            files,
            next_inode,
            next_index,
            prefix,
        })
    }

    /// One random edit in a transaction of its own.
    pub fn step(&mut self, rng: &mut Rng) -> Result<()> {
        let ctx = &self.engine.ctx;
        let steal = btrfuse::allocator::Steal::No;
        let reservation = ctx
            .space
            .reserve_metadata(ctx.space.item_bytes(12), steal)?;
        let data_len = ctx.space.sectorsize() * (1 + rng.below(24));
        let data = if rng.one_in(8) {
            Some(ctx.space.reserve_data(data_len)?)
        } else {
            None
        };
        let trans = ctx.transactions.join_reserved(reservation)?;
        match (data, rng.below(8)) {
            (Some(mut data), _) => {
                let (at, len) =
                    ctx.space
                        .alloc_data(&mut data, data_len, ctx.space.sectorsize(), None)?;
                self.create_file(&trans, rng, Some((at, len)))
            }
            (None, 0) => self.create_file(&trans, rng, None),
            (None, 1) => self.delete_file(&trans, rng),
            (None, 2 | 3) => self.delete_xattr(&trans, rng),
            (None, 4) => self.change_xattr(&trans, rng),
            _ => self.insert_xattr(&trans, rng),
        }
    }

    /// One edit without data.
    pub fn touch(&mut self, rng: &mut Rng) -> Result<()> {
        let trans = self.engine.ctx.transactions.join()?;
        self.insert_xattr(&trans, rng)
    }

    /// One edit that needs more space.
    pub fn grow(&mut self, rng: &mut Rng) -> Result<()> {
        let ctx = &self.engine.ctx;
        let steal = btrfuse::allocator::Steal::No;
        let reservation = ctx
            .space
            .reserve_metadata(ctx.space.item_bytes(12), steal)?;
        if rng.one_in(3) {
            let mut data = ctx.space.reserve_data(256 << 10)?;
            let trans = ctx.transactions.join_reserved(reservation)?;
            let extent = ctx.space.alloc_data(&mut data, 256 << 10, 4096, None)?;
            return self.create_file(&trans, rng, Some(extent));
        }
        let trans = ctx.transactions.join_reserved(reservation)?;
        self.insert_xattr(&trans, rng)
    }

    /// Deletes all that this scribe made, as `rm` would: with the right to the global reserve.
    pub fn delete_everything(&mut self, rng: &mut Rng) -> Result<()> {
        let ctx = &self.engine.ctx;
        let steal = btrfuse::allocator::Steal::Yes;
        while !self.xattrs.is_empty() || !self.files.is_empty() {
            let reservation = ctx.space.reserve_metadata(ctx.space.item_bytes(6), steal)?;
            let trans = ctx.transactions.join_reserved(reservation)?;
            self.delete_xattr(&trans, rng)?;
            self.delete_file(&trans, rng)?;
        }
        Ok(())
    }

    fn insert_xattr(&mut self, trans: &TransHandle, rng: &mut Rng) -> Result<()> {
        if self.inodes.is_empty() {
            return Ok(());
        }
        let inode = *rng.choose(&self.inodes);
        let name = format!("user.{}{:x}", self.prefix, rng.next_u64());
        let most = u64::from(self.engine.ctx.nodesize) / 6;
        let len = 1 + rng.below(most) as usize;
        let value = rng.bytes(len);
        let key = Key::new(inode, kind::XATTR_ITEM, name_hash(name.as_bytes()).into());
        let item = DirItem::encode(
            &Key::MIN,
            trans.transid().get(),
            FT_XATTR,
            name.as_bytes(),
            &value,
        );
        match self.engine.ctx.insert(trans, &self.root, &key, &item) {
            Ok(()) => self.xattrs.push(key),
            Err(btrfuse::Error::Exists) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn change_xattr(&mut self, trans: &TransHandle, rng: &mut Rng) -> Result<()> {
        if self.xattrs.is_empty() {
            return Ok(());
        }
        let key = *rng.choose(&self.xattrs);
        let found = self.engine.ctx.modify(trans, &self.root, &key, |item| {
            if let Some(last) = item.last_mut() {
                *last = last.wrapping_add(1);
            }
        })?;
        assert!(found, "{key} was inserted and not deleted");
        Ok(())
    }

    fn delete_xattr(&mut self, trans: &TransHandle, rng: &mut Rng) -> Result<()> {
        if self.xattrs.is_empty() {
            return Ok(());
        }
        let key = self
            .xattrs
            .swap_remove(rng.below(self.xattrs.len() as u64) as usize);
        assert!(
            self.engine.ctx.delete(trans, &self.root, &key)?,
            "{key} was inserted"
        );
        Ok(())
    }

    fn resize_root_dir(&self, trans: &TransHandle, change: i64) -> Result<()> {
        let key = Key::new(256, kind::INODE_ITEM, 0);
        self.engine.ctx.modify(trans, &self.root, &key, |item| {
            let inode = InodeItem::read_mut(item).expect("an inode item");
            inode.size.set(inode.size.get().wrapping_add_signed(change));
            inode.transid.set(trans.transid().get());
        })?;
        Ok(())
    }

    fn create_file(
        &mut self,
        trans: &TransHandle,
        rng: &mut Rng,
        extent: Option<(Logical, u64)>,
    ) -> Result<()> {
        let (ctx, root) = (&self.engine.ctx, &self.root);
        let transid = trans.transid().get();
        let (inode, index) = (self.next_inode, self.next_index);
        self.next_inode += 1;
        self.next_index += 1;
        let name = format!("{}{inode}", self.prefix).into_bytes();
        let len = extent.map_or(0, |(_, len)| len);
        let mut item = InodeItem::zeroed();
        item.generation.set(transid);
        item.transid.set(transid);
        item.size.set(len);
        item.nbytes.set(len);
        item.nlink.set(1);
        item.mode.set(0o100644);
        ctx.insert(
            trans,
            root,
            &Key::new(inode, kind::INODE_ITEM, 0),
            item.as_bytes(),
        )?;
        let name_ref = InodeRef::encode(index, &name);
        ctx.insert(
            trans,
            root,
            &Key::new(inode, kind::INODE_REF, 256),
            &name_ref,
        )?;
        let to = Key::new(inode, kind::INODE_ITEM, 0);
        let entry = DirItem::encode(&to, transid, FT_REG_FILE, &name, &[]);
        let by_name = Key::new(256, kind::DIR_ITEM, name_hash(&name).into());
        ctx.upsert(trans, root, &by_name, &entry)?;
        ctx.insert(trans, root, &Key::new(256, kind::DIR_INDEX, index), &entry)?;
        self.resize_root_dir(trans, 2 * name.len() as i64)?;
        if let Some((at, len)) = extent {
            let bytes = rng.bytes(len as usize);
            self.engine.volume.write(at, &bytes)?;
            let csums = &self.engine.csums;
            csums.insert(trans, at, &csums.sums_of(&bytes))?;
            let extent = FileExtentItem::whole(transid, FILE_EXTENT_REG, at, len);
            ctx.insert(
                trans,
                root,
                &Key::new(inode, kind::EXTENT_DATA, 0),
                extent.as_bytes(),
            )?;
            let kind = RefKind::Data {
                root: root.objectid,
                objectid: inode,
                offset: 0,
            };
            trans
                .transaction()
                .delayed_refs
                .add_new_data_extent(at, len, kind);
        }
        self.inodes.push(inode);
        self.files.insert(
            inode,
            File {
                name,
                index,
                extent,
            },
        );
        Ok(())
    }

    /// A file that shares the whole extent of another one, as a reflink does.
    pub fn clone_of(&mut self, trans: &TransHandle, rng: &mut Rng, model: u64) -> Result<u64> {
        let extent = self.files[&model].extent;
        self.create_file(trans, rng, None)?;
        let (at, len) = extent.expect("the model has data");
        let inode = self.next_inode - 1;
        let (ctx, root) = (&self.engine.ctx, &self.root);
        let item = FileExtentItem::whole(trans.transid().get(), FILE_EXTENT_REG, at, len);
        ctx.modify(trans, root, &Key::new(inode, kind::INODE_ITEM, 0), |item| {
            let inode = InodeItem::read_mut(item).expect("an inode item");
            inode.size.set(len);
            inode.nbytes.set(len);
        })?;
        ctx.insert(
            trans,
            root,
            &Key::new(inode, kind::EXTENT_DATA, 0),
            item.as_bytes(),
        )?;
        let kind = RefKind::Data {
            root: root.objectid,
            objectid: inode,
            offset: 0,
        };
        trans.transaction().delayed_refs.add_data_ref(at, len, kind);
        self.files.get_mut(&inode).expect("just made").extent = extent;
        Ok(inode)
    }

    /// The files that it made.
    pub fn files(&self) -> Vec<u64> {
        self.files.keys().copied().collect()
    }

    /// Deletes some file.
    pub fn delete_any_file(&mut self, rng: &mut Rng) -> Result<()> {
        let trans = self.engine.ctx.transactions.join()?;
        self.delete_file(&trans, rng)
    }

    fn delete_file(&mut self, trans: &TransHandle, rng: &mut Rng) -> Result<()> {
        let at = rng.below(self.files.len().max(1) as u64) as usize;
        let Some(&inode) = self.files.keys().nth(at) else {
            return Ok(());
        };
        let file = self.files.remove(&inode).expect("just found");
        self.inodes.retain(|&it| it != inode);
        self.xattrs.retain(|key| key.objectid != inode);
        let (ctx, root) = (&self.engine.ctx, &self.root);
        if let Some((at, len)) = file.extent {
            let kind = RefKind::Data {
                root: root.objectid,
                objectid: inode,
                offset: 0,
            };
            trans
                .transaction()
                .delayed_refs
                .drop_data_ref(at, len, kind);
        }
        ctx.delete_range(
            trans,
            root,
            Key::new(inode, 0, 0)..=Key::new(inode, u8::MAX, u64::MAX),
        )?;
        ctx.delete(
            trans,
            root,
            &Key::new(256, kind::DIR_ITEM, name_hash(&file.name).into()),
        )?;
        ctx.delete(trans, root, &Key::new(256, kind::DIR_INDEX, file.index))?;
        self.resize_root_dir(trans, -2 * file.name.len() as i64)
    }
}
