//! Subvolumes on a mount, as a user makes them: `btrfuse subvolume`, what the kernel remembers of
//! names that change behind its back, and what users may.

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::{BtrfuseMount, Finished, Image, LoopMount, btrfs_check, run, run_any};
use serde_json::Value;
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

fn subvolume(words: &[&str], on: &Path) -> Finished {
    let mut command = Command::new(btrfuse_binary());
    command.arg("subvolume").args(words).current_dir(on);
    run_any(&mut command, Duration::from_secs(60))
}

#[track_caller]
fn done(words: &[&str], on: &Path) -> String {
    let finished = subvolume(words, on);
    assert!(
        finished.status.success(),
        "{words:?}: {}",
        finished.output()
    );
    finished.stdout
}

#[track_caller]
fn refused(words: &[&str], on: &Path, exit: i32, sentence: &str) {
    let finished = subvolume(words, on);
    assert_eq!(finished.status.code(), Some(exit), "{}", finished.output());
    assert!(finished.stderr.contains(sentence), "{}", finished.output());
    assert_eq!(
        finished.stderr.trim().lines().count(),
        1,
        "{}",
        finished.output()
    );
}

#[track_caller]
fn json(words: &[&str], on: &Path) -> Value {
    let words = [words, &["--json"]].concat();
    serde_json::from_str(&done(&words, on)).expect("JSON")
}

#[test]
fn subvolumes_come_and_go_by_command() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let on = mount.path();
    let made = json(&["create", "home"], on);
    assert!(
        made["parent_uuid"].is_null() && made["read_only"] == false,
        "{made}"
    );
    fs::write(on.join("home/file"), "content").expect("a file");
    fs::create_dir(on.join("home/dir")).expect("a folder");
    done(&["create", "home/dir/deep"], on);
    // Not written back yet: the command sees to it.
    fs::write(on.join("home/late"), vec![7; 300_000]).expect("a file");
    let frozen = json(&["snapshot", "-r", "home", "monday"], on);
    assert_eq!(frozen["parent_uuid"], made["uuid"]);
    assert_eq!(fs::read(on.join("monday/late")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::metadata(on.join("monday/dir/deep")).unwrap().ino(), 2);
    // Into a directory, by the source's name.
    fs::create_dir(on.join("kept")).expect("a folder");
    done(&["snapshot", "home", "kept"], on);
    fs::write(on.join("kept/home/file"), "other").expect("writable");
    assert_eq!(fs::read(on.join("home/file")).unwrap(), b"content");
    let listed = json(&["list", "."], on);
    let paths: Vec<&str> = listed["subvolumes"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["path"].as_str().expect("a path"))
        .collect();
    assert_eq!(paths, ["home", "home/dir/deep", "monday", "kept/home"]);
    assert_eq!(listed["subvolumes"][2]["read_only"], true);
    assert!(done(&["list", "home"], on).contains("dir/deep"));
    refused(&["create", "home"], on, 2, "exists already");
    refused(&["create", "monday/x"], on, 2, "Read-only");
    refused(&["delete", "home"], on, 2, "subvolumes in it");
    refused(&["delete", "kept"], on, 2, "isn't the root directory");
    refused(&["delete", "home/file"], on, 2, "no directory");
    refused(
        &["snapshot", "kept", "x"],
        on,
        2,
        "isn't the root directory",
    );
    refused(
        &["snapshot", "home", "/tmp/x"],
        on,
        1,
        "aren't in one mount",
    );
    refused(&["create", "/tmp/x"], on, 1, "isn't in a btrfuse mount");
    refused(&["create", ".."], on, 1, "no name");
    let itself = on.to_str().expect("UTF-8");
    refused(&["create", itself], on, 1, "is itself the mount point");
    refused(&["delete", itself], on, 1, "is itself the mount point");
    refused(&["snapshot", "none", "x"], on, 2, "can't snapshot none:");
    refused(&["snapshot", "kept", "x"], on, 2, "can't snapshot kept:");
    refused(&["snapshot", "/tmp", "x"], on, 1, "/tmp isn't in");
    refused(&["snapshot", "home", "no/x"], on, 2, "no directory no;");
    refused(&["create", "no/x"], on, 2, "no directory no;");
    refused(&["delete", "none"], on, 2, "none of that name");
    // As rm(1): what can't be deleted doesn't keep the rest.
    done(&["create", "rest"], on);
    refused(&["delete", "none", "rest"], on, 2, "can't delete none:");
    assert!(!on.join("rest").exists());
    assert_eq!(done(&["read-only", "monday"], on), "yes\n");
    done(&["read-only", "monday", "no"], on);
    fs::write(on.join("monday/file"), "changed").expect("writable now");
    done(&["delete", "monday", "kept/home", "home/dir/deep"], on);
    mount.unmount();
    btrfs_check(image.path());
    let kernel = LoopMount::read_write(image.path());
    let mut list = Command::new("btrfs");
    let listed = run(list.args(["subvolume", "list"]).arg(kernel.path())).stdout;
    assert_eq!(listed.lines().count(), 1, "{listed}");
    assert_eq!(
        fs::read(kernel.path().join("home/file")).unwrap(),
        b"content"
    );
    kernel.unmount();
    btrfs_check(image.path());
}

