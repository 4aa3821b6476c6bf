//! Items about devices and chunks.

use super::super::*;
use super::{Facts, numbers};

pub(super) fn chunk(data: &[u8]) -> Option<Facts> {
    let (head, stripes) = Chunk::parse(data)?;
    Some(chunk_of(head, stripes))
}

/// Also of the superblock's system chunks.
pub(super) fn chunk_of(head: &Chunk, stripes: &[Stripe]) -> Facts {
    let facts = numbers!(Facts::default(), head, length, owner, stripe_len)
        .words("type", block_group_flags_words(head.kind.get()));
    let facts = numbers!(
        facts,
        head,
        io_align,
        io_width,
        sector_size,
        num_stripes,
        sub_stripes
    );
    facts.list(
        "stripes",
        stripes.iter().map(|stripe| {
            numbers!(Facts::default(), stripe, devid, offset)
                .words("dev_uuid", uuid_words(&stripe.dev_uuid))
        }),
    )
}

pub(super) fn strides(data: &[u8]) -> Option<Facts> {
    let strides = RaidStride::all(data)?.iter();
    let facts = strides.map(|it| numbers!(Facts::default(), it, devid, physical));
    Some(Facts::default().list("strides", facts))
}

pub(super) fn dev_item(data: &[u8]) -> Option<Facts> {
    DevItem::read(data).map(device)
}

/// Also of the superblock's own device.
pub(super) fn device(it: &DevItem) -> Facts {
    numbers!(
        Facts::default(),
        it,
        devid,
        total_bytes,
        bytes_used,
        io_align,
        io_width,
        sector_size,
        generation,
        start_offset,
        dev_group
    )
    .number("type", it.kind.get())
    .number("seek_speed", it.seek_speed)
    .number("bandwidth", it.bandwidth)
    .words("uuid", uuid_words(&it.uuid))
    .words("fsid", uuid_words(&it.fsid))
}

pub(super) fn dev_extent(data: &[u8]) -> Option<Facts> {
    let extent = DevExtent::read(data)?;
    Some(
        numbers!(
            Facts::default(),
            extent,
            chunk_tree,
            chunk_objectid,
            chunk_offset,
            length
        )
        .words("chunk_tree_uuid", uuid_words(&extent.chunk_tree_uuid)),
    )
}

pub(super) fn dev_stats(data: &[u8]) -> Option<Facts> {
    let [write, read, flush, corruption, generation] = DevStatsItem::read(data)?.values;
    Some(
        Facts::default()
            .number("write_errs", write.get())
            .number("read_errs", read.get())
            .number("flush_errs", flush.get())
            .number("corruption_errs", corruption.get())
            .number("generation_errs", generation.get()),
    )
}

pub(super) fn dev_replace(data: &[u8]) -> Option<Facts> {
    let it = DevReplaceItem::read(data)?;
    let state = match it.replace_state.get() {
        DEV_REPLACE_STATE_NEVER_STARTED => "never started",
        DEV_REPLACE_STATE_STARTED => "started",
        DEV_REPLACE_STATE_FINISHED => "finished",
        DEV_REPLACE_STATE_CANCELED => "canceled",
        DEV_REPLACE_STATE_SUSPENDED => "suspended",
        _ => "unknown",
    };
    let facts = Facts::default().words("state", state);
    Some(numbers!(
        facts,
        it,
        src_devid,
        cursor_left,
        cursor_right,
        time_started,
        time_stopped,
        num_write_errors,
        num_uncorrectable_read_errors
    ))
}
