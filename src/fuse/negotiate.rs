//! What this mount and the kernel agree on when the session starts.

use fuser::{InitFlags, KernelConfig};

/// The largest write request; the kernel's default limit of pages a request is the same.
const WRITE_BYTES_MAX: u32 = 1 << 20;
/// Readahead and writeback requests under way at once.
const BACKGROUND_MAX: u16 = 512;

/// Capabilities that we want, each on its own: an older kernel lacks some.
const WANTED: [(InitFlags, &str); 10] = [
    (
        InitFlags::FUSE_WRITEBACK_CACHE,
        "the page cache gathers writes",
    ),
    (
        InitFlags::FUSE_PARALLEL_DIROPS,
        "lookups and readdirs of one directory run side by side",
    ),
    (InitFlags::FUSE_DO_READDIRPLUS, "listings bring attributes"),
    (
        InitFlags::FUSE_READDIRPLUS_AUTO,
        "only where a program looks at them",
    ),
    (
        InitFlags::FUSE_ASYNC_DIO,
        "direct I/O is split and overlapped",
    ),
    (
        InitFlags::FUSE_EXPORT_SUPPORT,
        "file handles outlive the kernel's caches",
    ),
    (
        InitFlags::FUSE_DONT_MASK,
        "the umask arrives apart: default ACLs replace it",
    ),
    (
        InitFlags::FUSE_POSIX_ACL,
        "ACLs and mode bits agree; permissions are checked",
    ),
    (
        InitFlags::FUSE_CACHE_SYMLINKS,
        "link targets stay in the page cache",
    ),
    // Without it the kernel asks for security.capability before each write(2).
    (
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        "the engine clears set-id bits",
    ),
];

/// Chooses capabilities and limits.
pub fn agree(config: &mut KernelConfig) {
    for (flag, use_of_it) in WANTED {
        if config.add_capabilities(flag).is_err() {
            log::info!("this kernel's FUSE lacks {flag:?} ({use_of_it})");
        }
    }
    // A refused value comes back with the nearest possible one.
    if let Err(nearest) = config.set_max_write(WRITE_BYTES_MAX) {
        let _ = config.set_max_write(nearest);
    }
    if let Err(nearest) = config.set_max_readahead(WRITE_BYTES_MAX) {
        let _ = config.set_max_readahead(nearest);
    }
    let _ = config.set_max_background(BACKGROUND_MAX);
}
