//! What `--version` says: the number and the lifetime protocol that this build mounts with.

/// The protocol that a mount of this build uses, by its cargo feature.
pub const PROTOCOL: &str = if cfg!(feature = "unfixed") {
    "unfixed"
} else if cfg!(feature = "handshake") {
    "handshake"
} else {
    "owned"
};

/// The whole version text: `0.1.0 (protocol: owned)`.
pub fn text() -> String {
    let lab = if cfg!(feature = "race-lab") {
        ", race-lab"
    } else if cfg!(feature = "protocols") {
        ", or any with -o protocol="
    } else {
        ""
    };
    format!("{} (protocol: {PROTOCOL}{lab})", env!("CARGO_PKG_VERSION"))
}
