//! Content: who may read and write, and which times follow. The bytes are [`super::file`]'s.

use super::attr::{FileKind, SetAttr, Timestamp};
use super::file;
use super::filesystem::{Filesystem, Node};
use super::inode::{Inode, has_unknown_flags, is_frozen};
use super::node_id::NodeId;
use super::request::{Whence, WriteFlags};
use super::subvolume;
use crate::allocator::Steal;
use crate::error::{Error, Result};
use crate::ondisk::{INODE_APPEND, INODE_RO_VERITY};
use crate::sync::Arc;

impl Filesystem {
    /// Opens anything; refuses what flags and read-only subvolumes refuse. Keeps the inode
    /// alive until [`Filesystem::release`]. `O_TRUNC` empties the file.
    pub fn open(&self, node: NodeId, flags: i32) -> Result<()> {
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let truncates = flags & libc::O_TRUNC != 0;
        let inode = match self.node(node)? {
            Node::Inode(inode) => inode,
            Node::Stub(_) if writes || truncates => return Err(Error::IsDir),
            Node::Stub(_) => return Ok(()),
        };
        if writes || truncates {
            if inode.is_dir() {
                return Err(Error::IsDir);
            }
            self.want_writable(&inode.root)?;
            let has = inode.meta.lock().flags;
            want_content_mutable(has)?;
            let appends = flags & libc::O_APPEND != 0 && !truncates;
            if has & INODE_APPEND != 0 && !appends {
                return Err(Error::NotPermitted("the file is append-only"));
            }
        }
        if truncates && inode.kind == FileKind::Regular {
            let changes = SetAttr {
                size: Some(0),
                ..SetAttr::default()
            };
            self.setattr(&super::Caller::default(), node, &changes)?;
        }
        self.home.table.open(&inode);
        Ok(())
    }

    /// The end of one [`Filesystem::open`].
    pub fn release(&self, node: NodeId) {
        if let Some(identity) = self.ids.identity_of(node) {
            self.let_go(self.home.table.close(identity));
        }
        self.after_change();
    }

    /// Up to `size` bytes from `offset` on; fewer at the end of the file.
    pub fn read(&self, node: NodeId, offset: u64, size: u32) -> Result<Vec<u8>> {
        self.read_opened(node, offset, size, 0)
    }

    /// The same through a file that was opened with `flags`: `O_NOATIME` leaves the access time.
    pub fn read_opened(&self, node: NodeId, offset: u64, size: u32, flags: i32) -> Result<Vec<u8>> {
        let inode = self.regular(node)?;
        let mut buffer = vec![0; size as usize];
        let read = file::read(self, &inode, offset, &mut buffer)?;
        buffer.truncate(read);
        if flags & libc::O_NOATIME == 0 {
            self.touch_atime(&inode);
        }
        Ok(buffer)
    }

    /// Writes all of `data`.
    pub fn write(&self, node: NodeId, offset: u64, data: &[u8], flags: WriteFlags) -> Result<u32> {
        let inode = self.regular(node)?;
        self.want_writable_mount()?;
        if !flags.from_cache {
            // A descriptor that was opened before the file became immutable goes on writing.
            subvolume::want_writable(&inode.root)?;
            want_content_kept(inode.meta.lock().flags)?;
        }
        if flags.kill_suidgid {
            self.kill_privileges(&inode, flags.leaves_group)?;
        }
        let written = self.with_room(|| file::write(self, &inode, offset, data))?;
        // The kernel keeps the times of what it caches, and tells them by itself.
        if !flags.from_cache && written > 0 {
            self.touch_content(&inode)?;
        }
        self.expect_times(&inode, flags.from_cache);
        self.after_change();
        Ok(written as u32)
    }

    /// Makes the inode durable: with a log of it, or with a commit of everything.
    pub fn fsync(&self, node: NodeId, _datasync: bool) -> Result<()> {
        let Node::Inode(inode) = self.node(node)? else {
            return Ok(());
        };
        if self.read_only.is_some() {
            return Ok(());
        }
        let flushed = match inode.kind {
            FileKind::Regular => file::flush_inode(self, &inode),
            _ => Ok(()),
        };
        let earlier = file::take_error(&inode);
        if flushed.is_err() || earlier.is_some() || !self.fsync_by_log(&inode)? {
            // Another file's content that is lost on the way is told to who has that one open.
            self.engine.committer.commit_whatever_is_lost()?;
        }
        flushed?;
        earlier.map_or(Ok(()), Err)
    }

