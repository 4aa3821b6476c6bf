//! Names and directories: R6 to R10, R14, R15; and everything at once, R17.

use super::Rules;
use crate::verbs::*;

pub fn all() -> Rules {
    vec![
        (
            "R6",
            vec![
                link("A/bar", "A/bar2"),
                link("A/bar", "B/bar3"),
                fsync("A/bar"),
                unlink("A/bar2"),
                fsync("A/bar"),
            ],
        ),
        (
            "R6",
            vec![
                create("A/new"),
                link("A/new", "B/new"),
                fsync("A/new"),
                unlink("A/new"),
                fsync("B/new"),
            ],
        ),
        (
            "R7",
            vec![
                create("A/tmp"),
                write("A/tmp", 0, 6_000),
                fsync("A/tmp"),
                rename("A/tmp", "A/bar"),
                fsync("A"),
            ],
        ),
        (
            "R7",
            vec![
                write("foo", 0, 5_000),
                fsync("foo"),
                rename("foo", "A/bar"),
                fsync("A/small"),
            ],
        ),
        (
            "R7",
            vec![
                rename("A/bar", "B/bar"),
                fsync("B/bar"),
                exchange("B/bar", "foo"),
                fsync("foo"),
            ],
        ),
        (
            "R8",
            vec![
                rename("A/bar", "A/old"),
                create("A/bar"),
                write("A/bar", 0, 3_000),
                fsync("A/bar"),
            ],
        ),
        (
            "R8",
            vec![
                rename("A", "C"),
                mkdir("A"),
                create("A/new"),
                fsync("A/new"),
                fsync("A"),
            ],
        ),
        (
            "R9",
            vec![
                mkdir("A/inner"),
                create("A/inner/x"),
                symlink("A/symbolic", "../foo"),
                link("foo", "A/linked"),
                fsync("A"),
            ],
        ),
        (
            "R9",
            vec![
                create("B/one"),
                write("B/one", 0, 100),
                fsync("B"),
                rename("B/one", "B/two"),
                fsync("B"),
            ],
        ),
        (
            "R10",
            vec![
                create("A/new"),
                fsync("A"),
                rename("A/new", "B/new"),
                write("foo", 0, 10),
                fsync("foo"),
            ],
        ),
        (
            "R10",
            vec![
                create("A/new"),
                fsync("A/new"),
                rename("A/new", "new"),
                rename("A/bar", "B/bar"),
                fsync("A/small"),
            ],
        ),
        (
            "R10",
            vec![
                mkdir("A/inner"),
                create("A/inner/x"),
                fsync("A/inner/x"),
                rename("A/inner", "B/inner"),
                fsync("A/small"),
            ],
        ),
        (
            "R14",
            vec![
                create("B/x"),
                mkdir("B/y"),
                fsync("B"),
                unlink("B/x"),
                rmdir("B/y"),
                fsync("B"),
                rmdir("B"),
                fsync(""),
            ],
        ),
        (
            "R14",
            vec![
                create("A/new"),
                fsync("A/new"),
                unlink("A/new"),
                create("A/other"),
                fsync("A/other"),
            ],
        ),
        (
            "R15",
            vec![
                fifo("A/pipe"),
                fsync("A"),
                unlink("A/pipe"),
                create("A/pipe"),
                fsync("A/pipe"),
            ],
        ),
        (
            "R15",
            vec![
                unlink("A/bar"),
                mkdir("A/bar"),
                fsync("A"),
                rmdir("A/bar"),
                symlink("A/bar", "x"),
                fsync("A/small"),
            ],
        ),
        (
            "R17",
            vec![
                write("foo", 0, 5_000),
                mkdir("A/inner"),
                rename("A/bar", "A/inner/bar"),
                create("B/x"),
                append("B/x", 9_000),
                truncate("A/small", 7_000),
                symlink("B/s", "x"),
                write("S/in", 0, 9),
                fsync("foo"),
                fsync("A/inner/bar"),
                fsync("A/inner"),
                fsync("B/x"),
                fsync("A/small"),
                fsync("S/in"),
                fsync("S"),
                fsync("A"),
                fsync("B"),
                fsync(""),
            ],
        ),
    ]
}
