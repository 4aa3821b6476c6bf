//! Where bytes of a chunk are on the devices, for every profile.
//!
//! Owns: the arithmetic of the profiles, to look at an image whose profile can't be mounted yet.
//! Parity is not counted in: a byte is where it was written itself.

use super::chunk_map::{ChunkMapping, Extent, profile};
use crate::units::{DevId, Physical};

impl ChunkMapping {
    /// Where the bytes at `offset` into the chunk were written, up to the end of the chunk or of
    /// a striped profile's stripe. `None` where the stripes don't make up the profile.
    ///
    /// `offset` is inside of the chunk, which [`ChunkMapping::validate`] has judged.
    pub fn places(&self, offset: u64) -> Option<Extent> {
        let count = self.stripes.len() as u64;
        let (number, within) = (offset / self.stripe_len, offset % self.stripe_len);
        let striped = |first: u64, copies: u64, row: u64| {
            let at = row * self.stripe_len + within;
            let place = |index| {
                let (device, start): (DevId, Physical) = self.stripes[index as usize];
                // No row lies further in than the chunk is long, which doesn't wrap.
                (device, Physical(start.get() + at))
            };
            Extent {
                len: (self.stripe_len - within).min(self.len - offset),
                copies: (first..first + copies).map(place).collect(),
            }
        };
        match self.flags & profile::PROFILE_MASK {
            profile::RAID0 => Some(striped(number % count, 1, number / count)),
            profile::RAID10 => {
                let copies = u64::from(self.sub_stripes);
                let groups = count.checked_div(copies).filter(|groups| *groups > 0)?;
                Some(striped(number % groups * copies, copies, number / groups))
            }
            profile::RAID5 | profile::RAID6 => {
                let parities = 1 + u64::from(self.flags & profile::RAID6 != 0);
                let data = count.checked_sub(parities).filter(|data| *data > 0)?;
                let row = number / data;
                // Each row begins one device further on, so that parity has no device of its own.
                Some(striped((number % data + row) % count, 1, row))
            }
            _ => {
                let place =
                    |&(device, start): &(DevId, Physical)| (device, Physical(start.get() + offset));
                Some(Extent {
                    len: self.len - offset,
                    copies: self.stripes.iter().map(place).collect(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    const STRIPE: u64 = 65536;

    fn chunk(flags: u64, devices: u64) -> ChunkMapping {
        ChunkMapping {
            len: 12 * STRIPE,
            flags: flags | profile::DATA,
            stripe_len: STRIPE,
            sub_stripes: 2,
            stripes: (1..=devices)
                .map(|device| (DevId(device), Physical(device * MIB)))
                .collect(),
        }
    }

    /// The devices of the stripes 0, 1, 2 … and how far in the last one is.
    fn devices(chunk: &ChunkMapping, stripes: u64) -> (Vec<Vec<u64>>, u64) {
        let mut row = 0;
        let devices = (0..stripes).map(|number| {
            let extent = chunk.places(number * STRIPE + 5).expect("enough devices");
            assert_eq!(extent.len, STRIPE - 5);
            let copies = extent.copies.iter().map(|&(device, at)| {
                row = (at.get() - device.get() * MIB) / STRIPE;
                assert_eq!(at.get(), device.get() * MIB + row * STRIPE + 5);
                device.get()
            });
            copies.collect()
        });
        (devices.collect(), row)
    }

    #[test]
    fn stripes_go_around_the_devices() {
        let (found, row) = devices(&chunk(profile::RAID0, 3), 4);
        assert_eq!((found, row), (vec![vec![1], vec![2], vec![3], vec![1]], 1));
        let (found, row) = devices(&chunk(profile::RAID10, 4), 3);
        assert_eq!((found, row), (vec![vec![1, 2], vec![3, 4], vec![1, 2]], 1));
        let (found, row) = devices(&chunk(profile::RAID5, 3), 5);
        assert_eq!(
            (found, row),
            (vec![vec![1], vec![2], vec![2], vec![3], vec![3]], 2)
        );
        let (found, row) = devices(&chunk(profile::RAID6, 4), 3);
        assert_eq!((found, row), (vec![vec![1], vec![2], vec![2]], 1));
    }

    #[test]
    fn mirrors_hold_everything() {
        let extent = chunk(profile::RAID1C3, 3)
            .places(100)
            .expect("three copies");
        assert_eq!((extent.len, extent.copies.len()), (12 * STRIPE - 100, 3));
    }

    #[test]
    fn stripes_that_make_up_no_profile_are_no_place() {
        for (flags, count, sub_stripes) in [
            (profile::RAID5, 1, 1),
            (profile::RAID6, 2, 1),
            (profile::RAID10, 2, 0),
            (profile::RAID10, 2, 3),
        ] {
            let hostile = ChunkMapping {
                sub_stripes,
                ..chunk(flags, count)
            };
            assert_eq!(hostile.places(0), None);
        }
    }
}
