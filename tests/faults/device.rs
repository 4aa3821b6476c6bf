//! A device in memory whose calls go as a plan says.

use btrfuse::volume::{BlockDevice, MemoryDevice};
use btrfuse_test_support::FaultPlan;
use btrfuse_test_support::fault_plan::{Call, ReadAs, WriteAs};
use std::io;
use std::ops::Range;
use std::sync::Mutex;

/// See the module.
pub struct PlannedDevice {
    medium: MemoryDevice,
    plan: Mutex<FaultPlan>,
}

impl PlannedDevice {
    /// Over a copy of `base`.
    pub fn over(base: &MemoryDevice, plan: FaultPlan) -> Self {
        Self {
            medium: base.clone(),
            plan: Mutex::new(plan),
        }
    }

    /// From now on it goes by this plan.
    pub fn plan(&self, plan: FaultPlan) {
        *self.plan.lock().unwrap() = plan;
    }

    /// From now on it does what it is told.
    pub fn heal(&self) {
        self.plan.lock().unwrap().heal();
    }

    /// What is really stored.
    pub fn medium(&self) -> &MemoryDevice {
        &self.medium
    }

    /// How many calls went wrong.
    pub fn fired(&self) -> u64 {
        self.plan.lock().unwrap().fired()
    }

    /// How many calls of a kind there were.
    pub fn calls(&self, call: Call) -> u64 {
        self.plan.lock().unwrap().calls(call)
    }

    /// Where the first call was that went wrong.
    pub fn place(&self) -> Option<Range<u64>> {
        self.plan.lock().unwrap().place()
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl BlockDevice for PlannedDevice {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let fate = self.plan.lock().unwrap().read(at, buf.len());
        match fate {
            ReadAs::Failed => return Err(broken()),
            ReadAs::Rotten(byte, bit) => {
                let mut old = [0];
                self.medium.read_at(byte, &mut old)?;
                self.medium.write_at(byte, &[old[0] ^ bit])?;
            }
            ReadAs::Stored => {}
        }
        self.medium.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        let size = self.size_bytes();
        let fate = self.plan.lock().unwrap().write(at, buf.len(), size);
        match fate {
            WriteAs::Stored => self.medium.write_at(at, buf),
            WriteAs::Failed => Err(broken()),
            WriteAs::Cut(len) => self.medium.write_at(at, &buf[..len]),
            WriteAs::At(elsewhere) => self.medium.write_at(elsewhere, buf),
        }
    }

    fn flush(&self) -> io::Result<()> {
        match self.plan.lock().unwrap().flush() {
            true => Ok(()),
            false => Err(broken()),
        }
    }

    fn discard(&self, _at: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.medium.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }
}
