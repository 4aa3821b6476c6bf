//! An image file or a block device.
//!
//! Owns: the open file and its [`ImageLock`], held until the device is dropped. Reads and
//! writes go through the host's page cache; [`BlockDevice::flush`] is `fdatasync`, whose
//! failure is never forgiven by a later success (the transaction above aborts).

use super::device::{BlockDevice, checked_end};
use super::image_lock::ImageLock;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Mutex, RwLock, RwLockReadGuard};
use crate::{Error, Result};
use rustix::fs::{FallocateFlags, OFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// An image file or a block device, locked against other users.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    path: PathBuf,
    size_bytes: u64,
    read_only: bool,
    claim: Mutex<Option<File>>,
    /// The host can't punch holes here; found out at the first discard.
    discard_unsupported: AtomicBool,
    /// Given back; see [`FileDevice::give_back`]. Read while something goes to the file or comes from it.
    given_back: RwLock<bool>,
    lock: ImageLock,
}

impl FileDevice {
    /// Opens an existing image or block device and locks it: exclusively for writing, shared
    /// for reading.
    ///
    /// # Errors
    /// [`Error::Busy`] names who uses it; a file that is neither is [`Error::Unsupported`].
    pub fn open(path: impl AsRef<Path>, read_only: bool) -> Result<Self> {
        let path = path.as_ref();
        let file = open_file(path, read_only, false)?;
        Self::adopt(file, path, read_only)
    }

    /// Opens or creates a regular file and gives it exactly `size_bytes`, for mkfs. What the
    /// file held stays readable where the sizes overlap.
    pub fn create(path: impl AsRef<Path>, size_bytes: u64) -> Result<Self> {
        let path = path.as_ref();
        let existed = path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| Error::device(format!("create {}", path.display()), error))?;
        let mut device = Self::adopt(file, path, false)?;
        device.set_size(size_bytes).inspect_err(|_| {
            if !existed {
                // Made and locked by us, and empty.
                let _ = std::fs::remove_file(path);
            }
        })?;
        Ok(device)
    }

    /// Gives a regular file another size.
    pub fn set_size(&mut self, size_bytes: u64) -> Result<()> {
        let resized = match i64::try_from(size_bytes) {
            Ok(_) => self.file.set_len(size_bytes),
            Err(_) => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        };
        resized.map_err(|error| {
            let name = self.path.display();
            Error::device(format!("give {name} {size_bytes} bytes"), error)
        })?;
        self.size_bytes = size_bytes;
        Ok(())
    }

    fn adopt(file: File, path: &Path, read_only: bool) -> Result<Self> {
        let failed = |verb: &str, error| Error::device(format!("{verb} {}", path.display()), error);
        let kind = file
            .metadata()
            .map_err(|error| failed("stat", error))?
            .file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::Unsupported(format!(
                "{} is neither a regular file nor a block device: name an image or a device",
                path.display()
            )));
        }
        let lock = ImageLock::take(&file, path, read_only)?;
        // From here on the size can't change under us by the hand of another btrfuse.
        let size_bytes = (&file)
            .seek(SeekFrom::End(0))
            .map_err(|error| failed("measure", error))?;
        if kind.is_block_device() && !read_only {
            // Refused while a kernel filesystem, device-mapper, md or swap holds the device.
            // Only asked here: a `fuseblk` mount takes the claim for itself.
            drop(open_file(path, false, true)?);
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            size_bytes,
            read_only,
            claim: Mutex::new(None),
            discard_unsupported: AtomicBool::new(false),
            given_back: RwLock::new(false),
            lock,
        })
    }

    /// Takes the kernel's exclusive claim on a block device and keeps it: no kernel filesystem
    /// can be mounted from it as long as this device lives. For users that don't mount the
    /// device themselves (`fuseblk`, whose mount takes the claim).
    pub fn claim(&self) -> Result<()> {
        let kind = self.file.metadata().map(|metadata| metadata.file_type());
        if kind.is_ok_and(|kind| kind.is_block_device()) && !self.read_only {
            *self.claim.lock() = Some(open_file(&self.path, false, true)?);
        }
        Ok(())
    }

    /// Makes others who open the image from now on wait until this device is dropped, where the
    /// host can do that: see `lease.rs`.
    pub fn hold_others_back(&self) {
        if !self.read_only
            && let Err(why) = super::lease::take(&self.file)
        {
            log::debug!("{}: no lease: {why}", self.path.display());
        }
    }

    /// Lets others have the image now, while this value still lives: what is under way ends first, and
    /// nothing is read or written any more. For a mount whose programs don't let go of it when all is
    /// committed.
    pub fn give_back(&self) {
        *self.given_back.write() = true;
        *self.claim.lock() = None;
        self.lock.release();
        super::lease::give_back(&self.file);
    }

    /// The image is ours as long as the guard lives.
    fn check_ours(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let given_back = self.given_back.read();
        match *given_back {
            true => Err(io::Error::from_raw_os_error(libc::ESHUTDOWN)),
            false => Ok(given_back),
        }
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn open_file(path: &Path, read_only: bool, exclusive: bool) -> Result<File> {
    // Without NONBLOCK a pipe of that name would hold us until somebody writes to it; files and
    // block devices don't know the flag.
    let mut flags = OFlags::NONBLOCK;
    flags.set(OFlags::EXCL, exclusive);
    OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => super::image_lock::busy_block_device(path),
            Some(libc::EROFS | libc::EACCES | libc::EPERM) if !read_only => {
                Error::device(format!("open {} for writing", path.display()), error)
            }
            _ => Error::device(format!("open {}", path.display()), error),
        })
}

