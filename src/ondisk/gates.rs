//! The gates: what a superblock's features and flags let us do with an image, in words.
//!
//! Owns: the table of feature bits. Never: anything that needs more than the superblock; who
//! finds a balance or a replacement under way while mounting adds a [`Reason`] of its own.
//!
//! The rule of the format: an unknown incompat bit forbids everything, an unknown compat_ro bit
//! forbids writing. Every reason names the bit and what the user can do.

use super::superblock::*;
use super::tree_block::HEADER_FLAG_WRITTEN;

/// What a mount wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// To read; a log tree, if there is one, is to be replayed in memory.
    ReadOnly,
    /// To read the last commit, whatever the log tree holds (`nologreplay`).
    ReadOnlyNoLogReplay,
    /// To read and write.
    ReadWrite,
}

/// What a mount may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everything.
    ReadWrite,
    /// Only read.
    ReadOnly {
        /// Why writing is out of the question; empty where only reading was wanted.
        reasons: Vec<Reason>,
    },
}

/// Why something is not done: the bit, the matter in words, and what the user can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// The feature's or flag's name, such as `incompat ZONED`.
    pub bit: String,
    /// What it means here.
    pub words: String,
    /// What the user can do.
    pub hint: String,
}

impl Reason {
    /// A reason of three parts.
    pub fn new(bit: impl Into<String>, words: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            bit: bit.into(),
            words: words.into(),
            hint: hint.into(),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.bit, self.words, self.hint)
    }
}

/// The image is not opened at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Every reason that was found.
    pub reasons: Vec<Reason>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, reason) in self.reasons.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{reason}")?;
        }
        Ok(())
    }
}

impl From<Refusal> for crate::error::Error {
    fn from(refusal: Refusal) -> Self {
        Self::Unsupported(refusal.to_string())
    }
}

/// What an incompat feature lets us do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gate {
    Open,
    ReadOnly(&'static str, &'static str),
    Closed(&'static str, &'static str),
}

const USE_LINUX: &str = "mount it with the Linux kernel instead";

/// Every incompat bit that has a name: bit, name, gate.
const INCOMPAT: &[(u64, &str, Gate)] = &[
    (FEATURE_INCOMPAT_MIXED_BACKREF, "MIXED_BACKREF", Gate::Open),
    (
        FEATURE_INCOMPAT_DEFAULT_SUBVOL,
        "DEFAULT_SUBVOL",
        Gate::Open,
    ),
    (FEATURE_INCOMPAT_MIXED_GROUPS, "MIXED_GROUPS", Gate::Open),
    (FEATURE_INCOMPAT_COMPRESS_LZO, "COMPRESS_LZO", Gate::Open),
    (FEATURE_INCOMPAT_COMPRESS_ZSTD, "COMPRESS_ZSTD", Gate::Open),
    (FEATURE_INCOMPAT_BIG_METADATA, "BIG_METADATA", Gate::Open),
    (FEATURE_INCOMPAT_EXTENDED_IREF, "EXTENDED_IREF", Gate::Open),
    (
        FEATURE_INCOMPAT_RAID56,
        "RAID56",
        Gate::ReadOnly("parity is not written", "use it read-only"),
    ),
    (
        FEATURE_INCOMPAT_SKINNY_METADATA,
        "SKINNY_METADATA",
        Gate::Open,
    ),
    (FEATURE_INCOMPAT_NO_HOLES, "NO_HOLES", Gate::Open),
    (FEATURE_INCOMPAT_METADATA_UUID, "METADATA_UUID", Gate::Open),
    (FEATURE_INCOMPAT_RAID1C34, "RAID1C34", Gate::Open),
    (
        FEATURE_INCOMPAT_ZONED,
        "ZONED",
        Gate::Closed("zoned devices are not known here", USE_LINUX),
    ),
    (
        FEATURE_INCOMPAT_EXTENT_TREE_V2,
        "EXTENT_TREE_V2",
        Gate::Closed(
            "the second extent tree format is an experiment",
            "use the btrfs-progs that made it",
        ),
    ),
    (
        FEATURE_INCOMPAT_RAID_STRIPE_TREE,
        "RAID_STRIPE_TREE",
        Gate::Closed("the raid stripe tree is not known here", USE_LINUX),
    ),
    (
        FEATURE_INCOMPAT_SIMPLE_QUOTA,
        "SIMPLE_QUOTA",
        Gate::ReadOnly(
            "owner references of extents are not kept",
            "use it read-only, or turn simple quotas off with `btrfs quota disable` in Linux",
        ),
    ),
    (
        FEATURE_INCOMPAT_REMAP_TREE,
        "REMAP_TREE",
        Gate::Closed("the remap tree is not known here", USE_LINUX),
    ),
];

