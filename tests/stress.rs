//! `btrfuse stress` itself: it must be silent where all is right (the kernel's btrfs is the
//! judge of its model), find what is planted, and do a log again.

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::{Finished, Image, LoopMount, btrfs_check, run_any, temp_dir};
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn stress(dir: &Path, words: &[&str]) -> Finished {
    run_any(
        Command::new(btrfuse_binary())
            .arg("stress")
            .arg(dir)
            .args(words),
        Duration::from_secs(240),
    )
}

#[track_caller]
fn right(dir: &Path, words: &[&str]) -> Finished {
    let finished = stress(dir, words);
    assert_eq!(
        finished.status.code(),
        Some(0),
        "{words:?}: {}",
        finished.output()
    );
    finished
}

/// Its exit code, and what it printed.
fn code(dir: &Path, words: &[&str]) -> (Option<i32>, String) {
    let finished = stress(dir, words);
    (finished.status.code(), finished.output())
}

/// Everything it can do, snapshots too, in every named mix.
#[test]
fn the_kernel_answers_as_the_model_does() {
    let image = Image::mkfs_btrfs(1500, &["-n", "4096"]);
    let mount = LoopMount::read_write(image.path());
    for (mix, seed) in [
        ("fsstress", "1"),
        ("empty-leaves", "2"),
        ("metadata", "3"),
        ("data", "4"),
    ] {
        let words = [
            "--fresh", "--seed", seed, "--ops", "3000", "--mix", mix, "--json",
        ];
        let finished = right(mount.path(), &words);
        let json: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        assert_eq!(json["operations"], 12_000, "{mix}");
        assert_eq!(
            json["lacking"],
            Value::Array(Vec::new()),
            "btrfs has everything"
        );
        let snapshots = json["counts"]["snapshot"].as_u64();
        assert_eq!(
            snapshots.is_some(),
            matches!(mix, "fsstress" | "empty-leaves"),
            "{mix}"
        );
        right(mount.path(), &["--judge"]);
    }
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    right(mount.path(), &["--judge"]);
    mount.unmount();
}

fn some_file(folder: &Path, size_min: u64) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a readable folder") {
            let entry = entry.expect("an entry");
            let metadata = entry.metadata().expect("its inode");
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.is_file() && metadata.len() >= size_min && metadata.len() < 1 << 30 {
                return entry.path();
            }
        }
    }
    panic!("no file of {size_min} bytes")
}

/// Each planted fault is named for what it is, with the exit code of the table.
#[test]
fn what_a_filesystem_lost_or_made_up_is_found() {
    let place = temp_dir();
    let own = place.path().join("btrfuse-stress/tree/process-1");
    right(
        place.path(),
        &["--procs", "2", "--ops", "1500", "--seed", "5"],
    );
    right(place.path(), &["--judge"]);

    let victim = some_file(&own, 5000);
    let good = std::fs::read(&victim).expect("a file");
    let open = || {
        std::fs::File::options()
            .write(true)
            .open(&victim)
            .expect("a file")
    };
    let keep_times = |change: &dyn Fn()| {
        let times = std::fs::metadata(&victim)
            .expect("a file")
            .modified()
            .expect("mtime");
        change();
        open().set_modified(times).expect("a file of ours");
    };
    let found = |what: &str| {
        let (code, words) = code(place.path(), &["--judge"]);
        assert_eq!(code, Some(7), "{what}: {words}");
        assert!(words.contains(what), "{what}: {words}");
    };
    keep_times(&|| {
        open()
            .write_all_at(b"rotten bytes!", 4000)
            .expect("a write")
    });
    found("contents that were never theirs");
    keep_times(&|| {
        open()
            .write_all_at(&good[4000..4013], 4000)
            .expect("a write")
    });
    right(place.path(), &["--judge"]);
    keep_times(&|| open().set_len(good.len() as u64 - 1).expect("a truncate"));
    found("old contents");
    std::fs::remove_file(&victim).expect("an unlink");
    found("names missing");
    std::fs::write(own.join("nobody-made-this"), "x").expect("a write");
    found("names that mustn't be there");
}

