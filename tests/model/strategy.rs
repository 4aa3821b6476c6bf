//! Which steps are tried: few names, so that they meet; mostly plain ones, now and then each that a path
//! lookup treats in its own way. A shorter list, a plainer path and a smaller number are simpler.

use crate::step::{SLOTS, Special, Step, Time};
use crate::subject::{AROUND, BESIDE};
use proptest::prelude::*;
use proptest::sample::select;

/// The steps of one case: a start that makes something to work on, then anything.
pub fn case(steps_max: usize) -> impl Strategy<Value = Vec<Step>> {
    let kept = proptest::collection::vec(proptest::bool::weighted(0.85), start().len());
    let steps = proptest::collection::vec(step(), 0..=steps_max);
    (kept, steps).prop_map(|(kept, steps)| {
        let start = start().into_iter().zip(kept);
        let start = start.filter_map(|(step, kept)| kept.then_some(step));
        start.chain(steps).collect()
    })
}

fn start() -> Vec<Step> {
    let path = |words: &str| words.to_owned();
    let open = |slot, words: &str, flags, mode| Step::Open {
        slot,
        path: path(words),
        flags,
        mode,
    };
    let (new, rw) = (libc::O_CREAT | libc::O_EXCL, libc::O_RDWR);
    let write = |words: &str, offset, len, seed| Step::Write {
        on: path(words),
        offset,
        len,
        seed,
    };
    vec![
        Step::Mkdir {
            path: path("a"),
            mode: 0o755,
        },
        Step::Mkdir {
            path: path("a/b"),
            mode: 0o2775,
        },
        Step::Mkdir {
            path: path("a/d"),
            mode: 0o700,
        },
        open(0, "b", new | rw, 0o644),
        write("#0", 0, 20_000, 1),
        open(1, "a/c", new | rw, 0o4755),
        write("#1", 5000, 9000, 2),
        open(2, "a/b/d", new | rw | libc::O_APPEND, 0o600),
        write("#2", 0, 100, 3),
        Step::Symlink {
            target: path("a/b"),
            path: path("d"),
        },
        Step::Symlink {
            target: path("../b"),
            path: path("a/e"),
        },
        Step::Mknod {
            path: path("c"),
            what: Special::Fifo,
            mode: 0o600,
        },
        Step::Link {
            from: path("b"),
            to: path("a/b/b"),
            follow: false,
        },
        Step::SetXattr {
            on: path("b"),
            name: path("user.a"),
            len: 10,
            seed: 4,
            flags: 0,
            follow: true,
        },
        open(3, "e", new | rw, 0o666),
    ]
}

/// What the start makes.
const THERE: &[&str] = &[
    "a", "b", "c", "d", "e", "a/b", "a/c", "a/d", "a/e", "a/b/b", "a/b/d",
];

/// A last name or one on the way.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        60 => select(vec!["a", "b", "c", "d", "e", "f"]),
        1 => Just("{255}"),
        1 => Just("{256}"),
        1 => Just("{ff}"),
    ]
    .prop_map(String::from)
}

fn plain() -> impl Strategy<Value = String> {
    prop_oneof![
        10 => name(),
        5 => select(vec!["a/a", "a/b", "a/c", "a/e", "a/b/b", "a/b/d", "d/b", "d/e"]).prop_map(String::from),
        5 => (select(vec!["a", "b", "d", "a/b"]), name()).prop_map(|(dir, name)| format!("{dir}/{name}")),
        1 => (name(), name(), name()).prop_map(|(a, b, c)| format!("{a}/{b}/{c}")),
    ]
}

/// A path; one in some is written in a way that lookups look at twice.
fn path() -> BoxedStrategy<String> {
    let odd = select(vec!["/", "/.", "/..", "//", "/./a", "/../b", "//c"]);
    prop_oneof![
        8 => select(THERE).prop_map(String::from),
        12 => plain(),
        3 => (plain(), odd).prop_map(|(path, end)| path + end),
        1 => plain().prop_map(|path| path.replace('/', "//")),
        1 => select(vec!["", ".", "..", "./", "../z", "{long}", "a/{long}b", "./b"])
            .prop_map(String::from),
    ]
    .boxed()
}

/// From where to where; now and then from or into the other subvolume, which that leaves as it is.
fn two_paths() -> BoxedStrategy<(String, String)> {
    let beside = || {
        let beside = |name| format!("{}{}/{name}", "../".repeat(1 + AROUND.len()), BESIDE[0]);
        select(vec![beside(BESIDE[1]), beside("new")])
    };
    prop_oneof![
        12 => (path(), path()),
        1 => (path(), beside()),
        1 => (beside(), path()),
    ]
    .boxed()
}

fn slot() -> impl Strategy<Value = usize> {
    0..SLOTS
}

/// Something to work on: mostly what is open.
fn target() -> BoxedStrategy<String> {
    prop_oneof![
        3 => slot().prop_map(|slot| format!("#{slot}")),
        2 => path(),
    ]
    .boxed()
}

