//! What one image is and what is done to it, drawn from a seed.
//!
//! Owns: the mix. Most images are small, since what matters happens at the end of the space and a small
//! one is there in seconds.

use btrfuse_test_support::{Image, Rng};

/// See the module.
pub struct Plan {
    pub seed: u64,
    pub mib: u64,
    /// The options of mkfs.btrfs; of `btrfuse mkfs` where `by_us`.
    pub mkfs: Vec<&'static str>,
    pub by_us: bool,
    /// The kernel fills it the first time, and we go on.
    pub kernel_fills: bool,
    pub options: String,
    pub writers: usize,
    /// How often it is filled and emptied on one mount.
    pub cycles: u64,
}

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mib = match rng.below(20) {
            0 => 256 + rng.below(769),
            1..=3 => 128 + rng.below(128),
            _ => 64 + rng.below(65),
        };
        // Ours keeps metadata twice, for which less is too little.
        let by_us = mib >= 110 && rng.one_in(3);
        let nodesize = *rng.choose(&[
            "4096", "16384", "4096", "16384", "16384", "8192", "4096", "65536",
        ]);
        let mut mkfs = vec!["-n", nodesize];
        if !by_us {
            // mkfs.btrfs refuses copies on less.
            let mut profiles: Vec<&[&str]> = vec![&["-m", "single"]];
            if nodesize == "4096" || nodesize == "16384" {
                // The other sizes can't be that of a sector.
                profiles.push(if nodesize == "4096" { &["-M"] } else { &[] });
            }
            if mib >= 110 {
                profiles.push(&["-m", "dup"]);
                profiles.push(&["-m", "dup"]);
            }
            if mib >= 230 {
                profiles.push(&["-m", "dup", "-d", "dup"]);
            }
            let profile = *rng.choose(&profiles);
            mkfs.extend(if profile.is_empty() {
                &["-m", "single"]
            } else {
                profile
            });
            mkfs.extend(*rng.choose(&[&[][..], &[], &["-O", "^no-holes"], &["-O", "^extref"]]));
        }
        Self {
            seed,
            mib,
            mkfs,
            by_us,
            kernel_fills: rng.one_in(5),
            options: format!("subvolid=5,commit={}", rng.choose(&[1, 5, 30])),
            writers: 1 + rng.below(4) as usize,
            cycles: if mib > 256 { 2 } else { 2 + rng.below(5) },
        }
    }

    /// A fresh image.
    pub fn image(&self) -> Image {
        match self.by_us {
            true => Image::mkfs_btrfuse(self.mib, &self.mkfs),
            false => Image::mkfs_btrfs(self.mib, &self.mkfs),
        }
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let maker = if self.by_us {
            "btrfuse mkfs"
        } else {
            "mkfs.btrfs"
        };
        let filler = if self.kernel_fills {
            ", filled by the kernel"
        } else {
            ""
        };
        write!(
            f,
            "seed {}: {} MiB, {maker} {}{filler}, -o {}, {} writers",
            self.seed,
            self.mib,
            self.mkfs.join(" "),
            self.options,
            self.writers
        )
    }
}
