//! rename, with its three flags.
//!
//! Owns: the order of locks among up to four inodes, the ancestry check, and the edits. Renames
//! between directories and of subvolumes hold the rename lock, so containment can't change under them; an
//! ancestor's `names` lock comes before its descendant's, and among strangers the lower number
//! first. Invariant: the new name stands for the old or the new inode at every moment, and both
//! changes are in one transaction.

use super::attr::{FileKind, Timestamp};
use super::create::{Birth, Embryo};
use super::delayed::DirtyTicket;
use super::dir::{self, Target};
use super::filesystem::{Filesystem, Node};
use super::inode::Inode;
use super::inode_ref::{self, NameRef, Place};
use super::link::{Gone, Removal, UNLINK_ITEMS, want_removable};
use super::node_id::NodeId;
use super::request::{Caller, RenameFlags};
use super::subvolume::{self, ParentEntry};
use crate::allocator::Steal;
use crate::error::{Error, Result};
use crate::ondisk::{Key, kind};
use crate::sync::{Arc, RwLockWriteGuard};
use crate::transaction::TransHandle;

/// A name that moves.
struct Mover<'a> {
    from: &'a Arc<Inode>,
    name: &'a [u8],
    to: &'a Arc<Inode>,
    new_name: &'a [u8],
    target: Target,
    /// What moves; for a subvolume its root directory, which doesn't change.
    inode: Arc<Inode>,
    link: Link,
}

impl Mover<'_> {
    /// Whether the reference stays in its item: always, for a directory that keeps its parent.
    /// Then it changes in one step, so that whoever walks up finds it at any time.
    fn is_in_place(&self) -> bool {
        match &self.link {
            Link::Inode { old, new_place, .. } => {
                Arc::ptr_eq(self.from, self.to)
                    && (old.place, *new_place) == (Place::Plain, Place::Plain)
            }
            Link::Subvolume(_) => false,
        }
    }
}

/// What ties the name to what it stands for.
enum Link {
    Inode {
        old: NameRef,
        new_place: Place,
        ticket: DirtyTicket,
    },
    Subvolume(ParentEntry),
}

/// Item changes of moving a name: twice entry, index and references.
const MOVE_ITEMS: u64 = 10;

impl Filesystem {
    /// Moves `name` of `parent` to `new_name` of `new_parent`.
    pub fn rename(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: &[u8],
        new_parent: NodeId,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        let (from, to) = (self.inode(parent)?, self.inode(new_parent)?);
        for dir in [&from, &to] {
            self.want_writable(&dir.root)?;
            dir.want_dir()?;
        }
        for name in [name, new_name] {
            if matches!(name, b"." | b"..") {
                return Err(Error::Busy("\".\" and \"..\" can't be renamed".into()));
            }
            dir::check_name(name)?;
        }
        let mut alone = !Arc::ptr_eq(&from, &to);
        loop {
            let _order = alone.then(|| self.rename_lock.lock());
            let (_first, _second) = self.lock_dirs(&from, &to)?;
            let names = [(&from, name), (&to, new_name)];
            if self.rename_locked(caller, names, flags, alone)? {
                break;
            }
            alone = true;
        }
        self.after_change();
        Ok(())
    }