/// A lie while it runs is a wrong answer, and ends the run.
#[test]
fn a_name_that_somebody_else_takes_is_a_wrong_answer() {
    let place = temp_dir();
    let crowd = place.path().join("btrfuse-stress/tree/crowd");
    let thief = std::thread::spawn(move || {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while std::time::Instant::now() < deadline {
            for entry in std::fs::read_dir(&crowd).into_iter().flatten().flatten() {
                let stolen = std::fs::remove_file(entry.path());
                if stolen.is_ok() {
                    return;
                }
            }
        }
        panic!("there was nothing to steal");
    });
    let (code, words) = code(
        place.path(),
        &[
            "--procs",
            "1",
            "--time",
            "60",
            "--mix",
            "batch=1,getdents=1",
            "--seed",
            "6",
        ],
    );
    thief.join().expect("the thief");
    assert_eq!(code, Some(7), "{words}");
    assert!(
        words.contains("ENOENT") || words.contains("must be listed"),
        "{words}"
    );
}

/// The same operations, side by side and one at a time; also of a log with lines taken out.
#[test]
fn a_log_is_done_again() {
    let place = temp_dir();
    let log = place.path().join("log");
    let log_word = log.to_str().expect("UTF-8");
    let dir = place.path().join("dir");
    std::fs::create_dir(&dir).expect("a folder");
    right(
        &dir,
        &[
            "--procs", "3", "--ops", "800", "--seed", "7", "--log", log_word,
        ],
    );
    for more in [&[][..], &["--in-order"]] {
        let words = [&["--fresh", "--replay", log_word, "--json"], more].concat();
        let json: Value = serde_json::from_str(&right(&dir, &words).stdout).expect("JSON");
        assert_eq!(json["operations"], 2400, "{more:?}");
        right(&dir, &["--judge"]);
    }
    let text = std::fs::read_to_string(&log).expect("the log");
    let kept: Vec<&str> = text
        .lines()
        .enumerate()
        .filter(|(at, _)| *at == 0 || at % 3 != 0)
        .map(|(_, line)| line)
        .collect();
    std::fs::write(&log, kept.join("\n")).expect("the log");
    right(&dir, &["--fresh", "--replay", log_word]);
    // A crash cut its last line.
    std::fs::write(&log, &text[..text.len() - 9]).expect("the log");
    let cut = right(&dir, &["--fresh", "--replay", log_word]);
    let words = "is cut short; the 2399 before it are done again";
    assert!(cut.stderr.contains(words), "{}", cut.stderr);
    std::fs::write(&log, "not a log\n").expect("the log");
    let (code, words) = code(&dir, &["--fresh", "--replay", log_word]);
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("isn't a log"), "{words}");
}

#[test]
fn what_cannot_work_is_refused_in_a_sentence() {
    let place = temp_dir();
    let dir = place.path();
    for (words, exit, sentence) in [
        (&["--mix", "nonsense"][..], 1, "no mix is called"),
        (&["--time", "soon"], 1, "not a time"),
        (&["--procs", "0"], 1, "0 is not in 1..=256"),
        (&["--judge"], 2, "no run to judge"),
        (
            &["--log", "/proc/none/log", "--ops", "1"],
            2,
            "can't write the log",
        ),
    ] {
        let (code, output) = code(dir, words);
        assert_eq!(code, Some(exit), "{words:?}: {output}");
        assert!(output.contains(sentence), "{words:?}: {output}");
    }
    let (code, output) = code(dir, &["--ops", "1"]);
    assert_eq!(code, Some(2), "a run is never mixed with another: {output}");
    assert!(output.contains("--fresh"), "{output}");
    let (code, output) = self::code(&dir.join("absent"), &[]);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("isn't a directory"), "{output}");
}

/// Ctrl-C is an end in good order: the report and the record are there.
#[test]
fn an_interrupted_run_reports_and_can_be_judged() {
    let place = temp_dir();
    let child = Command::new(btrfuse_binary())
        .arg("stress")
        .arg(place.path())
        .args(["--time", "120", "--json", "--seed", "8"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("btrfuse");
    std::thread::sleep(Duration::from_secs(2));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("our child");
    let output = child.wait_with_output().expect("our child");
    assert_eq!(output.status.code(), Some(0));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["interrupted"], true);
    assert!(json["operations"].as_u64() > Some(0));
    right(place.path(), &["--judge"]);
}
