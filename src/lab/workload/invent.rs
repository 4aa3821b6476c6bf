//! What a process does next: by chance, from its seed, knowing its own model.

use super::features::Features;
use super::mix::{Kind, Mix};
use super::model::{Inode, Model, Node};
use super::name::{CROWD, Name};
use super::operation::{Allocate, Arena, Look, Operation, Replace, Special, Way};
use super::rng::Rng;
use super::stamp::Stamp;
use super::{batch, brawl};
use std::collections::VecDeque;

/// Above this many names nothing is added but by batches.
const NAMES_MAX: usize = 400;
/// Offsets stay below this, but for a few far out.
const OFFSET_MAX: u64 = 6 << 20;
/// What direct I/O and clones count in.
const SECTOR: u64 = 4096;
const SNAPSHOTS_MAX: usize = 2;
/// Users and groups to whom files are given.
pub const OWNERS: &[u32] = &[0, 1, 5, 1000, 65_533];

/// Invents one process's steps.
#[derive(Clone, Debug)]
pub struct Inventor {
    rng: Rng,
    process: u64,
    mix: Mix,
    features: Features,
    /// The rest of a batch.
    queue: VecDeque<Operation>,
    batches: u64,
    snapshots: VecDeque<String>,
}

impl Inventor {
    /// Of one process.
    pub fn new(seed: u64, process: u64, mix: &Mix, features: &Features) -> Self {
        Self {
            rng: Rng::new(seed, process),
            process,
            mix: features.restrict(mix),
            features: features.clone(),
            queue: VecDeque::new(),
            batches: 0,
            snapshots: VecDeque::new(),
        }
    }

    /// The next operation, which will be step number `step`, and the kind that it counts as.
    pub fn next(&mut self, model: &Model, step: u64) -> (Arena, Kind, Operation) {
        if !self.queue.is_empty()
            && !self.rng.one_in(10)
            && let Some(operation) = self.queue.pop_front()
        {
            return (Arena::Own, Kind::Batch, operation);
        }
        let stamp = Stamp::new(self.process, step);
        loop {
            let kind = self.mix.at(self.rng.below(self.mix.total()));
            if kind == Kind::Brawl {
                let operation = brawl::invent(&mut self.rng, stamp, &self.features);
                return (Arena::Shared, kind, operation);
            }
            if let Some(operation) = self.invent(kind, model, stamp) {
                return (Arena::Own, kind, operation);
            }
            // Nothing there yet to do that with.
            if model.names() == 0 || self.rng.one_in(40) {
                let path = self.new_path(model);
                return (
                    Arena::Own,
                    Kind::Creat,
                    Operation::Create { path, mode: 0o644 },
                );
            }
        }
    }

    fn invent(&mut self, kind: Kind, model: &Model, stamp: Stamp) -> Option<Operation> {
        use Kind as K;
        match kind {
            K::Creat | K::Mknod | K::Mkdir | K::Symlink | K::Orphan => self.add(kind, model, stamp),
            K::Link => Some(Operation::Link {
                from: self.pick(model, |inode| !is_directory(inode))?,
                to: self.new_path(model),
            }),
            K::Unlink => Some(Operation::Unlink {
                path: self.pick(model, |inode| !is_directory(inode))?,
            }),
            K::Rmdir => Some(Operation::Rmdir {
                path: self.pick(model, is_directory)?,
            }),
            K::Rename | K::Rnoreplace | K::Rexchange | K::Rwhiteout => self.rename(kind, model),
            K::Read | K::Mread | K::Readv | K::Dread => {
                let path = self.pick(model, is_file)?;
                let (mut offset, mut len) = (self.offset(model, &path), self.len());
                let look = match kind {
                    K::Mread => Look::Mapped,
                    K::Readv => Look::Vectored,
                    K::Dread => Look::Direct,
                    _ => Look::At,
                };
                if look == Look::Direct {
                    (offset, len) = whole_sectors(offset, len);
                }
                Some(Operation::Read {
                    path,
                    offset,
                    len,
                    look,
                })
            }
            K::Write
            | K::Append
            | K::Mwrite
            | K::Writev
            | K::Dwrite
            | K::Splice
            | K::Truncate
            | K::Fallocate
            | K::Punch
            | K::Zero
            | K::Copyrange
            | K::Clonerange
            | K::Seek => self.data(kind, model, stamp),
            K::Fsync | K::Fdatasync => Some(Operation::Fsync {
                path: self.pick(model, |inode| is_file(inode) || is_directory(inode))?,
                data_only: kind == K::Fdatasync,
            }),
            K::Sync => Some(Operation::Sync),
            K::Chmod | K::Chown | K::Utimes => self.attribute(kind, model),
            K::Setfattr | K::Getfattr | K::Listfattr | K::Removefattr => {
                self.xattr(kind, model, stamp)
            }
            K::Getdents => Some(Operation::ReadDir {
                path: match self.rng.below(4) {
                    0 => Name::default(),
                    1 => Name(CROWD.to_vec()),
                    _ => self.pick(model, is_directory)?,
                },
            }),
            K::Stat => Some(Operation::Stat {
                path: self.pick(model, |_| true)?,
            }),
            K::Readlink => Some(Operation::ReadLink {
                path: self.pick(model, |inode| matches!(inode.node, Node::Symlink(_)))?,
            }),
            K::Refused => self.refused(model, stamp),
            K::Snapshot => Some(self.snapshot(stamp)),
            K::Batch | K::Xbatch => {
                if self.queue.is_empty() {
                    self.batches += 1;
                    let rng = &mut self.rng;
                    self.queue = match kind {
                        K::Batch => batch::names(rng, self.batches),
                        _ => batch::xattrs(rng, self.batches, stamp),
                    };
                }
                self.queue.pop_front()
            }
            K::Brawl => None,
        }
    }

