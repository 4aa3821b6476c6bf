//! What a block group is for, and how many copies it keeps.
//!
//! Owns: the meaning of `BLOCK_GROUP_*` flags for allocation.

/// Flag bits as the format numbers them (`BTRFS_BLOCK_GROUP_*`).
const DATA: u64 = 1 << 0;
const SYSTEM: u64 = 1 << 1;
const METADATA: u64 = 1 << 2;
const DUP: u64 = 1 << 5;
const PROFILES: u64 =
    (1 << 3) | (1 << 4) | DUP | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10);

/// What a block group holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// File contents.
    Data,
    /// Tree blocks of every tree but the chunk tree.
    Metadata,
    /// Tree blocks of the chunk tree, reachable through the superblock's own array.
    System,
    /// File contents and tree blocks side by side (`MIXED_GROUPS`).
    Mixed,
}

impl Kind {
    /// The kind in a block group's flags; `None` when they name none or an unknown mix.
    pub const fn from_flags(flags: u64) -> Option<Self> {
        match flags & (DATA | SYSTEM | METADATA) {
            DATA => Some(Self::Data),
            METADATA => Some(Self::Metadata),
            SYSTEM => Some(Self::System),
            x if x == DATA | METADATA => Some(Self::Mixed),
            _ => None,
        }
    }

    /// The flag bits of this kind.
    pub const fn flags(self) -> u64 {
        match self {
            Self::Data => DATA,
            Self::Metadata => METADATA,
            Self::System => SYSTEM,
            Self::Mixed => DATA | METADATA,
        }
    }

    /// File contents may be placed here.
    pub const fn takes_data(self) -> bool {
        matches!(self, Self::Data | Self::Mixed)
    }

    /// Tree blocks (not the chunk tree's) may be placed here.
    pub const fn takes_metadata(self) -> bool {
        matches!(self, Self::Metadata | Self::Mixed)
    }
}

/// How a chunk is kept on its devices; only what one device can hold is written by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// One copy.
    Single,
    /// Two copies on the same device.
    Dup,
}

impl Profile {
    /// The profile in a block group's flags; `None` for one that needs several devices.
    pub const fn from_flags(flags: u64) -> Option<Self> {
        match flags & PROFILES {
            0 => Some(Self::Single),
            DUP => Some(Self::Dup),
            _ => None,
        }
    }

    /// The flag bits of this profile.
    pub const fn flags(self) -> u64 {
        match self {
            Self::Single => 0,
            Self::Dup => DUP,
        }
    }

    /// Device bytes for one logical byte.
    pub const fn copies(self) -> u64 {
        match self {
            Self::Single => 1,
            Self::Dup => 2,
        }
    }
}

/// Where a new tree block goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeSpace {
    /// Any tree but the chunk tree.
    Metadata,
    /// The chunk tree.
    System,
}
