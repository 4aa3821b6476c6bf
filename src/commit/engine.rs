//! An open filesystem: trees, space, and who commits.

use super::committer::Committer;
use super::csums::Csums;
use crate::btree::TreeContext;
use crate::error::{Error, Result};
use crate::extent_buffer::Kind;
use crate::sync::Arc;
use crate::volume::Volume;
use std::time::Duration;

/// How a filesystem is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Nothing is written, whatever the image allows.
    pub read_only: bool,
    /// The last commit is shown, without what a log tree adds (needs `read_only`).
    pub nologreplay: bool,
    /// The caller replays a log tree ([`Engine::read_log`]) before it does anything else. Without
    /// that, an image that has one is refused.
    pub replays_log: bool,
    /// Time between commits that nobody asks for.
    pub commit_interval: Duration,
    /// Bound of the cache of tree blocks.
    pub metadata_cache_bytes: u64,
    /// Start the thread that commits by itself.
    pub background: bool,
    /// Tell the device which ranges became free.
    pub discard: bool,
    /// The rules of a buffer's life; only lab builds have more than [`Kind::BUILD`].
    pub protocol: Kind,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            nologreplay: false,
            replays_log: false,
            commit_interval: Duration::from_secs(30),
            metadata_cache_bytes: 64 << 20,
            background: true,
            discard: false,
            protocol: Kind::BUILD,
        }
    }
}

/// An open filesystem.
pub struct Engine {
    /// The trees.
    pub ctx: Arc<TreeContext>,
    /// The devices.
    pub volume: Arc<Volume>,
    /// Makes changes durable.
    pub committer: Arc<Committer>,
    /// The csum tree.
    pub csums: Arc<Csums>,
    pub(super) read_only: Option<String>,
    /// How often to commit, once the log that waits is replayed.
    pub(super) starts_later: Option<Duration>,
}

impl Engine {
    /// Why nothing can be written, or `None` when the filesystem is open for writing.
    pub fn read_only(&self) -> Option<&str> {
        self.read_only.as_deref()
    }

    /// An error where nothing can be written, from the start or since an abort.
    pub fn check_writable(&self) -> Result<()> {
        match &self.read_only {
            Some(reason) => Err(Error::ReadOnly(reason.clone())),
            None => self.ctx.transactions.check(),
        }
    }

    /// The last commit, and the end of the background thread.
    pub fn shutdown(&self) -> Result<()> {
        let result = self.committer.shutdown();
        self.ctx.cache.close_readahead();
        result
    }
}
