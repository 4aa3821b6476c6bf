//! `btrfuse stats`: numbers that move with what is done, errors and repairs of devices, and why a mount
//! turned read-only.

use btrfuse_test_support::Image;
use btrfuse_test_support::shell::passes;

#[test]
fn numbers_move_and_programs_can_read_them() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r##"
number() { "$BTRFUSE" stats --json m | python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }
code 0 "$BTRFUSE" mount "$IMAGE" m
before=$(number '["commits"]["count"]') generation=$(number '["generation"]')
echo old >m/logged; code 0 "$BTRFUSE" sync m
[ "$(number '["commits"]["logs"]')" = 0 ] || fail "a commit is no log"
echo new >>m/logged; sync m/logged
[ "$(number '["commits"]["logs"]')" = 1 ] || fail "an fsync of a file wrote no log"
mkdir m/a m/b; for n in $(seq 50); do echo "$n" >m/a/$n; done
code 0 "$BTRFUSE" sync m
[ "$(number '["commits"]["count"]')" -gt "$before" ] || fail "no commit was counted"
[ "$(number '["generation"]')" -gt "$generation" ] || fail "the generation stands"
[ "$(number '["inodes_in_memory"]')" -ge 50 ] || fail "50 files aren't in memory"
[ "$(number '["cache"]["writes"]')" -gt 3 ] || fail "nothing was written"
[ "$(number '["read_only"]')" = None ] || fail "it is read-only"
code 0 "$BTRFUSE" stats m/a; says writable; says ": 0 read errors"
code 0 "$BTRFUSE" stats --prometheus m
printf '%s\n' "$words" | python3 -c '
import re, sys
kinds, names = {}, set()
for line in sys.stdin.read().splitlines():
    kind = re.fullmatch(r"# TYPE (btrfuse_[a-z_]+) (counter|gauge)", line)
    if kind:
        kinds[kind[1]] = kind[2]
        continue
    value = re.fullmatch(r"(btrfuse_[a-z_]+)\{mount=\"m\"(,[a-z]+=\"[^\"]*\")*\} [0-9.]+", line)
    assert value and value[1] in kinds, line
    assert (kinds[value[1]] == "counter") == value[1].endswith("_total"), line
    names.add(value[1])
assert len(names) > 15 and names == set(kinds), names
' || fail "$words"
code 1 "$BTRFUSE" stats --json --prometheus m
code 1 "$BTRFUSE" stats .; says "isn't in a btrfuse mount"
code 0 "$BTRFUSE" umount m
"##,
    );
}

/// A device that refuses writes: an image on a full host.
#[test]
fn why_a_mount_turned_read_only_is_shown_and_logged_once() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r##"
mkdir host; mount -t tmpfs -o size=24M none host
trap '"$BTRFUSE" umount m || true; umount -l host' EXIT
cp --sparse=always "$IMAGE" host/image
code 0 "$BTRFUSE" mount --log log host/image m
code 0 "$BTRFUSE" stats m; says writable
echo kept >m/kept; code 0 "$BTRFUSE" sync m
# What the host can't hold: file content first, and then a commit's blocks.
head -c 60000000 /dev/urandom >m/big || true
for n in $(seq 500); do echo "$n" >m/$n; done || true
code 2 "$BTRFUSE" sync m; says "No space left on device"
code 0 "$BTRFUSE" stats m; says "read-only: "; says "No space left on device"
printf '%s\n' "$words" | grep -q ' [1-9][0-9]* write errors' || fail "$words"
[ "$("$BTRFUSE" stats --prometheus m | grep -c '^btrfuse_read_only{mount="m"} 1$')" = 1 ] || fail "not told"
code 1 touch m/more; says "Read-only file system"
[ "$(grep -c 'transaction .* aborted' log)" = 1 ] || fail "$(cat log)"
code 5 "$BTRFUSE" umount m
mount -o remount,size=200M host
code 0 "$BTRFUSE" mount host/image m
[ "$(cat m/kept)" = kept ] || fail "what was durable is gone"
code 0 "$BTRFUSE" stats m; says writable
code 0 "$BTRFUSE" umount m; umount host; trap - EXIT
"##,
    );
}

/// A copy that rots is read around, repaired, and counted.
#[test]
fn repairs_are_counted() {
    let image = Image::mkfs_btrfs(300, &["-m", "dup"]);
    passes(
        image.path(),
        r##"
code 0 "$BTRFUSE" mount "$IMAGE" m
for n in $(seq 100); do echo "$n" >m/$n; done
code 0 "$BTRFUSE" umount m
# The first copy of the files' tree.
logical=$(btrfs inspect-internal dump-tree -t 5 "$IMAGE" | sed -n 's/^\(node\|leaf\) \([0-9]*\) .*/\2/p' | head -1)
physical=$(btrfs-map-logical -l "$logical" "$IMAGE" | sed -n 's/^mirror 1 .* physical \([0-9]*\) .*/\1/p' | head -1)
printf rot | dd of="$IMAGE" bs=1 seek=$((physical + 200)) conv=notrunc status=none
code 0 "$BTRFUSE" mount --log log "$IMAGE" m
[ "$(cat m/77)" = 77 ] || fail "content"
code 0 "$BTRFUSE" stats m; says " 1 corruption errors, 1 repaired"
code 0 "$BTRFUSE" umount m
code 0 "$BTRFUSE" mount "$IMAGE" m
[ "$(cat m/77)" = 77 ] || fail "content after the repair"
code 0 "$BTRFUSE" stats m; says " 0 corruption errors, 0 repaired"
code 0 "$BTRFUSE" umount m
code 0 btrfs check --check-data-csum "$IMAGE"
"##,
    );
}
