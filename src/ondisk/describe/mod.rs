//! Items and superblocks as facts with names, for people and programs.
//!
//! Owns: which facts a kind of item has. Never: how they are laid out on a screen or in JSON.
//! Describes any bytes: what is too short for its kind becomes one fact that says so.

mod blocks;
mod extents;
mod files;
mod mapping;
mod trees;

pub use blocks::{header, superblock};

use super::{CsumType, Key, kind};

/// One fact's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A number.
    Number(u64),
    /// A word or a sentence.
    Words(String),
    /// A file's or subvolume's name: any bytes.
    Name(Vec<u8>),
    /// Several things of one kind.
    List(Vec<Facts>),
}

/// Facts with their names, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts(pub Vec<(&'static str, Fact)>);

impl Facts {
    fn number(mut self, name: &'static str, value: impl Into<u64>) -> Self {
        self.0.push((name, Fact::Number(value.into())));
        self
    }

    fn words(mut self, name: &'static str, words: impl Into<String>) -> Self {
        self.0.push((name, Fact::Words(words.into())));
        self
    }

    fn name(mut self, name: &'static str, bytes: &[u8]) -> Self {
        self.0.push((name, Fact::Name(bytes.to_vec())));
        self
    }

    fn list(mut self, name: &'static str, list: impl IntoIterator<Item = Facts>) -> Self {
        self.0.push((name, Fact::List(list.into_iter().collect())));
        self
    }

    fn key(self, name: &'static str, key: Key) -> Self {
        self.words(name, key.to_string())
    }

    /// Bytes that hold nothing of the kind that they should.
    fn left_over(self, rest: &[u8]) -> Self {
        if rest.is_empty() {
            self
        } else {
            self.number("unreadable_bytes", rest.len() as u64)
        }
    }

    /// The fact with this name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.0
            .iter()
            .find(|(found, _)| *found == name)
            .map(|(_, fact)| fact)
    }
}

/// Numbers of little-endian fields, under the fields' names.
macro_rules! numbers {
    ($facts:expr, $from:expr, $($field:ident),+) => {{
        let facts = $facts;
        $(let facts = facts.number(stringify!($field), $from.$field.get());)+
        facts
    }};
}
use numbers;

/// What an item's meaning depends on beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// The image's checksum.
    pub csum: CsumType,
    /// The image's sector size.
    pub sectorsize: u32,
}

/// The facts of an item.
pub fn item(key: &Key, data: &[u8], meaning: Meaning) -> Facts {
    let known = match key.kind {
        kind::INODE_ITEM => files::inode_item(data),
        kind::INODE_REF | kind::INODE_EXTREF => Some(files::names(key, data)),
        kind::DIR_ITEM | kind::DIR_INDEX | kind::XATTR_ITEM => Some(files::entries(key, data)),
        kind::DIR_LOG_INDEX => files::dir_log(data),
        kind::EXTENT_DATA => files::file_extent(data),
        kind::EXTENT_CSUM => Some(files::csums(key, data, meaning)),
        kind::ROOT_ITEM => trees::root_item(data),
        kind::ROOT_REF | kind::ROOT_BACKREF => trees::root_ref(data),
        kind::UUID_KEY_SUBVOL | kind::UUID_KEY_RECEIVED_SUBVOL => Some(trees::uuid(key, data)),
        kind::QGROUP_STATUS | kind::QGROUP_INFO | kind::QGROUP_LIMIT => trees::quota(key, data),
        kind::TEMPORARY_ITEM => trees::balance(data),
        kind::UNTYPED => trees::free_space_header(data),
        kind::EXTENT_ITEM | kind::METADATA_ITEM => extents::extent_item(key, data),
        kind::EXTENT_DATA_REF
        | kind::SHARED_DATA_REF
        | kind::TREE_BLOCK_REF
        | kind::SHARED_BLOCK_REF => extents::keyed_ref(key, data),
        kind::BLOCK_GROUP_ITEM => extents::block_group(data),
        kind::FREE_SPACE_INFO => extents::free_space_info(data),
        kind::FREE_SPACE_BITMAP => Some(extents::free_space_bitmap(key, data, meaning)),
        kind::CHUNK_ITEM => mapping::chunk(data),
        kind::RAID_STRIPE => mapping::strides(data),
        kind::DEV_ITEM => mapping::dev_item(data),
        kind::DEV_EXTENT => mapping::dev_extent(data),
        kind::PERSISTENT_ITEM => mapping::dev_stats(data),
        kind::DEV_REPLACE => mapping::dev_replace(data),
        kind::STRING_ITEM => Some(Facts::default().name("text", data)),
        kind::ORPHAN_ITEM | kind::FREE_SPACE_EXTENT | kind::QGROUP_RELATION => {
            Some(Facts::default().left_over(data))
        }
        _ => Some(Facts::default().number("bytes", data.len() as u64)),
    };
    known.unwrap_or_else(|| {
        let words = format!("{} bytes are too few for this kind of item", data.len());
        Facts::default().words("unreadable", words)
    })
}

/// Names of the bits that are set, joined by `|`; unknown ones as a number; `none`.
fn flag_words(flags: u64, names: &[(u64, &str)]) -> String {
    let mut rest = flags;
    let mut words = Vec::new();
    for &(bit, name) in names {
        if flags & bit != 0 {
            words.push(name.to_owned());
            rest &= !bit;
        }
    }
    if rest != 0 {
        words.push(format!("{rest:#x}"));
    }
    if words.is_empty() {
        "none".into()
    } else {
        words.join("|")
    }
}

/// A time in UTC, `2026-11-23 18:26:53.000000000`.
fn time_words(time: &super::Timespec) -> String {
    const DAY: i64 = 86_400;
    let seconds = time.seconds();
    let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Days since 0000-03-01, in eras of 400 years: leap days come last in each year.
    let shifted = i128::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let nsec = time.nsec;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{nsec:09}")
}

#[cfg(test)]
mod tests;
