//! Reading an image without a mount: the device with or without its lock, the chunk map, and
//! walks over trees that survive bad blocks.

use super::Stop;
use crate::cli::Failure;
use crate::error::{Error, Result};
use crate::ondisk::check::{CheckContext, Expect, check_block};
use crate::ondisk::describe::Meaning;
use crate::ondisk::superblock::Superblock;
use crate::ondisk::tree_block::{self, leaf, node};
use crate::ondisk::{Chunk, Key, RootItem, ids, kind, uuid_words};
use crate::sync::Arc;
use crate::units::{DevId, Generation, Logical};
use crate::volume::{BlockDevice, ChunkMapping, Extent, FileDevice, Volume, profile};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An image to look at.
pub(super) struct Image {
    pub(super) device: Arc<dyn BlockDevice>,
    /// Other devices of the same filesystem.
    others: Vec<Arc<dyn BlockDevice>>,
}

impl Image {
    /// Opens with a shared lock, or without any where somebody writes; that is said on stderr.
    pub(super) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            device: Self::open_device(path)?,
            others: Vec::new(),
        })
    }

    /// Another device.
    pub(super) fn add(&mut self, path: &Path) -> Result<()> {
        self.others.push(Self::open_device(path)?);
        Ok(())
    }

    fn open_device(path: &Path) -> Result<Arc<dyn BlockDevice>> {
        Ok(match FileDevice::open(path, true) {
            Ok(device) => Arc::new(device),
            Err(Error::Busy(user)) => {
                crate::cli::print::complain!(
                    "btrfuse: {user}: reading without the lock, so what is shown may be changing"
                );
                Arc::new(UnlockedFile::open(path)?)
            }
            Err(error) => return Err(error),
        })
    }
}

/// A file or block device that somebody else writes.
struct UnlockedFile {
    file: File,
    size_bytes: u64,
}

impl UnlockedFile {
    fn open(path: &Path) -> Result<Self> {
        let open = || {
            let mut file = File::open(path)?;
            let size_bytes = io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
            Ok(Self { file, size_bytes })
        };
        open().map_err(|error| Error::device(format!("open {}", path.display()), error))
    }
}