    /// A descriptor is closed: nothing has to happen.
    pub fn flush(&self, node: NodeId) -> Result<()> {
        self.node(node).map(drop)
    }

    /// The next data or hole from `offset` on.
    pub fn seek(&self, node: NodeId, offset: u64, whence: Whence) -> Result<u64> {
        let inode = self.regular(node)?;
        file::seek(self, &inode, offset, whence)
    }

    /// Preallocates, punches or zeroes (`fallocate(2)`).
    pub fn fallocate(&self, node: NodeId, mode: i32, offset: u64, len: u64) -> Result<()> {
        let inode = self.regular(node)?;
        self.want_writable(&inode.root)?;
        let flags = inode.meta.lock().flags;
        want_content_mutable(flags)?;
        if flags & INODE_APPEND != 0 && mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return Err(Error::NotPermitted("the file is append-only"));
        }
        self.with_room(|| file::fallocate(self, &inode, mode, offset, len))?;
        self.expect_times(&inode, false);
        if !self.options.kernel_keeps_times {
            self.touch_content(&inode)?;
        }
        self.after_change();
        Ok(())
    }

    /// Copies up to `len` bytes from one file to another; fewer at the end of the first.
    pub fn copy_file_range(
        &self,
        node_in: NodeId,
        offset_in: u64,
        node_out: NodeId,
        offset_out: u64,
        len: u64,
    ) -> Result<u64> {
        let (from, to) = (self.regular(node_in)?, self.regular(node_out)?);
        self.want_writable(&to.root)?;
        let flags = to.meta.lock().flags;
        want_content_mutable(flags)?;
        let copied =
            self.with_room(|| file::copy_file_range(self, &from, offset_in, &to, offset_out, len))?;
        self.expect_times(&to, false);
        if copied > 0 && !self.options.kernel_keeps_times {
            self.touch_content(&to)?;
        }
        self.touch_atime(&from);
        self.after_change();
        Ok(copied)
    }

    /// The kernel tells the times of this change by itself, now or much later.
    fn expect_times(&self, inode: &Inode, from_cache: bool) {
        if from_cache || self.options.kernel_keeps_times {
            inode.meta.lock().times_due = true;
        }
    }

    fn touch_content(&self, inode: &Arc<Inode>) -> Result<()> {
        let ticket = self.ticket(Steal::No)?;
        let mut meta = inode.meta.lock();
        // With the writeback cache the kernel stamps the file as well, with a clock that stands
        // still for a tick (10 ms at most), and sends its value only when that moved. Running ahead
        // of it inside a tick would leave a time on disk that no program has seen.
        let now = Timestamp::now();
        if now
            .nanoseconds_after(meta.mtime)
            .is_none_or(|passed| passed >= 10_000_000)
        {
            meta.touch_content(now);
        }
        self.mark_dirty(inode, &mut meta, ticket);
        Ok(())
    }

    fn regular(&self, node: NodeId) -> Result<Arc<Inode>> {
        let inode = match self.node(node)? {
            Node::Inode(inode) => inode,
            Node::Stub(_) => return Err(Error::IsDir),
        };
        match inode.kind {
            FileKind::Regular => Ok(inode),
            FileKind::Directory => Err(Error::IsDir),
            _ => Err(Error::Invalid("only files have content")),
        }
    }
}

fn want_content_mutable(flags: u64) -> Result<()> {
    if is_frozen(flags) {
        return Err(Error::NotPermitted("the file is immutable"));
    }
    want_content_kept(flags)
}

/// For who has had the file open for writing since before it became immutable.
fn want_content_kept(flags: u64) -> Result<()> {
    if has_unknown_flags(flags) {
        return Err(Error::NotPermitted("the file has flags from the future"));
    }
    if flags & INODE_RO_VERITY != 0 {
        return Err(Error::NotPermitted("fs-verity protects the file's content"));
    }
    Ok(())
}
