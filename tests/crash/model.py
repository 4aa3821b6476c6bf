#!/usr/bin/env python3
"""What a power cut may leave of a workload: an independent model, which shares no code with btrfuse.

Reads JSON lines from standard input and answers each with one: {"ok": true}, or {"ok": false, "why": ...}.

  {"workload": [OPERATION...], "start": [RECORD...], "bytes": {INODE: HEX}}
      from here on, cuts are of this workload; bytes are what files held before it
  {"done": N, "begun": M, "found": [RECORD...]}
      the first N operations had returned, and no more than M had begun, when the power went
  {"lanes": [{"name", "workload"}...], "start": [RECORD...], "bytes": {INODE: HEX}}
      so many threads at once, each on its own names, which begin with the lane's; what doesn't begin with
      any lane's name is everybody's, and nobody changes it
  {"at": [{"done", "begun", "committed"}...], "found": [RECORD...]}
      for each lane; the first "committed" operations of it had returned when a commit began that returned

A RECORD is a line of a walk: path, ino, subvol, type, mode, size, nlink, sha256, target, xattrs. An INODE
is "SUBVOLUME:NUMBER". An OPERATION has what was asked, and "ino" (an INODE) where it made something; one
that failed isn't in the list.

The rules, where x is an inode, d a directory and a state is what every program saw between two
operations:
 1. What is found of x (content; mode and owner; attributes) is that of one state, not older than what was
    made durable of x, not newer than the cut.
 2. Every name that is found was x's in a state not older than what was made durable of x or of the
    directory.
 3. A name of x, or in d, that was there when x or d was made durable is there, unless a later state
    lacks it. One that leads somewhere in each of those states leads somewhere.
 4. What was made durable and has a name in every later state is found.
 5. Where nothing was made durable by itself since the last commit, all is that of a single state.
 6. Links are counted rightly, and nothing is found that never was.
 7. A snapshot is a commit, and has what its source had in that very state.
 8. What has no name is never found, whatever was made durable of it.
"""

import copy
import hashlib
import json
import sys

COMMITS = ("sync", "snapshot")
ALONE = ("fsync", "fdatasync")


class Inode:
    """An inode as programs see it."""

    def __init__(self, kind, mode, target=None):
        self.kind = kind
        self.mode = mode
        self.owner = (0, 0)
        self.target = target
        self.xattrs = {}
        self.data = bytearray()
        self.summed = None

    def content(self):
        """Bytes are summed once: states that follow each other share what didn't change."""
        if self.kind != "file":
            return (self.target,)
        if self.summed is None:
            self.summed = (len(self.data), hashlib.sha256(bytes(self.data)).hexdigest())
        return self.summed

    def attributes(self):
        return (self.mode, self.owner)


