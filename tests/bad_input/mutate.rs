//! Sound images with a few bytes of metadata changed at random, and every checksum fitted again:
//! what a checksum can't protect from.

use crate::corpora::Sample;
use btrfuse::ondisk::check::{CheckContext, seal_block};
use btrfuse::ondisk::superblock::{SUPER_MIRRORS, Superblock};
use btrfuse::ondisk::tree_block::{self, Header, Item, leaf};
use btrfuse::ondisk::{Chunk, FromBytes, kind};
use btrfuse::units::Logical;
use btrfuse::volume::{BlockDevice, ChunkMapping, FileDevice, Volume};
use btrfuse_test_support::{Image, Rng, btrfuse_binary, run_any};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// A sound image and the addresses of its tree blocks.
pub struct Mutator {
    image: Image,
    blocks: Vec<Logical>,
}

impl Mutator {
    /// Every block of every tree is as likely to be hit, so small trees are hit often enough.
    pub fn over(image: Image) -> Self {
        let mut blocks = Vec::new();
        for tree in [
            "root",
            "chunk",
            "extent",
            "dev",
            "fs",
            "csum",
            "uuid",
            "free-space",
            "block-group",
            "256",
        ] {
            let mut command = Command::new(btrfuse_binary());
            command
                .args(["inspect", "--json"])
                .arg(image.path())
                .args(["tree", tree]);
            // Not every image has every tree.
            let finished = run_any(&mut command, Duration::from_secs(60));
            let lines = finished.stdout;
            let found = lines.lines().filter_map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
                value["block"]["bytenr"].as_u64()
            });
            blocks.extend(found.map(Logical));
        }
        assert!(blocks.len() > 20, "{} blocks to choose from", blocks.len());
        Self { image, blocks }
    }

    /// A copy with one to three blocks changed.
    pub fn mutate(&self, seed: u64) -> Sample {
        let mut rng = Rng::new(seed);
        let image = self.image.copy();
        let (volume, ctx) = open(&image);
        for _ in 0..1 + rng.below(3) {
            let at = *rng.choose(&self.blocks);
            let mut block = vec![0; ctx.nodesize as usize];
            volume.read(at, &mut block, 0).expect("a sound image");
            for _ in 0..1 + rng.below(3) {
                change(&mut block, &mut rng);
            }
            seal_block(&ctx, &mut block);
            volume.write(at, &block).expect("a writable image");
        }
        Sample {
            name: format!("rewritten metadata, seed {seed}"),
            image,
        }
    }

    /// A copy with a few bytes of its superblocks changed.
    pub fn mutate_superblock(&self, seed: u64) -> Sample {
        let mut rng = Rng::new(seed);
        let image = self.image.copy();
        let device = FileDevice::open(image.path(), false).expect("our own image");
        // Offsets count from the fsid: neither the checksum nor the magic is of interest.
        let fields = [72..299, 555..811, 811..940];
        let changes: Vec<(usize, u8)> = (0..1 + rng.below(3))
            .map(|_| {
                let range = rng.choose(&fields).clone();
                let at = range.start + rng.below(range.len() as u64) as usize;
                (at, interesting(&mut rng))
            })
            .collect();
        for at in SUPER_MIRRORS {
            let mut bytes = vec![0; 4096];
            if device.read_at(at, &mut bytes).is_err() {
                continue;
            }
            for &(place, value) in &changes {
                bytes[place] = value;
            }
            let mut sb = Superblock::read_from_bytes(&bytes).expect("4096 bytes");
            // An unknown checksum type can't be sealed; it is refused before.
            let _ = sb.seal();
            device
                .write_at(at, sb.as_bytes())
                .expect("a writable image");
        }
        Sample {
            name: format!("rewritten superblock, seed {seed}: {changes:?}"),
            image,
        }
    }
}

fn open(image: &Image) -> (Volume, CheckContext) {
    let device: Arc<dyn BlockDevice> =
        Arc::new(FileDevice::open(image.path(), false).expect("our own image"));
    let (volume, sb) = Volume::open(vec![device], false).expect("a sound image");
    let ctx = CheckContext::from_superblock(&sb).expect("a known checksum");
    let (chunk_root, _, level) = sb.chunk_tree_root();
    assert_eq!(level, 0, "a small image");
    let mut block = vec![0; ctx.nodesize as usize];
    volume
        .read(chunk_root, &mut block, 0)
        .expect("a sound image");
    for (key, data) in leaf::items(&block).filter(|(key, _)| key.kind == kind::CHUNK_ITEM) {
        let (chunk, stripes) = Chunk::parse(data).expect("a sound image");
        let mapping = ChunkMapping::from_item(chunk, stripes);
        volume
            .chunks()
            .insert_chunk(Logical(key.offset), mapping)
            .expect("a sound image");
    }
    (volume, ctx)
}

fn interesting(rng: &mut Rng) -> u8 {
    match rng.below(4) {
        0 => 0,
        1 => 0xff,
        2 => 1 << rng.below(8),
        _ => rng.below(256) as u8,
    }
}

/// One byte: of the header, of an entry, or of an item's data.
fn change(block: &mut [u8], rng: &mut Rng) {
    let count = tree_block::nritems(block).clamp(1, 600);
    let at = match rng.below(8) {
        0 => 48 + rng.below(Header::SIZE as u64 - 48) as usize,
        1..=3 if tree_block::level(block) == 0 => {
            leaf::item_at(rng.below(count as u64) as usize) + rng.below(Item::SIZE as u64) as usize
        }
        _ => match leaf::try_item_data(block, rng.below(count as u64) as usize) {
            Some(data) if tree_block::level(block) == 0 && !data.is_empty() => {
                let start = data.as_ptr() as usize - block.as_ptr() as usize;
                start + rng.below(data.len().min(200) as u64) as usize
            }
            _ => Header::SIZE + rng.below(count as u64 * 33) as usize,
        },
    };
    block[at.min(block.len() - 1)] = interesting(rng);
}
