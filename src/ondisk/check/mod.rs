//! The tree checker: judges a tree block once when it is read, and again before it is written.
//!
//! A block is believed only if checksum, address, filesystem id, level, owner, generation and
//! first key fit what its parent says, entries are in order and inside the block, and every item
//! makes sense by itself and beside its predecessor. What it accepts, the views of
//! [`tree_block`](super::tree_block) may index freely. It never panics, whatever the bytes.
//!
//! It is as strict as Linux's own checker and not stricter where kernels have written such
//! things: a false alarm is as bad as a miss. Each item's rule stands in the file named after
//! its kind; a rule that needs more than a block and its parent pointer is not for here.

mod dir;
mod extent;
mod file_extent;
mod free_space;
mod inode;
mod leaf;
mod mapping;
mod node;
mod root;

pub use mapping::check_chunk;

use super::superblock::{
    FEATURE_INCOMPAT_MIXED_GROUPS, FEATURE_INCOMPAT_SIMPLE_QUOTA, FEATURE_INCOMPAT_SKINNY_METADATA,
    Superblock,
};
use super::tree_block::{self, Header, LEVELS_MAX};
use super::{CsumType, Key, Uuid, ids};
use crate::error::{Error, Result};
use crate::units::{Generation, Logical};

/// Fails a check with words; only the failing path allocates.
macro_rules! ensure {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}
use ensure;

/// A check of one item: what is wrong, in words.
type Verdict = std::result::Result<(), String>;

/// What a parent (or the superblock, or a root item) says about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Its address.
    pub at: Logical,
    /// Its level, where known.
    pub level: Option<u8>,
    /// Its generation, where known.
    pub generation: Option<Generation>,
    /// The tree it is read for, where known. Trees with files share blocks: any of them fits
    /// another one.
    pub owner: Option<u64>,
    /// The key in the parent's slot, where known.
    pub first_key: Option<Key>,
}

impl Expect {
    /// Only the address is known.
    pub const fn at(at: Logical) -> Self {
        Self {
            at,
            level: None,
            generation: None,
            owner: None,
            first_key: None,
        }
    }

    /// Whether a block made for tree `owner` can be there. Subvolumes share blocks, also those of
    /// one that was deleted since; a relocation tree has blocks of the tree that it moves.
    pub const fn fits_owner(&self, owner: u64) -> bool {
        match self.owner {
            None | Some(ids::TREE_RELOC_OBJECTID) => true,
            Some(wanted) => owner == wanted || (ids::is_shared(wanted) && ids::is_shared(owner)),
        }
    }
}

/// What every check of one image needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckContext {
    /// Bytes of a tree block.
    pub nodesize: u32,
    /// Unit of data addresses and lengths.
    pub sectorsize: u32,
    /// The id in headers (`metadata_uuid` where that feature is on).
    pub fsid: Uuid,
    /// Ids of seed filesystems whose blocks this one still uses.
    pub seed_fsids: Vec<Uuid>,
    /// The checksum.
    pub csum: CsumType,
    /// The superblock's incompat features.
    pub incompat: u64,
}

impl CheckContext {
    /// The context of an image.
    pub fn from_superblock(sb: &Superblock) -> Result<Self> {
        Ok(Self {
            nodesize: sb.nodesize.get(),
            sectorsize: sb.sectorsize.get(),
            fsid: *sb.header_fsid(),
            seed_fsids: Vec::new(),
            csum: sb.csum_type()?,
            incompat: sb.incompat_flags.get(),
        })
    }

    fn skinny_metadata(&self) -> bool {
        self.incompat & FEATURE_INCOMPAT_SKINNY_METADATA != 0
    }

    fn mixed_groups(&self) -> bool {
        self.incompat & FEATURE_INCOMPAT_MIXED_GROUPS != 0
    }

    fn simple_quota(&self) -> bool {
        self.incompat & FEATURE_INCOMPAT_SIMPLE_QUOTA != 0
    }

    fn is_aligned(&self, value: u64) -> bool {
        // Sector sizes are powers of two, see Superblock::parse.
        value & (u64::from(self.sectorsize) - 1) == 0
    }
}

/// Judges a block that was read: checksum, then everything of [`check_contents`].
pub fn check_block(ctx: &CheckContext, expect: &Expect, block: &[u8]) -> Result<()> {
    let refuse = |reason: String| Err(Error::corrupt_block(expect.at, None, reason));
    if block.len() != ctx.nodesize as usize {
        return refuse(format!(
            "{} bytes, nodesize is {}",
            block.len(),
            ctx.nodesize
        ));
    }
    // The address first: a block from elsewhere has a good checksum, an unwritten one a bad one.
    let header = tree_block::header(block);
    if header.bytenr.get() != expect.at.0 {
        return refuse(format!("the header says it is block {}", header.bytenr));
    }
    let size = ctx.csum.size();
    if header.csum[..size] != ctx.csum.digest(&block[32..])[..size] {
        return refuse(format!("{} checksum does not match", ctx.csum));
    }
    if !header.is_written() {
        return refuse("the header lacks the WRITTEN flag".into());
    }
    check_contents(ctx, expect, block)
}

