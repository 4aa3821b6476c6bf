//! What a user types: mount(8), fstab and umount(8) through our helpers, mounts without root,
//! block devices, and what the daemon keeps of its caller.
//!
//! Each test is a script in a mount namespace of its own (`tests/support/src/shell.rs`).

use btrfuse_test_support::shell::{passes, shell};
use btrfuse_test_support::{Image, btrfs_check, temp_dir};

#[test]
fn a_script_that_fails_fails_the_test() {
    let image = Image::mkfs_btrfs(300, &[]);
    let finished = shell(image.path(), "code 0 sh -c 'exit 7'");
    assert_eq!(finished.status.code(), Some(99), "{}", finished.output());
    assert!(
        finished.stderr.contains("ended with 7"),
        "{}",
        finished.output()
    );
}

#[test]
fn mount_8_and_fstab_reach_the_daemon_and_umount_8_waits_for_it() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
"$HELPERS/install" --prefix "$PLACE/usr" --binary "$BTRFUSE" >/dev/null
for kind in btrfuse fuse.btrfuse; do
    mount -t $kind -o noatime,compress=zstd "$IMAGE" m 2>out
    grep -q 'compress=zstd: ignored' out || fail "no note: $(cat out)"
    [ "$(kind m)" = fuse.btrfuse ] || fail "mounted as $(kind m)"
    head -c 3000000 /dev/urandom >m/$kind
    umount m
    # The lock is free and the last commit durable: nothing waits here.
    flock --nonblock --exclusive "$IMAGE" true || fail "umount came back while the image was in use"
    btrfs check --check-data-csum "$IMAGE" >/dev/null 2>&1 || fail "check after umount"
done
[ ! -s /run/mount/utab ] || fail "left in the table: $(cat /run/mount/utab)"

echo "$IMAGE $PLACE/m btrfuse defaults,nofail,noauto,_netdev,x-test.a=b,user,exec,commit=5 0 0" >/etc/fstab
mount "$PLACE/m"
grep "$PLACE/m" /proc/mounts | grep -q nosuid,nodev || fail "user mounts are nosuid,nodev"
[ -s m/btrfuse ] && [ -s m/fuse.btrfuse ] || fail "the files of before"
umount "$PLACE/m"
flock --nonblock --exclusive "$IMAGE" true || fail "umount of the fstab mount didn't wait"

mount -t btrfuse "$IMAGE" m
code 1 mount -o remount,ro "$PLACE/m"; says "can't be remounted"
code 32 mount -t btrfuse "$IMAGE" bin; says "in use"
exec 8<m/btrfuse
code 6 umount m; says busy
exec 8<&-
mount --bind m bin
umount m
[ -s bin/btrfuse ] || fail "the bind mount must live on"
"$BTRFUSE" umount bin
code 1 mount -t btrfuse -o metadata_cash=1G "$IMAGE" m; says 'did you mean `metadata_cache`'
mount -s -t btrfuse -o metadata_cash=1G "$IMAGE" m
umount m
"$HELPERS/install" --prefix "$PLACE/usr" --uninstall
[ ! -e /sbin/mount.btrfuse ] && [ ! -e "$PLACE/usr/bin/btrfuse" ] || fail "uninstalled"
"#,
    );
    btrfs_check(image.path());
}

/// Nobody waits for the daemon, but whoever opens the image does.
#[test]
fn the_image_cannot_be_opened_before_the_last_commit_is_over() {
    let image = Image::mkfs_btrfs(600, &[]);
    passes(
        image.path(),
        r#"
inode=$(stat -c %i "$IMAGE")
# Without another process, which may take longer to start than a commit takes.
says() { # file, pattern
    local line
    while read -r line; do
        case $line in $2) return 0 ;; esac
    done <"$1"
    return 1
}
for way in "umount -i" "fusermount3 -u"; do
    code 0 "$BTRFUSE" mount --log log "$IMAGE" m
    mkdir m/d
    (cd m/d; for i in $(seq 5000); do echo $i >$i; done)
    head -c 50000000 /dev/urandom >m/big
    # The daemon hears of it a moment later than we do, and may be done before umount comes back.
    until says /proc/locks "*LEASE*:$inode *"; do
        ! says log "*unmounted*" || exit 1
    done &
    $way m
    wait $! || fail "$way: whoever opens the image isn't held back"
    btrfs check "$IMAGE" >check 2>&1 || fail "$way: $(cat check)"
    flock --nonblock --exclusive "$IMAGE" true || fail "$way: opened while the daemon had it"
    code 0 "$BTRFUSE" mount -o ro --log log "$IMAGE" m
    [ "$(ls m/d | wc -l)" = 5000 ] && [ "$(stat -c %s m/big)" = 50000000 ] || fail "$way: lost"
    code 0 "$BTRFUSE" umount m
    code 0 "$BTRFUSE" mount --log log "$IMAGE" m
    rm -r m/d m/big
    code 0 "$BTRFUSE" umount m
    rm log
done
"#,
    );
    btrfs_check(image.path());
}