/// The kernel answers 1 where we answer 0, and that was taken for a failure: what was made was said
/// not to be, and nothing was ever listed.
#[test]
fn the_kernels_btrfs_answers_the_same_commands() {
    let image = Image::mkfs_btrfs(300, &[]);
    let kernel = LoopMount::read_write(image.path());
    let on = kernel.path();
    let made = json(&["create", "home"], on);
    assert_eq!(made["path"], "home");
    done(&["create", "home/deep"], on);
    let frozen = json(&["snapshot", "-r", "home", "monday"], on);
    assert_eq!(frozen["parent_uuid"], made["uuid"]);
    assert_eq!(frozen["read_only"], true);
    let listed = json(&["list", "."], on);
    let rows = listed["subvolumes"].as_array().expect("a list");
    let paths: Vec<&str> = rows.iter().filter_map(|one| one["path"].as_str()).collect();
    assert_eq!(paths, ["home", "home/deep", "monday"]);
    assert!(done(&["list", "."], on).contains("home/deep"));
    refused(&["create", "home"], on, 2, "exists already");
    done(&["delete", "home/deep", "monday"], on);
    kernel.unmount();
    btrfs_check(image.path());
}

/// `EPERM` has two reasons, and both were said to everybody.
#[test]
fn what_the_image_mounts_by_default_is_not_deleted_and_root_hears_why() {
    let image = Image::mkfs_btrfs(300, &[]);
    let kernel = LoopMount::read_write(image.path());
    done(&["create", "home"], kernel.path());
    let mut choose = Command::new("btrfs");
    run(choose
        .args(["subvolume", "set-default"])
        .arg(kernel.path().join("home")));
    kernel.unmount();
    let mount = BtrfuseMount::new(image.path(), "subvolid=5");
    let finished = subvolume(&["delete", "home"], mount.path());
    assert_eq!(finished.status.code(), Some(2), "{}", finished.output());
    let said = &finished.stderr;
    assert!(
        said.contains("mounts by default") && !said.contains("rm_allowed"),
        "{said}"
    );
    mount.unmount();
    btrfs_check(image.path());
}

/// The kernel believes names for a day; the ones that these commands change it forgets.
#[test]
fn a_changed_name_is_seen_at_once() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let on = mount.path();
    for round in 0..20 {
        let name = format!("sub-{}", round % 3);
        let path = on.join(&name);
        assert!(!path.exists(), "a name that the kernel knows to be free");
        let before = fs::metadata(on).unwrap();
        done(&["create", &name], on);
        assert!(path.is_dir(), "round {round}");
        assert!(
            fs::metadata(on).unwrap().size() > before.size(),
            "the folder's size"
        );
        fs::write(path.join("file"), "x").expect("a file");
        done(&["delete", &name], on);
        assert!(
            !path.exists() && !path.join("file").exists(),
            "round {round}"
        );
        assert_eq!(fs::metadata(on).unwrap().size(), before.size());
        fs::create_dir(&path).expect("the name is free");
        fs::remove_dir(&path).expect("empty");
    }
    mount.unmount();
    btrfs_check(image.path());
}