    fn add(&mut self, kind: Kind, model: &Model, stamp: Stamp) -> Option<Operation> {
        if model.names() > NAMES_MAX && kind != Kind::Orphan {
            return None;
        }
        let path = self.new_path(model);
        let mode = self.mode();
        Some(match kind {
            Kind::Creat => Operation::Create { path, mode },
            Kind::Mkdir => Operation::Mkdir {
                path,
                mode: mode & 0o1777 | 0o700,
            },
            Kind::Symlink => {
                let most = if self.rng.one_in(4) { 900 } else { 40 };
                let len = 1 + self.rng.below(most);
                let letter = b'a' + self.rng.below(26) as u8;
                Operation::Symlink {
                    path,
                    target: Name(vec![letter; len as usize]),
                }
            }
            Kind::Orphan => Operation::Orphan {
                path,
                len: self.len().min(100_000),
                stamp,
            },
            _ => {
                let (major, minor) = (self.rng.below(4096) as u32, self.rng.below(1 << 20) as u32);
                let what = match self.rng.below(if self.features.devices { 4 } else { 2 }) {
                    0 => Special::Fifo,
                    1 => Special::Socket,
                    2 => Special::Character { major, minor },
                    _ => Special::Block { major, minor },
                };
                Operation::Mknod { path, what, mode }
            }
        })
    }

    fn rename(&mut self, kind: Kind, model: &Model) -> Option<Operation> {
        let from = self.pick(model, |_| true)?;
        let onto = self.rng.one_in(3);
        let (to, replace) = match kind {
            Kind::Rexchange => (self.pick(model, |_| true)?, Replace::Exchange),
            Kind::Rnoreplace if onto => (self.pick(model, |_| true)?, Replace::Never),
            Kind::Rnoreplace => (self.new_path(model), Replace::Never),
            Kind::Rwhiteout => (self.new_path(model), Replace::Whiteout),
            _ if onto => (self.pick(model, |_| true)?, Replace::Plain),
            _ => (self.new_path(model), Replace::Plain),
        };
        // The kernel answers the same name before it looks at anything.
        (from != to).then_some(Operation::Rename { from, to, replace })
    }

