//! A device that fails on purpose: the seam for fault tests.
//!
//! Owns: a plan of faults over an inner device: the nth read, write or flush fails; bits flip
//! on the way in; everything fails after a power cut. Never decides by chance: the same plan
//! gives the same faults.

use super::device::BlockDevice;
use crate::sync::{Arc, Mutex};
use std::io;
use std::ops::Range;

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The nth read from now (1 is the next one) fails.
    FailRead(u64),
    /// The nth write from now fails, and nothing of it is stored.
    FailWrite(u64),
    /// The nth write from now stores only this many bytes, and then fails.
    TearWrite(u64, usize),
    /// The nth flush from now fails.
    FailFlush(u64),
    /// Reads that touch this range fail.
    BadRange(Range<u64>),
    /// From the nth write on, writes are silently lost until [`FaultyDevice::heal`], as when
    /// the power goes: flushes fail.
    PowerCut(u64),
}

#[derive(Debug, Default)]
struct Plan {
    faults: Vec<Fault>,
    reads: u64,
    writes: u64,
    flushes: u64,
}

/// Counts of calls so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Reads, failed ones too.
    pub reads: u64,
    /// Writes, failed ones too.
    pub writes: u64,
    /// Flushes, failed ones too.
    pub flushes: u64,
}

/// An inner device with faults in front of it.
pub struct FaultyDevice<D> {
    inner: Arc<D>,
    plan: Mutex<Plan>,
}

impl<D: BlockDevice> FaultyDevice<D> {
    /// `inner`, with no fault planned.
    pub fn over(inner: Arc<D>) -> Self {
        Self {
            inner,
            plan: Mutex::new(Plan::default()),
        }
    }

    /// The device below, to look at what really arrived.
    pub fn inner(&self) -> &Arc<D> {
        &self.inner
    }

    /// Adds a fault. Its count starts now.
    pub fn plan(&self, fault: Fault) {
        let mut plan = self.plan.lock();
        let fault = match fault {
            Fault::FailRead(nth) => Fault::FailRead(plan.reads + nth),
            Fault::FailWrite(nth) => Fault::FailWrite(plan.writes + nth),
            Fault::TearWrite(nth, bytes) => Fault::TearWrite(plan.writes + nth, bytes),
            Fault::FailFlush(nth) => Fault::FailFlush(plan.flushes + nth),
            Fault::PowerCut(nth) => Fault::PowerCut(plan.writes + nth),
            Fault::BadRange(range) => Fault::BadRange(range),
        };
        plan.faults.push(fault);
    }

    /// Forgets every fault.
    pub fn heal(&self) {
        self.plan.lock().faults.clear();
    }

    /// How often it was called.
    pub fn calls(&self) -> Calls {
        let plan = self.plan.lock();
        Calls {
            reads: plan.reads,
            writes: plan.writes,
            flushes: plan.flushes,
        }
    }

    /// Flips bits of the stored byte at `at`.
    pub fn flip(&self, at: u64, bits: u8) -> io::Result<()> {
        let mut byte = [0];
        self.inner.read_at(at, &mut byte)?;
        self.inner.write_at(at, &[byte[0] ^ bits])
    }
}

fn planned() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl<D: BlockDevice> BlockDevice for FaultyDevice<D> {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let end = at.saturating_add(buf.len() as u64);
        let fails = {
            let mut plan = self.plan.lock();
            plan.reads += 1;
            plan.faults.iter().any(|fault| match fault {
                Fault::FailRead(nth) => *nth == plan.reads,
                Fault::BadRange(range) => at < range.end && range.start < end,
                _ => false,
            })
        };
        if fails {
            Err(planned())
        } else {
            self.inner.read_at(at, buf)
        }
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        enum Outcome {
            Stored,
            Lost,
            Failed,
            Torn(usize),
        }
        let outcome = {
            let mut plan = self.plan.lock();
            plan.writes += 1;
            let now = plan.writes;
            plan.faults
                .iter()
                .find_map(|fault| match fault {
                    Fault::FailWrite(nth) if *nth == now => Some(Outcome::Failed),
                    Fault::TearWrite(nth, bytes) if *nth == now => Some(Outcome::Torn(*bytes)),
                    Fault::PowerCut(nth) if *nth <= now => Some(Outcome::Lost),
                    _ => None,
                })
                .unwrap_or(Outcome::Stored)
        };
        match outcome {
            Outcome::Stored => self.inner.write_at(at, buf),
            Outcome::Lost => Ok(()),
            Outcome::Failed => Err(planned()),
            Outcome::Torn(bytes) => {
                self.inner.write_at(at, &buf[..bytes.min(buf.len())])?;
                Err(planned())
            }
        }
    }

    fn flush(&self) -> io::Result<()> {
        let fails = {
            let mut plan = self.plan.lock();
            plan.flushes += 1;
            plan.faults.iter().any(|fault| match fault {
                Fault::FailFlush(nth) => *nth == plan.flushes,
                Fault::PowerCut(nth) => *nth <= plan.writes,
                _ => false,
            })
        };
        if fails {
            Err(planned())
        } else {
            self.inner.flush()
        }
    }

    fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.inner.discard(at, len)
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn name(&self) -> String {
        format!("faulty {}", self.inner.name())
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryDevice;
    use super::*;

    #[test]
    fn only_the_planned_calls_fail() {
        let device = FaultyDevice::over(Arc::new(MemoryDevice::zeroed(4096)));
        device.plan(Fault::FailRead(2));
        device.plan(Fault::TearWrite(1, 3));
        device.plan(Fault::BadRange(100..101));
        assert!(device.read_at(0, &mut [0; 10]).is_ok());
        assert!(device.read_at(0, &mut [0; 10]).is_err());
        assert!(device.read_at(0, &mut [0; 100]).is_ok());
        assert!(device.read_at(0, &mut [0; 101]).is_err());
        assert!(device.write_at(0, &[7; 8]).is_err());
        device.heal();
        let mut back = [0; 8];
        device.read_at(0, &mut back).unwrap();
        assert_eq!(back, [7, 7, 7, 0, 0, 0, 0, 0]);
        device.plan(Fault::PowerCut(2));
        device.write_at(0, &[1]).unwrap();
        device.flush().unwrap();
        device.write_at(0, &[2]).unwrap();
        assert!(device.flush().is_err());
        device.inner().read_at(0, &mut back[..1]).unwrap();
        assert_eq!(back[0], 1);
        assert_eq!(
            device.calls(),
            Calls {
                reads: 5,
                writes: 3,
                flushes: 2
            }
        );
    }
}
