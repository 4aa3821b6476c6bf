//! The mount options for the manual page and `--help`.

/// btrfuse's own options, and those of the kernel's btrfs that mean the same here.
pub const OWN: [(&str, &str); 17] = [
    ("ro, rw", "write nothing at all, or write (the default)"),
    (
        "commit=N",
        "seconds between commits, up to 86400; 0 is the default (30)",
    ),
    (
        "metadata_cache=SIZE",
        "bound of the tree block cache (64M; at least 1M)",
    ),
    (
        "subvol=PATH, subvolid=N",
        "the subvolume to show as the root; 5 is the top level (the image's default)",
    ),
    (
        "noatime, relatime, strictatime",
        "when a read moves the access time (relatime)",
    ),
    (
        "diratime, nodiratime",
        "whether a listing moves the directory's (diratime)",
    ),
    (
        "discard, nodiscard",
        "tell the device, or the host's file, which blocks became free (nodiscard)",
    ),
    (
        "user_subvol_rm_allowed",
        "users delete subvolumes that they could remove as directories",
    ),
    (
        "nologreplay, norecovery, rescue=nologreplay",
        "with ro: show the last commit and leave the log alone",
    ),
    (
        "treelog, notreelog",
        "make an fsync durable with a log where that is enough, or always with a commit (treelog)",
    ),
    (
        "allow_other, noallow_other",
        "who may use the mount (root: everybody; users: only they)",
    ),
    (
        "threads=N",
        "threads that answer requests, 1 to 256 (twice the CPUs, 4 to 16)",
    ),
    (
        "supervise, nosupervise",
        "mount again when the daemon has crashed (nosupervise)",
    ),
    (
        "fuseblk, nofuseblk",
        "the type of root's mount of a block device (fuseblk)",
    ),
    (
        "nosuid, nodev, noexec, nosymfollow, sync, dirsync",
        "kept by the kernel, as everywhere; suid, dev, exec, symfollow and async undo them",
    ),
    (
        "protocol=P",
        "lifetime rules, in builds with protocols or race-lab",
    ),
    (
        "delay=POINT:MICROSECONDS, ahead=freed, reclaim=always",
        "delay points, readers ahead that follow pointers to freed blocks, nothing idle is kept, in \
         builds with race-lab",
    ),
];

/// And all others.
pub const OTHERS: &str = "Options of mount(8), fstab(5) and the kernel's btrfs are understood, \
                          ignored with a note, or refused with the reason; unknown ones are \
                          refused by name.";

/// How it is called.
pub const EXAMPLES: [&str; 4] = [
    "btrfuse mount data.btrfs /data",
    "btrfuse mount -o ro,subvol=home/monday data.btrfs /mnt",
    "btrfuse mount -f --log /tmp/log -o commit=5,noatime data.btrfs /data",
    "mount -t btrfuse /srv/data.btrfs /data",
];

/// Names of options that are spelt like one of these get a hint.
pub fn names() -> impl Iterator<Item = &'static str> {
    OWN.iter()
        .flat_map(|(written, _)| written.split(", "))
        .map(|option| option.split_once('=').map_or(option, |(name, _)| name))
        .filter(|name| *name != "rescue")
}

/// The end of the long help.
pub fn help() -> String {
    let mut help = String::from("Mount options:\n");
    for (written, words) in OWN {
        help.push_str(&format!("  {written}\n          {words}\n"));
    }
    help.push('\n');
    help.push_str(OTHERS);
    help.push_str("\n\nExamples:\n");
    for line in EXAMPLES {
        help.push_str(&format!("  {line}\n"));
    }
    help
}