    fn data(&mut self, kind: Kind, model: &Model, stamp: Stamp) -> Option<Operation> {
        let path = self.pick(model, is_file)?;
        let (offset, len) = (self.offset(model, &path), self.len());
        let size = model.size(&path);
        Some(match kind {
            // Far beyond what one would store.
            Kind::Write if self.rng.one_in(150) => {
                let offset = (1 << 40) + self.rng.below(1 << 30);
                Operation::Write {
                    path,
                    offset,
                    len: 100,
                    stamp,
                    way: Way::At,
                }
            }
            Kind::Write => Operation::Write {
                path,
                offset,
                len,
                stamp,
                way: Way::At,
            },
            Kind::Mwrite | Kind::Writev | Kind::Splice => Operation::Write {
                path,
                offset,
                len,
                stamp,
                way: match kind {
                    Kind::Mwrite => Way::Mapped,
                    Kind::Writev => Way::Vectored,
                    _ => Way::Spliced,
                },
            },
            Kind::Dwrite => {
                let (offset, len) = whole_sectors(offset, len);
                Operation::Write {
                    path,
                    offset,
                    len,
                    stamp,
                    way: Way::Direct,
                }
            }
            Kind::Append if size < OFFSET_MAX => Operation::Write {
                path,
                offset: 0,
                len,
                stamp,
                way: Way::Append,
            },
            Kind::Append => return None,
            Kind::Truncate => {
                let size = match self.rng.below(4) {
                    0 => 0,
                    1 => self.rng.below(size.max(1) * 2),
                    2 => offset,
                    _ => self.rng.below(size.max(1)),
                };
                Operation::Truncate { path, size }
            }
            Kind::Fallocate => {
                let what = *self.rng.choose(&[Allocate::Grow, Allocate::KeepSize]);
                Operation::Fallocate {
                    path,
                    what,
                    offset,
                    len,
                }
            }
            Kind::Punch => Operation::Fallocate {
                path,
                what: Allocate::Punch,
                offset,
                len,
            },
            Kind::Zero => {
                let what = *self.rng.choose(&[Allocate::Zero, Allocate::ZeroKeepSize]);
                Operation::Fallocate {
                    path,
                    what,
                    offset,
                    len,
                }
            }
            Kind::Clonerange => {
                let to = self.pick(model, is_file)?;
                let sectors = size / SECTOR;
                if sectors == 0
                    || model.peek(&path).map(|inode| inode.links) != Some(1)
                    || path == to
                {
                    return None;
                }
                let first = self.rng.below(sectors);
                let (offset, len) = whole_sectors(self.offset(model, &to), len);
                Operation::Clone {
                    from: path,
                    from_offset: first * SECTOR,
                    to,
                    offset,
                    len: len.min((sectors - first) * SECTOR),
                }
            }
            Kind::Copyrange => {
                let to = self.pick(model, is_file)?;
                // Ranges of one file must not overlap, and two names may be one file.
                if model.peek(&path).map(|inode| inode.links) != Some(1) || path == to {
                    return None;
                }
                let offset = self.offset(model, &to);
                let from_offset = match self.rng.below(3) {
                    0 => 0,
                    // Whole sectors, which a filesystem may share instead of copying.
                    1 => self.rng.below(size.max(1)) / 4096 * 4096,
                    _ => self.rng.below(size.max(1)),
                };
                Operation::Copy {
                    from: path,
                    from_offset,
                    to,
                    offset,
                    len,
                }
            }
            _ => Operation::Seek { path, offset },
        })
    }

    fn attribute(&mut self, kind: Kind, model: &Model) -> Option<Operation> {
        let path = self.pick(model, |inode| {
            kind != Kind::Chmod || !matches!(inode.node, Node::Symlink(_))
        })?;
        Some(match kind {
            Kind::Chmod => {
                let mode = self.mode();
                let directory = model.peek(&path).is_some_and(is_directory);
                let mode = if directory {
                    mode & 0o1777 | 0o700
                } else {
                    mode
                };
                Operation::Chmod { path, mode }
            }
            Kind::Chown => {
                let (uid, gid) = (*self.rng.choose(OWNERS), *self.rng.choose(OWNERS));
                Operation::Chown { path, uid, gid }
            }
            _ => {
                let (atime, mtime) = (self.time(), self.time());
                Operation::SetTimes { path, atime, mtime }
            }
        })
    }

    fn xattr(&mut self, kind: Kind, model: &Model, stamp: Stamp) -> Option<Operation> {
        let bare = kind == Kind::Setfattr;
        let path = self.pick(model, |inode| {
            (is_file(inode) || is_directory(inode)) && (bare || !inode.xattrs.is_empty())
        })?;
        if kind == Kind::Listfattr {
            return Some(Operation::ListXattr { path });
        }
        if kind != Kind::Setfattr {
            let names: Vec<&String> = model.peek(&path)?.xattrs.keys().collect();
            let name = self.rng.choose(&names).to_string();
            return Some(match kind {
                Kind::Getfattr => Operation::GetXattr { path, name },
                _ => Operation::RemoveXattr { path, name },
            });
        }
        let spaces: &[&str] = if self.features.trusted {
            &["user", "user", "trusted"]
        } else {
            &["user"]
        };
        let name = match self.rng.below(8) {
            0 => format!("{}.s-{}", self.rng.choose(spaces), "long".repeat(30)),
            _ => format!("{}.s-{}", self.rng.choose(spaces), self.rng.below(12)),
        };
        let large = self.features.large_xattrs && self.rng.one_in(6);
        let len = self.rng.below(if large { 1500 } else { 40 }) as usize;
        Some(Operation::SetXattr {
            path,
            name,
            len,
            stamp,
        })
    }

