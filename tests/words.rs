//! What the command says: failures are one sentence with a documented code and what to do, and
//! what mount(8) passes over in silence is silent.

use btrfuse_test_support::Image;
use btrfuse_test_support::shell::passes;

/// A bare `EOPNOTSUPP` told nobody what to do about it.
#[test]
fn the_log_says_once_what_a_compressed_file_is_refused_for() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
mkdir kernel
mount -o loop,compress-force=zstd "$IMAGE" kernel
yes compressible | head -c 300000 >kernel/one; cp kernel/one kernel/two
umount kernel
code 0 "$BTRFUSE" mount --log log "$IMAGE" m
for file in one two one; do code 1 cat m/$file; says "not supported"; done
code 0 "$BTRFUSE" umount m
[ "$(grep -c 'compressed with zstd.*defragment' log)" = 1 ] || fail "$(cat log)"
"#,
    );
}

#[test]
fn nofail_passes_over_an_absent_image_in_silence() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
"$HELPERS/install" --prefix "$PLACE/usr" --binary "$BTRFUSE" >/dev/null
code 0 mount -t btrfuse -o nofail "$PLACE/absent" m; [ -z "$words" ] || fail "said: $words"
code 32 mount -t btrfuse "$PLACE/absent" m; says absent
echo "$PLACE/absent $PLACE/m btrfuse nofail 0 0" >/etc/fstab
code 0 mount "$PLACE/m"; [ -z "$words" ] || fail "said: $words"
head -c 2000000 /dev/zero >zero
code 32 mount -t btrfuse -o nofail "$PLACE/zero" m; says "no btrfs"
code 1 "$PLACE/usr/bin/btrfuse" mount8 "$IMAGE"; says "Usage: mount.btrfuse IMAGE DIR"
"#,
    );
}

#[test]
fn the_installer_says_what_is_wrong() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
for word in -h --help; do "$HELPERS/install" $word >out 2>err; grep -q -e --destdir out && [ ! -s err ] || fail "$word"; done
code 1 "$HELPERS/install" --frobnicate; says "what is --frobnicate"
code 1 "$HELPERS/install" --prefix; says "--prefix needs a value"
code 1 "$HELPERS/install" --prefix usr; says "relative"
code 1 "$HELPERS/install" --destdir dest; says "relative"
[ ! -e usr ] && [ ! -e dest ] || fail "made"
code 0 "$HELPERS/install" --destdir "$PLACE/dest" --binary "$BTRFUSE"; says "installed $PLACE/dest/usr/local/bin"
case $words in *try:*) fail "nothing to try there: $words" ;; esac
"#,
    );
}

#[test]
fn umount_takes_the_image_too() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
code 1 "$BTRFUSE" umount "$IMAGE"; says "isn't the mount point"
code 0 "$BTRFUSE" mount "$IMAGE" m
mount --bind m bin
code 1 "$BTRFUSE" umount "$IMAGE"; says "several places"
umount bin
code 0 "$BTRFUSE" umount "$IMAGE"
[ -z "$(kind m)" ] || fail "still mounted"
flock --nonblock --exclusive "$IMAGE" true || fail "it didn't wait"
"#,
    );
}

#[test]
fn failures_are_one_sentence_with_a_documented_code() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
code 1 "$BTRFUSE" mount; says Usage
code 1 "$BTRFUSE" mount -o nologreplay "$IMAGE" m; says "needs \`ro\`"
code 2 "$BTRFUSE" mount "$PLACE/absent" m; says "absent"
code 2 "$BTRFUSE" mount "$IMAGE" "$PLACE/absent"; says "mkdir"
code 3 "$BTRFUSE" mount "$PLACE" m; says "neither a regular file"
head -c 2000000 /dev/zero >zero
code 3 "$BTRFUSE" mount zero m; says zero
code 2 "$BTRFUSE" mount --log /proc/nowhere/log "$IMAGE" m; says /proc/nowhere/log
code 1 "$BTRFUSE" umount m; says "isn't the mount point"
code 1 "$BTRFUSE" sync m; says "isn't in a btrfuse mount"
code 3 "$BTRFUSE" mount -o subvol=nowhere "$IMAGE" m; says nowhere; says "subvolume list"
code 1 "$BTRFUSE" mount -o subvolid=-1 "$IMAGE" m; says "btrfuse subvolume list"
code 1 "$BTRFUSE" inspect "$IMAGE" block xyz; says "write a number"
code 3 "$BTRFUSE" inspect "$IMAGE" block 4096; says "no chunk has the address"
code 2 "$BTRFUSE" sync zero; says "name the mount point"
code 2 "$BTRFUSE" sync absent; says "no directory absent"
code 2 "$BTRFUSE" stress m --replay zero; says "--log wrote"
code 1 "$BTRFUSE" mount -o commit=-1 "$IMAGE" m; says "0 to 86400"
code 0 "$BTRFUSE" mount "$IMAGE" m
mkdir m/plain
code 0 "$BTRFUSE" umount m
code 3 "$BTRFUSE" mount -o subvol=plain "$IMAGE" m; says "a directory, and no subvolume"
code 0 "$BTRFUSE" --version; says "(protocol: "
mkfs.ext4 -q zero 20M
code 3 "$BTRFUSE" mount zero m; says "it holds an ext2, ext3 or ext4 filesystem"
case $words in *corrupt*) fail "another filesystem isn't damaged: $words" ;; esac
code 1 "$BTRFUSE" mount -o comit=5 "$IMAGE" m; says 'did you mean `commit`'
[ -z "$(kind m)" ] || fail "nothing may be mounted now"
"#,
    );
}
