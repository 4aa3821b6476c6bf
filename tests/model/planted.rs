//! A judge that can't tell is none: subjects with one fault must be found out, and the case must become
//! short.

use crate::stage::{Found, Images, Stage};
use crate::step::Step;
use crate::subject::{Answer, Subject};
use btrfuse_test_support::Manifest;
use rustix::io::Errno;
use serde_json::json;

/// What is wrong with a subject: it answers for itself, or leaves it to the true one.
type Fault = fn(&mut dyn Subject, &Step) -> Option<Answer>;

struct Faulty {
    inner: Box<dyn Subject>,
    fault: Fault,
}

impl Subject for Faulty {
    fn name(&self) -> &'static str {
        "the faulty one"
    }

    fn begin(&mut self, case: &str) {
        self.inner.begin(case);
    }

    fn step(&mut self, step: &Step) -> Answer {
        let said = (self.fault)(self.inner.as_mut(), step);
        said.unwrap_or_else(|| self.inner.step(step))
    }

    fn end(&mut self) {
        self.inner.end();
    }

    fn walk(&mut self) -> Manifest {
        self.inner.walk()
    }

    fn peek(&mut self, on: &str, offset: u64, len: usize) -> Vec<u8> {
        self.inner.peek(on, offset, len)
    }

    fn finish(self: Box<Self>) {
        self.inner.finish();
    }
}

/// The engine against the engine with a fault: nothing else can differ.
fn found(fault: Fault) -> Found {
    let images = Images::new(&[]);
    let [reference, inner] = images.engines();
    let mut stage = Stage::new(vec![reference, Box::new(Faulty { inner, fault })]);
    let found = stage
        .explore(500, 1)
        .expect_err("a fault that nobody noticed");
    stage.finish();
    found
}

#[track_caller]
fn assert_short(found: &Found, steps: usize, words: &str) {
    let text = found.to_string();
    assert!(found.steps.len() <= steps && text.contains(words), "{text}");
}

#[test]
fn a_wrong_errno_is_found_and_made_short() {
    let found = found(|inner, step| match inner.step(step) {
        Err(Errno::NOTEMPTY) => Some(Err(Errno::EXIST)),
        answer => Some(answer),
    });
    // A directory, something in it, and what is refused.
    assert_short(&found, 6, "ENOTEMPTY, the faulty one EEXIST");
}

#[test]
fn a_rename_that_does_nothing_is_found_and_made_short() {
    let found = found(|inner, step| match step {
        Step::Rename { flags: 2, from, to } => {
            let look = |path: &String| Step::Stat {
                on: path.clone(),
                follow: false,
            };
            // Of two that are there, it only says that it exchanged them.
            let both = inner.step(&look(from)).is_ok() && inner.step(&look(to)).is_ok();
            (both && from != to && !from.contains('/') && !to.contains('/'))
                .then_some(Ok(json!(null)))
        }
        _ => None,
    });
    assert_short(&found, 6, "rename");
}

#[test]
fn a_time_that_is_wrong_by_a_nanosecond_is_found() {
    let found = found(|inner, step| {
        let mut answer = inner.step(step);
        if let (Step::Stat { .. }, Ok(stat)) = (step, &mut answer)
            && let Some(nanoseconds) = stat["mtime"][1].as_i64()
        {
            stat["mtime"][1] = json!(nanoseconds ^ 1);
        }
        Some(answer)
    });
    assert_short(&found, 4, "set-times");
}

#[test]
fn a_byte_that_is_lost_is_found() {
    // Nothing tells of it but what is read later, or the tree.
    let found = found(|inner, step| match step {
        Step::Write {
            on,
            offset,
            len,
            seed,
        } if *len > 4096 => {
            let shorter = Step::Write {
                on: on.clone(),
                offset: *offset,
                len: len - 1,
                seed: *seed,
            };
            let answer = inner.step(&shorter);
            Some(answer.map(|written| json!(written.as_u64().map_or(0, |written| written + 1))))
        }
        _ => None,
    });
    assert_short(&found, 3, "write");
}