/// Every compat_ro bit that has a name.
const COMPAT_RO: &[(u64, &str)] = &[
    (FEATURE_COMPAT_RO_FREE_SPACE_TREE, "FREE_SPACE_TREE"),
    (
        FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID,
        "FREE_SPACE_TREE_VALID",
    ),
    (FEATURE_COMPAT_RO_VERITY, "VERITY"),
    (FEATURE_COMPAT_RO_BLOCK_GROUP_TREE, "BLOCK_GROUP_TREE"),
];

/// Every super flag that has a name.
const FLAGS: &[(u64, &str)] = &[
    (HEADER_FLAG_WRITTEN, "WRITTEN"),
    (1 << 1, "RELOC"),
    (SUPER_FLAG_ERROR, "ERROR"),
    (SUPER_FLAG_SEEDING, "SEEDING"),
    (SUPER_FLAG_METADUMP, "METADUMP"),
    (SUPER_FLAG_METADUMP_V2, "METADUMP_V2"),
    (SUPER_FLAG_CHANGING_FSID, "CHANGING_FSID"),
    (SUPER_FLAG_CHANGING_FSID_V2, "CHANGING_FSID_V2"),
    (SUPER_FLAG_CHANGING_BG_TREE, "CHANGING_BG_TREE"),
    (SUPER_FLAG_CHANGING_DATA_CSUM, "CHANGING_DATA_CSUM"),
    (SUPER_FLAG_CHANGING_META_CSUM, "CHANGING_META_CSUM"),
];

/// Names of the incompat features in `bits`; unknown ones as numbers.
pub fn incompat_names(bits: u64) -> Vec<String> {
    names(bits, INCOMPAT.iter().map(|&(bit, name, _)| (bit, name)))
}

/// Names of the compat_ro features in `bits`; unknown ones as numbers.
pub fn compat_ro_names(bits: u64) -> Vec<String> {
    names(bits, COMPAT_RO.iter().copied())
}

/// Names of the super flags in `bits`; unknown ones as numbers.
pub fn super_flag_names(bits: u64) -> Vec<String> {
    names(bits, FLAGS.iter().copied())
}

