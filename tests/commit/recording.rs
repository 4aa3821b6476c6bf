//! A device that remembers, and the states that a power cut can leave of what it remembers.
//!
//! The model: a flush closes an epoch. Of closed epochs every write is there; of the open one any
//! subset is, in any order, and one write may be torn at a sector. A [`Recording`] knows nothing of
//! btrfs: a judge is given each [`CrashState`] with what had been acknowledged by then.

use btrfuse::volume::{BlockDevice, MemoryDevice};
use btrfuse_test_support::Rng;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

/// What a device can tear a write at.
const SECTOR: usize = 512;

/// What happened, in order.
pub enum Event {
    /// Bytes went to the device.
    Write(u64, Vec<u8>),
    /// All writes before are durable.
    Flush,
    /// The program was told that everything up to this number is done: a generation, an operation.
    Acknowledged(u64),
}

/// A device that records what is written through it.
pub struct Recorder {
    inner: Arc<MemoryDevice>,
    events: Mutex<Vec<Event>>,
}

/// What was recorded over what was there before.
pub struct Recording {
    base: MemoryDevice,
    pub events: Vec<Event>,
}

/// One thing that a power cut could leave.
pub struct CrashState {
    /// The device's content.
    pub device: MemoryDevice,
    /// The newest number that had been acknowledged.
    pub acknowledged: u64,
    /// Where the cut was and what it left, for people.
    pub what: String,
}

impl Recorder {
    /// Over a copy of `base`.
    pub fn over(base: &MemoryDevice) -> Self {
        Self {
            inner: Arc::new(base.clone()),
            events: Mutex::new(Vec::new()),
        }
    }

    /// The content as it is now.
    pub fn now(&self) -> MemoryDevice {
        MemoryDevice::clone(&self.inner)
    }

    /// Everything up to this number has returned.
    pub fn acknowledge(&self, number: u64) {
        let event = Event::Acknowledged(number);
        self.events.lock().unwrap().push(event);
    }

    /// Ends the recording; `base` is what it began with.
    pub fn finish(self, base: MemoryDevice) -> Recording {
        Recording {
            base,
            events: self.events.into_inner().unwrap(),
        }
    }
}

impl BlockDevice for Recorder {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        // Recorded before it is done: who flushes afterwards finds it in the list.
        let event = Event::Write(at, buf.to_vec());
        self.events.lock().unwrap().push(event);
        self.inner.write_at(at, buf)
    }

    fn flush(&self) -> io::Result<()> {
        self.events.lock().unwrap().push(Event::Flush);
        Ok(())
    }

    fn discard(&self, _at: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

/// Which writes of the open epoch there are.
enum Subset {
    All,
    AllBut(usize),
    Only(usize),
    Some,
    Torn,
    /// One bit a write.
    These(u64),
    /// So many, in the order of writing.
    First(usize),
}

/// How many states of an epoch are looked at.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// So many that lack one write, and so many that have only one.
    pub singles: usize,
    /// So many random ones.
    pub random: usize,
    /// All, in the order of writing, of an epoch of up to so many writes; besides random ones.
    pub exhaustive: usize,
    /// Besides these, a cut at every write: all that came before it, in the order of writing.
    pub every_write: bool,
}

impl Recording {
    /// The content after the first `cut` events, nothing lost.
    pub fn whole(&self, cut: usize) -> MemoryDevice {
        let device = self.base.clone();
        for event in &self.events[..cut] {
            apply(&device, event);
        }
        device
    }

    /// Visits, for each epoch, its beginning and its end, every state that lacks one of its writes
    /// or has only one (of up to `singles` of them), and `random` subsets in random order, the last
    /// write torn in half of them. Returns how many there were.
    pub fn visit(
        &self,
        rng: &mut Rng,
        singles: usize,
        random: usize,
        judge: impl FnMut(CrashState),
    ) -> usize {
        let depth = Depth {
            singles,
            random,
            exhaustive: 0,
            every_write: false,
        };
        self.visit_to(depth, rng, judge)
    }

