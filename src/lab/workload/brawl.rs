//! The folder where any name may vanish, change or appear at any time: what is done there, and
//! which refusals a race explains.

use super::features::Features;
use super::mix::Kind;
use super::name::Name;
use super::operation::{Allocate, Look, Operation, Replace, Special, Way};
use super::rng::Rng;
use super::stamp::Stamp;
use rustix::io::Errno;

fn name(rng: &mut Rng) -> Name {
    match rng.below(3) {
        0 => Name(format!("d{}", rng.below(8)).into_bytes()),
        1 => Name(format!("f{}", rng.below(60)).into_bytes()),
        _ => Name(format!("d{}/f{}", rng.below(8), rng.below(60)).into_bytes()),
    }
}

/// Something to do there. No mappings: a file that another process cuts would end this one.
pub fn invent(rng: &mut Rng, stamp: Stamp, features: &Features) -> Operation {
    let (path, to) = (name(rng), name(rng));
    let (offset, len) = (rng.below(100_000), 1 + rng.below(20_000));
    let xattrs = !features.lacks(Kind::Setfattr);
    match rng.below(40) {
        0..=4 => Operation::Create { path, mode: 0o644 },
        5..=6 => Operation::Mkdir { path, mode: 0o755 },
        7 => Operation::Symlink {
            path,
            target: Name::from("f1"),
        },
        8 => Operation::Mknod {
            path,
            what: Special::Fifo,
            mode: 0o600,
        },
        9..=10 => Operation::Link { from: path, to },
        11..=15 => Operation::Unlink { path },
        16 => Operation::Rmdir { path },
        17..=20 => Operation::Rename {
            from: path,
            to,
            replace: Replace::Plain,
        },
        21 => Operation::Rename {
            from: path,
            to,
            replace: Replace::Never,
        },
        22 if !features.lacks(Kind::Rexchange) => Operation::Rename {
            from: path,
            to,
            replace: Replace::Exchange,
        },
        23..=25 => Operation::Write {
            path,
            offset,
            len,
            stamp,
            way: Way::At,
        },
        26 => Operation::Write {
            path,
            offset: 0,
            len,
            stamp,
            way: Way::Append,
        },
        27 => Operation::Truncate {
            path,
            size: rng.below(80_000),
        },
        28 if !features.lacks(Kind::Punch) => Operation::Fallocate {
            path,
            what: Allocate::Punch,
            offset,
            len,
        },
        29 if xattrs => {
            let len = rng.below(if features.large_xattrs { 900 } else { 40 }) as usize;
            Operation::SetXattr {
                path,
                name: "user.s-brawl".into(),
                len,
                stamp,
            }
        }
        30 if xattrs => Operation::RemoveXattr {
            path,
            name: "user.s-brawl".into(),
        },
        31 if xattrs => Operation::GetXattr {
            path,
            name: "user.s-brawl".into(),
        },
        32..=33 => Operation::Read {
            path,
            offset,
            len,
            look: Look::At,
        },
        34 => Operation::ReadDir {
            path: Name::default(),
        },
        35 => Operation::ReadLink { path },
        36 => Operation::Chmod {
            path,
            mode: features.brawl_mode(0o600 + rng.below(0o200) as u32),
        },
        37 if rng.one_in(20) => Operation::Fsync {
            path,
            data_only: false,
        },
        _ => Operation::Stat { path },
    }
}

/// Whether a race, or what may lie at a name, explains a refusal.
pub fn explains(operation: &Operation, error: Errno) -> bool {
    // The way to a name: gone, no directory, a link in place of one.
    const WAY: &[Errno] = &[Errno::NOENT, Errno::NOTDIR, Errno::LOOP];
    const OPEN: &[Errno] = &[Errno::ISDIR, Errno::NXIO, Errno::ACCESS];
    let own: &[Errno] = match operation {
        Operation::Create { .. }
        | Operation::Mkdir { .. }
        | Operation::Mknod { .. }
        | Operation::Symlink { .. } => &[Errno::EXIST],
        Operation::Link { .. } => &[Errno::EXIST, Errno::PERM, Errno::MLINK],
        Operation::Unlink { .. } => &[Errno::ISDIR],
        Operation::Rmdir { .. } => &[Errno::NOTEMPTY],
        Operation::Rename { .. } => &[Errno::EXIST, Errno::NOTEMPTY, Errno::ISDIR, Errno::INVAL],
        // A pipe has no offsets, no length and no ranges.
        Operation::Write { .. }
        | Operation::Truncate { .. }
        | Operation::Fallocate { .. }
        | Operation::Read { .. } => &[Errno::SPIPE, Errno::INVAL, Errno::NODEV, Errno::AGAIN],
        Operation::Fsync { .. } => &[Errno::INVAL],
        Operation::SetXattr { .. } | Operation::GetXattr { .. } | Operation::RemoveXattr { .. } => {
            &[Errno::NODATA, Errno::PERM, Errno::OPNOTSUPP]
        }
        Operation::ReadLink { .. } => &[Errno::INVAL],
        Operation::Chmod { .. } => &[Errno::PERM, Errno::OPNOTSUPP],
        _ => &[],
    };
    let opens = matches!(
        operation,
        Operation::Write { .. }
            | Operation::Truncate { .. }
            | Operation::Fallocate { .. }
            | Operation::Read { .. }
            | Operation::Fsync { .. }
    );
    WAY.contains(&error) || own.contains(&error) || (opens && OPEN.contains(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_race_explains_what_is_gone_and_never_a_broken_disk() {
        let unlink = Operation::Unlink { path: "f1".into() };
        assert!(explains(&unlink, Errno::NOENT));
        assert!(!explains(&unlink, Errno::NOTEMPTY));
        let mut rng = Rng::new(1, 2);
        for step in 0..2000 {
            let operation = invent(&mut rng, Stamp::new(0, step), &Features::default());
            for error in [
                Errno::IO,
                Errno::UCLEAN,
                Errno::ROFS,
                Errno::NOSPC,
                Errno::STALE,
            ] {
                assert!(!explains(&operation, error), "{operation}: {error}");
            }
        }
    }
}
