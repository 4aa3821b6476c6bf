//! Ioctls: what the daemon itself is asked ([`super::control`]), and what the filesystem answers.
//!
//! Owns: that a full commit, and whatever freezes a subvolume, begins when the kernel has handed over
//! what programs wrote before. Never: that wait in a thread that answers requests.

use super::adapter::caller;
use super::changes::Changes;
use super::control::{self, Watchers};
use super::convert::node;
use super::guard::Guard;
use super::hand_over::HandOver;
use super::late_errors::LateErrors;
use super::process::{self, Capabilities};
use crate::error::{Error, Result};
use crate::fs::subvolume::ioctl::{freezes, uses_umask};
use crate::fs::{self, Caller, Filesystem, IoctlAnswer, Who};
use crate::sync::Arc;
use fuser::{INodeNo, ReplyIoctl, Request};

/// Answers ioctls of one mount.
pub struct Ioctls {
    pub fs: Arc<Filesystem>,
    pub watchers: Arc<Watchers>,
    /// Whose mount it is.
    pub owner: Owner,
    pub guard: Arc<Guard>,
    pub late: Arc<LateErrors>,
    pub changes: Arc<Changes>,
}

/// Whose mount it is: that user may what an administrator may. Root is one by its capabilities,
/// where the daemon has them itself; a container's root without them may as much as any owner.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    uid: u32,
    by_uid: bool,
}

impl Owner {
    /// Of a mount that `uid` made.
    pub fn new(uid: u32) -> Self {
        let by_uid = uid != 0 || !process::capabilities(std::process::id(), uid).administers();
        Self { uid, by_uid }
    }

    fn is(self, caller: &Caller) -> bool {
        self.by_uid && caller.uid == self.uid
    }
}

/// A request, and the way to answer it.
pub struct Question {
    caller: Caller,
    capabilities: Capabilities,
    ino: INodeNo,
    cmd: u32,
    input: Vec<u8>,
    out_size: u32,
    reply: ReplyIoctl,
}

impl Question {
    /// What `req` asks.
    pub fn new(
        req: &Request,
        ino: INodeNo,
        cmd: u32,
        input: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) -> Self {
        let umask = match uses_umask(cmd) {
            true => process::umask(req.pid()),
            false => 0,
        };
        // Now: later the number may be another process's.
        let capabilities = match fs::asks_for_rights(cmd) {
            true => process::capabilities(req.pid(), req.uid()),
            false => Capabilities::default(),
        };
        Self {
            caller: caller(req, umask),
            capabilities,
            ino,
            cmd,
            input: input.to_vec(),
            out_size,
            reply,
        }
    }
}

impl Ioctls {
    /// Answers, now or when the kernel has handed over what was written.
    pub fn ask(self: &Arc<Self>, question: Question, hand_over: &HandOver) {
        if !needs_all_writes(question.cmd) {
            let pid = question.caller.pid;
            return self.answer(question, &|| process::groups(pid));
        }
        // As early as the capabilities.
        let groups = process::groups(question.caller.pid);
        let ioctls = self.clone();
        hand_over.everything(move || ioctls.answer(question, &|| groups.clone()));
    }

    fn answer(&self, question: Question, groups: &dyn Fn() -> Vec<u32>) {
        let done = self.guard.run("ioctl", || self.control(&question, groups));
        self.changes.answer(done, question.out_size, question.reply);
    }

    fn control(&self, question: &Question, groups: &dyn Fn() -> Vec<u32>) -> Result<IoctlAnswer> {
        let (caller, cmd, input) = (question.caller, question.cmd, &question.input[..]);
        let owns_mount = question.capabilities.administers() || self.owner.is(&caller);
        match cmd {
            control::SYNC | control::WAIT_SYNC => self.fs.sync().map(|()| IoctlAnswer::default()),
            control::START_SYNC => {
                self.fs.sync()?;
                Ok(self.fs.info().generation.to_le_bytes().to_vec().into())
            }
            control::STATS => self.stats(),
            control::WATCH if owns_mount => {
                self.watchers.add(input).map(|()| IoctlAnswer::default())
            }
            control::WATCH => Err(Error::NotPermitted(
                "only root and the mount's owner may ask",
            )),
            _ => {
                let who = Who {
                    caller,
                    admin: owns_mount,
                    overrides: question.capabilities.overrides_modes(),
                    owns_all: question.capabilities.owns_all(),
                    groups,
                };
                let answer = self.fs.ioctl(&who, node(question.ino), cmd, input)?;
                if fs::changes_attributes(cmd) {
                    self.late.attributes_changed(question.ino.0);
                }
                Ok(answer)
            }
        }
    }

    fn stats(&self) -> Result<IoctlAnswer> {
        let json = serde_json::to_vec(&self.fs.stats());
        let mut bytes = json.map_err(|_| Error::Invalid("numbers that JSON can't hold"))?;
        if bytes.len() > control::STATS_BYTES {
            return Err(Error::Range);
        }
        bytes.resize(control::STATS_BYTES, 0);
        Ok(bytes.into())
    }
}

/// Whether what programs have written before must be in the engine when the answer is made.
fn needs_all_writes(cmd: u32) -> bool {
    matches!(
        cmd,
        control::SYNC | control::WAIT_SYNC | control::START_SYNC
    ) || freezes(cmd)
}