/// Judges a block's content, before it is written or after its checksum was found right.
pub fn check_contents(ctx: &CheckContext, expect: &Expect, block: &[u8]) -> Result<()> {
    let refuse = |reason: String| Error::corrupt_block(expect.at, None, reason);
    if block.len() != ctx.nodesize as usize {
        return Err(refuse(format!(
            "{} bytes, nodesize is {}",
            block.len(),
            ctx.nodesize
        )));
    }
    check_header(ctx, expect, tree_block::header(block)).map_err(refuse)?;
    if tree_block::level(block) == 0 {
        leaf::check(ctx, expect.at, block)?;
    } else {
        node::check(ctx, expect.at, block)?;
    }
    if let Some(wanted) = expect.first_key {
        if tree_block::nritems(block) == 0 {
            return Err(refuse(format!(
                "empty, but its parent points to {wanted} in it"
            )));
        }
        let found = tree_block::key(block, 0);
        if found != wanted {
            return Err(refuse(format!(
                "starts with {found}, its parent says {wanted}"
            )));
        }
    }
    Ok(())
}

/// Fits the checksum to a block's content.
pub fn seal_block(ctx: &CheckContext, block: &mut [u8]) {
    let csum = ctx.csum.digest(&block[32..]);
    tree_block::header_mut(block).csum = csum;
}

fn check_header(ctx: &CheckContext, expect: &Expect, header: &Header) -> Verdict {
    let bytenr = header.bytenr.get();
    ensure!(
        bytenr == expect.at.0,
        "the header says it is block {bytenr}"
    );
    ensure!(
        header.fsid == ctx.fsid || ctx.seed_fsids.contains(&header.fsid),
        "belongs to filesystem {}, not to {}",
        Hex(&header.fsid),
        Hex(&ctx.fsid)
    );
    let level = header.level;
    ensure!(level < LEVELS_MAX, "level {level} is over 7");
    if let Some(wanted) = expect.level {
        ensure!(level == wanted, "level {level}, its parent says {wanted}");
    }
    let generation = header.generation.get();
    if let Some(wanted) = expect.generation {
        ensure!(
            generation == wanted.0,
            "generation {generation}, its parent says {wanted}"
        );
    }
    let owner = header.owner.get();
    ensure!(
        expect.fits_owner(owner),
        "belongs to tree {owner}, but is in tree {}",
        expect.owner.unwrap_or_default()
    );
    Ok(())
}

/// One item in its leaf, with what its checks need.
struct Place<'a> {
    ctx: &'a CheckContext,
    /// Generation in the leaf's header: no item can be of a later one.
    generation: u64,
    /// Tree in the leaf's header.
    owner: u64,
    key: Key,
    data: &'a [u8],
    /// The item before it in the same leaf.
    previous: Option<(Key, &'a [u8])>,
}

impl Place<'_> {
    fn has_size(&self, size: usize) -> Verdict {
        ensure!(
            self.data.len() == size,
            "{} bytes, {size} expected",
            self.data.len()
        );
        Ok(())
    }

    fn has_size_from(&self, least: usize) -> Verdict {
        ensure!(
            self.data.len() >= least,
            "{} bytes, at least {least} expected",
            self.data.len()
        );
        Ok(())
    }

    fn aligned(&self, what: &str, value: u64) -> Verdict {
        ensure!(
            self.ctx.is_aligned(value),
            "{what} {value} is not a multiple of the sector size {}",
            self.ctx.sectorsize
        );
        Ok(())
    }

    /// A transaction number in an item cannot be of the block's future. One more is let pass,
    /// as the kernel does.
    fn not_from_the_future(&self, what: &str, generation: u64) -> Verdict {
        ensure!(
            generation <= self.generation.saturating_add(1),
            "{what} {generation} is later than the block's {}",
            self.generation
        );
        Ok(())
    }

    /// In trees with files, an inode's first item is its INODE_ITEM: whatever else it has comes
    /// behind an item of the same inode, unless the leaf starts there.
    fn follows_its_inode(&self) -> Verdict {
        if let Some((previous, _)) = self.previous
            && ids::is_fs_tree(self.owner)
        {
            ensure!(
                previous.objectid == self.key.objectid,
                "follows {previous}: its inode has no INODE_ITEM before it"
            );
        }
        Ok(())
    }
}

/// A UUID in its usual form.
struct Hex<'a>(&'a Uuid);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&super::uuid_words(self.0))
    }
}

#[cfg(test)]
mod tests;
