//! Subvolumes through ioctls: the kernel's numbers and layouts where an argument says by itself
//! what it is about, and two of our own for snapshots.
//!
//! The kernel's snapshot ioctls name the source by a file descriptor, which means nothing in a
//! daemon. Ours take two steps: [`SNAPSHOT_SOURCE`], asked of the source's root directory, gives a
//! proof that the caller could open it; [`SNAPSHOT`], asked of the directory that gets the name,
//! takes the proof. Both hold on to what is open, so no path is followed twice.
//!
//! Owns: those layouts. Invariant: bytes from outside are looked at through [`Argument`] only.

use super::snapshot::SnapshotSource;
use crate::error::{Error, Result};
use crate::fs::access::Who;
use crate::fs::filesystem::Filesystem;
use crate::fs::node_id::NodeId;

const SUBVOL_CREATE: u32 = 0x5000_940e;
const SNAP_DESTROY: u32 = 0x5000_940f;
const SNAP_CREATE: u32 = 0x5000_9401;
const SNAP_CREATE_V2: u32 = 0x5000_9417;
const SUBVOL_CREATE_V2: u32 = 0x5000_9418;
const SUBVOL_GETFLAGS: u32 = 0x8008_9419;
const SUBVOL_SETFLAGS: u32 = 0x4008_941a;
const GET_SUBVOL_ROOTREF: u32 = 0xd000_943d;
const INO_LOOKUP_USER: u32 = 0xd000_943e;
const SNAP_DESTROY_V2: u32 = 0x5000_943f;

/// Read, 16 bytes, type 0xBF, number 2: the subvolume whose root directory is open, and the proof,
/// a word each.
pub const SNAPSHOT_SOURCE: u32 = (2 << 30) | (16 << 16) | (0xBF << 8) | 2;
/// Write, [`SNAPSHOT_BYTES`], type 0xBF, number 3: those two words, flags ([`READ_ONLY`]), and a
/// name, zero padded.
pub const SNAPSHOT: u32 = (1 << 30) | ((SNAPSHOT_BYTES as u32) << 16) | (0xBF << 8) | 3;
/// Bytes of [`SNAPSHOT`]'s argument.
pub const SNAPSHOT_BYTES: usize = 3 * 8 + 256;
/// The subvolume can't be written (`BTRFS_SUBVOL_RDONLY`).
pub const READ_ONLY: u64 = 1 << 1;
/// A quota group to inherit from comes along (`BTRFS_SUBVOL_QGROUP_INHERIT`).
const QGROUP_INHERIT: u64 = 1 << 2;
/// The subvolume is named by its number (`BTRFS_SUBVOL_SPEC_BY_ID`).
const SPEC_BY_ID: u64 = 1 << 4;

/// Entries in an answer of `BTRFS_IOC_GET_SUBVOL_ROOTREF`.
const ROOTREFS_MAX: usize = 255;
/// Bytes of that answer, and of `BTRFS_IOC_INO_LOOKUP_USER`'s.
const ANSWER_BYTES: usize = 4096;

/// A name that changed without the kernel: it may remember something else, also that there was
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The directory.
    pub parent: NodeId,
    /// The name in it.
    pub name: Vec<u8>,
}

/// What an ioctl answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoctlAnswer {
    /// The argument that goes back.
    pub bytes: Vec<u8>,
    /// What ioctl(2) returns beside it: 0, or a negated errno.
    pub result: i32,
    /// What the kernel has to forget before the caller goes on.
    pub changed: Option<Changed>,
}

impl From<Vec<u8>> for IoctlAnswer {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }
}

/// Whether the umask of the process has a say in this ioctl.
pub fn uses_umask(cmd: u32) -> bool {
    matches!(cmd, SUBVOL_CREATE | SUBVOL_CREATE_V2)
}

/// Whether what programs have written before must be in the engine when this ioctl is done.
pub fn freezes(cmd: u32) -> bool {
    matches!(cmd, SNAPSHOT | SUBVOL_SETFLAGS)
}

/// An ioctl's argument.
struct Argument<'a>(&'a [u8]);

impl<'a> Argument<'a> {
    fn word(&self, at: usize) -> Result<u64> {
        let bytes = self.0.get(at..at + 8).and_then(|it| it.try_into().ok());
        let short = Error::Invalid("the ioctl's argument is too short");
        bytes.map(u64::from_ne_bytes).ok_or(short)
    }

    /// The name that starts at a byte and ends with a zero, or with the argument.
    fn name(&self, at: usize) -> Result<&'a [u8]> {
        let bytes = self.0.get(at..).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0);
        let name = &bytes[..end.unwrap_or(bytes.len())];
        if name.contains(&b'/') {
            return Err(Error::Invalid("the name of a subvolume has no slashes"));
        }
        match name {
            // What a lookup of such a name says.
            b"" => Err(Error::Access),
            name => Ok(name),
        }
    }
}

/// Where `struct btrfs_ioctl_vol_args` has its name: behind a descriptor.
const NAME: usize = 8;
/// Where `struct btrfs_ioctl_vol_args_v2` has its flags, and its name or number.
const V2_FLAGS: usize = 16;
const V2_NAME: usize = 56;

