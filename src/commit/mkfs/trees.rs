//! The items of every tree of an empty filesystem.
//!
//! The extent tree, the free space tree and the root tree speak of all blocks, their own too, so
//! they are planned again until the number of blocks holds still.

use super::layout::{Group, Layout};
use super::pack::{Stamp, pack};
use super::{GENERATION, Identity, MkfsOptions};
use crate::error::{Error, Result};
use crate::ondisk::tree_block::{self, nritems};
use crate::ondisk::*;
use crate::units::{Generation, Logical};

type Items = Vec<(Key, Vec<u8>)>;

/// A tree's blocks, side by side; the root is the last.
pub(super) struct Tree {
    pub(super) objectid: u64,
    pub(super) at: Logical,
    pub(super) blocks: Vec<Vec<u8>>,
}

impl Tree {
    /// Address and level of the root.
    pub(super) fn root(&self) -> (Logical, u8) {
        let root = self.blocks.last().expect("a tree has at least one block");
        let nodesize = root.len() as u64;
        let at = Logical(self.at.0 + (self.blocks.len() as u64 - 1) * nodesize);
        (at, tree_block::level(root))
    }
}

/// All trees.
pub(super) struct Forest {
    pub(super) trees: Vec<Tree>,
    /// Bytes used in the block groups.
    pub(super) bytes_used: u64,
}

impl Forest {
    /// The tree with this number.
    pub(super) fn tree(&self, objectid: u64) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.objectid == objectid)
    }
}

/// Plans addresses and items until they agree.
pub(super) fn plant(layout: &Layout, options: &MkfsOptions, identity: &Identity) -> Result<Forest> {
    let mut planned: Vec<(u64, usize)> = tree_numbers(options)
        .into_iter()
        .map(|objectid| (objectid, 1))
        .collect();
    // Trees only grow from one round to the next, by what the last round added.
    for _ in 0..16 {
        let forest = grow(layout, options, identity, &planned);
        let counted: Vec<(u64, usize)> = forest
            .trees
            .iter()
            .map(|tree| (tree.objectid, tree.blocks.len()))
            .collect();
        if counted == planned {
            return Ok(forest);
        }
        planned = counted;
    }
    Err(Error::Invalid(
        "the trees of an empty filesystem don't hold still",
    ))
}

/// The trees in the order of their blocks.
fn tree_numbers(options: &MkfsOptions) -> Vec<u64> {
    let mut numbers = vec![
        ids::CHUNK_TREE_OBJECTID,
        ids::ROOT_TREE_OBJECTID,
        ids::EXTENT_TREE_OBJECTID,
        ids::DEV_TREE_OBJECTID,
        ids::FS_TREE_OBJECTID,
        ids::CSUM_TREE_OBJECTID,
        ids::UUID_TREE_OBJECTID,
        ids::DATA_RELOC_TREE_OBJECTID,
    ];
    if options.features.free_space_tree {
        numbers.push(ids::FREE_SPACE_TREE_OBJECTID);
    }
    if options.features.block_group_tree {
        numbers.push(ids::BLOCK_GROUP_TREE_OBJECTID);
    }
    numbers
}

/// One block of a plan.
struct PlannedBlock {
    at: Logical,
    owner: u64,
    level: u8,
    first_key: Key,
}

/// One round: with these numbers of blocks, what would the trees hold?
fn grow(
    layout: &Layout,
    options: &MkfsOptions,
    identity: &Identity,
    planned: &[(u64, usize)],
) -> Forest {
    let nodesize = u64::from(options.nodesize);
    let mut places = Vec::new();
    let (mut system, mut metadata) = (layout.system.start.0, layout.metadata.start.0);
    for &(objectid, count) in planned {
        let free = match objectid {
            ids::CHUNK_TREE_OBJECTID => &mut system,
            _ => &mut metadata,
        };
        places.push((objectid, Logical(*free), count));
        *free += count as u64 * nodesize;
    }
    let used = [
        system - layout.system.start.0,
        metadata - layout.metadata.start.0,
        0,
    ];
    let stamp = |owner| Stamp {
        owner,
        nodesize: options.nodesize,
        generation: Generation(GENERATION),
        fsid: identity.fsid,
        chunk_tree_uuid: identity.chunk_tree_uuid,
    };

    let mut trees = Vec::new();
    // The trees that speak of other trees' blocks come after those: the extent tree needs levels
    // and first keys, and all of them only matter where items are not skinny.
    let independent = places.iter().filter(|place| !speaks_of_blocks(place.0));
    let dependent = places.iter().filter(|place| speaks_of_blocks(place.0));
    for &(objectid, at, _) in independent.chain(dependent) {
        let items = match objectid {
            ids::CHUNK_TREE_OBJECTID => chunk_items(layout, options, identity),
            ids::DEV_TREE_OBJECTID => dev_items(layout, identity),
            ids::FS_TREE_OBJECTID => directory_items(identity, options.owner),
            ids::DATA_RELOC_TREE_OBJECTID => directory_items(identity, (0, 0)),
            ids::UUID_TREE_OBJECTID => uuid_items(identity),
            ids::FREE_SPACE_TREE_OBJECTID => free_space_items(layout, &used),
            ids::BLOCK_GROUP_TREE_OBJECTID => block_group_items(layout, &used),
            ids::ROOT_TREE_OBJECTID => root_items(&places, options, identity),
            ids::EXTENT_TREE_OBJECTID => extent_items(layout, options, &used, &places, &trees),
            _ => Items::new(),
        };
        let blocks = pack(&stamp(objectid), &items, at);
        trees.push(Tree {
            objectid,
            at,
            blocks,
        });
    }
    trees.sort_by_key(|tree| {
        planned
            .iter()
            .position(|&(objectid, _)| objectid == tree.objectid)
    });
    Forest {
        trees,
        bytes_used: used.iter().sum(),
    }
}

