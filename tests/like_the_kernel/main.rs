//! The same shell script on the kernel's mount and on ours: every word that the tools print and
//! every exit code must be the same, and afterwards the kernel must see the same tree on both
//! images. Covers what stories leave out: ACLs, other users, attributes of lsattr, limits.

mod flags;

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::compare::assert_same;
use btrfuse_test_support::{
    BtrfuseMount, Image, LoopMount, Manifest, Rules, btrfs_check, run_any, walk,
};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// `sv` is our own `btrfuse subvolume`, which asks both. `say COMMAND` prints the exit code; `as_nobody COMMAND` runs as a user without any rights.
const PRELUDE: &str = r#"
export LC_ALL=C TZ=UTC
umask 022
say() { "$@"; echo "-> $?"; }
as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
sv() { "$BTRFUSE" subvolume "$@" 2>&1; }
show() { stat -c '%n %F %a %u:%g %s %h' "$@"; }
"#;

fn play(on: &Path, script: &str) -> String {
    let finished = run_any(
        Command::new("bash")
            .arg("-c")
            .arg(format!("{PRELUDE}{script}"))
            .env("BTRFUSE", btrfuse_binary())
            .current_dir(on),
        Duration::from_secs(100),
    );
    format!("{}\n--- stderr\n{}", finished.stdout, finished.stderr)
}

fn seen_by_the_kernel(image: &Image) -> Manifest {
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    let walked = walk(mount.path());
    mount.unmount();
    walked
}

#[track_caller]
fn same_on_both(script: &str) {
    same_on_both_with("rw", script);
}

/// With mount options that both know.
#[track_caller]
fn same_on_both_with(options: &str, script: &str) {
    let theirs = Image::mkfs_btrfs(300, &[]);
    let mount = LoopMount::read_write(theirs.path());
    let flags = format!("remount,bind,{options}");
    let mut remount = Command::new("mount");
    btrfuse_test_support::run(remount.args(["-o", &flags]).arg(mount.path()));
    let expected = play(mount.path(), script);
    mount.unmount();
    let ours = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::new(ours.path(), &format!("subvolid=5,allow_other,{options}"));
    let found = play(mount.path(), script);
    mount.unmount();
    for tool in ["command not found", "No such file or directory: "] {
        assert!(!expected.contains(tool), "a tool is missing:\n{expected}");
    }
    for (at, (was, is)) in expected.lines().zip(found.lines()).enumerate() {
        assert_eq!(
            was, is,
            "line {at}: the kernel (left), we (right); all of ours:\n{found}"
        );
    }
    assert_eq!(
        expected.lines().count(),
        found.lines().count(),
        "{expected}\n=====\n{found}"
    );
    let rules = Rules {
        without: vec!["mtime_ns", "btime_ns"],
        ..Rules::all()
    };
    let (expected, found) = (seen_by_the_kernel(&theirs), seen_by_the_kernel(&ours));
    assert_same("the kernel's image against ours", &expected, &found, &rules);
}