#[test]
fn a_user_mounts_syncs_and_unmounts_without_root() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
cp --sparse=always "$IMAGE" "i,m g.img"
mount -t btrfs -o loop "i,m g.img" m && chown nobody m && umount m
cp "$BTRFUSE" bin/btrfuse
chown nobody "i,m g.img" m
as() { setpriv --reuid nobody --regid nogroup --clear-groups env HOME=/ "$@"; }
touch log && chown nobody log
code 2 as "$PLACE/bin/btrfuse" mount -o allow_other --log log "i,m g.img" m; says user_allow_other
code 0 as "$PLACE/bin/btrfuse" mount --log log "i,m g.img" m
grep "$PLACE/m" /proc/mounts | grep -q "i,m.040g.img.*nosuid,nodev.*user_id=65534" || fail "$(cat /proc/mounts)"
as sh -c 'echo hello >m/file; mkdir m/d'
[ "$(as stat -c %U m/file)" = nobody ] || fail "new files belong to whoever makes them"
code 1 stat m/file
code 0 as "$PLACE/bin/btrfuse" sync m
code 6 as sh -c 'cd m && "$PLACE/bin/btrfuse" umount "$PLACE/m"'; says busy
code 0 as "$PLACE/bin/btrfuse" umount m
btrfs check --check-data-csum "i,m g.img" >/dev/null 2>&1 || fail "check after a user's umount"
code 0 as "$PLACE/bin/btrfuse" mount --log log "i,m g.img" m
[ "$(as cat m/file)" = hello ] || fail "the file of before"
code 5 "$BTRFUSE" umount m; says "couldn't be asked"
code 0 flock --nonblock --exclusive "i,m g.img" true
# Somebody else takes the image at once: that isn't what is waited for.
code 0 as "$PLACE/bin/btrfuse" mount --log log "i,m g.img" m
flock --exclusive --no-fork "i,m g.img" sleep 50 & next=$!
sleep 0.5
code 5 timeout 20 "$BTRFUSE" umount m; says "couldn't be asked"
kill -0 $next || fail "nobody took the image"
kill $next
# An option that nobody here can keep is refused, or kept; never dropped.
got=0; as "$PLACE/bin/btrfuse" mount -o nosymfollow --log log "i,m g.img" m 2>out || got=$?
if [ $got = 0 ]; then
    grep "$PLACE/m" /proc/mounts | grep -q nosymfollow || fail "dropped: $(cat /proc/mounts)"
    code 0 as "$PLACE/bin/btrfuse" umount m
else
    [ $got = 2 ] && grep -q "nosymfollow: .*doesn't know it" out || fail "$got: $(cat out)"
fi
chmod 644 log
code 0 "$BTRFUSE" mount -o nosymfollow "$IMAGE" m
grep "$PLACE/m" /proc/mounts | grep -q nosymfollow || fail "root's: $(cat /proc/mounts)"
code 0 "$BTRFUSE" umount m
"#,
    );
}

/// The kernel keeps others out of a user's mount, but not those to whom the user hands a descriptor;
/// and what it writes back itself it asks for as root. The daemon refused all of that: close and
/// fsync failed with `EACCES`, and modification times were lost.
#[test]
fn who_is_handed_a_descriptor_of_a_users_mount_may_use_it() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
mount -t btrfs -o loop "$IMAGE" m && chown nobody m && umount m
cp "$BTRFUSE" bin/btrfuse
chown nobody "$IMAGE" m; chmod 755 "$(dirname "$IMAGE")"
as() { setpriv --reuid nobody --regid nogroup --clear-groups env HOME=/ "$@"; }
touch log && chown nobody log
code 0 as "$PLACE/bin/btrfuse" mount --log log "$IMAGE" m
as sh -c 'echo old >m/f; touch -d 2001-01-01 m/f'
code 1 cat m/f
cat >root.py <<'END'
import os, sys
fd = int(sys.argv[1])
os.write(fd, b"written by root")
os.fsync(fd)
os.close(fd)
END
cat >user.py <<'END'
import os, socket
ours, theirs = socket.socketpair()
if os.fork() == 0:
    ours.close()
    _, (fd,), _, _ = socket.recv_fds(theirs, 1, 1)
    os.set_inheritable(fd, True)
    os.execvp("python3", ["python3", "root.py", str(fd)])
