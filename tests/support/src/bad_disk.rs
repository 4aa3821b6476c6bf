//! A disk that fails or lies, as a file: a tiny FUSE filesystem with one file in it, behind which an image
//! lies, and before which a [`FaultPlan`] stands.
//!
//! Whoever uses image files can be given it: our daemon, and the kernel through a loop device. Nothing is
//! cached in front of it, so the plan sees each call. Invariant: when a `BadDisk` is gone, so is its mount.

use crate::FaultPlan;
use crate::fault_plan::{Call, ReadAs, WriteAs};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

const NAME: &str = "image";
const FILE: INodeNo = INodeNo(2);
const TTL: Duration = Duration::from_secs(3600);
/// What a stuttering disk does at once.
const STUTTER_BYTES: usize = 4096;

struct State {
    plan: FaultPlan,
    stutters: bool,
}

/// See the module.
pub struct BadDisk {
    folder: tempfile::TempDir,
    state: Arc<Mutex<State>>,
    session: Option<BackgroundSession>,
}

impl BadDisk {
    /// Over an image file, which nobody else may use meanwhile. Nothing goes wrong until a plan says so.
    #[track_caller]
    pub fn over(image: &Path) -> Self {
        crate::need_root();
        let image = File::options()
            .read(true)
            .write(true)
            .open(image)
            .unwrap_or_else(|error| panic!("{}: {error}", image.display()));
        let folder = tempfile::Builder::new()
            .prefix("btrfuse-disk-")
            .tempdir_in("/var/tmp")
            .expect("a mount point under /var/tmp");
        let state = Arc::new(Mutex::new(State {
            plan: FaultPlan::none(),
            stutters: false,
        }));
        let disk = Disk {
            size: image.metadata().expect("our own image").len(),
            image,
            state: state.clone(),
        };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("bad-disk".into())];
        let session = fuser::spawn_mount(disk, folder.path(), &config)
            .unwrap_or_else(|error| panic!("a FUSE mount for a disk: {error}"));
        Self {
            folder,
            state,
            session: Some(session),
        }
    }

    /// The file.
    pub fn image(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// From now on it goes by this plan.
    pub fn plan(&self, plan: FaultPlan) {
        self.state.lock().expect("no panic").plan = plan;
    }

    /// From now on every read and write does only a part of what was asked for, and says so.
    pub fn stutter(&self) {
        self.state.lock().expect("no panic").stutters = true;
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.state.lock().expect("no panic").plan.heal();
    }

    /// How many calls went wrong since the plan was made.
    pub fn fired(&self) -> u64 {
        self.state.lock().expect("no panic").plan.fired()
    }

    /// How many calls of a kind there were since the plan was made.
    pub fn calls(&self, call: Call) -> u64 {
        self.state.lock().expect("no panic").plan.calls(call)
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = session.umount_and_join()
        {
            eprintln!("left behind: {}: {error}", self.folder.path().display());
        }
    }
}

struct Disk {
    image: File,
    size: u64,
    state: Arc<Mutex<State>>,
}

impl Disk {
    fn attr(&self, ino: INodeNo) -> FileAttr {
        let is_file = ino == FILE;
        FileAttr {
            ino,
            size: if is_file { self.size } else { 0 },
            blocks: if is_file { self.size / 512 } else { 0 },
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: match is_file {
                true => FileType::RegularFile,
                false => FileType::Directory,
            },
            perm: if is_file { 0o600 } else { 0o700 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }

    fn part(&self, len: usize) -> usize {
        match self.state.lock().expect("no panic").stutters {
            true => len.min(STUTTER_BYTES),
            false => len,
        }
    }

    fn read_as_planned(&self, at: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let len = self.part(len.min(self.size.saturating_sub(at) as usize));
        let fate = self.state.lock().expect("no panic").plan.read(at, len);
        match fate {
            ReadAs::Failed => return Err(Errno::EIO),
            ReadAs::Rotten(byte, bit) => {
                let mut old = [0];
                self.image.read_exact_at(&mut old, byte).map_err(told)?;
                self.image
                    .write_all_at(&[old[0] ^ bit], byte)
                    .map_err(told)?;
            }
            ReadAs::Stored => {}
        }
        let mut bytes = vec![0; len];
        self.image.read_exact_at(&mut bytes, at).map_err(told)?;
        Ok(bytes)
    }

    fn write_as_planned(&self, at: u64, data: &[u8]) -> Result<usize, Errno> {
        let data = &data[..self.part(data.len())];
        let mut state = self.state.lock().expect("no panic");
        let fate = state.plan.write(at, data.len(), self.size);
        drop(state);
        let (at, stored) = match fate {
            WriteAs::Stored => (at, data),
            WriteAs::Failed => return Err(Errno::EIO),
            WriteAs::Cut(len) => (at, &data[..len]),
            WriteAs::At(elsewhere) => (elsewhere, data),
        };
        self.image.write_all_at(stored, at).map_err(told)?;
        Ok(data.len())
    }
}

fn told(error: io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Filesystem for Disk {
    fn lookup(&self, _req: &Request, _parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() == Some(NAME) {
            true => reply.entry(&TTL, &self.attr(FILE), Generation(0)),
            false => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.attr(ino));
    }

    fn open(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        // Or the page cache would answer reads, and put writes together.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_as_planned(offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_as_planned(offset, data) {
            Ok(len) => reply.written(len as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // close(2), and no flush of a disk.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match self.state.lock().expect("no panic").plan.flush() {
            true => reply.ok(),
            false => reply.error(Errno::EIO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;
    use crate::fault_plan::{Fault, Lasting};

    #[test]
    fn a_disk_does_what_the_plan_says_and_nothing_else() {
        let image = Image::blank(1);
        let disk = BadDisk::over(image.path());
        let file = File::options()
            .read(true)
            .write(true)
            .open(disk.image())
            .expect("the disk's file");
        let mut back = [0; 8192];
        file.write_all_at(&[7; 8192], 4096)
            .expect("nothing is planned");
        disk.plan(FaultPlan::at(Fault::Fails(Call::Write, Lasting::Once), 2));
        file.write_all_at(&[8; 4096], 4096).expect("the first one");
        let error = file.write_all_at(&[9; 4096], 4096).expect_err("the second");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        disk.plan(FaultPlan::at(Fault::Fails(Call::Flush, Lasting::Once), 1));
        assert!(file.sync_data().is_err());
        file.sync_data().expect("only the first one");
        disk.plan(FaultPlan::none());
        disk.stutter();
        file.read_exact_at(&mut back, 4096).expect("in two pieces");
        assert_eq!((disk.calls(Call::Read), disk.fired()), (2, 0));
        assert!(back[..4096].iter().all(|it| *it == 8));
        assert!(back[4096..].iter().all(|it| *it == 7));
    }
}
