//! Shell scripts about the command, each in a mount namespace of its own, where `/usr/sbin`,
//! `/etc/fstab`, libmount's table and `/dev/fuse` can be changed without anybody noticing.

use crate::{Finished, btrfuse_binary, need_root, run_any, temp_dir};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Before each script. `code N COMMAND…` demands an exit code and leaves the words in $words.
const PRELUDE: &str = r#"
set -eu
cd "$PLACE"
mkdir -p m bin layer
mount -t tmpfs -o dev,mode=755 layer layer
mkdir layer/upper layer/work layer/run
mount -t overlay -o lowerdir=/usr/sbin,upperdir=layer/upper,workdir=layer/work sbin /usr/sbin
mkdir -p /run/mount
mount --bind layer/run /run/mount
: >layer/fstab
mount --bind layer/fstab /etc/fstab
mknod layer/fuse c 10 229
chmod 666 layer/fuse
mount --bind layer/fuse /dev/fuse
chmod 755 .
export LC_ALL=C
# Copies of other tests' mounts, made by unshare, would keep those alive after their umount.
awk '$2 ~ "^/var/tmp/btrfuse-" { print $2 }' /proc/mounts | xargs -r -n 1 umount -l

fail() { echo "FAILED: $*" >&2; exit 99; }
code() {
    want=$1; shift
    got=0; "$@" >out 2>&1 || got=$?
    words=$(cat out)
    [ "$got" = "$want" ] || fail "$* ended with $got, not $want: $words"
}
says() { case $words in *"$1"*) ;; *) fail "not said: $1; but: $words" ;; esac; }
kind() { awk -v dir="$PLACE/$1" '$2 == dir { print $3 }' /proc/mounts; }
"#;

/// Runs a script about an image; the names that it knows are in the prelude.
pub fn shell(image: &Path, text: &str) -> Finished {
    need_root();
    let place = temp_dir();
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c"]);
    command.arg(format!("{PRELUDE}{text}"));
    command.env("PLACE", place.path()).env("IMAGE", image);
    command.env("BTRFUSE", btrfuse_binary());
    command.env(
        "HELPERS",
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../mount-helper"),
    );
    run_any(&mut command, Duration::from_secs(60))
}

/// Runs one that must pass.
#[track_caller]
pub fn passes(image: &Path, text: &str) {
    let finished = shell(image, text);
    assert!(
        finished.status.success(),
        "{}:\n{}",
        finished.status,
        finished.output()
    );
}