fn mode() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => select(vec![0o644_u32, 0o755, 0o600, 0o777]),
        1 => 0_u32..0o10000,
    ]
}

fn offset() -> BoxedStrategy<i64> {
    prop_oneof![
        8 => 0_i64..40_000,
        6 => (0_i64..24).prop_map(|sector| sector * 4096),
        2 => 0_i64..2_000_000,
        1 => (1_i64 << 40)..(1 << 41),
        // Nothing in the last sector of the largest file: kernel 6.18's SEEK_HOLE overflows there.
        1 => select(vec![-1, i64::MIN, i64::MAX, (1 << 32) - 1, 1 << 31]),
    ]
    .boxed()
}

/// Where a search for data or a hole begins. Not before the start: from there kernel 6.18 finds data that
/// isn't written yet, and none when it is.
fn place() -> impl Strategy<Value = i64> {
    offset().prop_map(|offset| offset.max(0))
}

fn len() -> BoxedStrategy<usize> {
    prop_oneof![
        5 => 0_usize..100,
        5 => 0_usize..20_000,
        3 => (1_usize..24).prop_map(|sectors| sectors * 4096),
        1 => 0_usize..300_000,
    ]
    .boxed()
}

fn owner() -> impl Strategy<Value = Option<u32>> {
    proptest::option::weighted(0.7, select(vec![0_u32, 1, 1000, 65_534, 4_294_967_294]))
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        1 => Just(Time::Omit),
        1 => Just(Time::Now),
        4 => (-2_000_000_000_i64..1_500_000_000, 0_i64..1_000_000_000)
            .prop_map(|(seconds, rest)| Time::At(seconds, rest)),
        1 => (2_147_483_648_i64..8_000_000_000, 0_i64..1_000_000_000)
            .prop_map(|(seconds, rest)| Time::At(seconds, rest)),
        1 => select(vec![Time::At(0, 1_000_000_000), Time::At(5, -1), Time::At(0, 0)]),
    ]
}

fn xattr_name() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => select(vec!["user.a", "user.b", "user.c"]),
        3 => select(vec!["trusted.a", "security.a"]),
        4 => select(vec!["", "user", "user.", "bogus.a", "system.a", "user.{250}", "user.{251}"]),
    ]
    .prop_map(String::from)
}

fn value_len() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0_usize..200,
        2 => 0_usize..3500,
        1 => select(vec![3_900_usize, 16_000, 17_000, 65_536, 65_537]),
    ]
}

fn step() -> BoxedStrategy<Step> {
    prop_oneof![
        30 => names(),
        34 => contents(),
        30 => attributes(),
        4 => looks(),
        2 => wholes(),
    ]
    .boxed()
}

fn names() -> BoxedStrategy<Step> {
    let access = select(vec![
        libc::O_RDONLY,
        libc::O_WRONLY,
        libc::O_RDWR,
        libc::O_RDWR,
    ]);
    let more = select(vec![
        libc::O_CREAT,
        libc::O_EXCL,
        libc::O_TRUNC,
        libc::O_APPEND,
        libc::O_NOFOLLOW,
        libc::O_DIRECTORY,
        libc::O_DSYNC,
        libc::O_SYNC,
        libc::O_DIRECT,
    ]);
    let more = proptest::collection::vec(more, 0..=2);
    let open_flags = prop_oneof![
        2 => (access, more).prop_map(|(access, more)| more.iter().fold(access, |all, flag| all | flag)),
        2 => Just(libc::O_CREAT | libc::O_RDWR),
        1 => Just(libc::O_CREAT | libc::O_TRUNC | libc::O_RDWR),
        1 => Just(libc::O_DIRECTORY),
        1 => Just(libc::O_CREAT | libc::O_EXCL | libc::O_RDWR),
    ];
    let kinds = vec![
        Special::File,
        Special::Fifo,
        Special::Socket,
        Special::Character,
        Special::Block,
        Special::Directory,
    ];
    let target = prop_oneof![
        6 => path(),
        1 => select(vec!["{4095}", "{4096}", "{3000}", "a/a/a", "../a"]).prop_map(String::from),
    ];
    let rename_flags = prop_oneof![
        5 => Just(0_u32),
        2 => Just(1_u32),
        3 => Just(2_u32),
        1 => Just(4_u32),
        1 => Just(5_u32),
        1 => select(vec![3_u32, 6, 8]),
    ];
    prop_oneof![
        7 => (slot(), path(), open_flags, mode())
            .prop_map(|(slot, path, flags, mode)| Step::Open { slot, path, flags, mode }),
        1 => slot().prop_map(|slot| Step::Close { slot }),
        4 => (path(), mode()).prop_map(|(path, mode)| Step::Mkdir { path, mode }),
        2 => (path(), select(kinds), mode())
            .prop_map(|(path, what, mode)| Step::Mknod { path, what, mode }),
        2 => (target, path()).prop_map(|(target, path)| Step::Symlink { target, path }),
        3 => (two_paths(), any::<bool>())
            .prop_map(|((from, to), follow)| Step::Link { from, to, follow }),
        4 => path().prop_map(|path| Step::Unlink { path }),
        3 => prop_oneof![
            1 => select(vec!["a/d", "a/d/", "a", "f"]).prop_map(String::from),
            2 => path(),
        ]
        .prop_map(|path| Step::Rmdir { path }),
        8 => (two_paths(), rename_flags)
            .prop_map(|((from, to), flags)| Step::Rename { from, to, flags }),
    ]
    .boxed()
}

