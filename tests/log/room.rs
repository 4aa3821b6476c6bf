//! Where a log's own blocks lie: never in a chunk that the last commit doesn't know.

use crate::cuts::{Teller, judge, record};
use crate::recording::CrashState;
use btrfuse::fs::XattrMode;
use btrfuse_test_support::Rng;

/// A leaf holds one of these.
const ATTRIBUTE_BYTES: usize = 15_000;
/// Blocks that each log of the story has at least: many more than any other step takes at once.
const LOGGED: usize = 100;
/// Blocks that are filled from one log to the next, so that none of the rooms between is missed.
const FILLED: usize = 40;
/// Metadata chunks of 8 MiB have 512 blocks.
const ROUNDS: usize = 20;

fn fill_leaves(teller: &Teller, name: &str, attributes: usize) {
    for n in 0..attributes {
        let attribute = format!("user.large{n}");
        let value = [n as u8; ATTRIBUTE_BYTES];
        let node = teller.node(name);
        let set = teller
            .fs
            .setxattr(node, attribute.as_bytes(), &value, XattrMode::Any, false);
        set.unwrap();
    }
}

/// A file with many attributes is logged again and again while there is less and less room for the log.
/// Once it takes a new chunk, and nothing else does: then only a commit will do, and the image is judged
/// as it lies there after each.
#[test]
fn a_log_whose_own_blocks_need_a_new_chunk_is_a_commit() {
    let mut without_a_log = 0;
    record(&["-m", "single"], |it| {
        it.create("a/attributes");
        fill_leaves(it, "a/attributes", LOGGED);
        for round in 0..ROUNDS {
            let filler = format!("b/filler{round}");
            it.create(&filler);
            fill_leaves(it, &filler, FILLED);
            it.sync();

            let (logs, commits) = it.fs.logs_and_commits();
            it.write("a/attributes", 0, &[round as u8; 4096]);
            it.fsync("a/attributes");
            let now = it.fs.logs_and_commits();
            let logged = now == (logs + 1, commits);
            assert!(logged || now == (logs, commits + 1), "{now:?}");
            without_a_log += usize::from(!logged);

            let state = CrashState {
                device: it.recorder.now(),
                acknowledged: it.book.pages.len() as u64,
                what: format!("killed after fsync {round}"),
            };
            if let Err(words) = judge(&it.book, state, &mut Rng::new(round as u64)) {
                panic!("{words}");
            }
            // The log's blocks are free again for what is filled next.
            it.sync();
        }
    });
    assert!(
        (1..ROUNDS / 2).contains(&without_a_log),
        "{without_a_log} of {ROUNDS} were committed"
    );
}