theirs.close()
if os.fork() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    fd = os.open("m/f", os.O_RDWR)
    socket.send_fds(ours, [b"x"], [fd])
    os.close(fd)
    os._exit(0)
ours.close()
for _ in range(2):
    assert os.wait()[1] == 0
END
code 0 python3 user.py
[ "$(as cat m/f)" = "written by root" ] || fail "content: $(as cat m/f)"
code 0 as "$PLACE/bin/btrfuse" umount m
code 0 as "$PLACE/bin/btrfuse" mount --log log "$IMAGE" m
[ "$(as stat -c %Y m/f)" -gt 1000000000 ] || fail "the time of root's write is lost"
code 0 as "$PLACE/bin/btrfuse" umount m
chmod 644 log
"#,
    );
    btrfs_check(image.path());
}

/// On our mount, on the kernel's btrfs and below a directory that passes its group and its access
/// list on: a user's run leaves out what the user may not, says so, and is right.
#[test]
fn a_user_puts_filesystems_under_stress_without_root() {
    let image = Image::mkfs_btrfs(1500, &[]);
    passes(
        image.path(),
        r#"
cp "$BTRFUSE" bin/btrfuse
mkdir user kernel inherited && chown nobody user m
as() { setpriv --reuid nobody --regid nogroup --clear-groups env HOME=/ "$@"; }
stress() { as "$PLACE/bin/btrfuse" stress "$@"; }
code 0 as "$PLACE/bin/btrfuse" mkfs --size 1G user/image
code 0 as "$PLACE/bin/btrfuse" mount --log user/log user/image m
code 1 stress m --ops 0
code 0 stress m --procs 3 --ops 1500 --seed 1 --log user/steps
says "this user may not: chown, mknod of devices, setfattr of trusted.*, modes"
says "every answer was right"
code 0 stress m --judge
code 2 "$BTRFUSE" stress m --judge; says "Permission denied"
code 0 as "$PLACE/bin/btrfuse" umount m
btrfs check --check-data-csum user/image >/dev/null 2>&1 || fail "check after a user's work"
mount -o loop,ro user/image kernel
code 0 "$BTRFUSE" stress kernel --judge
umount kernel

mount -o loop "$IMAGE" kernel && chown nobody kernel
code 0 stress kernel --procs 3 --ops 1500 --seed 2; says "chown, snapshot"
code 0 stress kernel --fresh --procs 2 --ops 200 --seed 3
code 0 stress kernel --judge
umount kernel

chgrp daemon inherited && chmod 2777 inherited && setfacl -d -m u:daemon:rwx,o::r inherited
code 0 stress inherited --procs 2 --ops 500 --seed 4
code 0 stress inherited --judge
mkdir root && code 0 "$BTRFUSE" stress root --procs 2 --ops 500 --seed 5 --log user/roots
case $words in *"may not"*) fail "root may all: $words" ;; esac
chmod a+r user/roots
code 2 stress root --judge; says "user 0 made these files"
code 0 stress inherited --fresh --replay user/roots; says "this user may not: chown"
"#,
    );
}

#[test]
fn a_block_device_is_claimed_while_root_has_it_mounted() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
loop=$(losetup --find --show "$IMAGE")
trap 'losetup -d $loop' EXIT
code 0 "$BTRFUSE" mount "$loop" m
[ "$(kind m)" = fuseblk.btrfuse ] || fail "mounted as $(kind m)"
echo x >m/x
code 32 mount -t btrfs "$loop" bin
code 1 mkfs.btrfs -f "$loop"
code 6 "$BTRFUSE" mount "$IMAGE" bin; says "in use"
code 0 "$BTRFUSE" umount m
code 0 mount -t btrfs "$loop" bin
[ "$(cat bin/x)" = x ] || fail "the kernel sees the file"
umount bin
code 0 "$BTRFUSE" mount -o nofuseblk,ro "$loop" m
[ "$(kind m)" = fuse.btrfuse ] || fail "mounted as $(kind m)"
code 1 touch m/y; says "Read-only"
code 0 "$BTRFUSE" umount m
"#,
    );
}

