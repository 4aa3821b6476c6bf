//! Where a subject can't answer as the kernel does, and why. Each excuse names one answer to one kind of
//! step; everything else is a difference.

use crate::step::{Step, Time};
use crate::subject::{AROUND, Answer, Subject};
use btrfuse_test_support::Manifest;
use rustix::io::Errno;
use serde_json::Value;
use std::collections::BTreeSet;

/// The reason why `found` is to be expected of the subject where the kernel says `expected`.
pub fn excuse(
    name: &str,
    step: &Step,
    expected: &Answer,
    found: &Answer,
    reference: &mut dyn Subject,
) -> Option<&'static str> {
    match (name, step, expected, found) {
        ("our mount", Step::Tmpfile { .. }, Ok(_), Err(Errno::OPNOTSUPP)) => {
            Some("fuser has no FUSE_TMPFILE (docs/semantics.md)")
        }
        (_, Step::SetXattr { .. }, Err(Errno::NOSPC), Ok(_)) => replaced(reference, step),
        // The kernel has data there, we have a hole.
        (_, Step::SeekData { on, .. }, Ok(from), _) => {
            let from = from.as_u64().expect("a place");
            let end = (from / SECTOR + 1) * SECTOR;
            let behind = Step::SeekData {
                on: on.clone(),
                offset: end.cast_signed(),
            };
            let reason = zeros(reference, on, from, end)?;
            (reference.step(&behind) == *found).then_some(reason)
        }
        (_, Step::SeekHole { on, .. }, Ok(to), Ok(from)) => {
            let (from, to) = (
                from.as_u64().expect("a place"),
                to.as_u64().expect("a place"),
            );
            (from < to).then(|| zeros(reference, on, from, to))?
        }
        _ => None,
    }
}

/// The kernel must take the value as soon as the old one is gone.
fn replaced(reference: &mut dyn Subject, set: &Step) -> Option<&'static str> {
    let mut set = set.clone();
    let Step::SetXattr {
        on,
        name,
        flags,
        follow,
        ..
    } = &mut set
    else {
        return None;
    };
    *flags = 0;
    let remove = Step::RemoveXattr {
        on: on.clone(),
        name: name.clone(),
        follow: *follow,
    };
    reference.step(&remove).ok()?;
    reference.step(&set).ok()?;
    Some(
        "the kernel wants room for the old value and the new one in one leaf; here the new one does",
    )
}

/// What a step of one answer leaves otherwise, and never can leave alike, is set to what the reference
/// has, so that the case can go on.
pub fn resynchronise(
    step: &Step,
    reference: &mut dyn Subject,
    other: &mut dyn Subject,
) -> Option<&'static str> {
    let Step::Fallocate { on, mode: 3, .. } = step else {
        return None;
    };
    let look = Step::Stat {
        on: on.clone(),
        follow: true,
    };
    let (expected, found) = (reference.step(&look).ok()?, other.step(&look).ok()?);
    if found["mtime"] != "now" {
        return None;
    }
    let (seconds, rest) = (
        expected["mtime"][0].as_i64()?,
        expected["mtime"][1].as_i64()?,
    );
    let set = Step::SetTimes {
        on: on.clone(),
        atime: Time::Omit,
        mtime: Time::At(seconds, rest),
        follow: true,
    };
    other.step(&set).ok()?;
    // The kernel's FUSE moves it before it asks us, so the engine leaves it at that.
    Some("a hole punched where nothing is moves no time of the kernel's, and one of ours")
}

const SECTOR: u64 = 4096;

/// The sector of `from`, where the kernel alone has data, must hold zeros up to `to`.
fn zeros(reference: &mut dyn Subject, on: &str, from: u64, to: u64) -> Option<&'static str> {
    let end = (from / SECTOR + 1) * SECTOR;
    let bytes = reference.peek(on, from, (to.min(end) - from) as usize);
    bytes.iter().all(|byte| *byte == 0).then_some(
        "the kernel writes zeros to the sector of the old end when a file grows; here a hole stays one",
    )
}

/// Takes the places of data out of two walks, and demands that they are the same but for
/// [`zeros`]; the first other one in words.
pub fn data_maps(
    expected: &mut Manifest,
    found: &mut Manifest,
    reference: &mut dyn Subject,
    mut excused: impl FnMut(&'static str),
) -> Result<(), String> {
    for record in &mut found.0 {
        let Some(map) = record.fields.remove("data") else {
            continue;
        };
        let Some(of) = expected.0.iter_mut().find(|it| it.path == record.path) else {
            continue;
        };
        let wanted = of.fields.remove("data").unwrap_or_default();
        let mut rest = sectors(&wanted);
        let ours = sectors(&map);
        let words = || format!("{}: data: {wanted} -> {map}", record.path.escape_ascii());
        if ours.iter().any(|sector| !rest.contains(sector)) {
            return Err(words());
        }
        rest.retain(|sector| !ours.contains(sector));
        let size = of.fields.get("size").and_then(Value::as_u64).unwrap_or(0);
        for sector in rest {
            let on = words_of(&record.path);
            let (from, to) = (sector * SECTOR, size.min((sector + 1) * SECTOR));
            match zeros(reference, &on, from, to) {
                Some(reason) => excused(reason),
                None => return Err(words()),
            }
        }
    }
    // What only one walk has is said by the comparison of the rest.
    for record in &mut expected.0 {
        record.fields.remove("data");
    }
    Ok(())
}

/// The sectors of a map; those of huge files are few, too.
fn sectors(map: &Value) -> BTreeSet<u64> {
    let ranges: Vec<[u64; 2]> = serde_json::from_value(map.clone()).unwrap_or_default();
    ranges
        .iter()
        .flat_map(|[from, to]| from / SECTOR..to.div_ceil(SECTOR))
        .collect()
}

/// A path of a walk as a step names it.
fn words_of(path: &[u8]) -> String {
    let mut out = "../".repeat(AROUND.len());
    for byte in path {
        match byte {
            0xff => {}
            0xfe => {
                out.pop();
                out.push_str("{ff}");
            }
            byte => out.push(char::from(*byte)),
        }
    }
    out
}
