//! Copy-on-write B-trees whose blocks are locked one by one.
//!
//! Owns: searching, editing and walking the trees ([`TreeContext`]), and the references between
//! their blocks. Never: what an item means (but for file extents, whose data references follow
//! a shared leaf), and never a lock over a whole tree.
//!
//! How an edit goes: [`descend`] walks down with lock coupling and copies what this transaction
//! hasn't copied yet ([`cow`]); the leaf is changed in place; [`split`] makes room beforehand,
//! [`balance`] tidies up afterwards. Each public function is all or nothing on its tree unless
//! it says otherwise: what can fail comes before the first byte is changed.
//!
//! Lock order (docs/btree.md): a block before its children; a sibling only under their parent's
//! write lock; fs trees before the extent tree. Nothing here waits for a parent or for another
//! tree's writer while it holds a child.

mod balance;
mod block;
mod context;
mod cow;
mod cursor;
mod delete;
mod descend;
mod drop_tree;
mod in_place;
mod insert;
mod leaf;
mod node;
mod path;
mod refs;
mod roots;
mod search;
mod snapshot;
mod split;
mod update;
mod verify;

#[cfg(test)]
mod tests;

pub use context::TreeContext;
pub use cursor::Cursor;
pub use drop_tree::TreeDrop;
pub use in_place::{InPlace, InPlaceBar, InPlacePass};
pub use refs::ExtentInfo;
pub use roots::{Root, RootNode, Roots};
pub use update::Update;
pub use verify::TreeSummary;
