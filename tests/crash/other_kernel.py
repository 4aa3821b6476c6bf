#!/usr/bin/env python3
"""The first process of a user-mode Linux, a disposable kernel: mounts what it is given and says what it sees.

The first argument names a folder of the host: batch.json there lists {"image", "empty", "first_read_only"}.
Each image is mounted, walked, emptied if that is wanted, and unmounted; IMAGE.json is the answer:
{"found": [RECORD...]} or {"why": ...}. A RECORD is one of tests/crash/model.py; "log" has what the kernel
complained of meanwhile. Everything but that folder is read-only, and there is no process but this one.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import signal
import stat
import sys
import traceback

LIBC = ctypes.CDLL(None, use_errno=True)
HERE = "/mnt"
PLACE = "/media"

MS_RDONLY, MS_NOATIME = 1, 1024
SYS_FINIT_MODULE = 313
LOOP_SET_FD, LOOP_CLR_FD = 0x4C00, 0x4C01
INO_LOOKUP = 0xD0009412
FORGET_DEVICE = 0x50009405
POWER_OFF = 0x4321FEDC
SECONDS_MAX = 280

KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "chr",
    stat.S_IFBLK: "blk",
}


def told(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source, target, kind, flags=0, data=""):
    arguments = source.encode(), target.encode(), kind.encode(), flags, data.encode()
    told(LIBC.mount(*arguments[:3], ctypes.c_ulong(flags), arguments[4]), f"mounting {source}")


def unmount(target):
    told(LIBC.umount2(target.encode(), 0), f"unmounting {target}")


def load(module):
    path = f"/usr/lib/uml/modules/{os.uname().release}/kernel/{module}.ko"
    fd = os.open(path, os.O_RDONLY)
    told(LIBC.syscall(SYS_FINIT_MODULE, fd, b"", 0), f"loading {path}")
    os.close(fd)


def record(path, subvol):
    """One inode, and the number of the subvolume that it is in."""
    look = os.lstat(path)
    kind = KINDS[stat.S_IFMT(look.st_mode)]
    out = {
        "type": kind,
        "mode": f"{stat.S_IMODE(look.st_mode):04o}",
        "uid": look.st_uid,
        "gid": look.st_gid,
        "size": look.st_size,
        "nlink": look.st_nlink,
        "ino": look.st_ino,
    }
    if kind == "symlink":
        out["target"] = os.readlink(path)
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in names}
    if xattrs:
        out["xattrs"] = xattrs
    if kind == "file":
        with open(path, "rb") as file:
            out["sha256"] = hashlib.sha256(file.read()).hexdigest()
    if kind == "dir" and look.st_ino == 2:
        out["stub"] = True
    elif kind == "dir":
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        lookup = bytearray(4096)
        lookup[8:16] = (256).to_bytes(8, "little")
        fcntl.ioctl(fd, INO_LOOKUP, lookup)
        os.close(fd)
        subvol = int.from_bytes(lookup[:8], "little")
    out["subvol"] = subvol
    return out


def walk(path, name, subvol, out):
    here = record(path, subvol)
    here["path"] = name or "."
    out.append(here)
    if here["type"] == "dir":
        for child in sorted(os.listdir(path)):
            walk(f"{path}/{child}", f"{name}/{child}" if name else child, here["subvol"], out)


def remove(path):
    """Directories have the right size only if what is emptied can be removed."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        for child in os.listdir(path):
            remove(f"{path}/{child}")
        os.rmdir(path)
    else:
        os.unlink(path)


def complaints(log):
    """Warnings and errors since the last call."""
    out = []
    while True:
        try:
            line = os.read(log, 8192).decode(errors="replace")
        except BlockingIOError:
            return out
        head, _, text = line.partition(";")
        # Of so many mounts not every greeting is printed; each level of messages has its own limit.
        if int(head.split(",")[0]) & 7 <= 4 and not text.strip().endswith("callbacks suppressed"):
            out.append(text.strip())


def look_at(task):
    """What there is on one image."""
    image = os.open(f"{HERE}/{task['image']}", os.O_RDWR)
    loop = os.open("/dev/loop0", os.O_RDWR)
    fcntl.ioctl(loop, LOOP_SET_FD, image)
    try:
        if task.get("first_read_only"):
            mount("/dev/loop0", PLACE, "btrfs", MS_RDONLY | MS_NOATIME, "subvolid=5")
            unmount(PLACE)
        mount("/dev/loop0", PLACE, "btrfs", MS_NOATIME, "subvolid=5")
        try:
            found = []
            walk(PLACE, "", 5, found)
            if task.get("empty"):
                for child in os.listdir(PLACE):
                    remove(f"{PLACE}/{child}")
        finally:
            unmount(PLACE)
        return {"found": found}
    finally:
        # Another image with the same id comes next.
        control = os.open("/dev/btrfs-control", os.O_RDWR)
        fcntl.ioctl(control, FORGET_DEVICE, bytearray(4096))
        os.close(control)
        fcntl.ioctl(loop, LOOP_CLR_FD)
        os.close(loop)
        os.close(image)


def too_long(*_):
    raise TimeoutError(f"not done in {SECONDS_MAX} seconds")


def main():
    # Whoever waits for this may be gone.
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS_MAX)
    mount("none", HERE, "hostfs", 0, sys.argv[1])
    load("drivers/block/loop")
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    os.lseek(log, 0, os.SEEK_END)
    with open(f"{HERE}/batch.json") as file:
        batch = json.load(file)
    for task in batch:
        try:
            answer = look_at(task)
        except TimeoutError:
            raise
        except OSError as why:
            answer = {"why": str(why)}
        answer["log"] = complaints(log)
        with open(f"{HERE}/{task['image']}.json", "w") as file:
            json.dump(answer, file)


try:
    main()
except BaseException:
    traceback.print_exc()
sys.stdout.flush()
os.sync()
LIBC.reboot(POWER_OFF)