fn contents() -> BoxedStrategy<Step> {
    let modes = prop_oneof![
        6 => select(vec![0_i32, 1, 3, 16, 17]),
        1 => select(vec![2_i32, 4, 8, 32, 64, 128, 9, 19, 1 << 20]),
    ];
    let folder = prop_oneof![
        2 => select(vec![".", "a", "a/b", "d"]).prop_map(String::from),
        1 => path(),
    ];
    let size = prop_oneof![8 => offset(), 1 => Just(0_i64)];
    let allocated = prop_oneof![
        6 => 0_i64..200_000,
        3 => (1_i64..20).prop_map(|sectors| sectors * 4096),
        1 => select(vec![0_i64, -1, i64::MAX, 1 << 20]),
    ];
    prop_oneof![
        8 => (target(), offset(), len(), 0_u64..1000)
            .prop_map(|(on, offset, len, seed)| Step::Write { on, offset, len, seed }),
        2 => (path(), len(), 0_u64..1000)
            .prop_map(|(path, len, seed)| Step::Append { path, len, seed }),
        4 => (target(), offset(), len()).prop_map(|(on, offset, len)| Step::Read { on, offset, len }),
        3 => (target(), 0_u64..30_000, 0_usize..9000, 0_u64..1000)
            .prop_map(|(on, offset, len, seed)| Step::Mapped { on, offset, len, seed }),
        4 => (target(), size).prop_map(|(on, size)| Step::Truncate { on, size }),
        6 => (target(), modes, offset(), allocated)
            .prop_map(|(on, mode, offset, len)| Step::Fallocate { on, mode, offset, len }),
        2 => (target(), place()).prop_map(|(on, offset)| Step::SeekData { on, offset }),
        2 => (target(), place()).prop_map(|(on, offset)| Step::SeekHole { on, offset }),
        4 => (target(), offset(), target(), offset(), len()).prop_map(
            |(from, from_offset, to, offset, len)| Step::Copy { from, from_offset, to, offset, len }
        ),
        2 => (target(), any::<bool>()).prop_map(|(on, data_only)| Step::Fsync { on, data_only }),
        1 => (folder, select(vec![libc::O_RDWR, libc::O_RDWR, libc::O_WRONLY, libc::O_RDONLY]), mode(), len(), 0_u64..1000)
            .prop_map(|(path, flags, mode, len, seed)| Step::Tmpfile { path, flags, mode, len, seed }),
    ]
    .boxed()
}

fn attributes() -> BoxedStrategy<Step> {
    let set_flags = prop_oneof![3 => Just(0_u32), 1 => Just(1_u32), 1 => Just(2_u32)];
    prop_oneof![
        4 => (target(), mode()).prop_map(|(on, mode)| Step::Chmod { on, mode }),
        3 => (target(), owner(), owner(), any::<bool>())
            .prop_map(|(on, uid, gid, follow)| Step::Chown { on, uid, gid, follow }),
        4 => (target(), time(), time(), any::<bool>())
            .prop_map(|(on, atime, mtime, follow)| Step::SetTimes { on, atime, mtime, follow }),
        5 => (target(), xattr_name(), value_len(), 0_u64..1000, set_flags, any::<bool>()).prop_map(
            |(on, name, len, seed, flags, follow)| Step::SetXattr { on, name, len, seed, flags, follow }
        ),
        2 => (target(), xattr_name(), any::<bool>())
            .prop_map(|(on, name, follow)| Step::GetXattr { on, name, follow }),
        1 => (target(), any::<bool>()).prop_map(|(on, follow)| Step::ListXattr { on, follow }),
        2 => (target(), xattr_name(), any::<bool>())
            .prop_map(|(on, name, follow)| Step::RemoveXattr { on, name, follow }),
        5 => (target(), any::<bool>()).prop_map(|(on, follow)| Step::Stat { on, follow }),
    ]
    .boxed()
}

fn looks() -> BoxedStrategy<Step> {
    prop_oneof![
        2 => prop_oneof![
            select(vec![".", "a", "a/b", "d", "a/b/../b"]).prop_map(String::from),
            path(),
        ]
        .prop_map(|path| Step::ReadDir { path }),
        2 => path().prop_map(|path| Step::ReadLink { path }),
    ]
    .boxed()
}

fn wholes() -> BoxedStrategy<Step> {
    prop_oneof![
        6 => path().prop_map(|path| Step::Statfs { path }),
        6 => Just(Step::Sync),
        1 => Just(Step::Remount),
    ]
    .boxed()
}