fn speaks_of_blocks(objectid: u64) -> bool {
    objectid == ids::EXTENT_TREE_OBJECTID
}

fn chunk_items(layout: &Layout, options: &MkfsOptions, identity: &Identity) -> Items {
    let device = super::superblock::dev_item(layout, options, identity);
    let devid = super::superblock::DEVID;
    let mut items = vec![(
        Key::new(ids::DEV_ITEMS_OBJECTID, kind::DEV_ITEM, devid),
        device.as_bytes().to_vec(),
    )];
    for group in layout.groups() {
        let key = Key::new(
            ids::FIRST_CHUNK_TREE_OBJECTID,
            kind::CHUNK_ITEM,
            group.start.0,
        );
        items.push((
            key,
            group.chunk_item(options.sectorsize, &identity.dev_uuid),
        ));
    }
    items
}

fn dev_items(layout: &Layout, identity: &Identity) -> Items {
    let mut items = Items::new();
    for group in layout.groups() {
        for &at in &group.copies {
            let extent = DevExtent {
                chunk_tree: ids::CHUNK_TREE_OBJECTID.into(),
                chunk_objectid: ids::FIRST_CHUNK_TREE_OBJECTID.into(),
                chunk_offset: group.start.0.into(),
                length: group.length.into(),
                chunk_tree_uuid: identity.chunk_tree_uuid,
            };
            let key = Key::new(super::superblock::DEVID, kind::DEV_EXTENT, at);
            items.push((key, extent.as_bytes().to_vec()));
        }
    }
    items
}

/// An empty directory's inode.
fn directory_inode(identity: &Identity) -> InodeItem {
    let mut inode = InodeItem::zeroed();
    inode.generation.set(GENERATION);
    inode.transid.set(GENERATION);
    inode.nlink.set(1);
    inode.mode.set(0o40755);
    for time in [
        &mut inode.atime,
        &mut inode.ctime,
        &mut inode.mtime,
        &mut inode.otime,
    ] {
        *time = identity.now;
    }
    inode
}

/// A tree with nothing but its root directory, whose parent is itself.
fn directory_items(identity: &Identity, (uid, gid): (u32, u32)) -> Items {
    let dir = ids::FIRST_FREE_OBJECTID;
    let mut inode = directory_inode(identity);
    inode.uid.set(uid);
    inode.gid.set(gid);
    vec![
        (
            Key::new(dir, kind::INODE_ITEM, 0),
            inode.as_bytes().to_vec(),
        ),
        (
            Key::new(dir, kind::INODE_REF, dir),
            InodeRef::encode(0, b".."),
        ),
    ]
}

fn uuid_items(identity: &Identity) -> Items {
    let key = uuid_key(&identity.fs_tree_uuid, kind::UUID_KEY_SUBVOL);
    vec![(key, ids::FS_TREE_OBJECTID.to_le_bytes().to_vec())]
}

fn free_space_items(layout: &Layout, used: &[u64; 3]) -> Items {
    let mut items = Items::new();
    for (group, used) in layout.groups().into_iter().zip(used) {
        // Blocks are packed from the start of their group.
        let (start, length) = (group.start.0, group.length);
        let info = FreeSpaceInfo {
            extent_count: 1.into(),
            flags: 0.into(),
        };
        let key = Key::new(start, kind::FREE_SPACE_INFO, length);
        items.push((key, info.as_bytes().to_vec()));
        let free = Key::new(start + used, kind::FREE_SPACE_EXTENT, length - used);
        items.push((free, Vec::new()));
    }
    items
}

fn block_group_items(layout: &Layout, used: &[u64; 3]) -> Items {
    let item = |(group, used): (&Group, &u64)| {
        let item = BlockGroupItem {
            used: (*used).into(),
            chunk_objectid: ids::FIRST_CHUNK_TREE_OBJECTID.into(),
            flags: group.flags.into(),
        };
        let key = Key::new(group.start.0, kind::BLOCK_GROUP_ITEM, group.length);
        (key, item.as_bytes().to_vec())
    };
    layout.groups().into_iter().zip(used).map(item).collect()
}

