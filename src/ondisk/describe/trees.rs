//! Items about trees: roots, names of subvolumes, UUIDs, quotas, a balance under way.

use super::super::*;
use super::{Facts, files, flag_words, numbers, time_words};

pub(super) fn root_item(data: &[u8]) -> Option<Facts> {
    let root = RootItem::from_item(data)?;
    let flags = &[(ROOT_SUBVOL_RDONLY, "RDONLY"), (ROOT_SUBVOL_DEAD, "DEAD")];
    let facts = numbers!(
        Facts::default(),
        root,
        generation,
        root_dirid,
        bytenr,
        byte_limit,
        bytes_used,
        last_snapshot
    )
    .words("flags", flag_words(root.flags.get(), flags));
    let facts = numbers!(facts, root, refs)
        .key("drop_progress", root.drop_progress.get())
        .number("drop_level", root.drop_level)
        .number("level", root.level);
    let facts = numbers!(facts, root, generation_v2)
        .words("uuid", uuid_words(&root.uuid))
        .words("parent_uuid", uuid_words(&root.parent_uuid))
        .words("received_uuid", uuid_words(&root.received_uuid));
    Some(
        numbers!(facts, root, ctransid, otransid, stransid, rtransid)
            .words("ctime", time_words(&root.ctime))
            .words("otime", time_words(&root.otime))
            .words("stime", time_words(&root.stime))
            .words("rtime", time_words(&root.rtime))
            .list("inode", [files::inode(&root.inode)]),
    )
}

pub(super) fn root_ref(data: &[u8]) -> Option<Facts> {
    let (head, name) = RootRef::parse(data)?;
    Some(numbers!(Facts::default(), head, dirid, sequence).name("name", name))
}

pub(super) fn uuid(key: &Key, data: &[u8]) -> Facts {
    let mut uuid: Uuid = [0; 16];
    uuid[..8].copy_from_slice(&key.objectid.to_le_bytes());
    uuid[8..].copy_from_slice(&key.offset.to_le_bytes());
    let subvolumes = uuid_item_subvolumes(data).map(|id| Facts::default().number("subvolume", id));
    Facts::default()
        .words("uuid", uuid_words(&uuid))
        .list("subvolumes", subvolumes)
}

pub(super) fn quota(key: &Key, data: &[u8]) -> Option<Facts> {
    let facts = Facts::default();
    Some(match key.kind {
        kind::QGROUP_STATUS => {
            let it = QgroupStatusItem::read(data)?;
            let flags = &[
                (QGROUP_STATUS_FLAG_ON, "ON"),
                (QGROUP_STATUS_FLAG_RESCAN, "RESCAN"),
                (QGROUP_STATUS_FLAG_INCONSISTENT, "INCONSISTENT"),
                (QGROUP_STATUS_FLAG_SIMPLE_MODE, "SIMPLE_MODE"),
            ];
            let facts = numbers!(facts, it, version, generation, rescan)
                .words("flags", flag_words(it.flags.get(), flags));
            match QgroupStatusSimple::read(&data[QgroupStatusItem::SIZE..]) {
                Some(it) => numbers!(facts, it, enable_gen),
                None => facts,
            }
        }
        kind::QGROUP_INFO => {
            let it = QgroupInfoItem::read(data)?;
            numbers!(facts, it, generation, rfer, rfer_cmpr, excl, excl_cmpr)
        }
        _ => {
            let it = QgroupLimitItem::read(data)?;
            numbers!(facts, it, flags, max_rfer, max_excl, rsv_rfer, rsv_excl)
        }
    })
}

pub(super) fn balance(data: &[u8]) -> Option<Facts> {
    let it = BalanceItem::read(data)?;
    let filters = |args: &DiskBalanceArgs| {
        numbers!(
            Facts::default(),
            args,
            profiles,
            usage,
            devid,
            pstart,
            pend,
            vstart,
            vend,
            target,
            flags,
            limit,
            stripes_min,
            stripes_max
        )
    };
    Some(
        numbers!(Facts::default(), it, flags)
            .list("data", [filters(&it.data)])
            .list("meta", [filters(&it.meta)])
            .list("sys", [filters(&it.sys)]),
    )
}

pub(super) fn free_space_header(data: &[u8]) -> Option<Facts> {
    let it = FreeSpaceHeader::read(data)?;
    let facts = Facts::default().key("location", it.location.get());
    Some(numbers!(facts, it, generation, num_entries, num_bitmaps))
}