#[test]
fn readers_share_an_image_and_writers_do_not() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
code 0 "$BTRFUSE" mount -o ro "$IMAGE" m
code 0 "$BTRFUSE" mount -o ro "$IMAGE" bin
code 0 "$BTRFUSE" sync m
code 1 touch m/x; says "Read-only"
mkdir third
code 6 "$BTRFUSE" mount "$IMAGE" third; says "in use"; says btrfuse
code 6 "$BTRFUSE" mkfs -f "$IMAGE"; says "in use"
code 0 "$BTRFUSE" inspect "$IMAGE"
code 0 "$BTRFUSE" umount m
code 0 "$BTRFUSE" umount bin
as() { setpriv --reuid nobody --regid nogroup --clear-groups env HOME=/ "$@"; }
cp "$BTRFUSE" bin/btrfuse
cp --sparse=always "$IMAGE" image
chmod 444 image
chown nobody m
code 2 as bin/btrfuse mount image m; says "mount it with \`-o ro\`"
code 2 as bin/btrfuse mkfs -f image; says "Permission denied"
code 0 as bin/btrfuse mount -o ro image m
code 0 as bin/btrfuse umount m
chmod 400 image
code 2 as bin/btrfuse mount -o ro image m; says "Permission denied"; says chmod
code 2 as bin/btrfuse inspect image; says chmod
"#,
    );
}

/// The daemon of a user's mount is the user's; whoever mounted may unmount, and root.
#[test]
fn a_user_mounts_by_a_line_in_fstab() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
"$HELPERS/install" --prefix "$PLACE/usr" --binary "$BTRFUSE" >/dev/null
as() { user=$1; shift; setpriv --reuid "$user" --regid nogroup --clear-groups env HOME=/ "$@"; }
cp --sparse=always "$IMAGE" image
chown nobody image m
for kind in btrfuse fuse.btrfuse; do
    echo "$PLACE/image $PLACE/m $kind noauto,user 0 0" >/etc/fstab
    code 0 as nobody mount "$PLACE/m"
    grep "$PLACE/m" /proc/mounts | grep -q 'nosuid,nodev,noexec.*user_id=65534' || fail "$(cat /proc/mounts)"
    code 2 as daemon "$PLACE/usr/bin/btrfuse" umount "$PLACE/m"; says "only they and root"
    code 0 as nobody umount "$PLACE/m"
    flock --nonblock --exclusive image true || fail "umount came back while the image was in use"
    [ ! -s /run/mount/utab ] || fail "left in the table: $(cat /run/mount/utab)"
done
mount -t btrfuse -o loop image m
[ "$(kind m)" = fuseblk.btrfuse ] || fail "mounted as $(kind m)"
umount m
[ -z "$(losetup -j image)" ] || fail "the loop device is left"
"#,
    );
}

/// A daemon without `--log` has nobody to talk to but syslog.
#[test]
fn a_daemon_logs_to_syslog() {
    let image = Image::mkfs_btrfs(300, &[]);
    let place = temp_dir();
    let socket = place.path().join("log");
    let syslog = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    let text = format!(
        r#"
mkdir layer/dev
cp -a /dev/null /dev/zero /dev/urandom layer/dev
mknod layer/dev/fuse c 10 229
: >layer/dev/log
mount --bind layer/dev /dev
mount --bind {} /dev/log
code 0 "$BTRFUSE" mount "$IMAGE" m
code 0 "$BTRFUSE" umount m
"#,
        socket.display()
    );
    passes(image.path(), &text);
    syslog.set_nonblocking(true).expect("a socket");
    let mut said = Vec::new();
    let mut record = [0; 2000];
    while let Ok(length) = syslog.recv(&mut record) {
        said.push(String::from_utf8_lossy(&record[..length]).into_owned());
    }
    // Facility daemon, severity info.
    let is_ours = |words: &str| {
        said.iter()
            .any(|line| line.starts_with("<30>btrfuse[") && line.contains(words))
    };
    assert!(is_ours(" mounted on ") && is_ours(" unmounted"), "{said:?}");
}

#[test]
fn the_end_is_reported_also_when_it_is_a_bad_one() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
# A host that fills up under a sparse image: the last commit can't be written.
mkdir small
mount -t tmpfs -o size=9m small small
cp --sparse=always "$IMAGE" small/image
code 0 "$BTRFUSE" mount --log log small/image m
head -c 8000000 /dev/urandom >filler
cat filler >m/big 2>/dev/null || true
cat filler >small/filler 2>/dev/null || true
echo more >m/more || true
code 5 "$BTRFUSE" umount m; says "last commit failed"
rm small/filler
btrfs check small/image >/dev/null 2>&1 || fail "the commit before must be sound"

