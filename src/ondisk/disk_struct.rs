//! What every on-disk struct has: its size, proved, and careful access to it in a byte slice.

/// Gives a struct `SIZE` (asserted), `read`, `read_mut` and `zeroed`.
macro_rules! disk_struct {
    ($name:ty, $size:literal) => {
        const _: () = assert!(size_of::<$name>() == $size);
        const _: () = assert!(align_of::<$name>() == 1);

        impl $name {
            /// Bytes on disk.
            pub const SIZE: usize = $size;

            /// The struct at the start of `bytes`, or `None` where they are too short.
            #[inline]
            pub fn read(bytes: &[u8]) -> Option<&Self> {
                <Self as zerocopy::FromBytes>::ref_from_prefix(bytes)
                    .ok()
                    .map(|(it, _)| it)
            }

            /// The struct at the start of `bytes`, to be changed in place.
            #[inline]
            pub fn read_mut(bytes: &mut [u8]) -> Option<&mut Self> {
                <Self as zerocopy::FromBytes>::mut_from_prefix(bytes)
                    .ok()
                    .map(|(it, _)| it)
            }

            /// All bytes zero.
            #[inline]
            pub fn zeroed() -> Self {
                <Self as zerocopy::FromZeros>::new_zeroed()
            }

            /// The struct's bytes.
            #[inline]
            pub fn as_bytes(&self) -> &[u8] {
                <Self as zerocopy::IntoBytes>::as_bytes(self)
            }
        }
    };
}

pub(crate) use disk_struct;