class State:
    """A whole tree: inodes by number, and names by (directory's number, name)."""

    def __init__(self):
        self.inodes = {}
        self.names = {}
        self.root = None
        self.held = set()

    def following(self):
        """A copy to go on from; what doesn't change is shared."""
        state = State()
        state.inodes, state.names = dict(self.inodes), dict(self.names)
        state.root, state.held = self.root, set(self.held)
        return state

    def resolve(self, path):
        at = self.root
        for name in [part for part in path.split("/") if part]:
            at = self.names[(at, name)]
        return at

    def place(self, path):
        parent, _, name = path.rpartition("/")
        return (self.resolve(parent), name)

    def names_of(self, ino):
        return {place for place, it in self.names.items() if it == ino}

    def forget_if_unnamed(self, ino):
        if ino not in self.held and not self.names_of(ino):
            self.inodes.pop(ino, None)

    def inside(self, top):
        """The inodes of the subvolume whose root directory this is."""
        prefix = top.partition(":")[0] + ":"
        return {ino for ino in self.inodes if ino.startswith(prefix)}

    def snapshot(self, source, subvol):
        """All of a subvolume again; another one in it is an empty directory there."""
        theirs, ours = source.partition(":")[0] + ":", f"{subvol}:"
        for ino in self.inside(source):
            if self.names_of(ino):
                self.inodes[ours + ino[len(theirs) :]] = copy.deepcopy(self.inodes[ino])
        for (parent, name), ino in list(self.names.items()):
            if parent.startswith(theirs):
                there = ours + ino[len(theirs) :] if ino.startswith(theirs) else ours + "2"
                self.names[(ours + parent[len(theirs) :], name)] = there
                if there == ours + "2":
                    self.inodes[there] = Inode("dir", 0o755)

    def delete(self, top):
        gone = self.inside(top)
        self.names = {place: it for place, it in self.names.items() if place[0] not in gone and it != top}
        for ino in gone - self.held:
            self.inodes.pop(ino)

    def apply(self, op):
        what = op["op"]
        if what in ALONE or what == "sync":
            return
        if what in ("create", "mkdir", "symlink", "mknod"):
            kind = {"create": "file", "mkdir": "dir", "symlink": "symlink"}.get(what, op.get("kind"))
            mode = 0o777 if what == "symlink" else op["mode"]
            self.inodes[op["ino"]] = Inode(kind, mode, op.get("target"))
            self.names[self.place(op["path"])] = op["ino"]
        elif what == "subvolume":
            self.inodes[op["ino"]] = Inode("dir", 0o777)
            self.names[self.place(op["path"])] = op["ino"]
        elif what == "snapshot":
            source, place = self.resolve(op["from"]), self.place(op["to"])
            self.snapshot(source, op["subvol"])
            self.names[place] = f"{op['subvol']}:256"
        elif what == "delete-subvolume":
            self.delete(self.resolve(op["path"]))
        elif what == "tmpfile":
            self.inodes[op["ino"]] = Inode("file", op["mode"])
            self.held.add(op["ino"])
        elif what == "hold":
            self.held.add(op["ino"])
        elif what == "let-go":
            self.held.discard(op["ino"])
            self.forget_if_unnamed(op["ino"])
        elif what == "link-held":
            self.names[self.place(op["to"])] = op["ino"]
        elif what == "copy":
            data = self.inodes[self.resolve(op["from"])].data[op["at"] : op["at"] + op["len"]]
            write = {"op": "write", "bytes": bytes(data).hex(), "offset": op["to_at"]}
            self.change(self.resolve(op["to"]), write)
        elif what == "link":
            self.names[self.place(op["to"])] = self.resolve(op["from"])
        elif what in ("unlink", "rmdir"):
            gone = self.names.pop(self.place(op["path"]))
            self.forget_if_unnamed(gone)
        elif what == "rename":
            old, new = self.place(op["from"]), self.place(op["to"])
            moved, there = self.names[old], self.names.get(new)
            if moved == there:
                return
            if op["kind"] == "exchange":
                self.names[old], self.names[new] = there, moved
                return
            del self.names[old]
            self.names[new] = moved
            if there is not None:
                self.forget_if_unnamed(there)
        else:
            self.change(op.get("ino") or self.resolve(op["path"]), op)

    def change(self, ino, op):
        # The states before have the one that it was.
        inode = self.inodes[ino] = copy.deepcopy(self.inodes[ino])
        inode.summed = None
        what, data = op["op"], inode.data
        if what in ("write", "append"):
            new = bytes.fromhex(op["bytes"])
            at = len(data) if what == "append" else op["offset"]
            if not new:
                # What writes nothing moves no end.
                return
            if len(data) < at:
                data.extend(bytes(at - len(data)))
            data[at : at + len(new)] = new
        elif what == "truncate":
            size = op["size"]
            del data[size:]
            data.extend(bytes(size - len(data)))
        elif what == "fallocate":
            first, end = op["offset"], op["offset"] + op["len"]
            if op["what"] in ("grow", "zero") and len(data) < end:
                data.extend(bytes(end - len(data)))
            if op["what"] in ("punch", "zero", "zero-keep"):
                end = min(end, len(data))
                if first < end:
                    data[first:end] = bytes(end - first)
        elif what == "setxattr":
            inode.xattrs[op["name"]] = op["value"]
        elif what == "removexattr":
            del inode.xattrs[op["name"]]
        elif what == "chmod":
            inode.mode = op["mode"]
        elif what == "chown":
            inode.owner = (op["uid"], op["gid"])
        elif what != "utimes":
            raise ValueError(f"unknown operation {what}")

    def picture(self):
        """All that has a name, comparable."""
        named = set(self.names.values()) | {self.root}
        inodes = {
            ino: (i.kind, i.content(), i.attributes(), i.xattrs)
            for ino, i in self.inodes.items()
            if ino in named
        }
        return (inodes, self.names)