impl Filesystem {
    /// Answers an ioctl about subvolumes; `NoTty` for another.
    pub(in crate::fs) fn subvolume_ioctl(
        &self,
        who: &Who<'_>,
        node: NodeId,
        cmd: u32,
        input: &[u8],
    ) -> Result<IoctlAnswer> {
        let argument = Argument(input);
        match cmd {
            SUBVOL_CREATE => self.create_ioctl(who, node, argument.name(NAME)?),
            SUBVOL_CREATE_V2 => {
                // Without accounting there is nothing to inherit; a flag for snapshots is passed
                // over, as the kernel does.
                want_flags(argument.word(V2_FLAGS)?, READ_ONLY | QGROUP_INHERIT)?;
                self.create_ioctl(who, node, argument.name(V2_NAME)?)
            }
            SNAP_DESTROY => self.destroy_ioctl(who, node, argument.name(NAME)?),
            SNAP_DESTROY_V2 => {
                let flags = argument.word(V2_FLAGS)?;
                want_flags(flags, SPEC_BY_ID)?;
                if flags & SPEC_BY_ID == 0 {
                    return self.destroy_ioctl(who, node, argument.name(V2_NAME)?);
                }
                let (parent, name) = self.place_of_subvolume(argument.word(V2_NAME)?)?;
                self.destroy_ioctl(who, parent, &name)
            }
            SNAP_CREATE | SNAP_CREATE_V2 => Err(Error::NotSupported),
            SUBVOL_GETFLAGS => {
                let read_only = self.is_subvolume_read_only(node)?;
                let flags = if read_only { READ_ONLY } else { 0 };
                Ok(flags.to_ne_bytes().to_vec().into())
            }
            SUBVOL_SETFLAGS => {
                let flags = argument.word(0)?;
                want_flags(flags, READ_ONLY)?;
                self.set_subvolume_read_only(who, node, flags & READ_ONLY != 0)?;
                Ok(IoctlAnswer::default())
            }
            GET_SUBVOL_ROOTREF => self.rootref_ioctl(node, argument.word(0)?),
            INO_LOOKUP_USER => {
                let (dirid, nested) = (argument.word(0)?, argument.word(8)?);
                self.place_ioctl(who, node, dirid, nested)
            }
            SNAPSHOT_SOURCE => {
                let source = self.snapshot_source(node)?;
                let words = [source.subvol, source.proof].map(u64::to_ne_bytes);
                Ok(words.concat().into())
            }
            SNAPSHOT => {
                let source = SnapshotSource {
                    subvol: argument.word(0)?,
                    proof: argument.word(8)?,
                };
                let flags = argument.word(16)?;
                want_flags(flags, READ_ONLY)?;
                let name = argument.name(24)?;
                self.snapshot(who, source, node, name, flags & READ_ONLY != 0)?;
                Ok(changed(node, name))
            }
            _ => Err(Error::NoTty),
        }
    }

    fn create_ioctl(&self, who: &Who<'_>, node: NodeId, name: &[u8]) -> Result<IoctlAnswer> {
        self.create_subvolume(who, node, name)?;
        Ok(changed(node, name))
    }

    fn destroy_ioctl(&self, who: &Who<'_>, node: NodeId, name: &[u8]) -> Result<IoctlAnswer> {
        if matches!(name, b"." | b"..") {
            return Err(Error::Access);
        }
        self.delete_subvolume(who, node, name)?;
        Ok(changed(node, name))
    }

    /// `struct btrfs_ioctl_get_subvol_rootref_args`.
    fn rootref_ioctl(&self, node: NodeId, from: u64) -> Result<IoctlAnswer> {
        let mut found = self.nested_subvolumes(node, from, ROOTREFS_MAX + 1)?;
        let more = found.len() > ROOTREFS_MAX;
        found.truncate(ROOTREFS_MAX);
        let next = found.last().map_or(from, |(id, _)| id.saturating_add(1));
        let mut bytes = next.to_ne_bytes().to_vec();
        for (nested, dirid) in &found {
            bytes.extend(nested.to_ne_bytes());
            bytes.extend(dirid.to_ne_bytes());
        }
        bytes.resize(8 + ROOTREFS_MAX * 16, 0);
        bytes.push(found.len() as u8);
        bytes.resize(ANSWER_BYTES, 0);
        Ok(IoctlAnswer {
            bytes,
            result: if more { -libc::EOVERFLOW } else { 0 },
            changed: None,
        })
    }

    /// `struct btrfs_ioctl_ino_lookup_user_args`.
    fn place_ioctl(
        &self,
        who: &Who<'_>,
        node: NodeId,
        dirid: u64,
        nested: u64,
    ) -> Result<IoctlAnswer> {
        let place = self.nested_place(who, node, dirid, nested)?;
        let mut bytes = [dirid.to_ne_bytes(), nested.to_ne_bytes()].concat();
        let mut name = place.name;
        name.truncate(255);
        name.resize(256, 0);
        bytes.extend(name);
        bytes.extend(place.path);
        bytes.resize(ANSWER_BYTES, 0);
        Ok(bytes.into())
    }
}

fn want_flags(flags: u64, known: u64) -> Result<()> {
    match flags & !known {
        0 => Ok(()),
        _ => Err(Error::NotSupported),
    }
}

fn changed(parent: NodeId, name: &[u8]) -> IoctlAnswer {
    IoctlAnswer {
        changed: Some(Changed {
            parent,
            name: name.to_vec(),
        }),
        ..IoctlAnswer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_any_length_are_read_or_refused() {
        for len in 0..80 {
            let bytes = vec![b'a'; len];
            let argument = Argument(&bytes);
            assert_eq!(argument.word(16).is_ok(), len >= 24);
            assert_eq!(argument.name(8).is_ok(), len > 8);
        }
        assert!(Argument(b"a/b\0").name(0).is_err());
        assert_eq!(Argument(b"ab\0c").name(0).unwrap(), b"ab");
    }
}
