//! Discards: what is deleted goes back to the host, and nothing else does.

use btrfuse_test_support::Image;
use btrfuse_test_support::shell::passes;

/// Bytes that the image takes on its host, the words of fstrim, and all content intact.
#[test]
fn fstrim_gives_back_what_is_free_and_nothing_else() {
    let image = Image::mkfs_btrfs(600, &[]);
    passes(
        image.path(),
        r##"
kib() { du -k "$IMAGE" | cut -f1; }
code 0 "$BTRFUSE" mount "$IMAGE" m
for n in 1 2 3; do head -c 60000000 /dev/urandom >m/$n; done
mkdir m/small; for n in $(seq 300); do echo "$n" >m/small/$n; done
sum=$(sha256sum m/2); code 0 "$BTRFUSE" sync m
rm m/1 m/3 m/small/2*; full=$(kib)
[ "$full" -gt 170000 ] || fail "$full KiB before"
code 0 fstrim -v m
code 0 "$BTRFUSE" sync m
left=$(kib); [ "$left" -lt 66000 ] || fail "$left of $full KiB are left"
[ "$(sha256sum m/2)" = "$sum" ] || fail "content"
# A second time there is as much to discard, and nothing to give back.
code 0 fstrim -v m
# A part: of the first 100 MiB nothing beyond is touched; shorter than a sector is no range.
code 0 fstrim -o 0 -l 100M -m 1M m
code 1 fstrim -l 512 m
code 1 setpriv --reuid=65534 --regid=65534 --clear-groups fstrim m
code 0 "$BTRFUSE" umount m
code 0 btrfs check --check-data-csum "$IMAGE"
mkdir kernel; mount -o loop "$IMAGE" kernel
[ "$(sha256sum kernel/2 | cut -c1-64)" = "$(printf %s "$sum" | cut -c1-64)" ] || fail "the kernel's content"
[ "$(ls kernel/small | wc -l)" = 189 ] || fail "$(ls kernel/small | wc -l) names"
umount kernel
code 0 "$BTRFUSE" mount -o ro "$IMAGE" m
code 1 fstrim m
code 0 "$BTRFUSE" umount m
"##,
    );
}

/// Whoever is given a range while it is discarded keeps what he writes there.
#[test]
fn fstrim_beside_writers_takes_nothing_from_them() {
    let image = Image::mkfs_btrfs(600, &["-n", "4096"]);
    passes(
        image.path(),
        r##"
code 0 "$BTRFUSE" mount -o subvolid=5,commit=1,metadata_cache=1M "$IMAGE" m
"$BTRFUSE" stress m --procs 4 --ops 1500 --seed 7 --mix fsstress >stress.out 2>&1 &
rounds=0
while kill -0 $! 2>/dev/null; do fstrim m; rounds=$((rounds + 1)); done
wait $! || fail "$(cat stress.out)"
[ "$rounds" -gt 3 ] || fail "only $rounds rounds"
code 0 "$BTRFUSE" stress m --judge
code 0 "$BTRFUSE" umount m
code 0 btrfs check --check-data-csum "$IMAGE"
code 0 "$BTRFUSE" mount -o subvolid=5 "$IMAGE" m
code 0 "$BTRFUSE" stress m --judge
code 0 "$BTRFUSE" umount m
"##,
    );
}

/// With `-o discard` a deletion shrinks the image by itself.
#[test]
fn deleting_shrinks_an_image_that_is_mounted_with_discard() {
    let image = Image::mkfs_btrfs(600, &[]);
    passes(
        image.path(),
        r##"
kib() { du -k "$IMAGE" | cut -f1; }
code 0 "$BTRFUSE" mount -o discard "$IMAGE" m
head -c 90000000 /dev/urandom >m/big; head -c 5000000 /dev/urandom >m/kept
sum=$(sha256sum m/kept); code 0 "$BTRFUSE" sync m
full=$(kib); [ "$full" -gt 90000 ] || fail "$full KiB before"
rm m/big; code 0 "$BTRFUSE" sync m
sleep 1; code 0 "$BTRFUSE" sync m
left=$(kib); [ "$left" -lt 12000 ] || fail "$left of $full KiB are left"
[ "$(sha256sum m/kept)" = "$sum" ] || fail "content"
code 0 "$BTRFUSE" umount m
code 0 btrfs check --check-data-csum "$IMAGE"
"##,
    );
}