# A daemon that is killed.
code 0 "$BTRFUSE" mount --log log2 "$IMAGE" m
pid=$(sed -n 's/.*btrfuse.\([0-9]*\). .*mounted on.*/\1/p' log2)
kill -9 "$pid"
flock --exclusive "$IMAGE" true
code 2 "$BTRFUSE" mount "$IMAGE" m; says "lost its daemon"
code 2 "$BTRFUSE" sync m; says "lost its daemon"; says "umount"
code 2 "$BTRFUSE" subvolume list m; says "lost its daemon"; says "umount"
code 5 "$BTRFUSE" umount m; says "its daemon had died"
[ -z "$(kind m)" ] || fail "still mounted"
"#,
    );
}

#[test]
fn the_daemon_keeps_nothing_of_its_caller() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
exec 9</etc/passwd
(umask 077; cd m; exec "$BTRFUSE" mount --log "$PLACE/log" "$IMAGE" "$PLACE/m")
pid=$(sed -n 's/.*btrfuse.\([0-9]*\). .*mounted on.*/\1/p' log)
[ "$(readlink /proc/$pid/cwd)" = / ] || fail "cwd $(readlink /proc/$pid/cwd)"
for fd in 0 1 2; do
    [ "$(readlink /proc/$pid/fd/$fd)" = /dev/null ] || fail "fd $fd"
done
[ "$(readlink /proc/$pid/fd/9)" = /etc/passwd ] || fail "a stranger's descriptor was closed"
grep -q '^Umask:.0000' /proc/$pid/status || fail "$(grep Umask /proc/$pid/status)"
[ "$(awk '{ print $6 }' /proc/$pid/stat)" = "$pid" ] || fail "no session of its own"
umask 022; touch m/plain; umask 0; touch m/open
[ "$(stat -c %a%a m/plain m/open | tr -d '\n')" = 644644666666 ] || fail "$(ls -l m)"
code 0 "$BTRFUSE" umount m
# Gone, or waiting for an init that reaps it.
sleep 0.2
grep -q '^State:.Z' /proc/$pid/status 2>/dev/null || [ ! -e /proc/$pid ] || fail "still there"
"#,
    );
}

/// `| head`: nobody panics because nobody reads; a full disk is a failure in words.
#[test]
fn output_that_nobody_reads_is_no_bug() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
mkdir work
for words in --help --version "inspect $IMAGE" "inspect $IMAGE super" \
    "inspect --json $IMAGE tree root" "stress work --fresh --ops 20" "stress work --judge" \
    "mkfs --size 300M -f other"; do
    { got=0; sleep 0.1; "$BTRFUSE" $words 2>err || got=$?; echo $got >got; } | true
    [ "$(cat got)" = 0 ] && [ ! -s err ] || fail "$words ended with $(cat got): $(cat err)"
done
{ got=0; sleep 0.1; "$BTRFUSE" inspect absent 2>&1 || got=$?; echo $got >got; } | true
[ "$(cat got)" = 2 ] || fail "a sentence that nobody reads: $(cat got)"
code 2 sh -c '"$BTRFUSE" mkfs --size 300M -f other >/dev/full'; says "can't write to stdout: No space left"
"#,
    );
}

/// A path leads to whatever was mounted there last, and an end by signal, or `btrfuse umount`, took
/// that out.
#[test]
fn mounts_of_others_are_left_alone() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
pid_of() { sed -n 's/.*btrfuse.\([0-9]*\). .*mounted on.*/\1/p' "$1"; }
until_log() {
    i=0
    until grep -q "$2" "$1"; do i=$((i + 1)); [ $i -lt 500 ] || fail "not said: $2: $(cat "$1")"; sleep 0.05; done
}
types() { awk -v dir="$PLACE/$1" '$2 == dir { printf "%s ", $3 }' /proc/mounts; }

