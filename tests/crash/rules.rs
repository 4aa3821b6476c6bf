//! What programs were promised, rule by rule: each rule's operations are cut at every write.
//! `docs/testing.md` has the rules, and which other tests crash them.

use crate::judges::{Judges, Jury};
use crate::play::Start;
use crate::recording::Depth;
use crate::step::Step::{self, Clean, Commit, DeleteSubvolume, HeldFsync, HeldLink, Hold, LetGo};
use crate::step::Step::{Subvolume, Tmpfile};
use crate::step::told;
use crate::verbs::*;
use crate::{MOSTLY_OTHER, cut, workloads};
use btrfuse_test_support::script::Allocate::{Grow, KeepSize, Punch, Zero, ZeroKeepSize};
use btrfuse_test_support::{Image, Rng};

/// A rule's number, and what is done.
type Rules = Vec<(&'static str, Vec<Step>)>;

/// A cut at every write; all subsets of a few.
const EVERY_WRITE: Depth = Depth {
    singles: 0,
    random: 2,
    exhaustive: 4,
    every_write: true,
};

fn hold(mkfs: &[&str], rules: &Rules, jury: Jury) {
    let start = Start::on(&Image::mkfs_btrfs(128, mkfs), &workloads::preparation());
    let mut judges = Judges::new(jury);
    judges.has_quotas = mkfs.contains(&"quota");
    let mut rng = Rng::new(1);
    for (rule, workload) in rules {
        let played = start.play(workload);
        let label = format!("{rule}, {mkfs:?}, {}", told(workload));
        cut(
            &mut judges,
            &played,
            &label,
            EVERY_WRITE,
            &mut rng,
            usize::MAX,
        );
    }
    judges.end();
}

/// R1 to R5 and R13: bytes, sizes, extents, attributes.
fn of_content() -> Rules {
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

/// R6 to R10, R14, R15: names and directories.
fn of_names() -> Rules {
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

/// R11, R12, R16, R18, R20: files without names, subvolumes, commits.
fn of_orphans_and_subvolumes() -> Rules {
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

#[test]
fn rules_of_content_hold_at_every_write() {
    hold(&[], &of_content(), MOSTLY_OTHER);
}

#[test]
fn rules_of_content_hold_at_every_write_with_explicit_holes() {
    let rules: Rules = of_content()
        .into_iter()
        .filter(|(rule, _)| *rule != "R5")
        .collect();
    hold(&["-n", "4096", "-O", "^no-holes"], &rules, MOSTLY_OTHER);
}

#[test]
fn rules_of_names_hold_at_every_write() {
    hold(&[], &of_names(), MOSTLY_OTHER);
}

#[test]
fn rules_of_orphans_and_subvolumes_hold_at_every_write() {
    hold(&[], &of_orphans_and_subvolumes(), MOSTLY_OTHER);
}

/// The kernel mends the numbers by itself, later; nothing else may come of them.
#[test]
fn rules_of_orphans_and_subvolumes_hold_with_quotas() {
    let rules = of_orphans_and_subvolumes();
    let rules: Rules = rules
        .into_iter()
        .filter(|(rule, _)| ["R12", "R16"].contains(rule))
        .collect();
    hold(&["-R", "quota"], &rules, MOSTLY_OTHER);
}
