//! Which 64-bit number stands for which inode.
//!
//! Owns: the mapping (subvolume, objectid) ↔ [`NodeId`] and the inode numbers that programs see.
//! Invariant: no two inodes share a number, and a number can be turned back into its inode after
//! a restart. Never: an index into memory, save for the stated escape.
//!
//! | bits 63..62 | the rest |
//! |---|---|
//! | `00` | the objectid in the mounted subvolume (256 and up); 1 is its root directory |
//! | `01` | a stub directory: 22 bits of the subvolume that holds it, 40 bits of the nested subvolume's id |
//! | `1x` | 23 bits of subvolume id, 40 bits of objectid |
//!
//! What doesn't fit (a subvolume id from 2^23, an objectid from 2^40 outside of the mounted
//! subvolume) gets a serial number under subvolume 0, which no tree has. Only those numbers
//! are forgotten at a restart.

use crate::sync::Mutex;
use std::collections::HashMap;

/// The number of a node in requests; the root of the mount is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root directory of the mounted subvolume.
    pub const ROOT: Self = Self(1);
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a node id stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::fs) enum Identity {
    /// An inode of a subvolume's tree.
    Inode {
        /// The tree.
        subvol: u64,
        /// The number in that tree.
        objectid: u64,
    },
    /// The empty directory shown where a snapshot has a nested subvolume's entry.
    Stub {
        /// The tree that holds the entry.
        subvol: u64,
        /// The tree that the entry names.
        nested: u64,
    },
}

/// Root directories of subvolumes have this number.
pub(in crate::fs) const ROOT_DIR_OBJECTID: u64 = 256;
/// The number that programs see on a stub directory (`BTRFS_EMPTY_SUBVOL_DIR_OBJECTID`).
pub(in crate::fs) const STUB_INO: u64 = 2;

const PACKED: u64 = 1 << 63;
const STUB: u64 = 1 << 62;
const OBJECTID_BITS: u32 = 40;
const OBJECTID_MASK: u64 = (1 << OBJECTID_BITS) - 1;
const SUBVOL_LIMIT: u64 = 1 << 23;
const STUB_SUBVOL_LIMIT: u64 = 1 << 22;

/// The mapping for one mount.
pub(in crate::fs) struct NodeIds {
    mounted: u64,
    escapes: Mutex<Escapes>,
}

#[derive(Default)]
struct Escapes {
    serials: HashMap<Identity, u64>,
    identities: Vec<Identity>,
}

impl NodeIds {
    /// A mapping whose plain numbers belong to the subvolume `mounted`.
    pub fn new(mounted: u64) -> Self {
        Self {
            mounted,
            escapes: Mutex::new(Escapes::default()),
        }
    }

    /// The subvolume whose inodes have plain numbers.
    pub fn mounted(&self) -> u64 {
        self.mounted
    }

    /// The node id of an inode or stub.
    pub fn node_of(&self, identity: Identity) -> NodeId {
        match identity {
            Identity::Inode { subvol, objectid } if subvol == self.mounted => {
                if objectid == ROOT_DIR_OBJECTID {
                    NodeId::ROOT
                } else if objectid < STUB {
                    NodeId(objectid)
                } else {
                    self.escape(identity)
                }
            }
            Identity::Inode { subvol, objectid }
                if subvol < SUBVOL_LIMIT && objectid <= OBJECTID_MASK =>
            {
                NodeId(PACKED | subvol << OBJECTID_BITS | objectid)
            }
            Identity::Stub { subvol, nested }
                if subvol < STUB_SUBVOL_LIMIT && nested <= OBJECTID_MASK =>
            {
                NodeId(STUB | subvol << OBJECTID_BITS | nested)
            }
            _ => self.escape(identity),
        }
    }

    /// The inode number that programs see.
    pub fn ino_of(&self, identity: Identity) -> u64 {
        match identity {
            Identity::Stub { .. } => STUB_INO,
            Identity::Inode {
                subvol,
                objectid: ROOT_DIR_OBJECTID,
            } if subvol == self.mounted => ROOT_DIR_OBJECTID,
            Identity::Inode { .. } => self.node_of(identity).0,
        }
    }

    /// What a node id stands for; `None` for a number that was never given out.
    pub fn identity_of(&self, node: NodeId) -> Option<Identity> {
        let NodeId(raw) = node;
        let (high, low) = (
            (raw & !(PACKED | STUB)) >> OBJECTID_BITS,
            raw & OBJECTID_MASK,
        );
        if raw & PACKED != 0 {
            let subvol = (raw & !PACKED) >> OBJECTID_BITS;
            if subvol == 0 {
                let escapes = self.escapes.lock();
                return escapes.identities.get(usize::try_from(low).ok()?).copied();
            }
            return Some(Identity::Inode {
                subvol,
                objectid: low,
            });
        }
        if raw & STUB != 0 {
            return Some(Identity::Stub {
                subvol: high,
                nested: low,
            });
        }
        match raw {
            1 => Some(Identity::Inode {
                subvol: self.mounted,
                objectid: ROOT_DIR_OBJECTID,
            }),
            0..=ROOT_DIR_OBJECTID => None,
            _ => Some(Identity::Inode {
                subvol: self.mounted,
                objectid: raw,
            }),
        }
    }

    fn escape(&self, identity: Identity) -> NodeId {
        let mut escapes = self.escapes.lock();
        let next = escapes.identities.len() as u64;
        let serial = *escapes.serials.entry(identity).or_insert(next);
        if serial == next {
            escapes.identities.push(identity);
        }
        NodeId(PACKED | serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_mounted_root_is_one_and_shows_256() {
        let ids = NodeIds::new(5);
        let root = Identity::Inode {
            subvol: 5,
            objectid: 256,
        };
        assert_eq!(ids.node_of(root), NodeId::ROOT);
        assert_eq!(ids.ino_of(root), 256);
        assert_eq!(ids.identity_of(NodeId::ROOT), Some(root));
        assert_eq!(ids.identity_of(NodeId(0)), None);
        assert_eq!(ids.identity_of(NodeId(255)), None);
    }

    #[test]
    fn an_unknown_escape_is_refused() {
        assert_eq!(NodeIds::new(5).identity_of(NodeId(PACKED | 7)), None);
    }

    fn identity() -> impl Strategy<Value = Identity> {
        let subvol = prop_oneof![
            Just(5u64),
            256..400u64,
            (1u64 << 21)..(1 << 24),
            any::<u64>()
        ]
        .prop_filter("no tree is 0", |subvol| *subvol != 0);
        let objectid = prop_oneof![256..300u64, (1u64 << 39)..(1 << 41), 256..u64::MAX - 256];
        (any::<bool>(), subvol, objectid).prop_map(|(stub, subvol, objectid)| {
            if stub {
                Identity::Stub {
                    subvol,
                    nested: objectid,
                }
            } else {
                Identity::Inode { subvol, objectid }
            }
        })
    }

    proptest! {
        #[test]
        fn numbers_never_collide_and_lead_back(
            mounted in prop_oneof![Just(5u64), 256..400u64],
            all in proptest::collection::vec(identity(), 1..50),
        ) {
            let ids = NodeIds::new(mounted);
            let mut seen = HashMap::new();
            for identity in all {
                let node = ids.node_of(identity);
                prop_assert_eq!(ids.identity_of(node), Some(identity));
                prop_assert_eq!(*seen.entry(node).or_insert(identity), identity);
            }
        }
    }
}
