//! Which of a device's calls goes wrong, and how.
//!
//! Owns: the count of calls and the one fault. Knows no device: a device in memory and the file of a
//! [`BadDisk`](crate::BadDisk) ask it before each call and do what it says. Never decides by chance: the
//! same plan gives the same fault.

use std::ops::Range;

/// What a device tears a write at.
const SECTOR: usize = 512;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Bytes come from the medium.
    Read,
    /// Bytes go to the medium.
    Write,
    /// What was written becomes durable.
    Flush,
}

/// How long a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// That one call.
    Once,
    /// Every later call of its kind that touches the place; a bad place can be read again when it was
    /// written. A flush has no place.
    Place,
    /// Every later call of its kind.
    ForGood,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call answers `EIO`; a write stores nothing.
    Fails(Call, Lasting),
    /// A bit of what the read is about to see has changed on the medium.
    Rots,
    /// The write says that all is well, and stores the first half.
    Short,
    /// The write says that all is well, and stores nothing.
    Lost,
    /// The write says that all is well, and lands where the write before it did.
    Misdirected,
    /// This and every later write of the place say that all is well: what was there stays.
    Stale,
}

impl Fault {
    /// The calls that it counts.
    pub fn call(self) -> Call {
        match self {
            Self::Fails(call, _) => call,
            Self::Rots => Call::Read,
            Self::Short | Self::Lost | Self::Misdirected | Self::Stale => Call::Write,
        }
    }
}

/// What to do with a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAs {
    /// As it is stored.
    Stored,
    /// With `EIO`.
    Failed,
    /// After this bit of this byte has changed.
    Rotten(u64, u8),
}

/// What to do with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteAs {
    /// As it should be.
    Stored,
    /// With `EIO`, and nothing is stored.
    Failed,
    /// Only so many bytes are stored, and success is said.
    Cut(usize),
    /// It is stored there.
    At(u64),
}

/// One fault at the nth call of its kind; see the module.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    fault: Option<(Fault, u64)>,
    calls: [u64; 3],
    fired: u64,
    place: Option<Range<u64>>,
    last_write: Option<u64>,
}

impl FaultPlan {
    /// No fault: calls are counted.
    pub fn none() -> Self {
        Self::default()
    }

    /// At the nth call of its kind from now on; 1 is the next one.
    pub fn at(fault: Fault, nth: u64) -> Self {
        Self {
            fault: Some((fault, nth)),
            ..Self::default()
        }
    }

    /// Reads of this place fail until it is written.
    pub fn bad_place(place: Range<u64>) -> Self {
        Self {
            // No call is the one that finds it: it is bad already.
            fault: Some((Fault::Fails(Call::Read, Lasting::Place), u64::MAX)),
            place: Some(place),
            ..Self::default()
        }
    }

    /// How many calls of a kind there were.
    pub fn calls(&self, call: Call) -> u64 {
        self.calls[call as usize]
    }

    /// How many calls went wrong.
    pub fn fired(&self) -> u64 {
        self.fired
    }

    /// Where the fault was, if its call has a place.
    pub fn place(&self) -> Option<Range<u64>> {
        self.place.clone()
    }

    /// From now on nothing goes wrong.
    pub fn heal(&mut self) {
        self.fault = None;
    }

    /// A read of so many bytes is to be made.
    pub fn read(&mut self, at: u64, len: usize) -> ReadAs {
        let range = at..at + len as u64;
        match self.hits(Call::Read, &range) {
            None => ReadAs::Stored,
            Some(Fault::Rots) => {
                let nth = self.calls(Call::Read);
                let byte = at + nth * 7919 % (len as u64).max(1);
                ReadAs::Rotten(byte, 1 << (nth % 8))
            }
            Some(_) => ReadAs::Failed,
        }
    }

