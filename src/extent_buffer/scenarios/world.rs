//! One buffer, the moves that roles make on it, and the judge of the end.

use crate::extent_buffer::flags::{DIRTY, UNDER_IO};
use crate::extent_buffer::lifetime::{Cpu, Lifetime};
use crate::extent_buffer::protocol::{LookupPath, Protocol, Put};
use crate::sync::atomic::Ordering;
use crate::sync::unmodelled::AtomicU32;

/// The address of the one block.
pub const BYTENR: u64 = 30_408_704;

/// See the module.
pub struct World {
    /// The buffer.
    pub life: Lifetime,
    /// What it lives by.
    pub rules: &'static dyn Protocol,
    freed: AtomicU32,
    freed_under_io: AtomicU32,
    underflows: AtomicU32,
}

impl World {
    /// A dead buffer.
    pub fn new(rules: &'static dyn Protocol, cpu: Cpu) -> Self {
        Self {
            life: Lifetime::dead_on(cpu),
            rules,
            freed: AtomicU32::new(0),
            freed_under_io: AtomicU32::new(0),
            underflows: AtomicU32::new(0),
        }
    }

    /// Brings the buffer to life with these flags, and `users` roles that hold it.
    pub fn begin(&self, users: u32, flags: u32) {
        for count in [&self.freed, &self.freed_under_io, &self.underflows] {
            count.store(0, Ordering::Relaxed);
        }
        let refs = self.rules.refs_due(flags, users);
        self.rules.begin(&self.life, BYTENR, refs, flags);
    }

    /// Does what a drop owes, as the cache would.
    pub fn settle(&self, put: Put) {
        match put {
            Put::Shared => {}
            Put::Last => {
                self.freed.fetch_add(1, Ordering::Relaxed);
                if self.life.has(UNDER_IO) {
                    self.freed_under_io.fetch_add(1, Ordering::Relaxed);
                }
            }
            Put::Underflow => {
                self.underflows.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Someone with an old path lets go of the buffer.
    pub fn drop_path(&self) {
        let put = self.rules.put(&self.life);
        self.settle(put);
    }

    /// Someone with the block locked has freed it and lets go.
    pub fn free_block(&self) {
        let put = self.rules.put_stale(&self.life);
        self.settle(put);
    }

    /// Reclaim comes by.
    pub fn reclaim(&self) {
        if let Some(put) = self.rules.reclaim(&self.life, &|| true) {
            self.settle(put);
        }
    }

    /// Someone who was given the address by the allocator looks it up, writes a new block there
    /// and lets go. Finding nothing, they would make another buffer, and no race is left.
    pub fn reuse_block(&self) {
        if !self.rules.try_get(&self.life) {
            return;
        }
        self.rules.found(&self.life, LookupPath::Index);
        self.rules.revive(&self.life);
        self.rules.set_dirty(&self.life);
        self.drop_path();
    }

    /// What is wrong at the end, when no role holds the buffer any more.
    pub fn judge(&self) -> Result<(), String> {
        let (refs, flags) = (self.rules.refs(&self.life), self.life.flags());
        let freed = self.freed.load(Ordering::Relaxed);
        let state = format!("freed {freed} times, refs {refs}, flags {flags}");
        if self.freed_under_io.load(Ordering::Relaxed) > 0 {
            return Err(format!("freed under IO: {state}"));
        }
        if self.underflows.load(Ordering::Relaxed) > 0 || freed > 1 {
            return Err(format!("dropped more often than counted: {state}"));
        }
        if freed == 1 && (refs != 0 || flags.0 & DIRTY != 0) {
            return Err(format!("used after it was freed: {state}"));
        }
        let due = self.rules.refs_due(flags.0, 0);
        if freed == 0 && refs != due {
            return Err(format!("{due} counts are due: {state}"));
        }
        if refs == 0 && flags.0 & UNDER_IO != 0 {
            return Err(format!("nobody owns it: {state}"));
        }
        Ok(())
    }
}
