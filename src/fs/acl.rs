//! POSIX access control lists, as `system.posix_acl_*` attributes hold them.
//!
//! Owns: their bytes and the arithmetic between an ACL and a mode. With `FUSE_POSIX_ACL` the
//! kernel checks access against the lists that we hand out; inheriting a default list, and
//! keeping list and mode in agreement, is left to us. Never: trees.

use crate::error::{Error, Result};

/// The attribute that holds the access list.
pub(in crate::fs) const ACCESS_NAME: &[u8] = b"system.posix_acl_access";
/// The attribute that holds the list that new entries inherit.
pub(in crate::fs) const DEFAULT_NAME: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER: usize = 4;
const ENTRY: usize = 8;
/// What the id of an entry without a user or group is.
const UNDEFINED_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// A valid list: sorted, complete, each entry once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::fs) struct Acl {
    entries: Vec<Entry>,
}

impl Acl {
    /// The list in an attribute's value; `None` for a value that means "no list".
    pub fn parse(value: &[u8]) -> Result<Option<Self>> {
        let bad = Error::Invalid("not a POSIX ACL");
        if value.is_empty() {
            return Ok(None);
        }
        let body = value.get(HEADER..).ok_or(bad.clone())?;
        if u32::from_le_bytes(value[..HEADER].try_into().expect("4 bytes")) != VERSION {
            return Err(Error::NotSupported);
        }
        if body.len() % ENTRY != 0 {
            return Err(bad);
        }
        let entries: Vec<Entry> = body
            .chunks_exact(ENTRY)
            .map(|raw| Entry {
                tag: u16::from_le_bytes([raw[0], raw[1]]),
                perm: u16::from_le_bytes([raw[2], raw[3]]),
                id: u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
            })
            .collect();
        if entries.is_empty() {
            return Ok(None);
        }
        let acl = Self { entries };
        if acl.is_valid() {
            Ok(Some(acl))
        } else {
            Err(bad)
        }
    }

