//! The kernel as a witness: what it logged about our devices since a moment.

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A place in the kernel's log. What follows is read all the time, because the kernel forgets its oldest
/// lines, and other tests beside make it write many.
pub struct KernelLog(Arc<Mutex<Reader>>);

struct Reader {
    kmsg: OwnedFd,
    read: Vec<String>,
}

/// Lines that say nothing against an image, with the reason.
const HARMLESS: &[&str] = &[
    // Mounting a golden image with the old space cache: the kernel's advice to its user.
    "space cache v1 is being deprecated",
    "v1 space cache",
];

impl KernelLog {
    /// From now on.
    pub fn from_now() -> Self {
        let kmsg = rustix::fs::open(
            "/dev/kmsg",
            OFlags::RDONLY | OFlags::NONBLOCK,
            Mode::empty(),
        )
        .unwrap_or_else(|e| {
            panic!("/dev/kmsg can't be read ({e}): the kernel's log is one of the judges")
        });
        rustix::fs::seek(&kmsg, rustix::fs::SeekFrom::End(0)).expect("kmsg seeks to its end");
        let read = Vec::new();
        let reader = Arc::new(Mutex::new(Reader { kmsg, read }));
        let weak = Arc::downgrade(&reader);
        std::thread::spawn(move || {
            while let Some(reader) = weak.upgrade() {
                locked(&reader).go_on();
                drop(reader);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self(reader)
    }

    /// Warnings and errors since then, or the last question, that name one of `devices` (`loop3`), and
    /// every BUG, WARNING and oops that names btrfs.
    pub fn complaints(&self, devices: &[String]) -> Vec<String> {
        let mut reader = locked(&self.0);
        reader.go_on();
        let mut found = std::mem::take(&mut reader.read);
        found.retain(|line| line == OVERRUN || is_complaint(line, devices));
        found
    }

    /// Fails the test when the kernel complained.
    #[track_caller]
    pub fn assert_silent(&self, devices: &[String]) {
        let complaints = self.complaints(devices);
        assert!(
            complaints.is_empty(),
            "the kernel complained:\n{}",
            complaints.join("\n")
        );
    }
}

/// Said when lines are missing.
const OVERRUN: &str = "the kernel's log overran before it was read";

fn locked(reader: &Mutex<Reader>) -> MutexGuard<'_, Reader> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// Reads what there is.
    fn go_on(&mut self) {
        let mut record = [0_u8; 8192];
        loop {
            match rustix::io::read(&self.kmsg, &mut record) {
                Ok(0) | Err(Errno::AGAIN) => return,
                Ok(len) => {
                    let line = String::from_utf8_lossy(&record[..len]);
                    self.read.push(line.trim_end().to_owned());
                }
                // Overwritten before it was read: the next read goes on with the oldest.
                Err(Errno::PIPE) => self.read.push(OVERRUN.to_owned()),
                Err(error) => panic!("reading /dev/kmsg: {error}"),
            }
        }
    }
}

/// `prio,sequence,time,flags;text`, then continuation lines.
fn is_complaint(record: &str, devices: &[String]) -> bool {
    let Some((head, text)) = record.split_once(';') else {
        return false;
    };
    let priority: u32 = head
        .split(',')
        .next()
        .and_then(|p| p.parse().ok())
        .unwrap_or(0)
        & 7;
    if HARMLESS.iter().any(|harmless| text.contains(harmless)) {
        return false;
    }
    let btrfs = text.contains("BTRFS") || text.contains("btrfs");
    if btrfs
        && ["BUG", "WARNING:", "Oops", "general protection"]
            .iter()
            .any(|w| text.contains(w))
    {
        return true;
    }
    // 4 is KERN_WARNING. "(device loop3)" and, once the state is bad, "(device loop3 state EA)".
    let ours = devices.iter().any(|device| {
        text.contains(&format!("(device {device})"))
            || text.contains(&format!("(device {device} "))
            || text.contains(&format!("/dev/{device} "))
            || text.contains(&format!("dev {device},"))
    });
    priority <= 4 && ours
}

#[cfg(test)]
mod tests {
    use super::is_complaint;

    #[test]
    fn complaints_are_told_from_chatter() {
        let ours = ["loop3".to_owned()];
        let planted = "3,10,20,-;BTRFS error (device loop3 state EA): block=5 write time tree \
                       block corruption detected";
        assert!(is_complaint(planted, &ours));
        assert!(is_complaint(
            "4,1,2,-;BTRFS warning (device loop3): csum failed",
            &ours
        ));
        assert!(is_complaint(
            "4,1,2,-;WARNING: CPU: 1 PID: 7 at fs/btrfs/inode.c:3",
            &ours
        ));
        assert!(is_complaint(
            "2,1,2,-;kernel BUG at fs/btrfs/extent_io.c:1",
            &ours
        ));
        assert!(!is_complaint(
            "4,1,2,-;BTRFS warning (device loop33): csum failed",
            &ours
        ));
        assert!(!is_complaint(
            "6,1,2,-;BTRFS info (device loop3): using crc32c",
            &ours
        ));
    }
}
