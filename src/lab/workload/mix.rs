//! How often each kind of operation comes: named mixes, and weights.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Write};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// What a run can do, in the words of fsstress where it has one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[repr(u8)]
        pub enum Kind {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its word in a list of weights.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it is, for the help.
            pub const fn words(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)*),)* }
            }
        }
    };
}

kinds! {
    /// a new file
    Creat = "creat",
    /// a fifo, a socket; a device where the user may
    Mknod = "mknod",
    /// a directory
    Mkdir = "mkdir",
    /// a symbolic link
    Symlink = "symlink",
    /// another name of a file
    Link = "link",
    /// remove a name
    Unlink = "unlink",
    /// remove a directory, also one that isn't empty
    Rmdir = "rmdir",
    /// move, also onto something
    Rename = "rename",
    /// move unless something is there
    Rnoreplace = "rnoreplace",
    /// exchange two names
    Rexchange = "rexchange",
    /// move, and leave a whiteout
    Rwhiteout = "rwhiteout",
    /// pread
    Read = "read",
    /// pwrite anywhere, rarely very far out
    Write = "write",
    /// write with O_APPEND
    Append = "append",
    /// preadv into several buffers
    Readv = "readv",
    /// pwritev from several buffers
    Writev = "writev",
    /// pread with O_DIRECT
    Dread = "dread",
    /// pwrite with O_DIRECT
    Dwrite = "dwrite",
    /// splice out of a pipe
    Splice = "splice",
    /// read through a mapping
    Mread = "mread",
    /// write through a mapping
    Mwrite = "mwrite",
    /// shorter, longer, empty
    Truncate = "truncate",
    /// fallocate, with and without a new size
    Fallocate = "fallocate",
    /// punch a hole
    Punch = "punch",
    /// zero a range
    Zero = "zero",
    /// copy_file_range
    Copyrange = "copyrange",
    /// share whole sectors: FICLONERANGE
    Clonerange = "clonerange",
    /// SEEK_DATA and SEEK_HOLE
    Seek = "seek",
    /// fsync
    Fsync = "fsync",
    /// fdatasync
    Fdatasync = "fdatasync",
    /// everything durable: syncfs and a commit
    Sync = "sync",
    /// chmod
    Chmod = "chmod",
    /// chown, where the user may
    Chown = "chown",
    /// set times, from before 1970 to after 2038
    Utimes = "utimes",
    /// set an extended attribute
    Setfattr = "setfattr",
    /// read one
    Getfattr = "getfattr",
    /// list them
    Listfattr = "listfattr",
    /// remove one
    Removefattr = "removefattr",
    /// read a directory
    Getdents = "getdents",
    /// stat
    Stat = "stat",
    /// readlink
    Readlink = "readlink",
    /// a file that loses its name while it is open
    Orphan = "orphan",
    /// something that must be refused
    Refused = "refused",
    /// a read-only snapshot, compared at once; the third last goes
    Snapshot = "snapshot",
    /// hundreds of names in the folder that all share, removed again: leaves fill, empty and are freed
    Batch = "batch",
    /// dozens of large attributes, removed again: a leaf for two or three
    Xbatch = "xbatch",
    /// anything, in the folder where all disturb each other
    Brawl = "brawl",
}

/// Weights, in the order of [`Kind::ALL`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mix {
    weights: Vec<u32>,
}

