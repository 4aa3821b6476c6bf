//! What inode flags, set-id bits, access times and capabilities allow, on both mounts.

use super::{same_on_both, same_on_both_with};

/// Times of immutable and append-only files: utimensat(2) that sets a time is refused, touch(1) of both
/// times isn't for append-only ones. What the kernel's cache still owes, of a write or a new name
/// before the flag, comes through, also to the fsync that asks for it.
#[test]
fn times_of_immutable_and_append_only_files_stay() {
    same_on_both(
        r#"
        touch f; mkdir d; touch open; chmod 666 open
        for flag in +a +i; do for f in f d; do
            chattr $flag $f
            say touch -c $f; sleep 0.05; say touch -c -a $f; say touch -c -m $f; say touch -c -m -d 2001-01-01 $f
            say touch -c -a -d 2001-01-01 $f; say touch -c -d 2001-01-01 $f
            chattr -a -i $f
        done; done
        chattr +a open; say as_nobody touch -c open; sleep 0.05; say as_nobody touch -c -m open; chattr -a open
        python3 -c "
import os
fd = os.open('written', os.O_CREAT | os.O_RDWR); os.utime('written', (5, 5)); os.pwrite(fd, b'y', 0)
os.system('chattr +i written'); os.fsync(fd); os.close(fd); print(os.stat('written').st_mtime > 5)
os.link('f', 'g'); fd = os.open('f', os.O_RDWR); os.system('chattr +i f'); os.fsync(fd); os.close(fd)
"; echo "fsync: $?"; chattr -i f written
        "#,
    );
}

/// By `O_NOATIME` and `nodiratime`. What the page cache has is read without us, so it is dropped before.
#[test]
fn access_times_stay_where_that_was_asked() {
    for options in ["strictatime", "strictatime,nodiratime", "noatime"] {
        same_on_both_with(
            options,
            r#"
            mkdir quiet loud; for f in a b c; do head -c 9000 /dev/zero > $f; done
            touch -a -d 2001-01-01 quiet loud a b c; sync a b c
            python3 -c "
import fcntl, os
def opened(name, flags):
    fd = os.open(name, flags); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED); return fd
def listed(name, flags): os.listdir(os.open(name, os.O_DIRECTORY | flags))
os.pread(opened('a', os.O_NOATIME), 100, 0); os.pread(opened('b', 0), 100, 0)
fd = opened('c', 0); fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NOATIME); os.pread(fd, 100, 0)
listed('quiet', os.O_NOATIME); listed('loud', 0)
"; for f in quiet loud a b c; do echo $f $(($(stat -c %X $f) > 1000000000)); done
            "#,
        );
    }
}

/// Root is what its capabilities are: in a container it may have none, or those of a user namespace of its own.
#[test]
fn root_without_capabilities_is_no_administrator() {
    same_on_both(
        r#"
        cat > ask.py <<'END'
import fcntl, os, struct
def asked(name, number, argument, on='.'):
    fd = os.open(on, os.O_RDONLY)
    try: fcntl.ioctl(fd, number, bytearray(argument)); print(name, 'done')
    except OSError as error: print(name, error.strerror)
vol = lambda name: struct.pack('q4088s', 0, name)
asked('lookup', 0xd0009412, struct.pack('QQ4080x', 0, os.stat('f').st_ino))
asked('trim', 0xc0185879, struct.pack('QQQ', 0, 1 << 60, 0))
asked('delete', 0x5000940f, vol(b's'))
asked('create', 0x5000940e, vol(b'new'), 'closed' if os.path.isdir('closed') else '.')
asked('read-only', 0x4008941a, struct.pack('Q', 2), 'theirs')
END
        fewer() { setpriv --bounding-set=-$1 --inh-caps=-$1 "${@:2}"; }
        touch f; mkdir closed; chown 1000 closed; chmod 755 closed
        for who in "fewer sys_admin" "fewer dac_override" "unshare --user --map-root-user" env; do
            sv create s; sv create theirs; chown 1000 theirs; echo "$who"
            $who python3 ask.py; sv read-only theirs no; sv delete s; sv delete theirs; sv delete closed/new
            ls . closed
        done
        "#,
    );
}

/// What was opened before goes on as it may: immutable is asked at open(2), append-only at each
/// truncation.
#[test]
fn descriptors_opened_before_a_file_became_immutable_go_on() {
    same_on_both(
        r#"
        for flag in +i +a; do
            echo content > f; echo source > s
            python3 -c "
import ctypes, mmap, os, sys
def asked(name, do):
    try: print(name, do())
    except OSError as error: print(name, error.strerror)
fd, direct, source = os.open('f', os.O_RDWR), os.open('f', os.O_RDWR | os.O_DIRECT), os.open('s', os.O_RDONLY)
page = mmap.mmap(-1, 4096); page.write(b'z' * 4096)
os.system('chattr $flag f')
asked('buffered', lambda: os.pwrite(fd, b'X', 0)); asked('fsync', lambda: os.fsync(fd))
asked('direct', lambda: os.pwritev(direct, [page], 0))
asked('cut', lambda: os.ftruncate(fd, 3)); asked('grow', lambda: os.ftruncate(fd, 9000))
asked('by name', lambda: os.truncate('f', 3)); asked('again', lambda: os.open('f', os.O_RDWR))
asked('allocate', lambda: os.posix_fallocate(fd, 0, 9000)); asked('mode', lambda: os.fchmod(fd, 0o600))
asked('copy', lambda: os.copy_file_range(source, fd, 3, 0, 1))
asked('close', lambda: os.close(fd))
"; lsattr f; cksum f; chattr -i -a f
        done
        "#,
    );
}

