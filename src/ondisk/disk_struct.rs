//! What every on-disk struct has: its size and every field's offset, proved when it is compiled,
//! and careful access to it in a byte slice.

/// Declares a struct of the format.
///
/// ```text
/// disk_struct! {
///     /// `struct btrfs_dir_log_item`: …
///     #[derive(Copy, Debug)]
///     pub struct DirLogItem, 8 bytes {
///         /// …
///         0 => end: U64,
///     }
/// }
/// ```
///
/// Sizes and offsets are written down as the uapi has them, and asserted. The struct is public
/// with public fields, and has `SIZE`, `read`, `read_mut`, `zeroed`, `as_bytes` and `Default`
/// (all zero).
macro_rules! disk_struct {
    (
        $(#[$about:meta])*
        pub struct $name:ident, $size:literal bytes {
            $($(#[$about_field:meta])* $offset:literal => $field:ident: $kind:ty,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq)]
        #[derive(
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::KnownLayout,
            zerocopy::Immutable,
            zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            $($(#[$about_field])* pub $field: $kind,)+
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(std::mem::offset_of!($name, $field) == $offset);)+
        };

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

        impl Default for $name {
            fn default() -> Self {
                Self::zeroed()
            }
        }
    };
}

pub(crate) use disk_struct;
