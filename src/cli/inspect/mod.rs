//! `btrfuse inspect IMAGE`: superblocks, trees and blocks in words or as JSON.
//!
//! Reads only, and shows what it can of a damaged image: a block that isn't believed is shown
//! with the reason, and the walk goes on beside it.

mod reader;
mod render;

use super::{Failure, signature};
use crate::error::Error;
use crate::ondisk::describe::{self, Fact, Facts};
use crate::ondisk::gates::{Access, Reason, Want, judge};
use crate::ondisk::superblock::{SUPER_MIRRORS, Superblock};
use crate::ondisk::tree_block::{self, leaf, node};
use crate::ondisk::{Key, RootItem, ids, kind, unfinished};
use crate::units::Logical;
use reader::{Image, Reader, Seen};
use render::Output;
use std::path::PathBuf;

/// Show an image's superblock, trees and blocks.
///
/// Without a word behind IMAGE: what it is, what btrfuse may do with it and why, and its trees.
/// Nothing is ever written. An image that is in use is read without its lock, and this is said:
/// what is shown may then be changing.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Report as JSON: one value for the image and `super`, one value a line for `tree` and
    /// `block`.
    #[arg(long, global = true)]
    json: bool,
    /// Another device of the same filesystem; give it once for each.
    #[arg(long, value_name = "IMAGE", global = true)]
    device: Vec<PathBuf>,
    /// The file or block device.
    image: PathBuf,
    #[command(subcommand)]
    what: Option<What>,
}

const EXAMPLES: &str = "Examples:\n  \
    btrfuse inspect data.btrfs\n  \
    btrfuse inspect data.btrfs super\n  \
    btrfuse inspect data.btrfs tree root\n  \
    btrfuse inspect --json data.btrfs tree 256\n  \
    btrfuse inspect data.btrfs block 30408704";

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Every copy of the superblock, with all its fields.
    Super,
    /// Every item of a tree: root, extent, chunk, dev, fs, csum, quota, uuid, free-space,
    /// block-group, data-reloc, log, or the number of a subvolume.
    Tree {
        /// The tree's name or number.
        name: String,
    },
    /// One tree block, believed or not.
    Block {
        /// Its logical address, decimal or 0x….
        #[arg(value_parser = address)]
        bytenr: u64,
    },
}

fn address(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| {
        "write a number, decimal or 0x…; `btrfuse inspect IMAGE tree root` shows addresses"
            .to_owned()
    })
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let at_image = |failure: Failure| failure.at(args.image.display());
    let mut image =
        Image::open(&args.image).map_err(|error| at_image(Failure::of_opening(error)))?;
    for path in &args.device {
        image
            .add(path)
            .map_err(|error| Failure::from(error).at(path.display()))?;
    }
    let mut out = Output::new(args.json);
    let done = match &args.what {
        None => show_image(&image, &mut out),
        Some(What::Super) => show_superblocks(&image, &mut out),
        Some(What::Tree { name }) => show_tree(&image, name, &mut out),
        Some(What::Block { bytenr }) => show_block(&image, Logical(*bytenr), &mut out),
    };
    match done.and_then(|()| out.finish()) {
        // Whoever reads us has read enough: `| head`.
        Err(Stop::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(Stop::Output(error)) => Err(Failure::failed(format!("can't write: {error}"))),
        Err(Stop::Said(failure)) => Err(at_image(failure)),
        Ok(()) => Ok(()),
    }
}

/// Why the showing ended early.
enum Stop {
    Output(std::io::Error),
    Said(Failure),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Said(error.into())
    }
}

fn open(image: &Image) -> Result<Reader, Stop> {
    Reader::open(image).map_err(|error| Stop::Said(signature::explain(error, &*image.device)))
}