#[test]
fn programs_go_on_in_a_deleted_subvolume() {
    let image = Image::mkfs_btrfs(300, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let on = mount.path();
    done(&["create", "sub"], on);
    fs::create_dir(on.join("sub/dir")).expect("a folder");
    fs::write(on.join("sub/dir/file"), "before").expect("a file");
    let mut file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .open(on.join("sub/dir/file"))
        .expect("a file");
    let mut standing = Command::new("sh");
    // Waits in the directory for a line, and looks around then.
    standing.args([
        "-c",
        "read go; cat file; echo new > other; ls; rm other; ls",
    ]);
    standing.current_dir(on.join("sub/dir"));
    standing.stdin(std::process::Stdio::piped());
    standing.stdout(std::process::Stdio::piped());
    let mut standing = standing.spawn().expect("a shell");
    done(&["delete", "sub"], on);
    assert!(!on.join("sub").exists());
    done(&["create", "sub"], on);
    assert_eq!(fs::read_dir(on.join("sub")).unwrap().count(), 0);
    file.write_all(b" and after").expect("an open file");
    file.sync_all().expect("an open file");
    let mut content = String::new();
    file.rewind().expect("an open file");
    file.read_to_string(&mut content).expect("an open file");
    assert_eq!(content, "before and after");
    writeln!(standing.stdin.take().expect("piped"), "go").expect("it listens");
    let output = standing.wait_with_output().expect("a shell");
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(seen, "before and afterfile\nother\nfile\n");
    drop(file);
    // Nobody is left: its space comes back while the mount goes on.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        mount.sync();
        let mut dump = Command::new(btrfuse_binary());
        let dump = run(dump.arg("inspect").arg(image.path()).args(["tree", "root"]));
        if !dump.stdout.contains("ORPHAN") {
            break;
        }
        assert!(Instant::now() < deadline, "{}", dump.stdout);
        std::thread::sleep(Duration::from_millis(200));
    }
    mount.unmount();
    btrfs_check(image.path());
}

/// As user 65534, on root's mount for all.
fn as_nobody(words: &[&str], on: &Path) -> Finished {
    let mut command = Command::new(btrfuse_binary());
    command.arg("subvolume").args(words).current_dir(on);
    command.uid(65534).gid(65534);
    run_any(&mut command, Duration::from_secs(60))
}

#[test]
fn users_may_what_directories_and_the_mount_allow() {
    for (option, may_delete) in [("", false), (",user_subvol_rm_allowed", true)] {
        let image = Image::mkfs_btrfs(300, &[]);
        let mount = BtrfuseMount::new(image.path(), &format!("subvolid=5,allow_other{option}"));
        let on = mount.path();
        let open = on.join("open");
        fs::create_dir(&open).expect("a folder");
        std::os::unix::fs::chown(&open, Some(65534), Some(65534)).expect("root may");
        done(&["create", "roots"], on);
        assert!(!as_nobody(&["create", "mine"], on).status.success());
        for words in [&["create", "mine"][..], &["snapshot", "mine", "copy"]] {
            let finished = as_nobody(words, &open);
            assert!(
                finished.status.success(),
                "{words:?}: {}",
                finished.output()
            );
        }
        assert_eq!(fs::metadata(open.join("mine")).unwrap().uid(), 65534);
        assert!(
            !as_nobody(&["snapshot", "../roots", "x"], &open)
                .status
                .success()
        );
        fs::write(open.join("copy/file"), "x").expect("root may");
        let deleted = as_nobody(&["delete", "copy"], &open);
        assert_eq!(deleted.status.success(), may_delete, "{}", deleted.output());
        let said = deleted.stderr.contains("-o user_subvol_rm_allowed");
        assert_ne!(said, may_delete, "{}", deleted.output());
        // A link leads to a directory, and the name is the link's.
        symlink("open/mine", on.join("link")).expect("a link");
        refused(&["delete", "link"], on, 2, "no directory");
        mount.unmount();
        btrfs_check(image.path());
    }
}
