//! New chunks: how large, and where on the device.
//!
//! Owns: the sizing rules, which are the kernel's, so that images grow the same way under
//! either writer.

use super::{DeviceSpace, Kind, Profile, superblocks::STRIPE_LEN};
use crate::units::{DevId, GIB, MIB, Physical, round_down};

/// A chunk smaller than this isn't worth its items.
pub(super) const CHUNK_LEAST_BYTES: u64 = MIB;

/// A chunk that exists in memory and must get its items in the next commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChunk {
    /// First logical byte.
    pub logical: u64,
    /// Logical length; each stripe is as long.
    pub len: u64,
    /// `BTRFS_BLOCK_GROUP_*` flags.
    pub flags: u64,
    /// Layout unit, 64 KiB.
    pub stripe_len: u64,
    /// Where the copies lie.
    pub stripes: Vec<(DevId, Physical)>,
}

/// The most that a chunk of this kind gets, in logical bytes.
pub(super) fn wanted_len(kind: Kind, devices_bytes: u64) -> u64 {
    let most = match kind {
        Kind::Data | Kind::Mixed => GIB,
        Kind::Metadata if devices_bytes > 50 * GIB => GIB,
        Kind::Metadata => 256 * MIB,
        Kind::System => 32 * MIB,
    };
    // At most a tenth of all devices, so that small ones aren't used up by one kind.
    let tenth = round_down(devices_bytes / 10, STRIPE_LEN);
    let least = if kind == Kind::System {
        8 * MIB
    } else {
        CHUNK_LEAST_BYTES
    };
    most.min(tenth.max(least))
}

/// The longest of the places that [`place`] finds on these devices.
pub(super) fn place_on(
    devices: &[DeviceSpace],
    profile: Profile,
    want: u64,
) -> Option<(u64, Vec<(DevId, Physical)>)> {
    devices
        .iter()
        .filter_map(|device| place(device, profile, want))
        .max_by_key(|&(len, _)| len)
}

/// A place for a chunk of up to `want` logical bytes; smaller when no hole is large enough.
/// `None` when even the least chunk doesn't fit.
pub(super) fn place(
    device: &DeviceSpace,
    profile: Profile,
    want: u64,
) -> Option<(u64, Vec<(DevId, Physical)>)> {
    let copies = profile.copies();
    let (hole_at, hole) = device.find(want * copies)?;
    // Holes of converted images may start anywhere; chunks start at whole stripes.
    let at = hole_at.checked_next_multiple_of(STRIPE_LEN)?;
    let hole = hole.saturating_sub(at - hole_at);
    let len = round_down(hole / copies, STRIPE_LEN).min(want);
    if len < CHUNK_LEAST_BYTES {
        return None;
    }
    let stripes = (0..copies)
        .map(|copy| (device.devid(), Physical(at + copy * len)))
        .collect();
    Some((len, stripes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_the_kernels() {
        assert_eq!(wanted_len(Kind::Data, 100 * GIB), GIB);
        assert_eq!(wanted_len(Kind::Data, 5 * GIB), 512 * MIB);
        assert_eq!(wanted_len(Kind::Metadata, 20 * GIB), 256 * MIB);
        assert_eq!(wanted_len(Kind::Metadata, 51 * GIB), GIB);
        assert_eq!(wanted_len(Kind::System, GIB), 32 * MIB);
        assert_eq!(wanted_len(Kind::System, 128 * MIB), 12 * MIB + 768 * 1024);
    }

    /// Converted images leave holes that start anywhere.
    #[test]
    fn chunks_start_at_whole_stripes() {
        let mut device = DeviceSpace::new(DevId(1), 64 * MIB);
        device.take(MIB, 4096);
        for (profile, len) in [(Profile::Single, 16 * MIB), (Profile::Dup, 64 * MIB)] {
            let (len, stripes) = place(&device, profile, len).unwrap();
            for (_, Physical(at)) in stripes {
                assert_eq!((at % STRIPE_LEN, len % STRIPE_LEN), (0, 0));
                assert!(at + len <= 64 * MIB, "{at} and {len} bytes");
            }
        }
    }

    #[test]
    fn a_small_hole_gives_a_small_chunk_and_a_tiny_one_none() {
        let mut device = DeviceSpace::new(DevId(1), 64 * MIB);
        device.take(MIB, 50 * MIB);
        let (len, stripes) = place(&device, Profile::Dup, 256 * MIB).unwrap();
        assert_eq!(len, 6 * MIB + 512 * 1024);
        assert_eq!(stripes[1], (DevId(1), Physical(51 * MIB + len)));
        device.take(51 * MIB, 12 * MIB);
        assert_eq!(place(&device, Profile::Dup, 256 * MIB), None);
        assert!(place(&device, Profile::Single, 256 * MIB).is_some());
    }
}
