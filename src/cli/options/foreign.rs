//! Options of mount(8), of the kernel's btrfs and of other FUSE programs: dropped, explained or
//! refused, each with its words.

/// What happens with an option that isn't ours.
pub enum Verdict {
    /// It is already so, or only mount(8) cares.
    Drop,
    /// Mounting goes on; the user should know why it has no effect.
    Note(&'static str),
    /// Mounting as if it weren't there would be dangerous or not what was asked.
    Refuse(&'static str),
    /// Nobody's option.
    Unknown,
}

/// Looks the option up.
pub fn judge(name: &str, value: Option<&str>) -> Verdict {
    use Verdict::{Drop, Note, Refuse, Unknown};
    if name.starts_with("x-") || name.starts_with("X-") {
        return Drop;
    }
    match name {
        // mount(8), fstab and systemd talk to each other with these.
        "defaults" | "auto" | "noauto" | "nouser" | "nousers" | "noowner" | "nogroup"
        | "_netdev" | "comment" | "helper" | "uhelper" | "loop" | "silent" | "loud"
        | "lazytime" | "nolazytime" | "iversion" | "noiversion" | "mand" | "nomand" => Drop,
        // The kernel's btrfs: already so here.
        "acl" | "user_xattr" | "barrier" | "datacow" | "datasum" | "noautodefrag" | "nossd"
        | "nossd_spread" | "noflushoncommit" | "noenospc_debug" | "seclabel" => Drop,
        "space_cache" if matches!(value, Some("v2")) => Drop,
        // FUSE libraries: already so here.
        "default_permissions"
        | "nonempty"
        | "kernel_cache"
        | "big_writes"
        | "auto_cache"
        | "writeback_cache"
        | "async_read"
        | "clone_fd"
        | "dev_t" => Drop,
        "fsname" | "subtype" => Note("ignored; the mount shows the image's path"),
        "ssd" | "ssd_spread" | "autodefrag" | "thread_pool" | "max_inline" | "metadata_ratio"
        | "enospc_debug" | "check_int" => Note("ignored; it tunes the kernel's btrfs only"),
        "compress" | "compress-force" => {
            Note("ignored; this version writes all files uncompressed")
        }
        "flushoncommit" => Note("ignored; each commit already writes all data first"),
        "space_cache" => Note("ignored; the free-space tree is used where the image has one"),
        "max_read" | "max_write" | "max_background" | "entry_timeout" | "attr_timeout"
        | "negative_timeout" | "ac_attr_timeout" => {
            Note("ignored; btrfuse tunes its FUSE connection itself")
        }
        "remount" => Refuse(
            "a FUSE mount can't be remounted; unmount it with `btrfuse umount DIR` and mount it \
             again with the options wanted",
        ),
        "bind" | "rbind" | "move" | "make-shared" | "make-private" | "make-slave" => {
            Refuse("bind and move mounts are the kernel's business; use plain `mount --bind`")
        }
        "nobarrier" => Refuse(
            "dangerous, and not supported: without flushes a power cut leaves a filesystem that \
             nobody can mount; leave the option out",
        ),
        "noacl" => Refuse(
            "POSIX ACLs are always kept, ignoring them would open files that an \
                           ACL closes; leave the option out",
        ),
        "nodatacow" | "nodatasum" => {
            Refuse("not for a whole mount; `chattr +C DIR` makes new files in DIR that way")
        }
        "degraded" | "device" => Refuse(
            "filesystems over several devices aren't supported yet; mount it with the kernel",
        ),
        "clear_cache" | "nospace_cache" => Refuse(
            "the free-space tree can't be switched off here; `btrfs check --clear-space-cache v2 \
             IMAGE` rebuilds it offline",
        ),
        "usebackuproot" | "recovery" | "rescue" => Refuse(
            "only `rescue=nologreplay` is supported; for damaged trees use `btrfs restore` or a \
             kernel mount with that option",
        ),
        "ignorebadroots" | "ibadroots" | "ignoredatacsums" | "idatacsums" => Refuse(
            "not supported; files whose checksum fails are read with an error, `btrfs restore \
             -i` copies what is left",
        ),
        "skip_balance" => {
            Drop // an interrupted balance already mounts read-only, with its reason
        }
        "fatal_errors" => Note("ignored; errors that matter already turn the mount read-only"),
        "uid" | "gid" | "umask" | "fmask" | "dmask" => Refuse(
            "btrfs stores the owner and mode of each file, so they can't be set for the whole \
             mount; use chown and chmod",
        ),
        "allow_root" => Refuse("write `allow_other`; permissions are always checked"),
        "auto_unmount" => {
            Refuse("the daemon unmounts by itself when it ends; leave the option out")
        }
        "direct_io" => Refuse("open files with O_DIRECT where the page cache isn't wanted"),
        "context" | "fscontext" | "defcontext" | "rootcontext" => Refuse(
            "SELinux labels for a whole mount don't pass through FUSE; labels stored in the \
             image are kept",
        ),
        _ => Unknown,
    }
}

/// `; did you mean …?` for a misspelt name of ours.
pub fn hint(name: &str) -> String {
    let near = super::table::names()
        .map(|own| (distance(name, own), own))
        .min();
    match near {
        Some((edits, own)) if edits <= 2 && edits < own.len() => {
            format!(" (did you mean `{own}`?)")
        }
        _ => String::new(),
    }
}

/// Edits between two names (Levenshtein), over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.bytes().enumerate() {
            let changed = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