impl BlockDevice for UnlockedFile {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_at(&self, _at: u64, _buf: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _at: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

/// What a walk meets.
pub(super) enum Seen<'b> {
    /// A block that is believed.
    Block(&'b [u8]),
    /// A copy that isn't, though another one is.
    BadCopy(Error),
    /// No copy is believed; what is below is not seen.
    Bad(Error),
}

type Visit<'v> = &'v mut dyn FnMut(Seen) -> io::Result<()>;

/// An image whose chunks are known.
pub(super) struct Reader {
    devices: BTreeMap<DevId, Arc<dyn BlockDevice>>,
    volume: Volume,
    superblock: Superblock,
    ctx: CheckContext,
    problems: Vec<String>,
}

/// The devices by the numbers that they say they have.
fn devices(image: &Image, sb: &Superblock) -> Result<BTreeMap<DevId, Arc<dyn BlockDevice>>> {
    let number = |sb: &Superblock| DevId(sb.dev_item.devid.get());
    let mut devices = BTreeMap::from([(number(sb), image.device.clone())]);
    for device in &image.others {
        let (_, own) = Volume::open_alone(device.clone())?;
        // A seed device has a filesystem id of its own.
        if own.fsid != sb.fsid && !own.is_seed() {
            return Err(Error::Unsupported(format!(
                "{} belongs to filesystem {}, not to {}: leave it out",
                device.name(),
                uuid_words(&own.fsid),
                uuid_words(&sb.fsid)
            )));
        }
        devices.insert(number(&own), device.clone());
    }
    Ok(devices)
}

/// The root tree as the superblock says it.
pub(super) fn root_tree(sb: &Superblock) -> Expect {
    expect(sb.tree_root(), ids::ROOT_TREE_OBJECTID)
}

fn expect((at, generation, level): (Logical, Generation, u8), owner: u64) -> Expect {
    Expect {
        level: Some(level),
        generation: Some(generation),
        owner: Some(owner),
        ..Expect::at(at)
    }
}

impl Reader {
    /// Reads the chunk tree; what can't be read of it becomes a problem, not a failure.
    pub(super) fn open(image: &Image) -> Result<Self> {
        let (volume, superblock) = Volume::open_alone(image.device.clone())?;
        let ctx = CheckContext::from_superblock(&superblock)?;
        let mut reader = Self {
            devices: devices(image, &superblock)?,
            volume,
            superblock,
            ctx,
            problems: Vec::new(),
        };
        let chunk_tree = expect(
            reader.superblock.chunk_tree_root(),
            ids::CHUNK_TREE_OBJECTID,
        );
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        let walked = reader.walk(chunk_tree, &mut |seen| {
            match seen {
                Seen::Block(block) if tree_block::level(block) == 0 => {
                    for (key, data) in leaf::items(block) {
                        if key.kind == kind::CHUNK_ITEM
                            && let Some((chunk, stripes)) = Chunk::parse(data)
                        {
                            found.push((key, ChunkMapping::from_item(chunk, stripes)));
                        }
                    }
                }
                Seen::Block(_) => {}
                Seen::Bad(error) | Seen::BadCopy(error) => problems.push(error.to_string()),
            }
            Ok(())
        });
        debug_assert!(walked.is_ok(), "nothing is written here");
        for (key, mapping) in found {
            if let Err(error) = reader
                .volume
                .chunks()
                .insert_chunk(Logical(key.offset), mapping)
            {
                problems.push(error.to_string());
            }
        }
        reader.problems = problems;
        let (given, all) = (reader.devices.len(), reader.superblock.num_devices.get());
        if (given as u64) < all {
            crate::cli::print::complain!(
                "btrfuse: {given} of {all} devices given, so what only the others hold isn't \
                 shown; name them with --device"
            );
        }
        Ok(reader)
    }

    pub(super) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    pub(super) fn meaning(&self) -> Meaning {
        Meaning {
            csum: self.ctx.csum,
            sectorsize: self.ctx.sectorsize,
        }
    }

    /// What was wrong so far.
    pub(super) fn take_problems(&mut self) -> Vec<String> {
        std::mem::take(&mut self.problems)
    }

    /// Where the bytes at `at` are, on whatever device.
    fn places(&self, at: Logical) -> Result<Extent> {
        let (start, chunk) = self
            .volume
            .chunks()
            .chunk_at(at)
            .ok_or_else(|| Error::corrupt(format!("address {at} lies in no chunk")))?;
        chunk.places(at.get() - start.get()).ok_or_else(|| {
            let (count, name) = (chunk.stripes.len(), profile::name(chunk.flags));
            Error::corrupt(format!("chunk {start}: {count} stripes of {name}"))
        })
    }

    /// Copy `mirror` of the bytes at `at`, unverified.
    fn read(&self, at: Logical, buf: &mut [u8], mirror: usize) -> Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let here = at.checked_add(done as u64).ok_or(Error::Overflow)?;
            let extent = self.places(here)?;
            let no_such = || Error::corrupt(format!("address {here} has fewer copies"));
            let &(devid, physical) = extent.copies.get(mirror).ok_or_else(no_such)?;
            let device = self.devices.get(&devid).ok_or_else(|| {
                Error::NoGoodCopy(format!(
                    "copy {} of address {at} is on device {devid}, which isn't given",
                    mirror + 1
                ))
            })?;
            let left = buf.len() - done;
            let take = usize::try_from(extent.len).map_or(left, |len| len.min(left));
            let piece = &mut buf[done..done + take];
            let read = device.read_at(physical.get(), piece);
            read.map_err(|error| Error::device(format!("read {take} bytes at {physical}"), error))?;
            done += take;
        }
        Ok(())
    }

    /// Whether the address lies in a chunk.
    pub(super) fn is_mapped(&self, at: Logical) -> bool {
        self.volume.chunks().chunk_at(at).is_some()
    }

    /// Every copy of a block with its verdict; empty where it can't be read.
    pub(super) fn copies(&self, at: Logical) -> Result<Vec<(Vec<u8>, Result<()>)>> {
        let copies = self.places(at)?.copies.len();
        Ok((0..copies)
            .map(|mirror| self.copy(&Expect::at(at), mirror))
            .collect())
    }

