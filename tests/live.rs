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
            &["--binary", &owned, "--binary", &owned],
            1,
            "owned is named twice",
        ),
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
        (
            &["--binary", &owned, "-o", "noatime,commit=7"],
            1,
            "-o commit=7: that is --commit here",
        ),
        (
            &["--binary", &owned, "--report", "/nowhere/x.json"],
            2,
            "isn't a directory",
        ),
        (
            &["--binary", &owned.replace("owned=", "unfixed=")],
            1,
            "mounts with protocol owned",
        ),
        (
            &["--binary", &owned, "--must-break", "ownd"],
            1,
            "nobody of that name",
        ),
        (&["--binary", &owned, "--nodesize", "5000"], 1, "node size"),
        (&["--binary", &owned, "--size", "1M"], 1, "too few"),
        (&["--binary", &owned, "--cache", "4K"], 1, "at least 1M"),
        (&["--binary", &owned, "--seeds", "0"], 1, "--seeds"),
        (&["--binary", &owned, "--ops", "0"], 1, "--ops"),
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

/// Both were answered with 0 and without a word.
#[test]
fn a_comparison_that_comes_to_less_than_was_wanted_is_a_failure() {
    need_root();
    let owned = named("owned");
    let words = ["--binary", &owned, "--procs", "2"];
    let short = ["--seeds", "1", "--ops", "20", "--operations", "1000"];
    let none = ["--seed", "18446744073709551615", "--seeds", "1"];
    for (more, sentence) in [
        (&short[..], "owned did 40 of 1000 operations"),
        (&none[..], "no run was made"),
    ] {
        let finished = finished(&[&words[..], more].concat());
        let output = finished.output();
        assert_eq!(finished.status.code(), Some(7), "{output}");
        assert!(finished.stderr.contains(sentence), "{output}");
    }
    let enough = ["--ops", "20", "--operations", "70", "--json"];
    let finished = finished(&[&words[..], &enough].concat());
    assert_eq!(finished.status.code(), Some(0), "{}", finished.output());
    let json: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(json["runs"].as_array().expect("runs").len(), 2);
    let version = json["plan"]["subjects"][0]["version"].to_string();
    assert!(version.contains("protocol: owned"), "{version}");
}

/// One subject's failure threw away what all others had shown.
#[test]
fn a_subject_that_cannot_be_mounted_costs_no_other_run() {
    need_root();
    let place = tempfile::tempdir().expect("a place");
    let (dead, broken) = (place.path().join("dead"), place.path().join("broken"));
    script(&dead, "#!/bin/sh\nexit 3\n");
    // The rule is broken while it mounts: its log was looked at only when there was a mount.
    script(
        &broken,
        "#!/bin/sh\n[ \"$1\" = mount ] && echo 'BUG_ON planted' >\"$4\"\nexit 2\n",
    );
    let subjects = [
        named("owned"),
        format!("dead={}", dead.display()),
        format!("unfixed={}", broken.display()),
    ];
    let finished = finished(&[
        "--binary",
        &subjects[0],
        "--binary",
        &subjects[1],
        "--binary",
        &subjects[2],
        "--seeds",
        "2",
        "--ops",
        "20",
        "--procs",
        "2",
        "--json",
    ]);
    assert_eq!(finished.status.code(), Some(7), "{}", finished.output());
    assert!(
        finished.stderr.contains("dead, seed 1: "),
        "{}",
        finished.output()
    );
    assert!(
        finished.stderr.contains("exit status: 3"),
        "{}",
        finished.output()
    );
    let json: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(json["runs"].as_array().expect("runs").len(), 6);
    let row = |n: usize| &json["rows"][n];
    assert_eq!(row(0)["operations"], 80, "owned");
    assert_eq!(row(1)["wrong"], 2, "dead");
    assert_eq!(
        (&row(2)["violations"], &row(2)["wrong"]),
        (&2.into(), &0.into())
    );
    let first = &json["runs"][2];
    assert_eq!(first["violation"]["what"], "BUG_ON planted");
    let not_asked = first["judgement"]["not_asked"].to_string();
    assert!(
        not_asked.contains("nobody compared the files"),
        "{not_asked}"
    );
}

/// It went on for as long as there was time, without a pause.
#[test]
fn what_gets_nowhere_is_given_up() {
    let finished = finished(&["--binary", "dead=/bin/false", "--time", "1h"]);
    assert_eq!(finished.status.code(), Some(7), "{}", finished.output());
    assert!(
        finished.stdout.contains("3 runs in a row got nowhere"),
        "{}",
        finished.output()
    );
}

/// Runs it, then reports a broken rule and ends as asked.
fn breaks(path: &Path, end: &str) -> String {
    let real = btrfuse_binary();
    let real = real.display();
    let text = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || {{ echo 'btrfuse 0.1.0 (protocol: unfixed)'; exit; }}\n\
         [ \"$1\" = mount ] || exec {real} \"$@\"\n{real} \"$@\"\necho 'BUG_ON planted' \
         >>\"$4\"\n{end}\n"
    );
    script(path, &text);
    format!("unfixed={}", path.display())
}

/// Whatever the daemon did after a broken rule was excused with it.
#[test]
fn a_broken_rule_excuses_a_failed_last_commit_and_no_crash() {
    need_root();
    let place = tempfile::tempdir().expect("a place");
    for (end, exit) in [("exit 5", 0), ("kill -SEGV $$", 7), ("exit 101", 7)] {
        let unfixed = breaks(&place.path().join("unfixed"), end);
        let finished = finished(&[
            "--binary", &unfixed, "--seeds", "1", "--ops", "20", "--procs", "2",
        ]);
        let output = finished.output();
        assert_eq!(finished.status.code(), Some(exit), "{end}: {output}");
        assert!(
            output.contains("unfixed: surviving by time: 0 % from "),
            "{output}"
        );
        assert!(output.contains("again: "), "{output}");
    }
}

/// Its absence was noted where nobody reads, and all images passed for sound.
#[test]
fn without_btrfs_check_images_are_unjudged_and_that_is_a_failure() {
    need_root();
    let place = tempfile::tempdir().expect("a place");
    for tool in ["mount", "umount", "cp"] {
        let from = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"]
            .map(|dir| Path::new(dir).join(tool))
            .into_iter()
            .find(|path| path.exists())
            .expect("a system's tool");
        std::os::unix::fs::symlink(from, place.path().join(tool)).expect("a link");
    }
    let owned = named("owned");
    let words = [
        "--binary", &owned, "--seeds", "1", "--ops", "20", "--procs", "2",
    ];
    let mut command = live(&words);
    command.env("PATH", place.path());
    let finished = run_any(&mut command, Duration::from_secs(240));
    let output = finished.output();
    assert_eq!(finished.status.code(), Some(7), "{output}");
    assert!(
        finished.stderr.contains("1 of 1 images unjudged"),
        "{output}"
    );
    assert!(
        finished.stdout.contains("it is in the package btrfs-progs"),
        "{output}"
    );
    assert!(!output.contains("no image is damaged"), "{output}");
}