    /// A write of so many bytes is to be made on a device of `size` bytes.
    pub fn write(&mut self, at: u64, len: usize, size: u64) -> WriteAs {
        let range = at..at + len as u64;
        let before = self.last_write.replace(at);
        let fate = match self.hits(Call::Write, &range) {
            None => WriteAs::Stored,
            Some(Fault::Short) => WriteAs::Cut(len / 2 / SECTOR * SECTOR),
            Some(Fault::Misdirected) => match before {
                Some(other) if other != at && other + len as u64 <= size => WriteAs::At(other),
                _ => WriteAs::Cut(0),
            },
            Some(Fault::Lost | Fault::Stale) => WriteAs::Cut(0),
            Some(_) => WriteAs::Failed,
        };
        let healing = matches!(
            self.fault,
            Some((Fault::Fails(Call::Read, Lasting::Place), _))
        );
        if healing && self.place.as_ref().is_some_and(|bad| overlap(bad, &range)) {
            // A sector that can't be read gets a new place when it is written.
            self.heal();
        }
        fate
    }

    /// A flush is to be made: whether it works.
    pub fn flush(&mut self) -> bool {
        self.hits(Call::Flush, &(0..0)).is_none()
    }

    /// Counts a call; says what goes wrong with it.
    fn hits(&mut self, call: Call, range: &Range<u64>) -> Option<Fault> {
        self.calls[call as usize] += 1;
        let (fault, nth) = self.fault?;
        if fault.call() != call {
            return None;
        }
        let now = self.calls(call);
        let hit = match fault {
            Fault::Fails(_, Lasting::ForGood) => now >= nth,
            Fault::Fails(_, Lasting::Place) | Fault::Stale => {
                now == nth || self.place.as_ref().is_some_and(|bad| overlap(bad, range))
            }
            _ => now == nth,
        };
        if !hit {
            return None;
        }
        self.fired += 1;
        if self.place.is_none() && call != Call::Flush {
            self.place = Some(range.clone());
        }
        Some(fault)
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_nth_call_goes_wrong_or_all_from_there_on() {
        let mut once = FaultPlan::at(Fault::Fails(Call::Read, Lasting::Once), 2);
        assert_eq!(once.read(0, 10), ReadAs::Stored);
        assert_eq!(once.write(0, 10, 100), WriteAs::Stored);
        assert_eq!(once.read(0, 10), ReadAs::Failed);
        assert_eq!(once.read(0, 10), ReadAs::Stored);
        assert_eq!((once.fired(), once.calls(Call::Read)), (1, 3));
        let mut good = FaultPlan::at(Fault::Fails(Call::Flush, Lasting::ForGood), 2);
        assert_eq!(
            [good.flush(), good.flush(), good.flush()],
            [true, false, false]
        );
        good.heal();
        assert!(good.flush());
    }

    #[test]
    fn a_bad_place_stays_bad_until_it_is_written() {
        let mut plan = FaultPlan::at(Fault::Fails(Call::Read, Lasting::Place), 1);
        assert_eq!(plan.read(512, 512), ReadAs::Failed);
        assert_eq!(plan.read(0, 512), ReadAs::Stored);
        assert_eq!(plan.read(0, 513), ReadAs::Failed);
        assert_eq!(plan.write(600, 10, 4096), WriteAs::Stored);
        assert_eq!(plan.read(512, 512), ReadAs::Stored);
    }

    #[test]
    fn writes_lie_in_four_ways() {
        let write = |fault| {
            let mut plan = FaultPlan::at(fault, 2);
            assert_eq!(plan.write(8192, 4096, 1 << 20), WriteAs::Stored);
            let lie = plan.write(0, 4096, 1 << 20);
            (lie, plan.write(0, 4096, 1 << 20))
        };
        assert_eq!(write(Fault::Short), (WriteAs::Cut(2048), WriteAs::Stored));
        assert_eq!(write(Fault::Lost), (WriteAs::Cut(0), WriteAs::Stored));
        assert_eq!(write(Fault::Stale), (WriteAs::Cut(0), WriteAs::Cut(0)));
        assert_eq!(
            write(Fault::Misdirected),
            (WriteAs::At(8192), WriteAs::Stored)
        );
        let mut first = FaultPlan::at(Fault::Misdirected, 1);
        assert_eq!(first.write(0, 512, 4096), WriteAs::Cut(0), "nowhere to go");
        let mut rot = FaultPlan::at(Fault::Rots, 1);
        assert!(matches!(rot.read(4096, 512), ReadAs::Rotten(4096..4608, _)));
    }
}
