//! Steps on content, as calls of the engine, and what the kernel checks before.

use super::client::{CALLER, File, said};
use super::{Engine, done};
use crate::step::{Step, path_bytes, slot_of};
use crate::subject::{Answer, content};
use btrfuse::fs::{FileKind, SetAttr, SetTime, Whence, WriteFlags};
use btrfuse_test_support::script::bytes;
use rustix::io::Errno;
use serde_json::{Value, json};

impl Engine {
    pub(super) fn data_step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Write {
                on,
                offset,
                len,
                seed,
            } => {
                let file = self.opened(on, libc::O_WRONLY)?;
                self.write(file, *offset, &bytes(*seed, *len))
            }
            Step::Append { path, len, seed } => {
                let file = self.opened(path, libc::O_WRONLY | libc::O_APPEND)?;
                self.write(file, 0, &bytes(*seed, *len))
            }
            Step::Read { on, offset, len } => {
                let file = self.opened(on, libc::O_RDONLY)?;
                let offset = u64::try_from(*offset).map_err(|_| Errno::INVAL)?;
                match file.kind {
                    FileKind::Fifo => Err(Errno::SPIPE),
                    _ if !file.reads => Err(Errno::BADF),
                    _ if offset + *len as u64 > i64::MAX.cast_unsigned() => Err(Errno::INVAL),
                    FileKind::Directory => Err(Errno::ISDIR),
                    _ => Ok(content(&said(self.fs().read(
                        file.node,
                        offset,
                        *len as u32,
                    ))?)),
                }
            }
            Step::Mapped {
                on,
                offset,
                len,
                seed,
            } => {
                let file = self.opened(on, libc::O_RDWR)?;
                match file.kind {
                    _ if *len == 0 => return Err(Errno::INVAL),
                    _ if !file.writes || !file.reads => return Err(Errno::ACCESS),
                    FileKind::Regular => {}
                    _ => return Err(Errno::NODEV),
                }
                let size = said(self.fs().getattr(file.node))?.size;
                if offset + *len as u64 > size {
                    return Err(Errno::FAULT);
                }
                let file = File {
                    appends: false,
                    ..file
                };
                self.write(file, offset.cast_signed(), &bytes(*seed, *len))?;
                Ok(Value::Null)
            }
            Step::Truncate { on, size } => self.truncate(on, *size),
            Step::Fallocate {
                on,
                mode,
                offset,
                len,
            } => {
                let file = self.opened(on, libc::O_WRONLY)?;
                self.fallocate(file, *mode, *offset, *len)
            }
            Step::SeekData { on, offset } => self.seek(on, *offset, Whence::Data),
            Step::SeekHole { on, offset } => self.seek(on, *offset, Whence::Hole),
            Step::Copy {
                from,
                from_offset,
                to,
                offset,
                len,
            } => {
                let from = self.opened(from, libc::O_RDONLY)?;
                let to = self.opened(to, libc::O_WRONLY)?;
                // As a program asks, again and again.
                let mut copied = 0;
                loop {
                    let (at, there) = (from_offset + copied, offset + copied);
                    match self.copy(from, at, to, there, *len - copied as usize) {
                        Ok(0) => return Ok(json!(copied)),
                        Ok(some) => copied += some.cast_signed(),
                        Err(error) if copied == 0 => return Err(error),
                        Err(_) => return Ok(json!(copied)),
                    }
                    if copied as usize == *len {
                        return Ok(json!(copied));
                    }
                }
            }
            Step::Fsync { on, data_only } => {
                let file = self.opened(on, libc::O_RDONLY)?;
                match file.kind {
                    FileKind::Regular | FileKind::Directory => {
                        done(self.fs().fsync(file.node, *data_only))
                    }
                    _ => Err(Errno::INVAL),
                }
            }
            Step::Tmpfile {
                path,
                flags,
                mode,
                len,
                seed,
            } => {
                if flags & libc::O_ACCMODE == libc::O_RDONLY {
                    return Err(Errno::INVAL);
                }
                let dir = self.client().resolve(&path_bytes(path), true)?;
                if dir.kind != FileKind::Directory {
                    return Err(Errno::NOTDIR);
                }
                let made = said(self.fs().tmpfile(&CALLER, dir.node, mode & 0o7777))?;
                let made = self.client().counted(made);
                let fs = self.fs();
                let data = bytes(*seed, *len);
                let written = said(fs.write(made.node, 0, &data, WriteFlags::default()))?;
                let at = said(fs.getattr(made.node))?;
                fs.release(made.node);
                Ok(json!({"written": written, "links": at.nlink, "mode": at.mode}))
            }
            _ => unreachable!("not a step on content"),
        }
    }

    fn write(&mut self, file: File, offset: i64, data: &[u8]) -> Answer {
        let mut offset = u64::try_from(offset).map_err(|_| Errno::INVAL)?;
        if file.kind == FileKind::Fifo {
            return Err(Errno::SPIPE);
        }
        if !file.writes {
            return Err(Errno::BADF);
        }
        if offset.checked_add_signed(data.len() as i64) > Some(i64::MAX.cast_unsigned()) {
            return Err(Errno::INVAL);
        }
        if data.is_empty() {
            return Ok(json!(0));
        }
        if file.appends {
            offset = said(self.fs().getattr(file.node))?.size;
        }
        let room = i64::MAX.cast_unsigned() - offset;
        if room == 0 {
            return Err(Errno::FBIG);
        }
        let data = &data[..data.len().min(room as usize)];
        let flags = WriteFlags::default();
        Ok(json!(said(
            self.fs().write(file.node, offset, data, flags)
        )?))
    }

    fn truncate(&mut self, on: &str, size: i64) -> Answer {
        let wanted = u64::try_from(size).map_err(|_| Errno::INVAL);
        let mut changes = SetAttr::default();
        let node = match slot_of(on) {
            Some(slot) => {
                let file = self.slot(slot)?;
                changes.size = Some(wanted?);
                // Also where the size stays.
                changes.mtime = Some(SetTime::Now);
                match file.kind {
                    FileKind::Regular if file.writes => file.node,
                    _ => return Err(Errno::INVAL),
                }
            }
            None => {
                changes.size = Some(wanted?);
                let at = self.client().resolve(&path_bytes(on), true)?;
                match at.kind {
                    FileKind::Regular => at.node,
                    FileKind::Directory => return Err(Errno::ISDIR),
                    _ => return Err(Errno::INVAL),
                }
            }
        };
        done(self.fs().setattr(&CALLER, node, &changes))
    }

    fn fallocate(&mut self, file: File, mode: i32, offset: i64, len: i64) -> Answer {
        let known = [0, 1, 3, 8, 16, 17, 32, 64, 65, 128];
        match file.kind {
            _ if offset < 0 || len <= 0 => Err(Errno::INVAL),
            _ if !known.contains(&mode) => Err(Errno::OPNOTSUPP),
            _ if !file.writes => Err(Errno::BADF),
            FileKind::Fifo => Err(Errno::SPIPE),
            _ if offset.checked_add(len).is_none() => Err(Errno::FBIG),
            _ => {
                let (offset, len) = (offset.cast_unsigned(), len.cast_unsigned());
                done(self.fs().fallocate(file.node, mode, offset, len))
            }
        }
    }

    fn seek(&mut self, on: &str, offset: i64, whence: Whence) -> Answer {
        let file = self.opened(on, libc::O_RDONLY)?;
        let offset = offset.cast_unsigned();
        match file.kind {
            FileKind::Fifo => Err(Errno::SPIPE),
            FileKind::Directory => {
                let size = said(self.fs().getattr(file.node))?.size;
                match whence {
                    _ if offset >= size => Err(Errno::NXIO),
                    Whence::Data => Ok(json!(offset)),
                    Whence::Hole => Ok(json!(size)),
                }
            }
            _ => Ok(json!(said(self.fs().seek(file.node, offset, whence))?)),
        }
    }

    fn copy(
        &mut self,
        from: File,
        at: i64,
        to: File,
        there: i64,
        len: usize,
    ) -> Result<u64, Errno> {
        for file in [from, to] {
            match file.kind {
                FileKind::Directory => return Err(Errno::ISDIR),
                FileKind::Regular => {}
                _ => {
                    let dir = [from, to].iter().any(|it| it.kind == FileKind::Directory);
                    return Err(if dir { Errno::ISDIR } else { Errno::INVAL });
                }
            }
        }
        if !from.reads || !to.writes || to.appends {
            return Err(Errno::BADF);
        }
        let wraps = |place: i64| place.cast_unsigned().checked_add(len as u64).is_none();
        if wraps(at) || wraps(there) {
            return Err(Errno::OVERFLOW);
        }
        let size = said(self.fs().getattr(from.node))?.size.cast_signed();
        let len = (len as i64).min(size.saturating_sub(at).max(0));
        if there == i64::MAX {
            return Err(Errno::FBIG);
        }
        let overlap = from.node == to.node && there + len > at && there < at + len;
        if overlap || at < 0 || there < 0 {
            return Err(Errno::INVAL);
        }
        let (at, there, len) = (
            at.cast_unsigned(),
            there.cast_unsigned(),
            len.cast_unsigned(),
        );
        said(
            self.fs()
                .copy_file_range(from.node, at, to.node, there, len),
        )
    }
}