def tree_of(records):
    """A walk as a State; for files what was read of them instead of bytes."""
    tree, contents, by_path = State(), {}, {}
    for record in sorted(records, key=lambda r: len(r["path"])):
        path = "" if record["path"] == "." else record["path"]
        if "error" in record:
            raise ValueError(f"{record['path']} can't be read: {record['error']}")
        ino = f"{record['subvol']}:{record['ino']}"
        by_path[path] = ino
        inode = Inode(record["type"], int(record["mode"], 8), record.get("target"))
        inode.owner = (record["uid"], record["gid"])
        inode.xattrs = record.get("xattrs") or {}
        contents[ino] = (record["size"], record["sha256"]) if inode.kind == "file" else (inode.target,)
        inode.nlink = record["nlink"]
        inode.content = lambda ino=ino: contents[ino]
        tree.inodes[ino] = inode
        if path == "":
            tree.root = ino
        else:
            parent, _, name = path.rpartition("/")
            tree.names[(by_path[parent], name)] = ino
    return tree


class Workload:
    """Every state that programs saw."""

    def __init__(self, ops, start, is_alone=True):
        self.ops = ops
        # Whether nobody else changed anything.
        self.is_alone = is_alone
        state = State()
        found = tree_of(start)
        state.root = found.root
        for ino, it in found.inodes.items():
            inode = Inode(it.kind, it.mode, it.target)
            inode.owner, inode.xattrs = it.owner, dict(it.xattrs)
            state.inodes[ino] = inode
        state.names = dict(found.names)
        self.committed_by_another = 0
        self.states = [state]
        # The workload's own preparation gives files their bytes; what the walk says must agree.
        self.start = found

    def prepare(self, bytes_of):
        for ino, hex_bytes in bytes_of.items():
            if ino in self.states[0].inodes:
                self.states[0].inodes[ino].data = bytearray.fromhex(hex_bytes)
        if self.states[0].picture() != self.start.picture():
            raise ValueError("the start isn't what was prepared")
        for op in self.ops:
            state = self.states[-1].following()
            state.apply(op)
            self.states.append(state)

    def durable_since(self, done, ino, syncs=ALONE):
        """The first state that may be found of an inode: that of its last fsync, or commit."""
        since = self.committed_by_another
        for n, op in enumerate(self.ops[:done]):
            if op["op"] in COMMITS or (op["op"] in syncs and op["ino"] == ino):
                since = max(since, n + 1)
        return since

    def committed(self, done):
        own = (n + 1 for n, op in enumerate(self.ops[:done]) if op["op"] in COMMITS)
        return max([self.committed_by_another, *own])

    def judge(self, done, begun, records):
        found = tree_of(records)
        last = min(begun, len(self.ops))
        commit = self.committed(done)
        yield from self.judge_inodes(found, done, last)
        yield from self.judge_names(found, done, last, commit)
        if self.is_alone:
            yield from self.judge_whole(found, commit, last)

    def judge_whole(self, found, commit, last):
        if not any(op["op"] in ALONE for op in self.ops[commit:last]):
            picture = found.picture()
            if not any(picture == state.picture() for state in self.states[commit : last + 1]):
                yield "a mix of states, although nothing was made durable by itself"

    def judge_inodes(self, found, done, last):
        for ino, inode in found.inodes.items():
            known = [s.inodes[ino] for s in self.states[: last + 1] if ino in s.inodes]
            if not known:
                yield f"inode {ino} never was"
                continue
            if inode.kind != known[0].kind:
                yield f"inode {ino} is a {inode.kind} and was a {known[0].kind}"
            for what, of, syncs in (
                ("content", Inode.content, ALONE),
                ("mode or owner", Inode.attributes, ("fsync",)),
                ("attributes", lambda i: i.xattrs, ("fsync",)),
            ):
                since = self.durable_since(done, ino, syncs)
                seen = inode.content() if of is Inode.content else of(inode)
                allowed = [of(s.inodes[ino]) for s in self.states[since : last + 1] if ino in s.inodes]
                # Unlinked later, and found all the same: as it was last.
                allowed = allowed or [of(known[-1])]
                if seen not in allowed:
                    yield f"the {what} of inode {ino} is {seen}, and was {allowed} since state {since}"
            names = len(found.names_of(ino))
            if inode.kind != "dir" and inode.nlink != names:
                yield f"inode {ino} counts {inode.nlink} links and has {names} names"

    def judge_names(self, found, done, last, commit):
        states = self.states
        for place, ino in found.names.items():
            since = max(commit, self.durable_since(done, ino), self.durable_since(done, place[0]))
            if not any(s.names.get(place) == ino for s in states[since : last + 1]):
                yield f"{place} leads to inode {ino}, and didn't since state {since}"
        everybody = {ino for state in states for ino in state.inodes}
        for ino in sorted(everybody):
            since = self.durable_since(done, ino)
            if since == 0 and ino not in states[0].inodes:
                continue
            later = states[since : last + 1]
            if all(state.names_of(ino) or ino == state.root for state in later):
                if ino not in found.inodes:
                    yield f"inode {ino} was durable, has a name in every later state, and is gone"
            for place, it in states[since].names.items():
                if ino not in (it, place[0]):
                    continue
                if all(state.names.get(place) == it for state in later):
                    if found.names.get(place) != it:
                        yield f"{place} led to inode {it} in every state since {since}, and is {found.names.get(place)}"
                elif all(place in state.names for state in later) and place not in found.names:
                    yield f"{place} leads somewhere in every state since {since}, and is gone"