impl BlockDevice for FileDevice {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let _ours = self.check_ours()?;
        self.file.read_exact_at(buf, at)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        let _ours = self.check_ours()?;
        // Without this an image file would grow silently.
        checked_end(at, buf.len() as u64, self.size_bytes)?;
        self.file.write_all_at(buf, at)
    }

    fn flush(&self) -> io::Result<()> {
        let _ours = self.check_ours()?;
        self.file.sync_data()
    }

    fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        let _ours = self.check_ours()?;
        checked_end(at, len, self.size_bytes)?;
        // Relaxed: a hint; who misses it asks the host once more.
        if len == 0 || self.discard_unsupported.load(Ordering::Relaxed) {
            return Ok(());
        }
        // On a block device the same call is a discard that reads back as zeros.
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, at, len) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                self.discard_unsupported.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn can_discard(&self) -> bool {
        // Relaxed: a hint.
        !self.discard_unsupported.load(Ordering::Relaxed)
    }

    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::thread;
    use std::time::{Duration, Instant};

    #[test]
    fn a_file_keeps_its_size_and_discard_gives_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let device = FileDevice::create(&path, 1 << 20).unwrap();
        device.write_at(4096, &[5; 8192]).unwrap();
        assert!(device.write_at((1 << 20) - 1, &[5; 2]).is_err());
        assert!(device.read_at((1 << 20) - 1, &mut [5; 2]).is_err());
        device.flush().unwrap();
        device.discard(4096, 4096).unwrap();
        let mut back = [1; 8192];
        device.read_at(4096, &mut back).unwrap();
        assert_eq!(back[4096..], [5; 4096]);
        drop(device);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
    }

    #[test]
    fn what_was_given_back_is_somebody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let device = FileDevice::create(&path, 1 << 20).unwrap();
        device.write_at(0, &[5; 8]).unwrap();
        device.hold_others_back();
        device.give_back();
        let next = FileDevice::open(&path, false).unwrap();
        assert!(device.write_at(0, &[6; 8]).is_err());
        assert!(device.read_at(0, &mut [0; 8]).is_err());
        assert!(device.discard(0, 4096).is_err() && device.flush().is_err());
        let mut found = [0; 8];
        next.read_at(0, &mut found).unwrap();
        assert_eq!(found, [5; 8]);
    }

    /// The next one had the image while a last write was on its way.
    #[test]
    fn who_gives_back_waits_for_what_is_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        let device = FileDevice::create(&path, 1 << 20).unwrap();
        let under_way = device.check_ours().unwrap();
        thread::scope(|scope| {
            let giving = scope.spawn(|| device.give_back());
            let soon = Instant::now() + Duration::from_millis(100);
            while Instant::now() < soon {
                assert!(FileDevice::open(&path, false).is_err() && !giving.is_finished());
            }
            drop(under_way);
            giving.join().unwrap();
        });
        FileDevice::open(&path, false).unwrap();
    }

    #[test]
    fn a_size_that_no_file_can_have_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        assert!(FileDevice::create(&path, u64::MAX / 2 + 1).is_err());
        assert!(!path.exists());
        let kept = dir.path().join("kept");
        std::fs::write(&kept, b"content").unwrap();
        assert!(FileDevice::create(&kept, u64::MAX).is_err());
        assert_eq!(std::fs::read(&kept).unwrap(), b"content");
    }

    /// Opening a pipe waits for its other end.
    #[test]
    fn a_pipe_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, 0o600.into(), 0).unwrap();
        for read_only in [true, false] {
            let error = FileDevice::open(&path, read_only).unwrap_err();
            assert!(error.to_string().contains("neither"), "{error}");
        }
    }

    #[test]
    fn a_directory_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = FileDevice::open(dir.path(), true).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("neither a regular file nor a block device")
        );
    }
}