    fn refused(&mut self, model: &Model, stamp: Stamp) -> Option<Operation> {
        let there = self.pick(model, |_| true)?;
        let absent = Name::from("certainly-absent");
        Some(match self.rng.below(8) {
            0 => Operation::Create {
                path: there,
                mode: 0o644,
            },
            1 => Operation::Mkdir {
                path: there,
                mode: 0o755,
            },
            2 => Operation::Unlink { path: absent },
            3 => Operation::Rmdir { path: there },
            4 => Operation::Rename {
                from: absent,
                to: there,
                replace: Replace::Plain,
            },
            5 => Operation::Link {
                from: there.clone(),
                to: there,
            },
            6 => Operation::Write {
                path: self.pick(model, is_directory)?,
                offset: 0,
                len: 1,
                stamp,
                way: Way::At,
            },
            _ => Operation::Unlink {
                path: self.pick(model, is_directory)?,
            },
        })
    }

    /// A new one, or, when there are enough, the end of the oldest.
    fn snapshot(&mut self, stamp: Stamp) -> Operation {
        if self.snapshots.len() > SNAPSHOTS_MAX
            && let Some(name) = self.snapshots.pop_front()
        {
            return Operation::DropSnapshot { name };
        }
        let name = stamp.step().to_string();
        self.snapshots.push_back(name.clone());
        Operation::Snapshot { name }
    }

    fn pick(&mut self, model: &Model, wanted: impl Fn(&Inode) -> bool) -> Option<Name> {
        model.pick(&mut self.rng, wanted)
    }

    fn new_path(&mut self, model: &Model) -> Name {
        let parent = match self.rng.below(8) {
            0 => Name(CROWD.to_vec()),
            1 | 2 => Name::default(),
            // Deep enough to be a tree, and never near PATH_MAX.
            _ => self
                .pick(model, is_directory)
                .filter(|path| path.0.len() < 1000)
                .unwrap_or_default(),
        };
        let name = match self.rng.below(20) {
            0 => vec![b'n'; 240 - self.rng.below(40) as usize],
            // Not UTF-8.
            1 => vec![b'x', 0xff, 0x80 + self.rng.below(64) as u8, b'\n', b' '],
            2 => format!("größe-{}", self.rng.below(1000)).into_bytes(),
            _ => {
                let start = *self.rng.choose(&["file", "d", "note.", "a-b-"]);
                format!("{start}{}", self.rng.below(5000)).into_bytes()
            }
        };
        parent.child(&name)
    }

    fn mode(&mut self) -> u32 {
        let mode = match self.rng.below(6) {
            0 => self.rng.below(0o10000) as u32,
            1 => 0o755,
            2 => 0o600,
            _ => 0o644,
        };
        self.features.mode(mode)
    }

    fn time(&mut self) -> (i64, u32) {
        let seconds = match self.rng.below(6) {
            0 => 0,
            1 => -(self.rng.below(2_000_000_000) as i64),
            2 => 2_147_483_648 + self.rng.below(4_000_000_000) as i64,
            _ => 1_500_000_000 + self.rng.below(200_000_000) as i64,
        };
        (seconds, self.rng.below(1_000_000_000) as u32)
    }

    fn offset(&mut self, model: &Model, path: &Name) -> u64 {
        let size = model.size(path);
        let offset = match self.rng.below(8) {
            0 => 0,
            1 => size,
            2 => size / 4096 * 4096,
            3 => size + self.rng.below(1 << 20),
            4 => self.rng.below(64) * 4096,
            _ => self.rng.below(size.max(1)),
        };
        if offset > OFFSET_MAX {
            self.rng.below(1 << 20)
        } else {
            offset
        }
    }

    fn len(&mut self) -> u64 {
        match self.rng.below(20) {
            0..=7 => 1 + self.rng.below(100),
            8..=15 => 1 + self.rng.below(20_000),
            16..=18 => 4096 * (1 + self.rng.below(16)),
            _ => 1 + self.rng.below(300_000),
        }
    }
}

/// What direct I/O and clones can ask for.
fn whole_sectors(offset: u64, len: u64) -> (u64, u64) {
    (offset / SECTOR * SECTOR, len.next_multiple_of(SECTOR))
}

fn is_file(inode: &Inode) -> bool {
    matches!(inode.node, Node::File(_))
}

fn is_directory(inode: &Inode) -> bool {
    matches!(inode.node, Node::Directory(_))
}
