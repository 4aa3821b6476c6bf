//! Steps on names, as system calls.

use super::{Mounted, done};
use crate::step::{Special, Step, path_bytes};
use crate::subject::Answer;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

impl Mounted {
    pub(super) fn name_step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Open {
                slot,
                path,
                flags,
                mode,
            } => {
                self.slots[*slot] = None;
                let flags = OFlags::from_bits_retain(flags.cast_unsigned());
                let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
                let mode = Mode::from_raw_mode(*mode);
                self.slots[*slot] = Some(rustix::fs::open(self.at(path), flags, mode)?);
                Ok(Value::Null)
            }
            Step::Close { slot } => {
                let open = self.slots.get_mut(*slot).and_then(Option::take);
                open.map(|_| Value::Null).ok_or(Errno::BADF)
            }
            Step::Mkdir { path, mode } => {
                done(rustix::fs::mkdir(self.at(path), Mode::from_raw_mode(*mode)))
            }
            Step::Mknod { path, what, mode } => {
                let kind = match what {
                    Special::File => FileType::RegularFile,
                    Special::Fifo => FileType::Fifo,
                    Special::Socket => FileType::Socket,
                    Special::Character => FileType::CharacterDevice,
                    Special::Block => FileType::BlockDevice,
                    Special::Directory => FileType::Directory,
                };
                let mode = Mode::from_raw_mode(*mode);
                // No driver has this number.
                let number = rustix::fs::makedev(254, 1_000_077);
                done(rustix::fs::mknodat(CWD, self.at(path), kind, mode, number))
            }
            Step::Symlink { target, path } => {
                let target = OsString::from_vec(path_bytes(target));
                done(rustix::fs::symlink(target, self.at(path)))
            }
            Step::Link { from, to, follow } => {
                let flags = if *follow {
                    AtFlags::SYMLINK_FOLLOW
                } else {
                    AtFlags::empty()
                };
                done(rustix::fs::linkat(
                    CWD,
                    self.at(from),
                    CWD,
                    self.at(to),
                    flags,
                ))
            }
            Step::Unlink { path } => done(rustix::fs::unlink(self.at(path))),
            Step::Rmdir { path } => done(rustix::fs::rmdir(self.at(path))),
            Step::Rename { from, to, flags } => {
                let flags = RenameFlags::from_bits_retain(*flags);
                done(rustix::fs::renameat_with(
                    CWD,
                    self.at(from),
                    CWD,
                    self.at(to),
                    flags,
                ))
            }
            Step::ReadDir { path } => self.listing(path),
            Step::ReadLink { path } => {
                let target = rustix::fs::readlink(self.at(path), Vec::new())?;
                Ok(json!(target.to_bytes().escape_ascii().to_string()))
            }
            _ => unreachable!("not a step on names"),
        }
    }

    /// In the order in which the directory gives them.
    fn listing(&self, path: &str) -> Answer {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(self.at(path), flags, Mode::empty())?;
        let own = rustix::fs::fstat(&directory)?;
        let above = rustix::fs::statat(&directory, "..", AtFlags::SYMLINK_NOFOLLOW)?;
        let mut out = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let stat = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let expected = match name.to_bytes() {
                b"." => own.st_ino,
                b".." => above.st_ino,
                _ => stat.st_ino,
            };
            let same = entry.ino() == expected
                && entry.file_type() == FileType::from_raw_mode(stat.st_mode);
            let name = name.to_bytes().escape_ascii().to_string();
            out.push(json!([name, format!("{:?}", entry.file_type()), same]));
        }
        Ok(Value::Array(out))
    }
}
