//! Headers of tree blocks, and superblocks.

use super::super::gates::{compat_ro_names, incompat_names, super_flag_names};
use super::super::tree_block::{HEADER_FLAG_RELOC, HEADER_FLAG_WRITTEN, Header};
use super::super::*;
use super::{Facts, flag_words, mapping, numbers};

/// The facts of a tree block's header.
pub fn header(header: &Header) -> Facts {
    let owner = header.owner.get();
    let flags = header.flags.get() << 8 >> 8;
    let names = &[
        (HEADER_FLAG_WRITTEN, "WRITTEN"),
        (HEADER_FLAG_RELOC, "RELOC"),
    ];
    numbers!(Facts::default(), header, bytenr, generation)
        .number("level", header.level)
        .number("nritems", header.nritems.get())
        .words(
            "owner",
            ids::tree_name(owner).map_or_else(|| owner.to_string(), Into::into),
        )
        .words("flags", flag_words(flags, names))
        .number("backref_rev", header.backref_rev())
        .words("csum", hex(&header.csum))
        .words("fsid", uuid_words(&header.fsid))
        .words("chunk_tree_uuid", uuid_words(&header.chunk_tree_uuid))
}

/// Bytes as hexadecimal digits, without the zeroes that pad them.
fn hex(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(1, |last| last + 1);
    bytes[..end.min(bytes.len())]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The facts of a superblock, whatever is wrong with it.
pub fn superblock(sb: &Superblock) -> Facts {
    let csum_type = match sb.csum_type() {
        Ok(csum) => csum.name().to_owned(),
        Err(_) => format!("unknown ({})", sb.csum_type),
    };
    let list = |names: Vec<String>| {
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join("|")
        }
    };
    let facts = Facts::default()
        .name("label", sb.label())
        .words("fsid", uuid_words(&sb.fsid))
        .words("metadata_uuid", uuid_words(sb.header_fsid()))
        .number("bytenr", sb.bytenr.get())
        .words("magic", String::from_utf8_lossy(sb.magic.as_bytes()))
        .words("csum_type", csum_type)
        .words("csum", hex(&sb.csum))
        .words("flags", list(super_flag_names(sb.flags.get())));
    let facts = numbers!(facts, sb, generation, root)
        .number("root_level", sb.root_level)
        .number("chunk_root", sb.chunk_root.get())
        .number("chunk_root_generation", sb.chunk_root_generation.get())
        .number("chunk_root_level", sb.chunk_root_level)
        .number("log_root", sb.log_root.get())
        .number("log_root_level", sb.log_root_level);
    let facts = numbers!(
        facts,
        sb,
        total_bytes,
        bytes_used,
        num_devices,
        sectorsize,
        nodesize,
        stripesize,
        root_dir_objectid,
        compat_flags
    );
    facts
        .words(
            "compat_ro_flags",
            list(compat_ro_names(sb.compat_ro_flags.get())),
        )
        .words(
            "incompat_flags",
            list(incompat_names(sb.incompat_flags.get())),
        )
        .number("cache_generation", sb.cache_generation.get())
        .number("uuid_tree_generation", sb.uuid_tree_generation.get())
        .number("sys_chunk_array_size", sb.sys_chunk_array_size.get())
        .list("dev_item", [mapping::device(&sb.dev_item)])
        .list("sys_chunks", sb.sys_chunks().map(sys_chunk))
        .list(
            "backup_roots",
            sb.super_roots
                .iter()
                .filter(|it| it.tree_root_gen != 0)
                .map(backup),
        )
}

fn sys_chunk(it: SysChunk) -> Facts {
    let mut facts = Facts::default().number("logical", it.key.offset);
    facts.0.extend(mapping::chunk_of(it.chunk, it.stripes).0);
    facts
}

fn backup(it: &RootBackup) -> Facts {
    numbers!(
        Facts::default(),
        it,
        tree_root_gen,
        tree_root,
        chunk_root,
        chunk_root_gen,
        extent_root,
        extent_root_gen,
        fs_root,
        fs_root_gen,
        dev_root,
        dev_root_gen,
        csum_root,
        csum_root_gen,
        total_bytes,
        bytes_used,
        num_devices
    )
}