/// `setattr_should_drop_sgid`: where the group may not execute, set-group-id stays for who is in the
/// group or may keep it, and for nobody else; whoever is no owner may not take it by chown(2).
#[test]
fn set_id_bits_go_with_a_strangers_change() {
    same_on_both(
        r#"
        echo source > s; mkdir d; chown 1000:100 d; chmod 2777 d
        python3 -c "
import mmap, os, stat
def write(): os.write(os.open('f', os.O_WRONLY), b'x')
def direct(): os.pwritev(os.open('f', os.O_WRONLY | os.O_DIRECT), [mmap.mmap(-1, 4096)], 0)
def truncate(): os.truncate('f', 5)
def ftruncate(): os.ftruncate(os.open('f', os.O_WRONLY), 7)
def opened(): os.open('f', os.O_WRONLY | os.O_TRUNC)
def allocate(): os.posix_fallocate(os.open('f', os.O_WRONLY), 0, 9000)
def copy(): os.copy_file_range(os.open('s', os.O_RDONLY), os.open('f', os.O_WRONLY), 3)
def nothing(): os.chown('f', -1, -1)
def group(): os.chown('f', -1, os.getgid())
def owner(): os.chown('f', os.getuid(), -1)
def away(): os.chown('f', 2, 3)
def directory(): os.chown('d', -1, os.getgid())
changes = [write, direct, truncate, ftruncate, opened, allocate, copy, nothing, group, owner, away, directory]
who = dict(root=(0, 0, []), owner=(1000, 100, []), member=(1000, 1000, [100]), left=(1000, 1000, []),
           stranger=(65534, 65534, []), colleague=(65534, 100, []))
os.umask(0)
for mode in 0o2666, 0o6666, 0o2676, 0o777:
    for name, (uid, gid, groups) in who.items():
        said = []
        for change in changes:
            open('f', 'w').write('content'); os.chown('f', 1000, 100); os.chmod('f', mode)
            child = os.fork()
            if child == 0:
                code = 0
                os.setgroups(groups); os.setgid(gid); os.setuid(uid)
                try: change()
                except OSError as error: code = error.errno
                os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            said.append('%s %o %d' % (change.__name__, stat.S_IMODE(os.stat('f').st_mode), code))
            os.unlink('f')
        print('%o' % mode, name, *said, sep=', ')
"; show d
        "#,
    );
}

/// Content that is overwritten in place is never compressed: by chattr, by the property, by what a
/// directory hands on.
#[test]
fn compression_and_overwriting_in_place_exclude_each_other() {
    same_on_both(
        r#"
        touch c m n; say chattr +C c; say chattr +m c; say chattr +c c; say chattr -C +m c; lsattr c
        say chattr +m m; say chattr +C m; say chattr -m +C m; lsattr m; say chattr +mC n; lsattr n
        for v in zlib none "" bad; do say setfattr -n btrfs.compression -v "$v" c; done; lsattr c
        say setfattr -x btrfs.compression c
        touch h; chattr +C h; echo x > h; chattr =c h; lsattr h; chattr =m h; lsattr h; say chattr = h; lsattr h
        echo x > g; say chattr +C g; say chattr +c g; say chattr +C g; lsattr g
        mkdir d e; say chattr +C d; say setfattr -n btrfs.compression -v zlib d; touch d/f; mkdir d/s; lsattr -d d d/*
        say setfattr -n btrfs.compression -v zlib e; say chattr +C e; touch e/f; mkfifo e/p; lsattr -d e e/f
        mkfifo p; ln -s x l; mknod null c 1 3
        for f in p l null; do for v in zlib "" bad; do say setfattr -h -n btrfs.compression -v "$v" $f; done; done
        say setfattr -n btrfs.other -v zlib p; say setfattr -x btrfs.compression p
        getfattr -h -d -m - c m h g d d/f e e/f e/p p null
        python3 -c "
import fcntl, os, struct
fd = os.open('c', os.O_RDONLY)
for words in (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 5, 0), (0, 0, 0, 0, 1), (32, 0, 0, 5, 0), (32, 0, 0, 0, 0), (512, 0, 0, 0, 0):
    try: fcntl.ioctl(fd, 0x401c5820, struct.pack('5I8x', *words)); print(words, 'done')
    except OSError as error: print(words, error.strerror)
"; lsattr c
        "#,
    );
}