#[test]
fn acls_are_inherited_and_agree_with_modes() {
    same_on_both(
        r#"
        mkdir d; say setfacl -m u:1000:rwx,g:5:r-x,d:u:1000:rw,d:g:5:r d
        getfacl -R d
        touch d/file; mkdir d/sub; mkfifo d/pipe; ln -s nowhere d/link
        getfacl -R d; show d d/*
        chmod 640 d/file; chmod 700 d/sub; getfacl d/file d/sub; show d/*
        say setfacl -m m::--- d/file; getfacl d/file; show d/file
        say setfacl -b d/file; getfacl d/file
        say setfacl -k d; getfacl d; mkdir d/later; getfacl d/later
        (umask 077; mkdir n; touch n/x; setfacl -m d:o::rwx n; touch n/y; mkdir n/z); show n n/*
        touch only-nobody; chmod 000 only-nobody; setfacl -m u:65534:r only-nobody
        say as_nobody cat only-nobody; say as_nobody sh -c 'echo >> only-nobody'
        getfattr -d -m - --absolute-names d n only-nobody
        "#,
    );
}

/// rmdir(2) deletes an empty subvolume since Linux 4.18, for whoever may remove the name.
#[test]
fn subvolumes_are_removed_like_directories() {
    same_on_both(
        r#"
        say sv create a; say sv create a/b; touch a/b/f; show a a/b; ls -F . a
        say rmdir a; say rmdir a/b; rm a/b/f; show a; say rmdir a/b; show a; say rmdir a; ls
        say sv create c; say mv c e; say rmdir e; say sv create x; mkdir d; say mv x d/x
        touch f; say mv -T f d/x; say mv -T d d/x; mkdir over; say mv -T over d/x; say mv -T d/x over
        ls -R; say rm -r d; ls
        mkdir open sticky; chmod 777 open; chmod 1777 sticky
        sv create open/roots; sv create sticky/roots; sv create roots
        say as_nobody rmdir open/roots; say as_nobody rmdir sticky/roots; say as_nobody rmdir roots
        say as_nobody "$BTRFUSE" subvolume create open/mine; show open/mine; touch open/mine/f
        say as_nobody rmdir open/mine; rm open/mine/f; say as_nobody rmdir open/mine; ls open
        "#,
    );
}

/// A subvolume is a name with a number of its own: it moves anywhere, also next to another one.
#[test]
fn subvolumes_move_between_subvolumes() {
    same_on_both(
        r#"
        REN='
import ctypes, os, sys
source, target, flags = sys.argv[1].encode(), sys.argv[2].encode(), int((sys.argv[3:] or [0])[0])
libc = ctypes.CDLL(None, use_errno=True)
failed = libc.renameat2(-100, source, -100, target, flags)
print(os.strerror(ctypes.get_errno()) if failed else "renamed")
'
        ren() { /usr/bin/python3 -c "$REN" "$@"; }
        sv create A; sv create B; sv create A/x; mkdir A/d B/d; echo kept >A/x/f; touch A/f
        say mv -T A/x B/x; cat B/x/f; ls A B; say mv A/f B/f; say ren A/d B/e
        say mv -T B/x B/d/y; cat B/d/y/f; say mv -T B/d/y A/z; say mv A/z .; cat z/f; say mv z A
        say mv -T A/z B/d; cat B/d/f; say mv -T B/d A/d; cat A/d/f
        sv create A/s; sv create B/s; echo a >A/s/f; echo b >B/s/f; touch A/plain; mkdir B/dir
        say ren A/s B/s 2; cat A/s/f B/s/f; say ren A/s B/dir 2; say ren A/plain B/s 2
        say ren A/s no 2; say mv -T A/s B/s; say mv -n -T A/s B/dir; ls A B
        say ren A A/s/in; say ren A A/in; say ren B A/s/b; ls -R
        say ren A A/s 2; say ren A/s A/s/b 2; say ren A/s A/s/b/s
        sv create C; sv create C/c; sv snapshot -r C ro; sv create D; mkdir dir
        say ren ro D/ro; say ren ro dir/ro; say ren ro read-only
        say ren read-only D/no 2; sv create D/sub; say ren read-only D/sub 2; say ren D/sub read-only 2
        say ren D/sub read-only/sub; say ren D/sub read-only
        say ren C/c D/c; say sv delete D; say sv delete D/c; say sv delete D/sub; say sv delete D
        mkdir -m 777 open; sv create open/roots; chmod 755 open/roots; mkdir -m 777 open/other
        say as_nobody /usr/bin/python3 -c "$REN" open/roots open/other/roots; say as_nobody /usr/bin/python3 -c "$REN" open/roots open/mine
        sv list . | awk '{ print $1, $2, $4, $5 }'
        "#,
    );
}

#[test]
fn subvolumes_are_made_and_deleted_as_modes_and_flags_allow() {
    same_on_both(
        r#"
        say sv create a; say sv create a; say sv create a/.; touch f; say sv create f/x
        say sv create no/x; say sv create "$(printf 'n%.0s' {1..256})"
        mkdir acl; setfacl -d -m u:1000:rwx,g::r acl; (umask 077; sv create acl/s; sv create private)
        getfacl acl/s; show acl/s private
        mkdir sgid; chgrp 5 sgid; chmod 2777 sgid; sv create sgid/s; show sgid/s; mkdir sgid/d; show sgid/d
        mkdir i ap; chattr +i i; chattr +a ap; say sv create i/s; say sv create ap/s; say sv delete ap/s
        say rmdir ap/s; chattr -i i; chattr -a ap; say rmdir ap/s
        say sv snapshot -r a frozen; say touch frozen/f; say sv create frozen/s; say rmdir frozen/x
        say sv read-only frozen; say sv read-only frozen no; say touch frozen/f; say sv read-only f
        say sv snapshot -r frozen frozen; ls frozen; say sv delete frozen; say sv delete frozen/frozen
        say sv delete frozen; say sv delete f; say sv delete acl; say sv delete no; ls
        sv create u; chown 65534 u; mkdir open; chmod 777 open
        say as_nobody "$BTRFUSE" subvolume snapshot u open/s; show open/s
        say as_nobody "$BTRFUSE" subvolume snapshot a open/t
        say as_nobody "$BTRFUSE" subvolume snapshot u no-place
        say as_nobody "$BTRFUSE" subvolume read-only u yes; say as_nobody touch u/f
        say as_nobody "$BTRFUSE" subvolume read-only a yes
        say as_nobody "$BTRFUSE" subvolume delete open/s; say sv delete open/s; ls open
        "#,
    );
}

#[test]
fn other_users_may_what_modes_allow() {
    same_on_both(
        r#"
        mkdir open closed sticky setgid; chmod 777 open; chmod 700 closed; chmod 1777 sticky
        chgrp 5 setgid; chmod 2777 setgid
        echo secret > closed/f; chmod 644 closed/f; echo root > sticky/root; echo r > open/root
        say as_nobody cat closed/f; say as_nobody ls closed
        say as_nobody touch open/mine; say as_nobody mkdir open/dir; show open/*
        say as_nobody rm -f open/root; say as_nobody rm -f sticky/root
        say as_nobody touch sticky/mine; say as_nobody mv sticky/mine sticky/moved
        say as_nobody mv sticky/root sticky/stolen; ls sticky
        say as_nobody touch setgid/f; say as_nobody mkdir setgid/d; touch setgid/r; show setgid/*
        say as_nobody chmod 2755 setgid/f; show setgid/f
        say as_nobody chown 0 open/mine; say as_nobody chgrp 5 open/mine
        say as_nobody chmod 4711 open/mine; show open/mine
        echo x > suid; chmod 6777 suid; say as_nobody sh -c 'echo y >> suid'; show suid
        chmod 6777 suid; echo root >> suid; show suid; chown 1:1 suid; show suid
        chmod 6777 suid; say as_nobody truncate -s 1 suid; show suid
        say as_nobody mknod open/null c 1 3; say as_nobody mkfifo open/pipe
        say as_nobody touch -d 2001-01-01 suid; say as_nobody touch suid
        say as_nobody ln open/mine open/second; say as_nobody ln suid open/linked; show open/*
        say as_nobody setfattr -n trusted.x -v 1 open/mine
        say as_nobody setfattr -n user.x -v 1 open/mine
        say as_nobody getfattr -d -m - open/mine
        "#,
    );
}

#[test]
fn immutable_and_append_only_files_stay_what_they_are() {
    same_on_both(
        r#"
        echo one > f; echo one > a; mkdir d; touch d/x
        say chattr +i f; say chattr +a a; say chattr +i d; lsattr -d f a d
        say sh -c 'echo two > f'; say sh -c 'echo two >> f'; say rm -f f; say mv f g
        say ln f h; say chmod 600 f; say touch f; say truncate -s 0 f; say setfattr -n user.x f
        say sh -c 'echo two >> a'; say sh -c 'echo two > a'; say truncate -s 0 a; say rm -f a
        say touch d/new; say rm -f d/x; say sh -c 'echo inside >> d/x'; cat f a d/x
        say chattr -i f; say chattr -a a; say chattr -i d; say rm -f f a d/x; ls -R
        touch c; say chattr +C c; lsattr c; say chattr +d c; lsattr c; say chattr +A c; lsattr c
        mkdir nocow; chattr +C nocow; touch nocow/inherits; lsattr nocow; echo data > nocow/inherits
        "#,
    );
}

#[test]
fn extended_attributes_have_the_same_limits() {
    same_on_both(
        r#"
        touch f; mkdir d; ln -s f l; mkfifo p
        say setfattr -n user.a -v 1 f; say setfattr -n user.a -v 2 d; say setfattr -n user.a f
        say setfattr -h -n user.a -v 1 l; say setfattr -h -n trusted.a -v 1 l
        say setfattr -n user.a -v 1 p; say setfattr -n trusted.p -v 1 p
        say setfattr -n nothing.a -v 1 f; say setfattr -n user. -v 1 f
        say setfattr -n "user.$(printf 'n%.0s' $(seq 250))" -v long f
        say setfattr -n "user.$(printf 'n%.0s' $(seq 251))" -v long f
        v=$(printf 'v%.0s' $(seq 15000)); say setfattr -n user.big -v "$v" f
        say setfattr -n user.big -v "$v$v" f
        say setfattr -x user.none f; say setfattr -x user.a f
        say setfattr -x btrfs.compression f; say setfattr -n btrfs.compression f
        say setfattr -n btrfs.compression -v zlib d; say setfattr -x btrfs.compression d
        say setfattr -x btrfs.compression d
        say setfattr -n security.thing -v 1 f
        say setfattr -n system.thing -v 1 f
        for n in $(seq 100); do setfattr -n user.many-$n -v "value-$n" d; done
        for f in f d p; do getfattr -d -m - $f | sort; done; getfattr -h -d -m - l | sort
        "#,
    );
}

#[test]
fn names_and_targets_have_the_same_limits() {
    same_on_both(
        r#"
        n=$(printf 'n%.0s' $(seq 255)); say touch "$n"; say touch "${n}n"; say mkdir "${n}n"
        ls | wc -c
        t=$(printf 't%.0s' $(seq 4094)); say ln -s "$t" long; say ln -s "$t$t" longer
        readlink long | wc -c; say touch $'odd\nname \\ \x01'; say touch "ä ß 雪"; ls -b
        say mkdir -p $(printf 'deep/%.0s' $(seq 100)); find deep | wc -l
        say rmdir deep; say rmdir long; say rm -f deep; say mkdir "$n"; say mv deep deep/deep/in
        say mkdir -m 1777 m; say mkdir m/..; say rmdir m/.; say ln m hard; show m
        say cat m; say sh -c 'echo > m'; say ls long/; say cat nothing
        "#,
    );
}

#[test]
fn sizes_and_holes_are_the_same() {
    same_on_both(
        r#"
        truncate -s 1T t; show t; say truncate -s 8191P t; show t; say truncate -s 0 t
        say sh -c 'echo end | dd of=t bs=1 seek=5000000000 status=none'; show t
        head -c 100000 /dev/zero | tr '\0' 'x' > f; sync f; stat -c '%b %B' f
        say fallocate -p -o 8192 -l 40000 f; sync f; stat -c '%b' f; cksum f
        say fallocate -z -o 50000 -l 10000 f; cksum f; say fallocate -l 300000 f; show f; cksum f
        say fallocate -n -o 1000000 -l 100000 f; sync f; show f; stat -c '%b' f; cksum f
        say fallocate -c -o 0 -l 4096 f; say fallocate -i -o 0 -l 4096 f
        truncate -s 70000 f; sync f; stat -c '%b' f; cksum f; truncate -s 200000 f; cksum f
        echo small > s; sync s; stat -c '%b' s; truncate -s 2000 s; sync s; stat -c '%b' s
        truncate -s 10 s; sync s; stat -c '%b' s; cksum s; truncate -s 5000 s; cksum s
        for n in 1 2047 2048 2049 4095 4096 4097; do
            head -c $n /dev/zero | tr '\0' 'y' > i$n; sync i$n; stat -c '%n %b %s' i$n
        done
        cp --sparse=always t t2; sync t2; cmp t t2; dd if=f of=f2 bs=8k status=none; cmp f f2
        "#,
    );
}

#[test]
fn locks_exec_and_open_files_behave() {
    same_on_both(
        r#"
        touch l; (flock -n 9 && say flock -n l true; ) 9>l; say flock -n l true
        cp /bin/true ./run; say ./run; cp /bin/sleep ./busy; ./busy 5 & sleep 0.3
        say sh -c 'echo >> busy'; kill %1; wait %1 2>/dev/null; show run
        exec 8>gone; rm gone; echo still >&8; say cat /proc/self/fd/8; exec 8>&-
        mkdir cwd; (cd cwd; rmdir ../cwd; say touch x; say ls)
        mkdir many; (cd many; seq 3000 | xargs touch; ls | wc -l; rm -r ../many; ls | wc -l)
        say mkdir many; say ls -a many
        "#,
    );
}

/// A tree of real files, made by a tool that people use.
#[test]
fn a_copied_tree_is_the_same_tree() {
    let source = "/usr/include";
    let image = Image::mkfs_btrfs(600, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let same = |on: &Path| {
        let mut diff = Command::new("diff");
        diff.args(["-r", "--no-dereference", source])
            .arg(on.join("include"));
        let finished = run_any(&mut diff, Duration::from_secs(120));
        assert!(finished.status.success(), "{}", finished.output());
    };
    btrfuse_test_support::run(Command::new("cp").args(["-a", source]).arg(mount.path()));
    same(mount.path());
    let ours = walk(mount.path());
    assert!(
        ours.0.len() > 500,
        "{source} has only {} files",
        ours.0.len()
    );
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    same(mount.path());
    assert_same(
        "the kernel's mount",
        &walk(mount.path()),
        &ours,
        &Rules::fuse(),
    );
    mount.unmount();
}

/// The times that `stat` shows on our mount are those on the disk, each in its place: the kernel
/// shows the same ones afterwards, and of what we made a birth time too.
#[test]
fn times_are_the_same_on_a_later_mount_of_the_kernel() {
    let image = Image::mkfs_btrfs(300, &[]);
    let ours = BtrfuseMount::new(image.path(), "subvolid=5,strictatime");
    let made = play(
        ours.path(),
        r#"
        date +%s
        mkdir dir; ln -s to link; mkfifo pipe; echo text > file; echo more > old
        touch -a -d '2001-02-03 04:05:06.123456789Z' file
        touch -m -d '1969-12-31 23:59:58.000000001Z' file
        touch -d '2100-01-01 00:00:00.999999999Z' old dir
        chmod 600 old; setfattr -n user.x -v y pipe
        "#,
    );
    let began: i64 = made.lines().next().unwrap().parse().expect("seconds");
    let script = "stat -c '%n %.9X %.9Y %.9Z' dir link pipe file old .";
    // What the page cache still knows isn't what is on the disk.
    ours.unmount();
    let ours = BtrfuseMount::new(image.path(), "subvolid=5,noatime");
    let shown = play(ours.path(), script);
    ours.unmount();
    let kernel = LoopMount::read_only(image.path());
    assert_eq!(play(kernel.path(), script), shown);
    assert!(
        shown.contains("981173106.123456789 -1.999999999"),
        "{shown}"
    );
    let births = play(kernel.path(), "stat -c %W dir link pipe file old");
    kernel.unmount();
    for birth in births.lines().take(5) {
        let birth: i64 = birth.parse().expect("seconds");
        assert!(
            (began..began + 60).contains(&birth),
            "{births} after {began}"
        );
    }
}

/// The kernel can't be told of an ioctl's meaning; where its cache doesn't keep the time itself, it is
/// told to ask again.
#[test]
fn chattr_moves_the_change_time_of_a_directory_at_once() {
    same_on_both(
        r#"
        mkdir d; before=$(stat -c %.9Z d); sleep 0.1
        chattr +A d; after=$(stat -c %.9Z d)
        [ "$before" != "$after" ]; echo "moved: $?"
        "#,
    );
}

/// `subvol=` and `subvolid=` that name two subvolumes are refused, and without either the default
/// subvolume is shown: by the kernel and by us.
#[test]
fn mount_options_choose_the_subvolume_that_the_kernel_chooses() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = LoopMount::read_write(image.path());
    let made = play(
        mount.path(),
        "btrfs subvolume create a; touch a/in-a; btrfs subvolume create a/b; touch a/b/in-b
         touch top; btrfs subvolume set-default 256 .; echo $?",
    );
    assert!(made.contains("\n0\n"), "{made}");
    mount.unmount();
    let names = |on: &Path| play(on, "ls");
    for (options, chosen) in [
        ("", Some("in-a")),
        ("subvolid=5", Some("top")),
        ("subvolid=0", Some("top")),
        ("subvol=/", Some("top")),
        ("subvol=a/b", Some("in-b")),
        ("subvol=a,subvolid=256", Some("in-a")),
        ("subvolid=256,subvol=/a", Some("in-a")),
        ("subvol=a,subvolid=257", None),
        ("subvol=a,subvolid=5", None),
        ("subvol=c", None),
        ("subvolid=300", None),
    ] {
        let theirs = LoopMount::try_new(&[image.path()], options).map(|mount| {
            let seen = names(mount.path());
            mount.unmount_damaged();
            seen
        });
        let ours = BtrfuseMount::try_new(image.path(), options).map(|mount| {
            let seen = names(mount.path());
            mount.unmount();
            seen
        });
        match chosen {
            Some(name) => {
                let (theirs, ours) = (theirs.ok(), ours.ok());
                assert!(
                    theirs.as_ref().is_some_and(|seen| seen.contains(name)),
                    "{options}"
                );
                assert_eq!(theirs, ours, "{options}");
            }
            None => assert!(theirs.is_err() && ours.is_err(), "{options}"),
        }
    }
}

/// What a copy shares is shared for the kernel too, and each file is its own afterwards.
#[test]
fn the_kernel_sees_that_copies_share_their_extents() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5");
    let said = play(
        mount.path(),
        r#"
say dd if=/dev/urandom of=a bs=1M count=32 status=none
say cp a b; say cp b c
printf X | say dd of=b bs=1 seek=5000000 conv=notrunc status=none
say sha256sum a b c > sums
"#,
    );
    assert_eq!(said.matches("-> 0").count(), 4, "{said}");
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    let said = play(
        mount.path(),
        "grep -v -- '->' sums | sha256sum -c; btrfs filesystem du --raw a b c",
    );
    assert_eq!(said.matches(": OK").count(), 3, "{said}");
    // Total and exclusive bytes: only the sector that was written since is anybody's own.
    for (name, exclusive) in [("a", "0"), ("b", "4096"), ("c", "0")] {
        let line = said
            .lines()
            .find(|line| line.ends_with(&format!(" {name}")));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words[..2], ["33554432", exclusive], "{name}: {said}");
    }
    mount.unmount();
}
