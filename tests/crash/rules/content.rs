//! Bytes, sizes, extents, attributes: R1 to R5 and R13.

use super::Rules;
use crate::verbs::*;
use btrfuse_test_support::script::Allocate::{Grow, KeepSize, Punch, Zero, ZeroKeepSize};

pub fn all() -> Rules {
    vec![
        (
            "R1",
            vec![
                write("foo", 0, 9_000),
                fsync("foo"),
                append("foo", 70_000),
                fsync("foo"),
            ],
        ),
        (
            "R1",
            vec![
                create("A/new"),
                write("A/new", 0, 50),
                fsync("A/new"),
                append("A/new", 5_000),
                fsync("A/new"),
            ],
        ),
        // A part is written back and made durable, then another.
        (
            "R1",
            vec![
                write("foo", 8_192, 4_096),
                fsync("foo"),
                write("foo", 0, 4_096),
                write("A/small", 9, 9),
                fsync("foo"),
                fsync("A/small"),
            ],
        ),
        (
            "R2",
            vec![
                allocate("foo", Punch, 1_000, 5_000),
                fsync("foo"),
                allocate("foo", Punch, 6_000, 2_000),
                fsync("foo"),
            ],
        ),
        (
            "R2",
            vec![
                allocate("foo", Punch, 4_096, 4_096),
                allocate("foo", Punch, 0, 4_096),
                fsync("foo"),
            ],
        ),
        (
            "R2",
            vec![
                allocate("foo", Zero, 3_000, 12_000),
                fsync("foo"),
                allocate("foo", ZeroKeepSize, 0, 90_000),
                fsync("foo"),
            ],
        ),
        (
            "R3",
            vec![
                truncate("foo", 5_000),
                truncate("foo", 12_000),
                fsync("foo"),
            ],
        ),
        (
            "R3",
            vec![
                truncate("foo", 5_000),
                fsync("foo"),
                truncate("foo", 12_000),
                fsync("foo"),
            ],
        ),
        (
            "R3",
            vec![
                write("foo", 4_096, 9_000),
                truncate("foo", 4_100),
                append("foo", 10),
                fsync("foo"),
            ],
        ),
        (
            "R4",
            vec![
                allocate("foo", KeepSize, 8_192, 65_536),
                fsync("foo"),
                write("foo", 20_000, 9_000),
                fsync("foo"),
            ],
        ),
        (
            "R4",
            vec![
                allocate("foo", Grow, 5_000, 65_536),
                fsync("foo"),
                truncate("foo", 9_000),
                fsync("foo"),
            ],
        ),
        (
            "R5",
            vec![
                set_xattr("A/bar", "user.new", 5),
                remove_xattr("A/bar", "user.old"),
                fsync("A/bar"),
            ],
        ),
        (
            "R5",
            vec![
                set_xattr("A/bar", "user.new", 5),
                fsync("A/bar"),
                remove_xattr("A/bar", "user.new"),
                chmod("A/bar", 0o640),
                fsync("A/bar"),
            ],
        ),
        (
            "R5",
            vec![set_xattr("A", "user.dir", 6), chmod("A", 0o700), fsync("A")],
        ),
        // Shared, and then overwritten in one file and the other.
        (
            "R13",
            vec![
                copy("foo", 0, "A/bar", 0, 8_192),
                fsync("A/bar"),
                write("foo", 4_096, 4_096),
                fsync("foo"),
            ],
        ),
        (
            "R13",
            vec![
                copy("foo", 0, "A/bar", 4_096, 8_192),
                write("A/bar", 6_000, 3_000),
                fsync("A/bar"),
                fsync("foo"),
            ],
        ),
        (
            "R13",
            vec![
                copy("foo", 0, "foo", 12_288, 8_192),
                fsync("foo"),
                write("foo", 0, 4_096),
                fsync("foo"),
                allocate("foo", Punch, 12_288, 4_096),
                fsync("foo"),
            ],
        ),
        (
            "R13",
            vec![
                write("foo", 0, 8_192),
                fsync("foo"),
                copy("foo", 0, "A/bar", 0, 8_192),
                fsync("foo"),
                unlink("foo"),
                fsync("A/bar"),
            ],
        ),
        (
            "R13",
            vec![
                create("A/new"),
                copy("foo", 0, "A/new", 0, 10_000),
                fsync("A/new"),
                truncate("A/new", 4_096),
                fsync("A/new"),
            ],
        ),
    ]
}