class Lanes:
    """Threads that don't touch each other's names: each sees a history of its own, and what it made
    durable is judged as if the others had done nothing. A commit of one is one of all."""

    def __init__(self, lanes, start):
        self.names = [lane["name"] for lane in lanes]
        self.lanes = [Workload(lane["workload"], self.seen_by(lane["name"], start), False) for lane in lanes]

    def prepare(self, bytes_of):
        for lane in self.lanes:
            lane.prepare(bytes_of)

    def seen_by(self, name, records):
        """What is everybody's, and the lane's own."""
        others = tuple(other for other in self.names if other != name)
        parts = lambda record: record["path"].split("/")
        return [r for r in records if not any(part.startswith(others) for part in parts(r))]

    def judge(self, at, records):
        for name, lane, now in zip(self.names, self.lanes, at):
            lane.committed_by_another = now["committed"]
            seen = self.seen_by(name, records)
            yield from (f"{name}: {why}" for why in lane.judge(now["done"], now["begun"], seen))


def main():
    workload = None
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            if "workload" in asked:
                workload = Workload(asked["workload"], asked["start"])
                workload.prepare(asked["bytes"])
                wrong = []
            elif "lanes" in asked:
                workload = Lanes(asked["lanes"], asked["start"])
                workload.prepare(asked["bytes"])
                wrong = []
            elif "at" in asked:
                wrong = list(workload.judge(asked["at"], asked["found"]))
            else:
                wrong = list(workload.judge(asked["done"], asked["begun"], asked["found"]))
        except (ValueError, KeyError) as why:
            wrong = [f"{type(why).__name__}: {why}"]
        answer = {"ok": True} if not wrong else {"ok": False, "why": "; ".join(wrong)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
