//! `btrfuse lab live` with plain builds: the same seeds for both, sound images, a report; what
//! can't work is refused. (The lab's own build, with delay points, is in the test script.)

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::{Finished, need_root, run_any};
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn live(words: &[&str]) -> Command {
    let mut command = Command::new(btrfuse_binary());
    command.args(["lab", "live"]).args(words);
    command
}

fn finished(words: &[&str]) -> Finished {
    run_any(&mut live(words), Duration::from_secs(240))
}

fn named(name: &str) -> String {
    format!("{name}={}", btrfuse_binary().display())
}

#[test]
fn two_builds_get_the_same_seeds_and_leave_sound_images() {
    need_root();
    let (owned, other) = (named("owned"), named("other"));
    let words = [
        "--binary", &owned, "--binary", &other, "--seeds", "2", "--seed", "5",
    ];
    let more = ["--each", "60", "--ops", "300", "--procs", "3", "--json"];
    let finished = finished(&[&words[..], &more].concat());
    assert_eq!(finished.status.code(), Some(0), "{}", finished.output());
    let json: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let runs = json["runs"].as_array().expect("runs");
    let order: Vec<_> = runs
        .iter()
        .map(|run| {
            (
                run["subject"].as_str().expect("a name"),
                run["seed"].as_u64(),
            )
        })
        .collect();
    let (five, six) = (Some(5), Some(6));
    assert_eq!(
        order,
        [
            ("owned", five),
            ("other", five),
            ("owned", six),
            ("other", six)
        ]
    );
    for run in runs {
        assert_eq!(run["operations"], 900);
        assert_eq!(run["judgement"]["read_by"], "the kernel");
        assert_eq!(run["judgement"]["losses"], serde_json::json!({}), "{run:#}");
        assert!(run["violation"].is_null());
    }
    assert_eq!(json["rows"][0]["relative_to_owned"], 1.0);
    assert_eq!(json["rows"][1]["runs"], 2);
}

#[test]
fn an_interrupted_comparison_reports_what_is_over() {
    need_root();
    let owned = named("owned");
    let child = live(&[
        "--binary", &owned, "--each", "100", "--procs", "2", "--json",
    ])
    .stdout(Stdio::piped())
    .spawn()
    .expect("btrfuse");
    std::thread::sleep(Duration::from_secs(4));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our child");
    let output = child.wait_with_output().expect("our child");
    assert_eq!(output.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["interrupted"], true);
    assert_eq!(json["runs"], Value::Array(Vec::new()), "it wasn't over");
}

/// As a terminal's Ctrl-C does: it goes to the lab and to all its children of the same group. A
/// `btrfs check` that it killed counted as damage.
#[test]
fn a_signal_for_the_whole_group_lets_the_judges_finish() {
    need_root();
    let place = tempfile::tempdir().expect("a place");
    let begun = place.path().join("begun");
    let slow = format!(
        "#!/bin/sh\n: >{}\nsleep 2\nPATH=${{PATH#*:}}\nexec btrfs \"$@\"\n",
        begun.display()
    );
    script(&place.path().join("btrfs"), &slow);
    let path = std::env::var("PATH").expect("a search path");
    let owned = named("owned");
    let words = [
        "--binary", &owned, "--ops", "50", "--procs", "2", "--json", "--seeds", "3",
    ];
    let child = live(&words)
        .env("PATH", format!("{}:{path}", place.path().display()))
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("btrfuse");
    let began = Instant::now();
    while !begun.exists() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "no judge is asked"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let group = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process_group(group, rustix::process::Signal::INT).expect("our child");
    let output = child.wait_with_output().expect("our child");
    assert_eq!(output.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["interrupted"], true);
    let runs = json["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 1, "it was over but for the judges");
    let judgement = &runs[0]["judgement"];
    assert_eq!(judgement["damage"], serde_json::json!([]));
    assert_eq!(judgement["read_by"], "the kernel");
}

fn script(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a script");
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).expect("our file");
}

#[test]
fn what_cannot_work_is_refused_in_a_sentence() {
    let owned = named("owned");
    for (words, exit, sentence) in [
        (&["--binary", "nowhere"][..], 1, "write NAME=PATH"),
        (&["--binary", "a=/nowhere/btrfuse"], 1, "isn't a program"),
        (
            &["--binary", &owned, "--dir", "/nowhere"],
            2,
            "isn't a directory",
        ),
        (
            &["--binary", &owned, "-o", "nonsense"],
            1,
            "unknown mount option",
        ),
        (&["--binary", &owned, "--each", "soon"], 1, "not a time"),
    ] {
        let finished = finished(words);
        let output = finished.output();
        assert_eq!(finished.status.code(), Some(exit), "{words:?}: {output}");
        assert!(output.contains(sentence), "{words:?}: {output}");
    }
}

/// A subject that is asked to break and holds is a failure: the harness must be able to see.
#[test]
fn a_subject_that_must_break_and_holds_is_a_failure() {
    need_root();
    let owned = named("owned");
    let words = [
        "--binary",
        &owned,
        "--seeds",
        "1",
        "--ops",
        "20",
        "--must-break",
        "owned",
    ];
    let finished = finished(&words);
    assert_eq!(finished.status.code(), Some(7), "{}", finished.output());
    assert!(
        finished.stderr.contains("broke none"),
        "{}",
        finished.output()
    );
}
