//! Steps on attributes, as calls of the engine, and what the kernel checks before.

use super::client::{CALLER, said};
use super::{Engine, done};
use crate::step::{Step, Time, path_bytes, slot_of};
use crate::subject::{Answer, content, time};
use btrfuse::fs::{Attr, FileKind, SetAttr, SetTime, Timestamp, XattrMode};
use btrfuse_test_support::script::bytes;
use rustix::io::Errno;
use serde_json::{Value, json};

impl Engine {
    pub(super) fn attribute_step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Chmod { on, mode } => {
                let at = self.at(on, true)?;
                let changes = SetAttr {
                    mode: Some(*mode),
                    ..SetAttr::default()
                };
                done(self.fs().setattr(&CALLER, at.node, &changes))
            }
            Step::Chown {
                on,
                uid,
                gid,
                follow,
            } => {
                let at = self.at(on, *follow)?;
                let changes = SetAttr {
                    uid: *uid,
                    gid: *gid,
                    // The kernel asks for it with every chown, also of neither.
                    kill_suidgid: uid.is_none() && gid.is_none(),
                    ..SetAttr::default()
                };
                done(self.fs().setattr(&CALLER, at.node, &changes))
            }
            Step::SetTimes {
                on,
                atime,
                mtime,
                follow,
            } => {
                if slot_of(on).is_none() && (*atime, *mtime) == (Time::Omit, Time::Omit) {
                    return Ok(Value::Null);
                }
                let at = self.at(on, *follow)?;
                let changes = SetAttr {
                    atime: set_time(*atime)?,
                    mtime: set_time(*mtime)?,
                    ..SetAttr::default()
                };
                done(self.fs().setattr(&CALLER, at.node, &changes))
            }
            Step::Stat { on, follow } => {
                let at = self.at(on, *follow)?;
                let shown = |it: Timestamp| time(it.sec, it.nsec.into());
                Ok(json!({
                    "mode": format!("{:o}", at.mode),
                    "links": at.nlink,
                    "uid": at.uid,
                    "gid": at.gid,
                    "size": at.size,
                    "rdev": at.rdev,
                    "atime": shown(at.atime),
                    "mtime": shown(at.mtime),
                }))
            }
            Step::Statfs { path } => {
                self.at(path, true)?;
                let it = said(self.fs().statfs())?;
                let sane = it.blocks >= it.free && it.free >= it.available && it.available > 0;
                Ok(if sane {
                    json!("sane")
                } else {
                    json!(format!("{it:?}"))
                })
            }
            _ => self.xattr_step(step),
        }
    }

    fn xattr_step(&mut self, step: &Step) -> Answer {
        let (on, follow) = match step {
            Step::SetXattr { on, follow, .. }
            | Step::GetXattr { on, follow, .. }
            | Step::ListXattr { on, follow }
            | Step::RemoveXattr { on, follow, .. } => (on, *follow),
            _ => unreachable!("not a step on attributes"),
        };
        if let Some(slot) = slot_of(on) {
            self.slot(slot)?;
        }
        let checked = |name: &str| match path_bytes(name) {
            name if name.is_empty() || name.len() > 255 => Err(Errno::RANGE),
            name => Ok(name),
        };
        match step {
            Step::SetXattr {
                name,
                len,
                seed,
                flags,
                ..
            } => {
                let mode = said(XattrMode::from_bits(flags.cast_signed()))?;
                let name = checked(name)?;
                if *len > 65_536 {
                    return Err(Errno::TOOBIG);
                }
                let at = self.at(on, follow)?;
                may_be_the_users(&name, &at, Errno::PERM)?;
                done(
                    self.fs()
                        .setxattr(at.node, &name, &bytes(*seed, *len), mode, false),
                )
            }
            Step::GetXattr { name, .. } => {
                let name = checked(name)?;
                let at = self.at(on, follow)?;
                may_be_the_users(&name, &at, Errno::NODATA)?;
                Ok(content(&said(self.fs().getxattr(at.node, &name))?))
            }
            Step::RemoveXattr { name, .. } => {
                let name = checked(name)?;
                let at = self.at(on, follow)?;
                may_be_the_users(&name, &at, Errno::PERM)?;
                done(self.fs().removexattr(at.node, &name))
            }
            _ => {
                let at = self.at(on, follow)?;
                let names = said(self.fs().listxattr(at.node))?;
                let mut names: Vec<String> = names
                    .split(|byte| *byte == 0)
                    .map(|name| name.escape_ascii().to_string())
                    .filter(|name| !name.is_empty())
                    .collect();
                names.sort();
                Ok(json!(names))
            }
        }
    }
}

fn set_time(time: Time) -> Result<Option<SetTime>, Errno> {
    Ok(match time {
        Time::Omit => None,
        Time::Now => Some(SetTime::Now),
        Time::At(sec, nsec) => {
            let nsec = u32::try_from(nsec)
                .ok()
                .filter(|nsec| *nsec < 1_000_000_000);
            let nsec = nsec.ok_or(Errno::INVAL)?;
            Some(SetTime::At(Timestamp { sec, nsec }))
        }
    })
}

/// Attributes of users belong to files and directories; that is seen before the rest of a name.
fn may_be_the_users(name: &[u8], at: &Attr, refusal: Errno) -> Result<(), Errno> {
    let may = matches!(at.kind, FileKind::Regular | FileKind::Directory);
    if may || !name.starts_with(b"user.") {
        Ok(())
    } else {
        Err(refusal)
    }
}