fn names(bits: u64, table: impl Iterator<Item = (u64, &'static str)>) -> Vec<String> {
    let mut rest = bits;
    let mut names = Vec::new();
    for (bit, name) in table {
        if bits & bit != 0 {
            names.push(name.to_owned());
            rest &= !bit;
        }
    }
    while rest != 0 {
        let bit = rest & rest.wrapping_neg();
        names.push(format!("unknown bit {}", bit.trailing_zeros()));
        rest &= !bit;
    }
    names
}

/// Judges an image by its superblock: what a mount that wants `want` may do.
pub fn judge(sb: &Superblock, want: Want) -> Result<Access, Refusal> {
    let mut closed = Vec::new();
    let mut read_only = Vec::new();
    judge_incompat(sb, &mut closed, &mut read_only);
    judge_compat_ro(sb, want, &mut closed, &mut read_only);
    judge_flags(sb, &mut closed, &mut read_only);
    if !closed.is_empty() {
        return Err(Refusal { reasons: closed });
    }
    Ok(match want {
        Want::ReadWrite if read_only.is_empty() => Access::ReadWrite,
        Want::ReadWrite => Access::ReadOnly { reasons: read_only },
        Want::ReadOnly | Want::ReadOnlyNoLogReplay => Access::ReadOnly {
            reasons: Vec::new(),
        },
    })
}

fn judge_incompat(sb: &Superblock, closed: &mut Vec<Reason>, read_only: &mut Vec<Reason>) {
    let bits = sb.incompat_flags.get();
    if bits & FEATURE_INCOMPAT_MIXED_BACKREF == 0 {
        closed.push(Reason::new(
            "incompat MIXED_BACKREF (bit 0)",
            "is not set: the image is of the format before 2009",
            "copy its files with a Linux kernel of that time",
        ));
    }
    let mut known = 0;
    for &(bit, name, gate) in INCOMPAT {
        known |= bit;
        if bits & bit == 0 {
            continue;
        }
        let bit = format!("incompat {name} (bit {})", bit.trailing_zeros());
        match gate {
            Gate::Open => {}
            Gate::ReadOnly(words, hint) => read_only.push(Reason::new(bit, words, hint)),
            Gate::Closed(words, hint) => closed.push(Reason::new(bit, words, hint)),
        }
    }
    for at in (0..64).filter(|at| bits & !known & (1 << at) != 0) {
        closed.push(Reason::new(
            format!("incompat bit {at}"),
            "is a feature that this version does not know",
            "use a newer btrfuse or the Linux kernel that made it",
        ));
    }
}

fn judge_compat_ro(
    sb: &Superblock,
    want: Want,
    closed: &mut Vec<Reason>,
    read_only: &mut Vec<Reason>,
) {
    let bits = sb.compat_ro_flags.get();
    let tree = bits & FEATURE_COMPAT_RO_FREE_SPACE_TREE != 0;
    let valid = tree && bits & FEATURE_COMPAT_RO_FREE_SPACE_TREE_VALID != 0;
    if tree && !valid {
        read_only.push(Reason::new(
            "compat_ro FREE_SPACE_TREE_VALID (bit 1)",
            "is not set: the free space tree is out of date",
            "mount it once with the Linux kernel, which rebuilds it, or use it read-only",
        ));
    }
    let no_holes = sb.has_incompat(FEATURE_INCOMPAT_NO_HOLES);
    if bits & FEATURE_COMPAT_RO_BLOCK_GROUP_TREE != 0 && !(valid && no_holes) {
        closed.push(Reason::new(
            "compat_ro BLOCK_GROUP_TREE (bit 3)",
            "needs NO_HOLES and a valid free space tree, which the image lacks",
            "check it with `btrfs check`",
        ));
    }
    let known = COMPAT_RO.iter().fold(0, |known, (bit, _)| known | bit);
    for at in (0..64).filter(|at| bits & !known & (1 << at) != 0) {
        let bit = format!("compat_ro bit {at}");
        let words = "is a feature that this version does not know";
        if sb.log_root.get() != 0 && want != Want::ReadOnlyNoLogReplay {
            closed.push(Reason::new(
                bit,
                format!("{words}, and there is a log tree, whose replay changes trees"),
                "use `-o ro,nologreplay` to see the last commit",
            ));
        } else {
            let hint = "use it read-only, or with a newer btrfuse or Linux kernel";
            read_only.push(Reason::new(bit, words, hint));
        }
    }
}

fn judge_flags(sb: &Superblock, closed: &mut Vec<Reason>, read_only: &mut Vec<Reason>) {
    let flags = sb.flags.get();
    let set = |flag: u64| flags & flag != 0;
    for (flag, words, hint) in [
        (
            SUPER_FLAG_CHANGING_FSID | SUPER_FLAG_CHANGING_FSID_V2,
            "a change of the filesystem id was interrupted",
            "let `btrfstune` finish it",
        ),
        (
            SUPER_FLAG_CHANGING_BG_TREE,
            "a conversion to or from the block group tree was interrupted",
            "let `btrfstune --convert-to-block-group-tree` finish it",
        ),
        (
            SUPER_FLAG_CHANGING_DATA_CSUM | SUPER_FLAG_CHANGING_META_CSUM,
            "a change of the checksum type was interrupted",
            "let `btrfstune --csum` finish it",
        ),
    ] {
        if set(flag) {
            let names = super_flag_names(flags & flag).join(", ");
            closed.push(Reason::new(format!("super flag {names}"), words, hint));
        }
    }
    if set(SUPER_FLAG_SEEDING) {
        read_only.push(Reason::new(
            "super flag SEEDING",
            "a seed device is never written",
            "use it read-only, or clear the flag with `btrfstune -S 0`",
        ));
    }
    if set(SUPER_FLAG_METADUMP | SUPER_FLAG_METADUMP_V2) {
        read_only.push(Reason::new(
            "super flag METADUMP",
            "the image was restored from a metadata dump and has no file data",
            "use it read-only",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::superblock::tests::sample;
    use super::*;

    fn judged(change: impl Fn(&mut Superblock), want: Want) -> Result<Access, Refusal> {
        let mut sb = sample();
        change(&mut sb);
        judge(&sb, want)
    }

    #[test]
    fn a_usual_image_is_writable() {
        assert_eq!(judged(|_| {}, Want::ReadWrite), Ok(Access::ReadWrite));
        let read_only = Access::ReadOnly {
            reasons: Vec::new(),
        };
        assert_eq!(judged(|_| {}, Want::ReadOnly), Ok(read_only));
    }

    #[test]
    fn unknown_and_unsupported_incompat_bits_refuse_by_name() {
        for (bits, word) in [
            (0x361 | FEATURE_INCOMPAT_ZONED, "ZONED (bit 12)"),
            (0x361 | 1 << 40, "incompat bit 40"),
            (0x360, "MIXED_BACKREF"),
        ] {
            let refusal = judged(|sb| sb.incompat_flags.set(bits), Want::ReadOnly).unwrap_err();
            let words = refusal.to_string();
            assert!(
                words.contains(word) && !refusal.reasons[0].hint.is_empty(),
                "{words}"
            );
        }
    }

    #[test]
    fn unknown_compat_ro_bits_allow_reading() {
        let change = |sb: &mut Superblock| sb.compat_ro_flags.set(0xb | 1 << 20);
        match judged(change, Want::ReadWrite) {
            Ok(Access::ReadOnly { reasons }) => assert_eq!(reasons[0].bit, "compat_ro bit 20"),
            other => panic!("{other:?}"),
        }
        let with_log = |sb: &mut Superblock| {
            change(sb);
            sb.log_root.set(1 << 20);
        };
        assert!(judged(with_log, Want::ReadOnly).is_err());
        assert!(judged(with_log, Want::ReadOnlyNoLogReplay).is_ok());
    }

    #[test]
    fn flags_of_half_done_changes_refuse_and_dumps_are_read_only() {
        let changing = |sb: &mut Superblock| sb.flags.set(SUPER_FLAG_CHANGING_FSID_V2 | 1);
        assert!(judged(changing, Want::ReadOnly).is_err());
        let dump = |sb: &mut Superblock| sb.flags.set(SUPER_FLAG_METADUMP | 1);
        assert!(matches!(
            judged(dump, Want::ReadWrite),
            Ok(Access::ReadOnly { .. })
        ));
    }

    #[test]
    fn a_block_group_tree_needs_its_companions() {
        let alone = |sb: &mut Superblock| sb.compat_ro_flags.set(0x8);
        let words = judged(alone, Want::ReadOnly).unwrap_err().to_string();
        assert!(words.contains("NO_HOLES"), "{words}");
    }

    #[test]
    fn bits_are_named() {
        assert_eq!(
            incompat_names(1 | 1 << 40),
            ["MIXED_BACKREF", "unknown bit 40"]
        );
        assert_eq!(compat_ro_names(0xb).len(), 3);
    }
}