/// Name, words, weights.
type Named = (&'static str, &'static str, &'static [(Kind, u32)]);

/// The mixes that have a name.
pub const NAMED: &[Named] = &[
    (
        "fsstress",
        "everything, as the reproducers of file systems' bugs do",
        FSSTRESS,
    ),
    (
        "empty-leaves",
        "names and attributes come and go in batches, so that tree blocks are freed and reused",
        EMPTY_LEAVES,
    ),
    (
        "metadata",
        "names, links, renames, attributes; no contents",
        METADATA,
    ),
    ("data", "contents: writes, holes, copies, truncates", DATA),
];

const FSSTRESS: &[(Kind, u32)] = &[
    (Kind::Creat, 12),
    (Kind::Mknod, 2),
    (Kind::Mkdir, 6),
    (Kind::Symlink, 3),
    (Kind::Link, 4),
    (Kind::Unlink, 10),
    (Kind::Rmdir, 2),
    (Kind::Rename, 6),
    (Kind::Rnoreplace, 2),
    (Kind::Rexchange, 2),
    (Kind::Rwhiteout, 1),
    (Kind::Read, 8),
    (Kind::Write, 14),
    (Kind::Append, 4),
    (Kind::Readv, 2),
    (Kind::Writev, 3),
    (Kind::Dread, 2),
    (Kind::Dwrite, 3),
    (Kind::Splice, 2),
    (Kind::Mread, 2),
    (Kind::Mwrite, 3),
    (Kind::Truncate, 5),
    (Kind::Fallocate, 2),
    (Kind::Punch, 3),
    (Kind::Zero, 2),
    (Kind::Copyrange, 3),
    (Kind::Clonerange, 3),
    (Kind::Seek, 2),
    (Kind::Fsync, 1),
    (Kind::Fdatasync, 1),
    (Kind::Sync, 1),
    (Kind::Chmod, 4),
    (Kind::Chown, 3),
    (Kind::Utimes, 4),
    (Kind::Setfattr, 6),
    (Kind::Getfattr, 2),
    (Kind::Listfattr, 2),
    (Kind::Removefattr, 3),
    (Kind::Getdents, 3),
    (Kind::Stat, 4),
    (Kind::Readlink, 2),
    (Kind::Orphan, 2),
    (Kind::Refused, 2),
    (Kind::Snapshot, 1),
    (Kind::Batch, 1),
    (Kind::Xbatch, 1),
    (Kind::Brawl, 60),
];

const EMPTY_LEAVES: &[(Kind, u32)] = &[
    (Kind::Batch, 10),
    (Kind::Xbatch, 10),
    (Kind::Creat, 4),
    (Kind::Unlink, 6),
    (Kind::Rename, 3),
    (Kind::Setfattr, 4),
    (Kind::Removefattr, 4),
    (Kind::Getdents, 1),
    (Kind::Stat, 2),
    (Kind::Append, 2),
    (Kind::Truncate, 2),
    // About one in a hundred operations, most of which belong to a batch.
    (Kind::Snapshot, 6),
    (Kind::Brawl, 8),
];

const METADATA: &[(Kind, u32)] = &[
    (Kind::Creat, 12),
    (Kind::Mknod, 3),
    (Kind::Mkdir, 8),
    (Kind::Symlink, 4),
    (Kind::Link, 6),
    (Kind::Unlink, 12),
    (Kind::Rmdir, 3),
    (Kind::Rename, 10),
    (Kind::Rnoreplace, 3),
    (Kind::Rexchange, 3),
    (Kind::Rwhiteout, 2),
    (Kind::Chmod, 4),
    (Kind::Chown, 3),
    (Kind::Utimes, 4),
    (Kind::Setfattr, 8),
    (Kind::Getfattr, 3),
    (Kind::Listfattr, 2),
    (Kind::Removefattr, 4),
    (Kind::Getdents, 4),
    (Kind::Stat, 6),
    (Kind::Readlink, 3),
    (Kind::Orphan, 2),
    (Kind::Refused, 3),
    (Kind::Sync, 1),
    (Kind::Batch, 1),
    (Kind::Xbatch, 1),
    (Kind::Brawl, 20),
];

const DATA: &[(Kind, u32)] = &[
    (Kind::Creat, 4),
    (Kind::Unlink, 3),
    (Kind::Read, 12),
    (Kind::Write, 24),
    (Kind::Append, 8),
    (Kind::Readv, 3),
    (Kind::Writev, 5),
    (Kind::Dread, 4),
    (Kind::Dwrite, 6),
    (Kind::Splice, 3),
    (Kind::Mread, 5),
    (Kind::Mwrite, 8),
    (Kind::Truncate, 8),
    (Kind::Fallocate, 4),
    (Kind::Punch, 6),
    (Kind::Zero, 4),
    (Kind::Copyrange, 8),
    (Kind::Clonerange, 5),
    (Kind::Seek, 5),
    (Kind::Fsync, 2),
    (Kind::Fdatasync, 1),
    (Kind::Sync, 1),
    (Kind::Stat, 2),
    (Kind::Orphan, 2),
    (Kind::Link, 1),
    (Kind::Rename, 2),
    (Kind::Brawl, 6),
];

impl Mix {
    /// Reads a name, weights (`creat=10,unlink=20`), or a name and changes to it
    /// (`fsstress,fsync=0`). An error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut mix = Self {
            weights: vec![0; Kind::ALL.len()],
        };
        for (at, part) in text.split(',').map(str::trim).enumerate() {
            let Some((name, weight)) = part.split_once('=') else {
                let named = NAMED.iter().find(|(name, ..)| *name == part);
                match named {
                    Some((_, _, weights)) if at == 0 => {
                        for &(kind, weight) in *weights {
                            mix.weights[kind as usize] = weight;
                        }
                        continue;
                    }
                    Some(_) => return Err(format!("{part}: the name of a mix comes first")),
                    None => {
                        let names: Vec<_> = NAMED.iter().map(|(name, ..)| *name).collect();
                        return Err(format!(
                            "no mix is called `{part}`; there are {}, and weights such as \
                             creat=10,unlink=20",
                            names.join(", ")
                        ));
                    }
                }
            };
            let kind = Kind::ALL.iter().find(|kind| kind.name() == name);
            let Some(&kind) = kind else {
                let names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
                return Err(format!(
                    "no operation is called `{name}`; there are {}",
                    names.join(", ")
                ));
            };
            mix.weights[kind as usize] = weight
                .parse()
                .ok()
                .filter(|&weight| weight <= 1_000_000)
                .ok_or_else(|| format!("{part}: a weight is a number up to 1000000"))?;
        }
        if mix.total() == 0 {
            return Err(format!("`{text}` leaves nothing to do: every weight is 0"));
        }
        Ok(mix)
    }

    /// Without a kind, as where the filesystem lacks it.
    pub fn without(&mut self, kind: Kind) {
        self.weights[kind as usize] = 0;
    }

    /// Its weight.
    pub fn weight(&self, kind: Kind) -> u32 {
        self.weights.get(kind as usize).copied().unwrap_or(0)
    }

    /// The sum of all weights.
    pub fn total(&self) -> u64 {
        self.weights.iter().map(|&weight| u64::from(weight)).sum()
    }

    /// The kind at a place below [`Self::total`].
    pub fn at(&self, mut place: u64) -> Kind {
        for &kind in Kind::ALL {
            let weight = u64::from(self.weight(kind));
            if place < weight {
                return kind;
            }
            place -= weight;
        }
        Kind::Stat
    }
}

