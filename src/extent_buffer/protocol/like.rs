//! `like!`: the moves that one set of rules has in common with another.

/// Plays the named moves of [`Protocol`](super::Protocol) by the rules of `$base`.
macro_rules! like {
    ($base:ident: $(fn $name:ident($($arg:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $name(&self, $($arg: $kind),*) $(-> $result)? {
            $base.$name($($arg),*)
        })*
    };
}

pub(crate) use like;