    /// The attribute's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.entries {
            value.extend(entry.tag.to_le_bytes());
            value.extend(entry.perm.to_le_bytes());
            value.extend(entry.id.to_le_bytes());
        }
        value
    }

    /// Owner, named users, group, named groups, mask, others, in this order; the mask is needed
    /// as soon as somebody is named.
    fn is_valid(&self) -> bool {
        let mut rank = 0;
        let mut named = false;
        let mut masked = false;
        for entry in &self.entries {
            if entry.perm & !7 != 0 {
                return false;
            }
            let next = match (entry.tag, rank) {
                (USER_OBJ, 0) => 1,
                (USER, 1) if entry.id != UNDEFINED_ID => 1,
                (GROUP_OBJ, 1) => 2,
                (GROUP, 2) if entry.id != UNDEFINED_ID => 2,
                (MASK, 2) => 3,
                (OTHER, 2 | 3) => 4,
                _ => return false,
            };
            named |= matches!(entry.tag, USER | GROUP);
            masked |= entry.tag == MASK;
            rank = next;
        }
        rank == 4 && (masked || !named)
    }

    fn perm_of(&mut self, tag: u16) -> Option<&mut u16> {
        self.entries
            .iter_mut()
            .find(|entry| entry.tag == tag)
            .map(|entry| &mut entry.perm)
    }

    /// The entry that the mode's group bits stand for: the mask, or without one the group's.
    fn group_class(&mut self) -> Option<&mut u16> {
        let tag = if self.entries.iter().any(|entry| entry.tag == MASK) {
            MASK
        } else {
            GROUP_OBJ
        };
        self.perm_of(tag)
    }

    /// The permission bits that agree with the list, and whether they say everything that the
    /// list says.
    pub fn equivalent_mode(&self) -> (u32, bool) {
        let mut copy = self.clone();
        let mut bits = 0;
        for (perm, shift) in [
            (copy.perm_of(USER_OBJ).map(|perm| *perm), 6),
            (copy.group_class().map(|perm| *perm), 3),
            (copy.perm_of(OTHER).map(|perm| *perm), 0),
        ] {
            bits |= u32::from(perm.unwrap_or(0)) << shift;
        }
        let all = !self
            .entries
            .iter()
            .any(|entry| matches!(entry.tag, USER | GROUP | MASK));
        (bits, all)
    }

    /// What the list lets somebody do who isn't the owner: an entry of their own counts alone; of
    /// their groups any that grants all of `want`, and if none does, others' bits don't count.
    pub fn granted(&self, uid: u32, file_gid: u32, groups: &[u32], want: u32) -> u32 {
        let find = |tag| self.entries.iter().find(|entry| entry.tag == tag);
        let mask = find(MASK).map_or(7, |entry| entry.perm);
        let own = |entry: &&Entry| entry.tag == USER && entry.id == uid;
        if let Some(entry) = self.entries.iter().find(own) {
            return u32::from(entry.perm & mask);
        }
        let mut in_a_group = false;
        for entry in &self.entries {
            let gid = match entry.tag {
                GROUP_OBJ => file_gid,
                GROUP => entry.id,
                _ => continue,
            };
            if !groups.contains(&gid) {
                continue;
            }
            in_a_group = true;
            let perm = u32::from(entry.perm & mask);
            if perm & want == want {
                return perm;
            }
        }
        match in_a_group {
            true => 0,
            false => find(OTHER).map_or(0, |entry| u32::from(entry.perm)),
        }
    }

    /// Makes the list agree with changed permission bits (chmod).
    pub fn set_mode(&mut self, mode: u32) {
        for (tag, shift) in [(USER_OBJ, 6), (OTHER, 0)] {
            if let Some(perm) = self.perm_of(tag) {
                *perm = (mode >> shift & 7) as u16;
            }
        }
        if let Some(perm) = self.group_class() {
            *perm = (mode >> 3 & 7) as u16;
        }
    }

    /// Makes a default list the access list of a new inode that was asked for with `mode`, which
    /// loses the bits that the list doesn't grant. False: the mode says everything now.
    pub fn inherit(&mut self, mode: &mut u32) -> bool {
        let asked = *mode;
        let mut granted = 0;
        for (shift, tag) in [(6, Some(USER_OBJ)), (3, None), (0, Some(OTHER))] {
            let perm = match tag {
                Some(tag) => self.perm_of(tag),
                None => self.group_class(),
            };
            if let Some(perm) = perm {
                *perm &= (asked >> shift & 7) as u16;
                granted |= u32::from(*perm) << shift;
            }
        }
        *mode = asked & !0o777 | granted;
        !self.equivalent_mode().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        let entries = entries
            .iter()
            .map(|&(tag, perm, id)| Entry { tag, perm, id })
            .collect::<Vec<_>>();
        Acl { entries }
    }

    const NONE: u32 = UNDEFINED_ID;

    #[test]
    fn bytes_lead_back_and_bad_ones_are_refused() {
        let list = acl(&[
            (USER_OBJ, 7, NONE),
            (USER, 5, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 5, NONE),
            (OTHER, 0, NONE),
        ]);
        assert_eq!(Acl::parse(&list.encode()).unwrap(), Some(list.clone()));
        assert_eq!(Acl::parse(&list.encode()[..4]).unwrap(), None);
        assert!(Acl::parse(&list.encode()[..11]).is_err());
        let unmasked = acl(&[
            (USER_OBJ, 7, NONE),
            (USER, 5, 1),
            (GROUP_OBJ, 5, NONE),
            (OTHER, 0, NONE),
        ]);
        assert!(Acl::parse(&unmasked.encode()).is_err());
        let unsorted = acl(&[(GROUP_OBJ, 5, NONE), (USER_OBJ, 7, NONE), (OTHER, 0, NONE)]);
        assert!(Acl::parse(&unsorted.encode()).is_err());
    }

    #[test]
    fn three_entries_say_no_more_than_a_mode() {
        let list = acl(&[(USER_OBJ, 6, NONE), (GROUP_OBJ, 4, NONE), (OTHER, 4, NONE)]);
        assert_eq!(list.equivalent_mode(), (0o644, true));
    }

    #[test]
    fn the_mask_stands_for_the_group_bits() {
        let mut list = acl(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 1000),
            (GROUP_OBJ, 7, NONE),
            (MASK, 7, NONE),
            (OTHER, 5, NONE),
        ]);
        assert_eq!(list.equivalent_mode(), (0o775, false));
        list.set_mode(0o100640);
        assert_eq!(list.equivalent_mode().0, 0o640);
        assert_eq!(*list.perm_of(GROUP_OBJ).unwrap(), 7);
    }

    #[test]
    fn a_list_grants_what_its_nearest_entry_says() {
        let list = acl(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 1000),
            (GROUP_OBJ, 1, NONE),
            (GROUP, 7, 30),
            (MASK, 3, NONE),
            (OTHER, 7, NONE),
        ]);
        let granted = |uid, groups: &[u32]| list.granted(uid, 20, groups, 3);
        assert_eq!(granted(1000, &[20]), 3, "their own entry, below the mask");
        assert_eq!(granted(1, &[20, 30]), 3, "one of the groups");
        assert_eq!(granted(1, &[20]), 0, "a group that doesn't grant it all");
        assert_eq!(granted(1, &[40]), 7, "others");
    }

    #[test]
    fn a_new_inode_gets_no_more_than_was_asked_for() {
        let mut list = acl(&[
            (USER_OBJ, 7, NONE),
            (USER, 7, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 7, NONE),
            (OTHER, 5, NONE),
        ]);
        let mut mode = 0o100666;
        assert!(list.inherit(&mut mode));
        assert_eq!(mode, 0o100664);
        assert_eq!(list.equivalent_mode().0, 0o664);
        let mut plain = acl(&[(USER_OBJ, 7, NONE), (GROUP_OBJ, 5, NONE), (OTHER, 0, NONE)]);
        let mut mode = 0o100666;
        assert!(!plain.inherit(&mut mode));
        assert_eq!(mode, 0o100640);
    }
}
