//! The names of a model: making, removing and moving them, in the kernel's order of refusals.

use super::{Answer, CROWD_ID, Model, Node, Wanted};
use crate::lab::workload::name::Name;
use crate::lab::workload::operation::{Replace, Special};
use rustix::io::Errno;

impl Model {
    pub(super) fn add(&mut self, path: &Name, node: Node, mode: u32) -> Answer<Wanted> {
        let (parent, name) = self.split(path)?;
        if self.entries(parent).contains_key(name) {
            return Err(Errno::EXIST);
        }
        let id = self.next;
        self.next += 1;
        self.inodes.insert(id, self.fresh(node, mode));
        self.put(parent, name, id);
        Ok(Wanted::Done)
    }

    pub(super) fn link(&mut self, from: &Name, to: &Name) -> Answer<Wanted> {
        let id = self.find(from)?;
        let (parent, name) = self.split(to)?;
        if self.entries(parent).contains_key(name) {
            return Err(Errno::EXIST);
        }
        if matches!(self.inode(id).node, Node::Directory(_)) {
            return Err(Errno::PERM);
        }
        let step = self.step;
        let inode = self.inode_mut(id);
        inode.links += 1;
        inode.changed = step;
        self.put(parent, name, id);
        Ok(Wanted::Done)
    }

    pub(super) fn unlink(&mut self, path: &Name) -> Answer<Wanted> {
        let (parent, name) = self.split(path)?;
        let (id, _) = *self.entries(parent).get(name).ok_or(Errno::NOENT)?;
        if matches!(self.inode(id).node, Node::Directory(_)) {
            return Err(Errno::ISDIR);
        }
        self.take(parent, name);
        self.drop_link(id);
        Ok(Wanted::Done)
    }

    pub(super) fn rmdir(&mut self, path: &Name) -> Answer<Wanted> {
        let (parent, name) = self.split(path)?;
        let (id, _) = *self.entries(parent).get(name).ok_or(Errno::NOENT)?;
        match &self.inode(id).node {
            Node::Directory(directory) if directory.entries.is_empty() => {}
            Node::Directory(_) => return Err(Errno::NOTEMPTY),
            _ => return Err(Errno::NOTDIR),
        }
        self.take(parent, name);
        self.inodes.remove(&id);
        Ok(Wanted::Done)
    }

    pub(super) fn rename(&mut self, from: &Name, to: &Name, replace: Replace) -> Answer<Wanted> {
        let (old_parent, old_name) = self.split(from)?;
        let (new_parent, new_name) = self.split(to)?;
        let (moved, _) = *self.entries(old_parent).get(old_name).ok_or(Errno::NOENT)?;
        let target = self.entries(new_parent).get(new_name).map(|(id, _)| *id);
        match (replace, target) {
            (Replace::Never, Some(_)) => return Err(Errno::EXIST),
            (Replace::Exchange, None) => return Err(Errno::NOENT),
            _ => {}
        }
        // In the kernel's order: the source above the target, then the target above the source.
        let moves_directory = matches!(self.inode(moved).node, Node::Directory(_));
        if moves_directory && self.is_above(moved, new_parent) {
            return Err(Errno::INVAL);
        }
        if let Some(target) = target
            && matches!(self.inode(target).node, Node::Directory(_))
            && self.is_above(target, old_parent)
        {
            let exchange = replace == Replace::Exchange;
            return Err(if exchange {
                Errno::INVAL
            } else {
                Errno::NOTEMPTY
            });
        }
        if target == Some(moved) {
            return Ok(Wanted::Done);
        }
        if let Some(target) = target {
            if replace == Replace::Exchange {
                self.take(old_parent, old_name);
                self.take(new_parent, new_name);
                self.put(old_parent, old_name, target);
                self.put(new_parent, new_name, moved);
                return Ok(Wanted::Done);
            }
            match (&self.inode(target).node, moves_directory) {
                (Node::Directory(_), false) => return Err(Errno::ISDIR),
                (Node::Directory(inside), true) if !inside.entries.is_empty() => {
                    return Err(Errno::NOTEMPTY);
                }
                (Node::Directory(_), true) | (_, false) => {}
                (_, true) => return Err(Errno::NOTDIR),
            }
            self.take(new_parent, new_name);
            self.drop_link(target);
        }
        self.take(old_parent, old_name);
        self.put(new_parent, new_name, moved);
        if replace == Replace::Whiteout {
            let what = Special::Character { major: 0, minor: 0 };
            self.add(from, Node::Special(what), 0)?;
        }
        Ok(Wanted::Done)
    }

    fn is_above(&self, ancestor: u64, mut directory: u64) -> bool {
        loop {
            if directory == ancestor {
                return true;
            }
            match &self.inode(directory).node {
                Node::Directory(inside) if directory > CROWD_ID => directory = inside.parent,
                _ => return false,
            }
        }
    }

    fn put(&mut self, parent: u64, name: &[u8], id: u64) {
        let step = self.step;
        if let Node::Directory(directory) = &mut self.inode_mut(id).node {
            directory.parent = parent;
            directory.name = name.to_vec();
        }
        let above = self.inode_mut(parent);
        above.mtime = None;
        if let Node::Directory(directory) = &mut above.node {
            directory.entries.insert(name.to_vec(), (id, step));
        }
        self.places
            .insert((parent, name.to_vec()), self.names.len());
        self.names.push((parent, name.to_vec()));
    }

    fn take(&mut self, parent: u64, name: &[u8]) {
        let above = self.inode_mut(parent);
        above.mtime = None;
        if let Node::Directory(directory) = &mut above.node {
            directory.entries.remove(name);
        }
        if let Some(at) = self.places.remove(&(parent, name.to_vec())) {
            self.names.swap_remove(at);
            if let Some(moved) = self.names.get(at) {
                self.places.insert(moved.clone(), at);
            }
        }
    }

    fn drop_link(&mut self, id: u64) {
        let step = self.step;
        let inode = self.inode_mut(id);
        inode.links -= 1;
        inode.changed = step;
        if inode.links == 0 || matches!(inode.node, Node::Directory(_)) {
            self.inodes.remove(&id);
        }
    }
}