    /// As [`Recording::visit`], with small epochs exhausted.
    pub fn visit_to(
        &self,
        depth: Depth,
        rng: &mut Rng,
        mut judge: impl FnMut(CrashState),
    ) -> usize {
        let mut visited = 0;
        let mut acknowledged = 0;
        let closed = self.base.clone();
        let mut from = 0;
        while from <= self.events.len() {
            let rest = &self.events[from..];
            let len = rest.iter().position(|it| matches!(it, Event::Flush));
            let to = from + len.unwrap_or(rest.len());
            let writes: Vec<usize> = (from..to)
                .filter(|&i| matches!(self.events[i], Event::Write(..)))
                .collect();
            let mut subsets = vec![Subset::All];
            if writes.len() <= depth.exhaustive {
                // All but the one that has all.
                subsets.extend((0..(1 << writes.len()) - 1).map(Subset::These));
            } else {
                for _ in 0..depth.singles.min(writes.len()) {
                    subsets.push(Subset::AllBut(rng.below(writes.len() as u64) as usize));
                    subsets.push(Subset::Only(rng.below(writes.len() as u64) as usize));
                }
            }
            if depth.every_write && writes.len() > depth.exhaustive {
                subsets.extend((0..writes.len()).map(Subset::First));
            }
            if !writes.is_empty() {
                subsets.extend((0..depth.random).map(|n| {
                    if n % 2 == 0 {
                        Subset::Some
                    } else {
                        Subset::Torn
                    }
                }));
            }
            // Until the flush is over a cut may take any of the epoch's writes, so that each of these
            // states can be what is left of all that was told before it.
            let told = self.told(from, to, acknowledged);
            let mut seen = HashSet::new();
            for subset in subsets {
                let (kept, words) = self.chosen(&writes, &subset, rng);
                // Of few writes not many subsets are different.
                if !seen.insert(self.without_order(&kept)) {
                    continue;
                }
                visited += 1;
                judge(CrashState {
                    device: self.state(&closed, &kept),
                    acknowledged: told,
                    what: format!("events {from} to {to}: {words}"),
                });
            }
            for event in &self.events[from..to] {
                apply(&closed, event);
            }
            acknowledged = told;
            from = to + 1;
        }
        visited
    }

    fn told(&self, from: usize, to: usize, before: u64) -> u64 {
        let told = self.events[from..to]
            .iter()
            .filter_map(|event| match event {
                Event::Acknowledged(generation) => Some(*generation),
                _ => None,
            });
        told.max().unwrap_or(0).max(before)
    }

    /// Which writes there are, in order, and how much of each.
    fn chosen(
        &self,
        writes: &[usize],
        subset: &Subset,
        rng: &mut Rng,
    ) -> (Vec<(usize, usize)>, String) {
        let len_of = |i: usize| match &self.events[i] {
            Event::Write(_, bytes) => bytes.len(),
            _ => 0,
        };
        let (mut kept, mut torn) = (writes.to_vec(), None);
        let words = match *subset {
            Subset::All => format!("all {} writes", writes.len()),
            Subset::AllBut(lost) => {
                kept.remove(lost);
                format!("without event {}", writes[lost])
            }
            Subset::Only(one) => {
                kept = vec![writes[one]];
                format!("only event {}", writes[one])
            }
            Subset::First(count) => {
                kept.truncate(count);
                format!("the first {count} of {} writes", writes.len())
            }
            Subset::These(bits) => {
                kept = (0..writes.len())
                    .filter(|i| bits & (1 << i) != 0)
                    .map(|i| writes[i])
                    .collect();
                format!("only events {kept:?}")
            }
            Subset::Some | Subset::Torn => {
                // A cut somewhere in the epoch; of what came before it, a part.
                let cut = rng.below(writes.len() as u64) as usize;
                kept.truncate(cut);
                kept.retain(|_| !rng.one_in(3));
                for i in (1..kept.len()).rev() {
                    kept.swap(i, rng.below(i as u64 + 1) as usize);
                }
                if matches!(subset, Subset::Torn) {
                    let sectors = (len_of(writes[cut]) / SECTOR) as u64;
                    let len = rng.below(sectors + 1) as usize * SECTOR;
                    torn = Some((writes[cut], len)).filter(|_| len > 0);
                }
                format!("events {kept:?}, torn {torn:?}")
            }
        };
        let mut kept: Vec<_> = kept.into_iter().map(|i| (i, len_of(i))).collect();
        kept.extend(torn);
        (kept, words)
    }

    /// The same for two orders that make no difference: those of writes to different places.
    fn without_order(&self, kept: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let mut sorted = kept.to_vec();
        sorted.sort_by_key(|&(i, _)| match &self.events[i] {
            Event::Write(at, _) => *at,
            _ => 0,
        });
        sorted
    }

    fn state(&self, closed: &MemoryDevice, kept: &[(usize, usize)]) -> MemoryDevice {
        let device = closed.clone();
        for &(i, len) in kept {
            if let Event::Write(at, bytes) = &self.events[i] {
                device.write_at(*at, &bytes[..len]).unwrap();
            }
        }
        device
    }
}

fn apply(device: &MemoryDevice, event: &Event) {
    if let Event::Write(at, bytes) = event {
        device.write_at(*at, bytes).unwrap();
    }
}