    fn copy(&self, expect: &Expect, mirror: usize) -> (Vec<u8>, Result<()>) {
        let mut block = vec![0; self.ctx.nodesize as usize];
        match self.read(expect.at, &mut block, mirror) {
            Ok(()) => {
                let verdict = check_block(&self.ctx, expect, &block);
                (block, verdict)
            }
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    /// A block and everything below it, each before its children.
    pub(super) fn walk(&self, expect: Expect, visit: Visit) -> io::Result<()> {
        self.walk_until(expect, None, visit)
    }

    /// It ends on any image: levels fall by one at each step, and blocks beside each other have
    /// keys that don't overlap, so none is met twice.
    fn walk_until(&self, expect: Expect, end: Option<Key>, visit: Visit) -> io::Result<()> {
        let copies = match self.places(expect.at) {
            Ok(extent) => extent.copies.len(),
            Err(error) => return visit(Seen::Bad(error)),
        };
        let mut errors = Vec::new();
        let mut good = None;
        for mirror in 0..copies {
            let (block, verdict) = self.copy(&expect, mirror);
            match verdict.and_then(|()| ends_before(&expect, &block, end)) {
                Ok(()) => {
                    good.get_or_insert(block);
                }
                Err(error) => errors.push(error),
            }
        }
        let Some(block) = good else {
            let unread = || Error::corrupt_block(expect.at, None, "no copy");
            return visit(Seen::Bad(errors.into_iter().next().unwrap_or_else(unread)));
        };
        // That other devices aren't given was said once.
        let absent = |error: &Error| matches!(error, Error::NoGoodCopy(_));
        for error in errors.into_iter().filter(|error| !absent(error)) {
            visit(Seen::BadCopy(error))?;
        }
        visit(Seen::Block(&block))?;
        let level = tree_block::level(&block);
        if level == 0 {
            return Ok(());
        }
        let count = tree_block::nritems(&block);
        for slot in 0..count {
            let (at, generation) = node::ptr(&block, slot);
            let child = Expect {
                at,
                level: Some(level - 1),
                generation: Some(generation),
                owner: expect.owner,
                first_key: Some(node::key(&block, slot)),
            };
            let child_end = if slot + 1 < count {
                Some(node::key(&block, slot + 1))
            } else {
                end
            };
            self.walk_until(child, child_end, visit)?;
        }
        Ok(())
    }

    /// Where a tree's root is, by the tree's name or number.
    pub(super) fn find_tree(&mut self, name: &str) -> std::result::Result<Expect, Stop> {
        let sb = &self.superblock;
        let objectid = match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "root" => return Ok(root_tree(sb)),
            "chunk" => return Ok(expect(sb.chunk_tree_root(), ids::CHUNK_TREE_OBJECTID)),
            "log" if sb.log_root.get() == 0 => {
                return Err(Stop::Said(Failure::refused("there is no log tree")));
            }
            "log" => {
                // Logs are of the transaction that was running.
                let generation = Generation(sb.generation.get().saturating_add(1));
                let root = (Logical(sb.log_root.get()), generation, sb.log_root_level);
                return Ok(expect(root, ids::TREE_LOG_OBJECTID));
            }
            "extent" => ids::EXTENT_TREE_OBJECTID,
            "dev" | "device" => ids::DEV_TREE_OBJECTID,
            "fs" => ids::FS_TREE_OBJECTID,
            "csum" | "checksum" => ids::CSUM_TREE_OBJECTID,
            "quota" => ids::QUOTA_TREE_OBJECTID,
            "uuid" => ids::UUID_TREE_OBJECTID,
            "free-space" => ids::FREE_SPACE_TREE_OBJECTID,
            "block-group" => ids::BLOCK_GROUP_TREE_OBJECTID,
            "data-reloc" => ids::DATA_RELOC_TREE_OBJECTID,
            other => other.parse().map_err(|_| {
                Stop::Said(Failure::usage(format!(
                    "`{name}` is no tree: take root, extent, chunk, dev, fs, csum, quota, uuid, \
                     free-space, block-group, data-reloc, log or a subvolume's number"
                )))
            })?,
        };
        let mut root = None;
        let mut problems = Vec::new();
        self.walk(root_tree(sb), &mut |seen| {
            match seen {
                Seen::Block(block) if tree_block::level(block) == 0 => {
                    root = leaf::items(block)
                        .filter(|(key, _)| is_root_of(key, objectid))
                        .find_map(|(_, data)| RootItem::from_item(data))
                        .or(root);
                }
                Seen::Block(_) => {}
                Seen::Bad(error) | Seen::BadCopy(error) => problems.push(error.to_string()),
            }
            Ok(())
        })?;
        self.problems.extend(problems);
        let Some(root) = root else {
            return Err(Stop::Said(Failure::refused(
                match self.take_problems().pop() {
                    Some(problem) => format!("tree {objectid} was not found: {problem}"),
                    None => format!("there is no tree {objectid}"),
                },
            )));
        };
        let at = Logical(root.bytenr.get());
        Ok(expect(
            (at, Generation(root.generation.get()), root.level),
            objectid,
        ))
    }
}

/// All keys of a block come before its right neighbour's.
fn ends_before(expect: &Expect, block: &[u8], end: Option<Key>) -> Result<()> {
    let Some(end) = end else { return Ok(()) };
    let count = tree_block::nritems(block);
    if count > 0 && tree_block::key(block, count - 1) >= end {
        let last = tree_block::key(block, count - 1);
        let reason = format!("{last} is not before the right neighbour's {end}");
        return Err(Error::corrupt_block(expect.at, Some(count - 1), reason));
    }
    Ok(())
}

fn is_root_of(key: &Key, objectid: u64) -> bool {
    key.kind == kind::ROOT_ITEM && key.objectid == objectid
}