/// Root items, and the directory whose entry `default` names the default subvolume.
fn root_items(
    places: &[(u64, Logical, usize)],
    options: &MkfsOptions,
    identity: &Identity,
) -> Items {
    let nodesize = u64::from(options.nodesize);
    let mut items = Items::new();
    for &(objectid, at, count) in places {
        if matches!(objectid, ids::ROOT_TREE_OBJECTID | ids::CHUNK_TREE_OBJECTID) {
            continue;
        }
        let mut root = RootItem::zeroed();
        root.inode.generation.set(1);
        root.inode.size.set(3);
        root.inode.nlink.set(1);
        root.inode.nbytes.set(nodesize);
        root.inode.mode.set(0o40755);
        root.generation.set(GENERATION);
        root.generation_v2.set(GENERATION);
        // Levels: a tree of several blocks here is leaves and one node.
        root.bytenr.set(at.0 + (count as u64 - 1) * nodesize);
        root.level = u8::from(count > 1);
        root.bytes_used.set(count as u64 * nodesize);
        root.refs.set(1);
        if ids::is_fs_tree(objectid) {
            root.root_dirid.set(ids::FIRST_FREE_OBJECTID);
        }
        if objectid == ids::FS_TREE_OBJECTID {
            root.uuid = identity.fs_tree_uuid;
            root.inode.flags.set(INODE_ROOT_ITEM_INIT);
            root.ctime = identity.now;
            root.otime = identity.now;
        }
        items.push((
            Key::new(objectid, kind::ROOT_ITEM, 0),
            root.as_bytes().to_vec(),
        ));
    }
    let dir = ids::ROOT_TREE_DIR_OBJECTID;
    let mut inode = directory_inode(identity);
    inode.nbytes.set(nodesize);
    let fs_tree = Key::new(ids::FS_TREE_OBJECTID, kind::ROOT_ITEM, u64::MAX);
    let name = b"default";
    let hash = u64::from(csum::name_hash(name));
    items.extend([
        (
            Key::new(ids::FS_TREE_OBJECTID, kind::INODE_REF, dir),
            InodeRef::encode(0, name),
        ),
        (
            Key::new(dir, kind::INODE_ITEM, 0),
            inode.as_bytes().to_vec(),
        ),
        (
            Key::new(dir, kind::INODE_REF, dir),
            InodeRef::encode(0, b".."),
        ),
        (
            Key::new(dir, kind::DIR_ITEM, hash),
            DirItem::encode(&fs_tree, 0, FT_DIR, name, b""),
        ),
    ]);
    items.sort_by_key(|(key, _)| *key);
    items
}

/// An item for every block, and the block groups where they have no tree of their own.
fn extent_items(
    layout: &Layout,
    options: &MkfsOptions,
    used: &[u64; 3],
    places: &[(u64, Logical, usize)],
    others: &[Tree],
) -> Items {
    let mut items = Items::new();
    for &(owner, at, count) in places {
        let blocks = others
            .iter()
            .find(|tree| tree.objectid == owner)
            .map(|tree| &tree.blocks);
        for index in 0..count {
            let block = blocks.and_then(|blocks| blocks.get(index));
            let planned = PlannedBlock {
                at: Logical(at.0 + index as u64 * u64::from(options.nodesize)),
                owner,
                // The extent tree's own blocks: leaves, and one node above them if several.
                level: match block {
                    Some(block) => tree_block::level(block),
                    None => u8::from(count > 1 && index == count - 1),
                },
                first_key: match block {
                    Some(block) if nritems(block) > 0 => tree_block::key(block, 0),
                    _ => Key::MIN,
                },
            };
            items.push(extent_item(options, &planned));
        }
    }
    if !options.features.block_group_tree {
        items.extend(block_group_items(layout, used));
    }
    items.sort_by_key(|(key, _)| *key);
    items
}

fn extent_item(options: &MkfsOptions, block: &PlannedBlock) -> (Key, Vec<u8>) {
    let head = ExtentItem {
        refs: 1.into(),
        generation: GENERATION.into(),
        flags: EXTENT_FLAG_TREE_BLOCK.into(),
    };
    let owner = BackRef::TreeBlock { root: block.owner }.encode_inline(1);
    if options.features.skinny_metadata {
        let key = Key::new(block.at.0, kind::METADATA_ITEM, u64::from(block.level));
        return (key, [head.as_bytes(), &owner].concat());
    }
    let info = TreeBlockInfo {
        key: block.first_key.into(),
        level: block.level,
    };
    let key = Key::new(block.at.0, kind::EXTENT_ITEM, u64::from(options.nodesize));
    (key, [head.as_bytes(), info.as_bytes(), &owner].concat())
}
