//! Numbers that must not be mixed up, each with a type of its own.
//!
//! Owns: the address and identity types of every layer. Never: arithmetic that can wrap
//! silently; whoever adds to an address says what an overflow means.

use std::fmt;

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The plain number.
            #[inline]
            pub const fn get(self) -> u64 {
                self.0
            }

            /// `self + bytes`, or `None` when the sum leaves 64 bits.
            #[inline]
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<u64> for $name {
            fn from(raw: u64) -> Self {
                Self(raw)
            }
        }
    };
}

unit!(
    /// A byte address in the filesystem's logical space: what tree pointers and file extents
    /// hold (`bytenr`). Chunks map it to one or more [`Physical`] addresses.
    Logical,
    "{}"
);
unit!(
    /// A byte offset on one device.
    Physical,
    "{}"
);
unit!(
    /// A transaction number (`transid`, `generation`). Each commit takes the next one.
    Generation,
    "{}"
);
unit!(
    /// A device's number inside the filesystem (`devid`).
    DevId,
    "{}"
);

/// `value` rounded up to a multiple of `unit` (a power of two), or `None` on overflow.
#[inline]
pub const fn round_up(value: u64, unit: u64) -> Option<u64> {
    match value.checked_add(unit - 1) {
        Some(sum) => Some(sum & !(unit - 1)),
        None => None,
    }
}

/// `value` rounded down to a multiple of `unit`, a power of two.
#[inline]
pub const fn round_down(value: u64, unit: u64) -> u64 {
    value & !(unit - 1)
}

/// Bytes in a KiB.
pub const KIB: u64 = 1 << 10;
/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_keeps_multiples_and_reports_overflow() {
        assert_eq!(round_up(4096, 4096), Some(4096));
        assert_eq!(round_up(4097, 4096), Some(8192));
        assert_eq!(round_up(u64::MAX, 4096), None);
        assert_eq!(round_down(8191, 4096), 4096);
        assert_eq!(Logical(u64::MAX).checked_add(1), None);
    }
}
