//! Steps on attributes, as system calls.

use super::{Mounted, done};
use crate::step::{Step, Time, path_bytes, slot_of};
use crate::subject::{Answer, content, time};
use btrfuse_test_support::script::bytes;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

impl Mounted {
    pub(super) fn attribute_step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Chmod { on, mode } => {
                let mode = Mode::from_raw_mode(*mode);
                done(match slot_of(on) {
                    Some(slot) => rustix::fs::fchmod(self.slot(slot)?, mode),
                    None => rustix::fs::chmodat(CWD, self.at(on), mode, AtFlags::empty()),
                })
            }
            Step::Chown {
                on,
                uid,
                gid,
                follow,
            } => {
                let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
                done(match slot_of(on) {
                    Some(slot) => rustix::fs::fchown(self.slot(slot)?, uid, gid),
                    None => rustix::fs::chownat(CWD, self.at(on), uid, gid, at_flags(*follow)),
                })
            }
            Step::SetTimes {
                on,
                atime,
                mtime,
                follow,
            } => {
                let times = Timestamps {
                    last_access: timespec(*atime),
                    last_modification: timespec(*mtime),
                };
                done(match slot_of(on) {
                    Some(slot) => rustix::fs::futimens(self.slot(slot)?, &times),
                    None => rustix::fs::utimensat(CWD, self.at(on), &times, at_flags(*follow)),
                })
            }
            Step::SetXattr {
                on,
                name,
                len,
                seed,
                flags,
                follow,
            } => {
                let name = path_bytes(name);
                let name = OsStr::from_bytes(&name);
                let value = bytes(*seed, *len);
                let flags = XattrFlags::from_bits_retain(*flags);
                done(match (slot_of(on), follow) {
                    (Some(slot), _) => rustix::fs::fsetxattr(self.slot(slot)?, name, &value, flags),
                    (None, true) => rustix::fs::setxattr(self.at(on), name, &value, flags),
                    (None, false) => rustix::fs::lsetxattr(self.at(on), name, &value, flags),
                })
            }
            Step::GetXattr { on, name, follow } => {
                let name = path_bytes(name);
                let name = OsStr::from_bytes(&name);
                let mut value = vec![0; 65_536];
                let len = match (slot_of(on), follow) {
                    (Some(slot), _) => rustix::fs::fgetxattr(self.slot(slot)?, name, &mut value),
                    (None, true) => rustix::fs::getxattr(self.at(on), name, &mut value),
                    (None, false) => rustix::fs::lgetxattr(self.at(on), name, &mut value),
                }?;
                Ok(content(&value[..len]))
            }
            Step::ListXattr { on, follow } => {
                let mut names = vec![0; 65_536];
                let len = match (slot_of(on), follow) {
                    (Some(slot), _) => rustix::fs::flistxattr(self.slot(slot)?, &mut names),
                    (None, true) => rustix::fs::listxattr(self.at(on), &mut names),
                    (None, false) => rustix::fs::llistxattr(self.at(on), &mut names),
                }?;
                let names = names[..len].split(|byte| *byte == 0);
                let mut names: Vec<String> = names
                    .map(|name| name.escape_ascii().to_string())
                    .filter(|name| !name.is_empty())
                    .collect();
                names.sort();
                Ok(json!(names))
            }
            Step::RemoveXattr { on, name, follow } => {
                let name = path_bytes(name);
                let name = OsStr::from_bytes(&name);
                done(match (slot_of(on), follow) {
                    (Some(slot), _) => rustix::fs::fremovexattr(self.slot(slot)?, name),
                    (None, true) => rustix::fs::removexattr(self.at(on), name),
                    (None, false) => rustix::fs::lremovexattr(self.at(on), name),
                })
            }
            Step::Stat { on, follow } => {
                let stat = match slot_of(on) {
                    Some(slot) => rustix::fs::fstat(self.slot(slot)?),
                    None => rustix::fs::statat(CWD, self.at(on), at_flags(*follow)),
                }?;
                Ok(json!({
                    "mode": format!("{:o}", stat.st_mode),
                    "links": stat.st_nlink,
                    "uid": stat.st_uid,
                    "gid": stat.st_gid,
                    "size": stat.st_size,
                    "rdev": stat.st_rdev,
                    "atime": time(stat.st_atime, stat.st_atime_nsec.cast_signed()),
                    "mtime": time(stat.st_mtime, stat.st_mtime_nsec.cast_signed()),
                }))
            }
            Step::Statfs { path } => {
                let it = rustix::fs::statfs(self.at(path))?;
                let sane = it.f_namelen == 255
                    && it.f_bsize == 4096
                    && it.f_blocks >= it.f_bfree
                    && it.f_bfree >= it.f_bavail
                    && it.f_bavail > 0;
                Ok(if sane {
                    json!("sane")
                } else {
                    json!(format!("{it:?}"))
                })
            }
            _ => unreachable!("not a step on attributes"),
        }
    }
}

fn at_flags(follow: bool) -> AtFlags {
    if follow {
        AtFlags::empty()
    } else {
        AtFlags::SYMLINK_NOFOLLOW
    }
}

fn timespec(time: Time) -> Timespec {
    let (tv_sec, tv_nsec) = match time {
        Time::Omit => (0, rustix::fs::UTIME_OMIT),
        Time::Now => (0, rustix::fs::UTIME_NOW),
        Time::At(seconds, nanoseconds) => (seconds, nanoseconds as _),
    };
    Timespec { tv_sec, tv_nsec }
}