# Over ours.
code 0 "$BTRFUSE" mount --log log1 "$IMAGE" m
mount -t tmpfs above m; echo precious >m/precious
code 6 "$BTRFUSE" umount m; says "mounted over"; says "tmpfs, above"
code 6 "$BTRFUSE" umount --lazy m; says "mounted over"
[ "$(types m)" = "fuse.btrfuse tmpfs " ] || fail "covered: $(types m)"
kill "$(pid_of log1)"
until_log log1 "another mount is on it"
[ "$(cat m/precious)" = precious ] || fail "the mount over ours is gone"
# Taken away in the time that is left: ours goes as well.
umount m
kill "$(pid_of log1)"
flock --exclusive "$IMAGE" true
[ "$(types m)" = "" ] || fail "left: $(types m)"

# In ours.
code 0 "$BTRFUSE" mount --log log5 "$IMAGE" m
mkdir m/sub
mount -t tmpfs inside m/sub; echo precious >m/sub/precious
code 6 "$BTRFUSE" umount m; says "m/sub (tmpfs) is mounted in it: unmount that first"
kill "$(pid_of log5)"
until_log log5 "another mount is on it"
[ "$(cat m/sub/precious)" = precious ] || fail "the mount in ours is gone"
umount m/sub
kill "$(pid_of log5)"
flock --exclusive "$IMAGE" true
[ "$(types m)" = "" ] || fail "left: $(types m)"

# A mount further up hides it.
mkdir -p up/dir
code 0 "$BTRFUSE" mount --log log2 "$IMAGE" up/dir
mount -t tmpfs above up; mkdir up/dir; echo precious >up/dir/precious
code 6 "$BTRFUSE" umount up/dir; says "hidden by a mount further up"
umount up
code 0 "$BTRFUSE" umount up/dir

# Below ours, which lives on elsewhere.
mount -t tmpfs below m; echo precious >m/precious
code 0 "$BTRFUSE" mount --log log3 "$IMAGE" m
mount --bind m bin
kill "$(pid_of log3)"
until_log log3 "still in use"
[ "$(types m)" = "tmpfs " ] || fail "below: $(types m)"
[ "$(cat m/precious)" = precious ] || fail "the mount below ours is gone"
umount bin
flock --exclusive "$IMAGE" true
# Detached before: there is nothing of ours to take out.
code 0 "$BTRFUSE" mount --log log4 "$IMAGE" m
exec 8>m/open
umount -i -l m
kill "$(pid_of log4)"
until_log log4 "still in use"
[ "$(types m)" = "tmpfs " ] || fail "detached before: $(types m)"
exec 8>&-
flock --exclusive "$IMAGE" true
umount m
"#,
    );
    btrfs_check(image.path());
}

/// The daemon ended itself in the grace period's end without a word to those who waited, who took
/// it for dead, and left its line in umount(8)'s table.
#[test]
fn an_end_by_signal_is_told_to_those_who_wait() {
    let image = Image::mkfs_btrfs(300, &[]);
    passes(
        image.path(),
        r#"
"$HELPERS/install" --prefix "$PLACE/usr" --binary "$BTRFUSE" >/dev/null
"$BTRFUSE" mount -f --log log "$IMAGE" m & daemon=$!
until [ -n "$(kind m)" ] && [ -s /run/mount/utab ]; do sleep 0.02; done
exec 8>m/file
echo kept >&8
(
    exec 8>&-
    got=0; "$BTRFUSE" umount --lazy m >words 2>&1 || got=$?
    # Nothing to wait for: the image is free.
    flock --nonblock --exclusive "$IMAGE" true || got="$got, in use"
    echo "$got" >told
) & waiter=$!
while [ -n "$(kind m)" ]; do sleep 0.02; done
sleep 0.3
kill $daemon; sleep 1; kill $daemon
got=0; wait $daemon || got=$?
[ $got = 0 ] || fail "the daemon ended with $got: $(cat log)"
wait $waiter
[ "$(cat told)" = 0 ] || fail "told $(cat told): $(cat words)"
exec 8>&-
[ ! -s /run/mount/utab ] || fail "left in the table: $(cat /run/mount/utab)"

# By signals alone.
"$BTRFUSE" mount -f --log log2 "$IMAGE" m & daemon=$!
until [ -n "$(kind m)" ] && [ -s /run/mount/utab ]; do sleep 0.02; done
[ "$(cat m/file)" = kept ] || fail "the file of before"
exec 8<m/file
kill $daemon; sleep 1; kill $daemon
got=0; wait $daemon || got=$?
[ $got = 0 ] || fail "the daemon ended with $got: $(cat log2)"
[ ! -s /run/mount/utab ] || fail "left in the table: $(cat /run/mount/utab)"
exec 8<&-
"#,
    );
    btrfs_check(image.path());
}
