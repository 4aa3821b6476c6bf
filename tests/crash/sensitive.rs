//! The judges say no: each is shown a device on which something else happened than it is told.

use crate::judges::{Case, Judges, Jury};
use crate::model::{Model, lines, moment};
use crate::other_kernel::Batch;
use crate::play::Start;
use crate::recording::CrashState;
use crate::step::Step::{self, Commit, DeleteSubvolume, HeldFsync, HeldLink, Tmpfile};
use crate::verbs::*;
use crate::workloads;
use btrfuse::fs::{Filesystem, NodeId};
use btrfuse::volume::MemoryDevice;
use btrfuse_test_support::Image;
use serde_json::{Value, json};
use std::fs::File;
use std::rc::Rc;
use std::sync::Arc;

const ONLY_US: Jury = Jury {
    host_every: 0,
    other: false,
    alike_every: 1,
};

fn ordinary() -> Start {
    Start::on(&Image::mkfs_btrfs(128, &[]), &workloads::preparation())
}

/// The device at the end of a workload.
fn after(start: &Start, done: &[Step]) -> MemoryDevice {
    let recording = start.play(done).recording;
    recording.whole(recording.events.len())
}

#[test]
fn what_was_promised_and_is_not_there_is_told() {
    let start = ordinary();
    let temporary = [Tmpfile("A"), held_write(0, 9_000)];
    let named = [&temporary[..], &[HeldLink("A/named"), HeldFsync]].concat();
    let hidden = [&temporary[..], &[HeldFsync]].concat();
    let frozen = |first: Step| vec![first, snapshot("S", "A/snap")];
    let cases: Vec<(Vec<Step>, Vec<Step>, &str)> = vec![
        (vec![], vec![create("A/new"), Commit], "is gone"),
        (vec![], vec![write("foo", 5, 7), Commit], "content"),
        (vec![], vec![unlink("A/bar"), Commit], "leads to"),
        (
            vec![],
            vec![copy("foo", 0, "A/bar", 0, 8_192), fsync("A/bar")],
            "content",
        ),
        (
            vec![],
            vec![copy("foo", 0, "foo", 16_384, 4_096), fsync("foo")],
            "content",
        ),
        (vec![], named.clone(), "is gone"),
        // A temporary file that gets a name by itself.
        (named, hidden, "leads to"),
        (vec![], vec![snapshot("S", "A/snap")], "is gone"),
        // A snapshot of something else.
        (
            frozen(write("S/in", 0, 4_096)),
            frozen(write("S/in", 1, 4_096)),
            "content",
        ),
        (vec![], vec![DeleteSubvolume("S"), Commit], "leads to"),
        (vec![], vec![allocate_punch(), fsync("foo")], "content"),
    ];
    for (done, told, expected) in cases {
        let said = start.play(&told);
        let count = said.history["workload"].as_array().expect("a list").len();
        assert_eq!(count, told.len(), "{told:?}: all is done");
        let mut judges = Judges::new(ONLY_US);
        judges.judge(Case {
            state: CrashState {
                device: after(&start, &done),
                acknowledged: 0,
                what: String::new(),
            },
            history: said.history,
            moment: moment(count as u64),
            label: String::new(),
        });
        let why = judges.failures.concat();
        assert!(why.contains(expected), "{done:?}, {told:?}: {why:?}");
    }
}

fn allocate_punch() -> Step {
    allocate(
        "foo",
        btrfuse_test_support::script::Allocate::Punch,
        100,
        50,
    )
}

/// It sees what is on the images, also what differs, and says when there is nothing to mount.
#[test]
fn the_other_kernel_tells_what_it_finds() {
    let start = ordinary();
    let promised = start.play(&[write("foo", 5, 7), mkdir("A/inner"), Commit]);
    let kept = promised.recording.whole(promised.recording.events.len());
    let mut batch = Batch::new();
    for (device, is_damaged) in [(&kept, false), (&start.device, false), (&kept, true)] {
        let file = File::create(batch.place()).unwrap();
        device.copy_to(&file).unwrap();
        if is_damaged {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&[9; 4096], 64 << 10).unwrap();
        }
        batch.add(true, true);
    }
    let (_images, seen) = batch.boot().wait();
    let mut model = Model::new();
    let mut judge = |at: usize| {
        let found = seen[at].found.clone().expect("it mounts");
        model.judge(&promised.history, &moment(3), found)
    };
    judge(0).unwrap();
    let why = judge(1).expect_err("nothing of it is there");
    assert!(why.contains("content") && why.contains("is gone"), "{why}");
    let why = seen[2].found.as_ref().expect_err("it has no superblock");
    assert!(why.contains("mounting"), "{why}");
    assert!(seen[0].complaints.is_empty(), "{:?}", seen[0].complaints);
    // Emptied, as was asked for.
    let file = File::open(&seen[0].image).unwrap();
    let left = MemoryDevice::from_reader(file).unwrap();
    let fs = Filesystem::mount(vec![Arc::new(left)], &Default::default()).unwrap();
    assert_eq!(crate::own_walk::walk(&fs, NodeId::ROOT).0.len(), 1);
}

#[test]
fn what_a_thread_or_anothers_commit_made_durable_and_is_not_there_is_told() {
    let start = ordinary();
    let list = |steps: &[Step]| start.play(steps).history["workload"].clone();
    let lanes = |one: Value, two: Value| -> Rc<Value> {
        let told = json!([{ "name": "t0-", "workload": one }, { "name": "t1-", "workload": two }]);
        start.history("lanes", told)
    };
    let made = list(&[create("A/t0-x"), write("A/t0-x", 0, 9)]);
    let synced = list(&[create("A/t0-x"), fsync("A/t0-x")]);
    let commits = list(&[Commit]);
    let at = |committed: u64| {
        let other = json!({ "done": 1, "begun": 1, "committed": 0 });
        json!({ "at": [{ "done": 2, "begun": 2, "committed": committed }, other] })
    };
    let mut model = Model::new();
    let nothing = lines(&start.manifest);
    let mut judge = |one: &Value, committed: u64| {
        let history = lanes(one.clone(), commits.clone());
        model.judge(&history, &at(committed), nothing.clone())
    };
    judge(&made, 0).unwrap();
    let why = judge(&made, 1).expect_err("another committed it");
    assert!(why.contains("t0-: ") && why.contains("is gone"), "{why}");
    let why = judge(&synced, 0).expect_err("it was fsynced");
    assert!(why.contains("is gone"), "{why}");
}
