//! Files without names, subvolumes, commits: R11, R12, R16, R18, R20.

use super::Rules;
use crate::step::Step::{Clean, Commit, DeleteSubvolume, HeldFsync, HeldLink, Hold, LetGo};
use crate::step::Step::{Subvolume, Tmpfile};
use crate::verbs::*;

pub fn all() -> Rules {
    vec![
        (
            "R11",
            vec![unlink("A/bar"), fsync("A"), unlink("foo"), fsync("")],
        ),
        (
            "R11",
            vec![
                Hold("foo"),
                write("foo", 0, 900),
                fsync("foo"),
                unlink("foo"),
                held_write(0, 9_000),
                HeldFsync,
                fsync("A/small"),
                LetGo,
                fsync("A/small"),
            ],
        ),
        (
            "R12",
            vec![
                Tmpfile("A"),
                held_write(0, 9_000),
                HeldFsync,
                write("foo", 0, 10),
                fsync("foo"),
                LetGo,
                fsync("foo"),
            ],
        ),
        (
            "R12",
            vec![
                Tmpfile("A"),
                held_write(0, 9_000),
                HeldFsync,
                HeldLink("A/named"),
                HeldFsync,
                LetGo,
                fsync("A"),
            ],
        ),
        (
            "R12",
            vec![
                Tmpfile("S"),
                held_write(0, 900),
                HeldFsync,
                Commit,
                held_write(900, 900),
                HeldFsync,
            ],
        ),
        (
            "R16",
            vec![
                write("S/in", 0, 5_000),
                write("foo", 0, 5_000),
                fsync("S/in"),
                fsync("foo"),
                create("S/new"),
                fsync("S/new"),
            ],
        ),
        (
            "R16",
            vec![
                Subvolume("T"),
                create("T/x"),
                write("T/x", 0, 5_000),
                fsync("T/x"),
                write("S/in", 0, 5_000),
                fsync("S/in"),
                fsync("T/x"),
            ],
        ),
        (
            "R16",
            vec![
                snapshot("S", "A/snap"),
                write("A/snap/in", 0, 3_000),
                write("S/in", 0, 4_000),
                fsync("A/snap/in"),
                fsync("S/in"),
            ],
        ),
        (
            "R16",
            vec![
                snapshot("S", "A/snap"),
                write("S/in", 0, 4_000),
                fsync("S/in"),
                DeleteSubvolume("A/snap"),
                fsync("A"),
                fsync("S/in"),
                Clean,
            ],
        ),
        (
            "R16",
            vec![
                Hold("S/in"),
                DeleteSubvolume("S"),
                held_write(0, 9),
                HeldFsync,
                fsync(""),
                write("foo", 0, 9),
                fsync("foo"),
                LetGo,
                Clean,
            ],
        ),
        (
            "R16",
            vec![
                Hold("foo"),
                unlink("foo"),
                snapshot("S", "snap"),
                DeleteSubvolume("S"),
                fsync("A/small"),
                Commit,
                LetGo,
                Clean,
            ],
        ),
        (
            "R18",
            vec![
                write("foo", 0, 9_000),
                rename("A/bar", "B/bar"),
                create("A/new"),
                unlink("A/small"),
                Commit,
            ],
        ),
        (
            "R20",
            vec![
                create("S/new"),
                snapshot("S", "A/snap"),
                write("S/new", 0, 900),
                Commit,
                DeleteSubvolume("A/snap"),
                Commit,
                Clean,
            ],
        ),
    ]
}