/// What the image is, what may be done with it, its trees.
fn show_image(image: &Image, out: &mut Output) -> Result<(), Stop> {
    let mut reader = open(image)?;
    let sb = reader.superblock().clone();
    let all = describe::superblock(&sb);
    let wanted = [
        "label",
        "fsid",
        "metadata_uuid",
        "generation",
        "total_bytes",
        "bytes_used",
        "num_devices",
        "sectorsize",
        "nodesize",
        "csum_type",
        "incompat_flags",
        "compat_ro_flags",
        "flags",
        "log_root",
    ];
    let mut facts: Vec<(&'static str, Fact)> = all
        .0
        .into_iter()
        .filter(|(name, _)| wanted.contains(name))
        .collect();
    let mut trees = vec![tree_facts(
        "ROOT_TREE",
        1,
        sb.root.get(),
        sb.generation.get(),
        sb.root_level,
    )];
    let chunk_generation = sb.chunk_root_generation.get();
    trees.push(tree_facts(
        "CHUNK_TREE",
        3,
        sb.chunk_root.get(),
        chunk_generation,
        sb.chunk_root_level,
    ));
    let (mut problems, mut unfinished) = (Vec::new(), Vec::new());
    reader.walk(reader::root_tree(&sb), &mut |seen| {
        match seen {
            Seen::Block(block) if tree_block::level(block) == 0 => {
                for (key, data) in leaf::items(block) {
                    unfinished.extend(unfinished::in_root_tree(&key));
                    if key.kind == kind::ROOT_ITEM
                        && let Some(root) = RootItem::from_item(data)
                    {
                        trees.push(root_facts(&key, &root));
                    }
                }
            }
            Seen::Block(_) => {}
            Seen::Bad(error) | Seen::BadCopy(error) => problems.push(error.to_string()),
        }
        Ok(())
    })?;
    if let Ok(devices) = reader.find_tree("dev") {
        reader.walk(devices, &mut |seen| {
            if let Seen::Block(block) = seen
                && tree_block::level(block) == 0
            {
                let items = leaf::items(block);
                unfinished
                    .extend(items.filter_map(|(key, data)| unfinished::in_device_tree(&key, data)));
            }
            // What is wrong with the device tree is `inspect tree dev`'s to say.
            Ok(())
        })?;
    }
    facts.extend(access_facts(&sb, unfinished));
    facts.push(("trees", Fact::List(trees)));
    problems.splice(0..0, reader.take_problems());
    if !problems.is_empty() {
        let problem = |words| Facts(vec![("problem", Fact::Words(words))]);
        facts.push((
            "problems",
            Fact::List(problems.into_iter().map(problem).collect()),
        ));
    }
    out.value("image", &Facts(facts))?;
    Ok(())
}

fn access_facts(sb: &Superblock, mut unfinished: Vec<Reason>) -> Vec<(&'static str, Fact)> {
    let list = |reasons: &[Reason]| {
        let facts = |reason: &Reason| {
            Facts(vec![
                ("bit", Fact::Words(reason.bit.clone())),
                ("words", Fact::Words(reason.words.clone())),
                ("hint", Fact::Words(reason.hint.clone())),
            ])
        };
        ("reasons", Fact::List(reasons.iter().map(facts).collect()))
    };
    let access = |words: &str| ("access", Fact::Words(words.into()));
    // A relocation has several trees.
    unfinished.dedup();
    let mut closed = not_yet(sb);
    let mut read_only = unfinished;
    match judge(sb, Want::ReadWrite) {
        Ok(Access::ReadWrite) => {}
        Ok(Access::ReadOnly { reasons }) => read_only.extend(reasons),
        Err(refusal) => closed.extend(refusal.reasons),
    }
    if !closed.is_empty() {
        vec![access("none"), list(&closed)]
    } else if !read_only.is_empty() {
        vec![access("read-only"), list(&read_only)]
    } else {
        vec![access("read-write")]
    }
}

/// What the format allows and a mount of this version doesn't do at all.
fn not_yet(sb: &Superblock) -> Vec<Reason> {
    let mut closed = Vec::new();
    if sb.num_devices.get() > 1 {
        closed.push(Reason::new(
            format!("num_devices {}", sb.num_devices),
            "filesystems over several devices can't be mounted yet",
            "mount it with the Linux kernel, or remove the other devices there (btrfs device \
             remove)",
        ));
    }
    closed
}

fn tree_facts(name: &str, objectid: u64, root: u64, generation: u64, level: u8) -> Facts {
    Facts(vec![
        ("tree", Fact::Words(name.into())),
        ("objectid", Fact::Number(objectid)),
        ("bytenr", Fact::Number(root)),
        ("generation", Fact::Number(generation)),
        ("level", Fact::Number(level.into())),
    ])
}

fn root_facts(key: &Key, root: &RootItem) -> Facts {
    let name = match ids::tree_name(key.objectid) {
        Some(name) => name.to_owned(),
        None if ids::is_subvolume(key.objectid) => format!("subvolume {}", key.objectid),
        None => key.objectid.to_string(),
    };
    let (at, generation) = (root.bytenr.get(), root.generation.get());
    let mut facts = tree_facts(&name, key.objectid, at, generation, root.level);
    if root.is_read_only() {
        facts.0.push(("flags", Fact::Words("RDONLY".into())));
    }
    if root.refs.get() == 0 {
        facts.0.push(("state", Fact::Words("being deleted".into())));
    }
    facts
}

/// Every copy, the bad ones too.
fn show_superblocks(image: &Image, out: &mut Output) -> Result<(), Stop> {
    let mut copies = Vec::new();
    for at in SUPER_MIRRORS {
        let mut bytes = vec![0; 4096];
        if image.device.read_at(at, &mut bytes).is_err() {
            continue; // behind the device's end
        }
        let Some(sb) = Superblock::read(&bytes) else {
            continue;
        };
        let verdict = match Superblock::parse_at(&bytes, at) {
            Ok(_) => "good".to_owned(),
            Err(error) => error.to_string(),
        };
        let mut facts = vec![("at", Fact::Number(at)), ("verdict", Fact::Words(verdict))];
        // Where the magic is missing, the rest are no fields.
        if sb.magic.get() == crate::ondisk::superblock::MAGIC {
            facts.extend(describe::superblock(sb).0);
            facts.extend(access_facts(sb, Vec::new()));
        }
        copies.push(Facts(facts));
    }
    out.value("superblocks", &Facts(vec![("copies", Fact::List(copies))]))?;
    Ok(())
}

fn show_tree(image: &Image, name: &str, out: &mut Output) -> Result<(), Stop> {
    let mut reader = open(image)?;
    let meaning = reader.meaning();
    let expect = reader.find_tree(name)?;
    for problem in reader.take_problems() {
        out.problem(&problem)?;
    }
    reader.walk(expect, &mut |seen| match seen {
        Seen::Block(block) => show_content(block, meaning, out),
        Seen::Bad(error) | Seen::BadCopy(error) => out.problem(&error.to_string()),
    })?;
    Ok(())
}

/// A believed block's header and content.
fn show_content(block: &[u8], meaning: describe::Meaning, out: &mut Output) -> std::io::Result<()> {
    out.value("block", &describe::header(tree_block::header(block)))?;
    for slot in 0..tree_block::nritems(block) {
        if tree_block::level(block) > 0 {
            let ptr = node::key_ptr(block, slot);
            out.pointer(
                slot,
                &ptr.key.get(),
                ptr.blockptr.get(),
                ptr.generation.get(),
            )?;
        } else {
            let (key, range) = (leaf::item_key(block, slot), leaf::item_range(block, slot));
            let facts = describe::item(&key, &block[range.clone()], meaning);
            out.item(slot, &key, range.len(), &facts)?;
        }
    }
    Ok(())
}

/// One block: what each copy is worth, then the content as far as it can be told.
fn show_block(image: &Image, at: Logical, out: &mut Output) -> Result<(), Stop> {
    let reader = open(image)?;
    if !reader.is_mapped(at) {
        return Err(Stop::Said(Failure::refused(format!(
            "no chunk has the address {at}; `btrfuse inspect IMAGE tree chunk` lists the chunks, \
             and without a word behind IMAGE the roots of trees are shown"
        ))));
    }
    let copies = reader.copies(at)?;
    for (number, (_, verdict)) in copies.iter().enumerate() {
        let verdict = match verdict {
            Ok(()) => "good".to_owned(),
            Err(error) => error.to_string(),
        };
        let facts = Facts(vec![
            ("copy", Fact::Number(number as u64 + 1)),
            ("verdict", Fact::Words(verdict)),
        ]);
        out.value("copy", &facts)?;
    }
    if let Some((block, _)) = copies.iter().find(|(_, verdict)| verdict.is_ok()) {
        show_content(block, reader.meaning(), out)?;
    } else if let Some((block, _)) = copies.iter().find(|(block, _)| !block.is_empty()) {
        show_doubtful(block, reader.meaning(), out)?;
    }
    Ok(())
}

/// A block that isn't believed: every entry that lies inside of it.
fn show_doubtful(
    block: &[u8],
    meaning: describe::Meaning,
    out: &mut Output,
) -> std::io::Result<()> {
    out.value("block", &describe::header(tree_block::header(block)))?;
    let count = tree_block::nritems(block);
    for slot in 0..count {
        if tree_block::level(block) > 0 {
            let Some(ptr) = node::try_key_ptr(block, slot) else {
                break;
            };
            out.pointer(
                slot,
                &ptr.key.get(),
                ptr.blockptr.get(),
                ptr.generation.get(),
            )?;
            continue;
        }
        let Some(item) = leaf::try_item(block, slot) else {
            break;
        };
        let key = item.key.get();
        match leaf::try_item_data(block, slot) {
            Some(data) => {
                out.item(slot, &key, data.len(), &describe::item(&key, data, meaning))?;
            }
            None => out.problem(&format!("slot {slot}: {key}: data outside of the block"))?,
        }
    }
    Ok(())
}
