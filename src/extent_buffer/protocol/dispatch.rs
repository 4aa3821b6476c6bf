//! A protocol chosen at run time: [`Kind`] plays by the rules that it names.
//!
//! Lab builds and models pay for the choice at each move; ordinary builds have none.

use super::{Kind, LookupPath, Protocol, Put};
use crate::extent_buffer::lifetime::Lifetime;

macro_rules! dispatch {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        impl Protocol for Kind {
            $(fn $name(&self, $($arg: $kind),*) $(-> $result)? {
                self.rules().$name($($arg),*)
            })*
        }
    };
}

dispatch! {
    fn name() -> &'static str;
    fn begin(life: &Lifetime, bytenr: u64, refs: u32, flags: u32);
    fn refs(life: &Lifetime) -> u32;
    fn try_get(life: &Lifetime) -> bool;
    fn found(life: &Lifetime, path: LookupPath);
    fn get(life: &Lifetime);
    fn put(life: &Lifetime) -> Put;
    fn put_stale(life: &Lifetime) -> Put;
    fn revive(life: &Lifetime);
    fn reclaim(life: &Lifetime, ours: &dyn Fn() -> bool) -> Option<Put>;
    fn set_dirty(life: &Lifetime) -> bool;
    fn clear_dirty(life: &Lifetime) -> bool;
    fn begin_writeback(life: &Lifetime) -> bool;
    fn end_writeback(life: &Lifetime);
    fn begin_read(life: &Lifetime);
    fn end_read(life: &Lifetime) -> Put;
    fn refs_due(flags: u32, users: u32) -> u32;
}
