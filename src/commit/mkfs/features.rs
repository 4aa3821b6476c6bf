//! What the format of a new filesystem uses, and which features need which.

use crate::error::{Error, Result};
use crate::ondisk::superblock::*;

/// Switches of a new filesystem. The default is what a recent `mkfs.btrfs` turns on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Several hundred hard links of one inode in one directory.
    pub extref: bool,
    /// Small items for tree blocks.
    pub skinny_metadata: bool,
    /// No items for holes.
    pub no_holes: bool,
    /// Free space in a tree.
    pub free_space_tree: bool,
    /// Block groups in a tree of their own: large filesystems mount faster.
    pub block_group_tree: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            extref: true,
            skinny_metadata: true,
            no_holes: true,
            free_space_tree: true,
            block_group_tree: true,
        }
    }
}

/// The names that [`Features::set`] takes, with what they mean.
pub const FEATURE_NAMES: [(&str, &str); 5] = [
    (
        "extref",
        "several hundred hard links of one inode in one directory",
    ),
    ("skinny-metadata", "smaller items for tree blocks"),
    ("no-holes", "no items for holes of sparse files"),
    ("free-space-tree", "free space kept in a tree"),
    (
        "block-group-tree",
        "block groups in a tree of their own, for faster mounts",
    ),
];

impl Features {
    /// Applies a list such as `no-holes,^block-group-tree`, where `^` turns a feature off.
    pub fn set(&mut self, list: &str) -> Result<()> {
        for word in list.split(',').filter(|word| !word.is_empty()) {
            let (name, on) = match word.strip_prefix('^') {
                Some(name) => (name, false),
                None => (word, true),
            };
            let switch = match name {
                "extref" => &mut self.extref,
                "skinny-metadata" => &mut self.skinny_metadata,
                "no-holes" => &mut self.no_holes,
                "free-space-tree" | "fst" => &mut self.free_space_tree,
                "block-group-tree" | "bgt" => &mut self.block_group_tree,
                _ => {
                    let names = FEATURE_NAMES.map(|(name, _)| name).join(", ");
                    return Err(Error::Unsupported(format!(
                        "feature `{name}` is not known; these are: {names}"
                    )));
                }
            };
            *switch = on;
        }
        Ok(())
    }

    /// Refuses what the format doesn't allow together.
    pub(super) fn judge(&self) -> Result<()> {
        if self.block_group_tree && !(self.no_holes && self.free_space_tree) {
            return Err(Error::Unsupported(
                "block-group-tree needs no-holes and free-space-tree: add ^block-group-tree".into(),
            ));
        }
        Ok(())
    }

    /// The superblock's incompat bits.
    pub(super) fn incompat(&self, nodesize: u32) -> u64 {
        let mut bits = FEATURE_INCOMPAT_MIXED_BACKREF;
        for (on, bit) in [
            (self.extref, FEATURE_INCOMPAT_EXTENDED_IREF),
            (self.skinny_metadata, FEATURE_INCOMPAT_SKINNY_METADATA),
            (self.no_holes, FEATURE_INCOMPAT_NO_HOLES),
            // Nodes of a page are the only ones that the first kernels could read.
            (nodesize > 4096, FEATURE_INCOMPAT_BIG_METADATA),
        ] {
            bits |= if on { bit } else { 0 };
        }
        bits
    }

    /// The superblock's compat_ro bits.
    pub(super) fn compat_ro(&self) -> u64 {
        let mut bits = 0;
        if self.free_space_tree {
            bits |= FEATURE_COMPAT_RO_FREE_SPACE_TREE | FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID;
        }
        if self.block_group_tree {
            bits |= FEATURE_COMPAT_RO_BLOCK_GROUP_TREE;
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_a_new_mkfs_makes() {
        let features = Features::default();
        assert_eq!(
            (features.incompat(16384), features.compat_ro()),
            (0x361, 0xb)
        );
    }

    #[test]
    fn lists_switch_and_unknown_names_are_refused() {
        let mut features = Features::default();
        features.set("^no-holes,^bgt,extref").expect("known names");
        assert_eq!(
            (features.no_holes, features.block_group_tree),
            (false, false)
        );
        features.judge().expect("holes need nothing");
        features.set("block-group-tree").expect("a known name");
        assert!(
            features
                .judge()
                .unwrap_err()
                .to_string()
                .contains("^block-group-tree")
        );
        assert!(
            features
                .set("raid9")
                .unwrap_err()
                .to_string()
                .contains("`raid9`")
        );
    }
}