/// As [`Mix::parse`] reads it: a name, or all weights.
impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = |name: &&str| Self::parse(name).is_ok_and(|mix| mix == *self);
        if let Some(name) = NAMED.iter().map(|(name, ..)| *name).find(same) {
            return f.write_str(name);
        }
        let weighed = Kind::ALL.iter().filter(|kind| self.weight(**kind) > 0);
        for (n, kind) in weighed.enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{}={}", kind.name(), self.weight(*kind))?;
        }
        Ok(())
    }
}

/// Mixes and kinds, for the command's help.
pub fn help() -> String {
    let mut help = String::from("Mixes:\n");
    // Writing to a string can't fail.
    for (name, words, _) in NAMED {
        let _ = writeln!(help, "  {name:14}{words}");
    }
    help.push_str("Operations:\n");
    for kind in Kind::ALL {
        let _ = writeln!(help, "  {:14}{}", kind.name(), kind.words().trim());
    }
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_a_name_or_weights_or_both() {
        let mix = Mix::parse("creat=3,unlink=1").unwrap();
        assert_eq!(mix.total(), 4);
        let kinds: Vec<_> = (0..4).map(|place| mix.at(place)).collect();
        assert_eq!(kinds, [Kind::Creat, Kind::Creat, Kind::Creat, Kind::Unlink]);
        let all = Mix::parse("fsstress").unwrap();
        assert!(
            Kind::ALL.iter().all(|&kind| all.weight(kind) > 0),
            "fsstress is everything"
        );
        let less = Mix::parse("fsstress,fsync=0").unwrap();
        assert_eq!(
            less.total(),
            all.total() - u64::from(all.weight(Kind::Fsync))
        );
    }

    #[test]
    fn a_mix_is_written_as_it_is_read() {
        assert_eq!(Mix::parse("data").unwrap().to_string(), "data");
        let changed = Mix::parse("data,write=0,creat=9").unwrap();
        let words = changed.to_string();
        assert!(words.starts_with("creat=9,link=1,unlink=3,"), "{words}");
        assert!(!words.contains(",write="), "{words}");
        assert_eq!(Mix::parse(&words), Ok(changed));
    }

    #[test]
    fn what_is_no_mix_is_refused_in_words() {
        for (text, word) in [
            ("nonsense", "empty-leaves"),
            ("creat=1,fsstress", "comes first"),
            ("creat=many", "a number"),
            ("swim=1", "truncate"),
            ("creat=0", "nothing to do"),
        ] {
            let error = Mix::parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