    fn lock_dirs<'a>(
        &self,
        from: &'a Arc<Inode>,
        to: &'a Arc<Inode>,
    ) -> Result<(RwLockWriteGuard<'a, ()>, Option<RwLockWriteGuard<'a, ()>>)> {
        if Arc::ptr_eq(from, to) {
            return Ok((from.names.write(), None));
        }
        let from_first = if self.contains(from.identity(), to)? {
            true
        } else if self.contains(to.identity(), from)? {
            false
        } else {
            (from.root.objectid, from.objectid) < (to.root.objectid, to.objectid)
        };
        let (first, second) = if from_first { (from, to) } else { (to, from) };
        let first = first.names.write();
        Ok((first, Some(second.names.write())))
    }

    /// False: a subvolume moves, and for that the rename lock is needed, as for a moment nothing says
    /// what contains it.
    fn rename_locked(
        &self,
        caller: &Caller,
        [(from, name), (to, new_name)]: [(&Arc<Inode>, &[u8]); 2],
        flags: RenameFlags,
        alone: bool,
    ) -> Result<bool> {
        self.want_alive(to)?;
        let source = dir::find(&self.ctx, from, name)?.ok_or(Error::NotFound)?;
        let existing = dir::find(&self.ctx, to, new_name)?;
        let mut subvolumes = [Some(source), existing]
            .into_iter()
            .flatten()
            .filter(|it| it.subvolume().is_some());
        let moves_subvolume = subvolumes.next().is_some();
        if moves_subvolume && !alone {
            return Ok(false);
        }
        match existing {
            Some(_) if flags.no_replace => return Err(Error::Exists),
            None if flags.exchange => return Err(Error::NotFound),
            // Only a subvolume has the same number everywhere.
            existing if from.root.objectid != to.root.objectid => {
                let other = existing.filter(|_| flags.exchange);
                if source.subvolume().is_none() || other.is_some_and(|it| it.subvolume().is_none())
                {
                    return Err(Error::CrossDevice);
                }
            }
            // Two names of one inode, or twice the same name: POSIX wants nothing done.
            Some(existing) if existing.location == source.location => return Ok(true),
            _ => {}
        }
        let moved = self.followed(from, source, name)?;
        let replaced = match existing {
            Some(existing) => Some(self.followed(to, existing, new_name)?),
            None => None,
        };
        self.judge_rename(from, to, &moved, replaced.as_ref(), flags)?;
        let _children = lock_children(&moved, replaced.as_ref());
        // While a subvolume moves, its tree has no reference to it for a moment: whoever deletes
        // that one takes it for empty then.
        let _no_delete = moves_subvolume.then(|| self.subvolumes.read());
        if moves_subvolume {
            self.want_place(from)?;
            self.want_place(to)?;
        }
        match replaced.clone().zip(existing) {
            Some((other, existing)) if flags.exchange => {
                let there = self.mover((from, name), (to, new_name), source, moved.clone())?;
                let back = self.mover((to, new_name), (from, name), existing, other)?;
                self.exchange(there, back)?;
            }
            other => {
                if let Some((replaced, existing)) = &other {
                    if existing.subvolume().is_some() {
                        return Err(Error::NotEmpty);
                    }
                    if replaced.is_dir() {
                        self.want_empty(replaced)?;
                    }
                }
                let freed: Vec<&[u8]> = match (&other, Arc::ptr_eq(from, to)) {
                    (Some(_), _) => vec![new_name],
                    (None, true) if !flags.whiteout => vec![name],
                    (None, _) => vec![],
                };
                dir::check_room(&self.ctx, to, new_name, &freed, &self.limits)?;
                let mover = self.mover((from, name), (to, new_name), source, moved.clone())?;
                let removal = match other {
                    Some((replaced, _)) => Some(self.prepare_removal(to, replaced, new_name)?),
                    None => None,
                };
                let whiteout = if flags.whiteout {
                    let birth = Birth {
                        kind: FileKind::CharDevice,
                        mode: 0,
                        rdev: 0,
                        target: &[],
                    };
                    Some(self.embryo(caller, from, &birth)?)
                } else {
                    None
                };
                self.move_name(mover, removal, whiteout)?;
            }
        }
        Ok(true)
    }

    /// The inode behind an entry; a subvolume that isn't there can't be moved or replaced.
    fn followed(&self, dir: &Inode, target: Target, name: &[u8]) -> Result<Arc<Inode>> {
        match self.follow(dir, target, name)? {
            Node::Inode(inode) => Ok(inode),
            Node::Stub(_) => Err(Error::NotEmpty),
        }
    }

    fn judge_rename(
        &self,
        from: &Arc<Inode>,
        to: &Arc<Inode>,
        moved: &Arc<Inode>,
        replaced: Option<&Arc<Inode>>,
        flags: RenameFlags,
    ) -> Result<()> {
        let apart = !Arc::ptr_eq(from, to);
        if apart && moved.is_dir() && self.contains(moved.identity(), to)? {
            return Err(Error::Invalid("a directory can't move into itself"));
        }
        if let Some(replaced) = replaced
            && apart
            && replaced.is_dir()
            && self.contains(replaced.identity(), from)?
        {
            return Err(match flags.exchange {
                true => Error::Invalid("a directory can't move into itself"),
                false => Error::NotEmpty,
            });
        }
        if let Some(replaced) = replaced
            && !flags.exchange
        {
            match (moved.is_dir(), replaced.is_dir()) {
                (true, false) => return Err(Error::NotDir),
                (false, true) => return Err(Error::IsDir),
                _ => {}
            }
        }
        want_removable(from, Some(moved))?;
        match replaced {
            Some(replaced) => want_removable(to, Some(replaced))?,
            None => self.want_new_entries(to)?,
        }
        // What gets another parent is changed itself, as far as permissions go.
        let other = replaced.filter(|_| flags.exchange);
        for dir in [Some(moved), other].into_iter().flatten() {
            if apart && dir.is_dir() {
                self.want_writable(&dir.root)?;
            }
        }
        Ok(())
    }

    fn mover<'a>(
        &self,
        (from, name): (&'a Arc<Inode>, &'a [u8]),
        (to, new_name): (&'a Arc<Inode>, &'a [u8]),
        target: Target,
        inode: Arc<Inode>,
    ) -> Result<Mover<'a>> {
        dir::load_index(&self.ctx, to)?;
        let link = match target.subvolume() {
            Some(nested) => {
                let entry = subvolume::removable_entry(&self.ctx, from, name, nested)?;
                Link::Subvolume(entry)
            }
            None => {
                let old = self.reference_of(from, &inode, name)?;
                let new_place = inode_ref::place_for(
                    &self.ctx,
                    &to.root,
                    inode.objectid,
                    (to.objectid, new_name),
                    Some(&old),
                    &self.limits,
                )?;
                let ticket = self.ticket(Steal::No)?;
                Link::Inode {
                    old,
                    new_place,
                    ticket,
                }
            }
        };
        Ok(Mover {
            from,
            name,
            to,
            new_name,
            target,
            inode,
            link,
        })
    }

    fn move_name(
        &self,
        mover: Mover<'_>,
        removal: Option<Removal>,
        whiteout: Option<Embryo>,
    ) -> Result<()> {
        let (from, to) = (mover.from.clone(), mover.to.clone());
        let (name, new_name) = (mover.name, mover.new_name);
        let replaces = removal.is_some();
        let (from_ticket, to_ticket) = (self.ticket(Steal::No)?, self.ticket(Steal::No)?);
        let mut whiteout_id = None;
        let mut items = MOVE_ITEMS;
        if let Some(embryo) = &whiteout {
            items += embryo.items() + 3;
            dir::load_index(&self.ctx, &from)?;
            whiteout_id = Some(self.objectids.allocate(&self.ctx, &from.root)?);
        }
        items += if replaces { UNLINK_ITEMS } else { 0 };
        let reservation = self.reserve(items, Steal::No)?;
        self.with_trans(reservation, |trans| {
            let now = Timestamp::now();
            if let Some(removal) = removal {
                self.remove_prepared(trans, &to, removal, now, Gone::Replaced)?;
            }
            let settle = self.take_out(trans, mover)?;
            self.put_in(trans, settle, now)?;
            let mut grown = 0;
            if let Some((embryo, objectid)) = whiteout.zip(whiteout_id) {
                let index = dir::take_index(&mut from.meta.lock());
                let kind = embryo.entry_type();
                let name_there = Some((from.objectid, index, name));
                self.give_birth(trans, &from.root, objectid, embryo, name_there)?;
                let location = Key::new(objectid, kind::INODE_ITEM, 0);
                dir::add(
                    &self.ctx,
                    trans,
                    &from,
                    index,
                    name,
                    Target { location, kind },
                )?;
                grown = dir::size_of(name);
            }
            let gone = dir::size_of(name) - grown;
            let added = if replaces { 0 } else { dir::size_of(new_name) };
            self.settle_dir(&from, now, from_ticket, |size| size.saturating_sub(gone));
            self.settle_dir(&to, now, to_ticket, |size| size.saturating_add(added));
            Ok(())
        })
    }

    fn exchange(&self, there: Mover<'_>, back: Mover<'_>) -> Result<()> {
        let (from, to) = (there.from.clone(), there.to.clone());
        let (from_ticket, to_ticket) = (self.ticket(Steal::No)?, self.ticket(Steal::No)?);
        let reservation = self.reserve(2 * MOVE_ITEMS, Steal::No)?;
        self.with_trans(reservation, |trans| {
            let now = Timestamp::now();
            let there = self.take_out(trans, there)?;
            let back = self.take_out(trans, back)?;
            self.put_in(trans, there, now)?;
            self.put_in(trans, back, now)?;
            // Each directory keeps its names; only what they stand for has changed.
            self.settle_dir(&from, now, from_ticket, |size| size);
            self.settle_dir(&to, now, to_ticket, |size| size);
            Ok(())
        })
    }

    /// Removes the old name.
    fn take_out<'a>(&self, trans: &TransHandle, mover: Mover<'a>) -> Result<Mover<'a>> {
        let index = match &mover.link {
            Link::Inode { old, .. } => {
                if !mover.is_in_place() {
                    let root = &mover.from.root;
                    inode_ref::remove(&self.ctx, trans, root, mover.inode.objectid, old)?;
                }
                old.index
            }
            Link::Subvolume(entry) => {
                subvolume::remove_entry(&self.ctx, trans, mover.target.location.objectid, entry)?;
                entry.sequence
            }
        };
        dir::remove(&self.ctx, trans, mover.from, index, mover.name)?;
        Ok(mover)
    }

    /// Adds the new name.
    fn put_in(&self, trans: &TransHandle, mover: Mover<'_>, now: Timestamp) -> Result<()> {
        let in_place = mover.is_in_place();
        let Mover {
            to,
            new_name,
            target,
            inode,
            link,
            ..
        } = mover;
        let index = dir::take_index(&mut to.meta.lock());
        match link {
            Link::Inode {
                old,
                new_place,
                ticket,
            } => {
                let new = NameRef {
                    parent: to.objectid,
                    index,
                    name: new_name.to_vec(),
                    place: new_place,
                };
                if in_place {
                    inode_ref::replace(&self.ctx, trans, &to.root, inode.objectid, &old, &new)?;
                } else {
                    inode_ref::add(&self.ctx, trans, &to.root, inode.objectid, &new)?;
                }
                let mut meta = inode.meta.lock();
                meta.touch(now);
                self.mark_dirty(&inode, &mut meta, ticket);
            }
            Link::Subvolume(_) => {
                let entry = ParentEntry {
                    tree: to.root.objectid,
                    dirid: to.objectid,
                    sequence: index,
                    name: new_name.to_vec(),
                };
                subvolume::add_entry(&self.ctx, trans, target.location.objectid, &entry)?;
            }
        }
        dir::add(&self.ctx, trans, to, index, new_name, target)
    }

    fn settle_dir(
        &self,
        dir: &Arc<Inode>,
        now: Timestamp,
        ticket: DirtyTicket,
        size: impl FnOnce(u64) -> u64,
    ) {
        let mut meta = dir.meta.lock();
        meta.size = size(meta.size);
        meta.touch_content(now);
        self.mark_dirty(dir, &mut meta, ticket);
    }
}

/// Locks the names of what moves and what is replaced: directories first, then by number.
fn lock_children<'a>(
    moved: &'a Arc<Inode>,
    replaced: Option<&'a Arc<Inode>>,
) -> Vec<RwLockWriteGuard<'a, ()>> {
    let order = |inode: &Inode| (!inode.is_dir(), inode.root.objectid, inode.objectid);
    let mut children = vec![moved];
    children.extend(replaced);
    children.sort_by_key(|inode| order(inode));
    children.dedup_by(|a, b| Arc::ptr_eq(a, b));
    children
        .into_iter()
        .map(|inode| inode.names.write())
        .collect()
}
