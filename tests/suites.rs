//! Other people's tests on our mount: pjdfstest (what POSIX says of names, modes, times and
//! errors) and fsx (data: reads, writes, maps, truncates, holes). `./test` installs both.
//!
//! What pjdfstest may fail stands in docs/semantics.md with the reason; the list is exact, so a
//! failure that goes away fails here until it is struck off there. The kernel's own mount runs
//! first: its failures are none of ours.

use btrfuse_test_support::compare::assert_same;
use btrfuse_test_support::{
    BtrfuseMount, Image, LoopMount, Rules, btrfs_check, run_any, temp_dir, walk,
};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// An installed tool: in `BTRFUSE_TOOLS/bin`, or where `./test` puts it.
fn tool(name: &str) -> PathBuf {
    let folder = match std::env::var_os("BTRFUSE_TOOLS") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let home = std::env::var_os("HOME").expect("HOME");
            Path::new(&home).join(".cache/btrfuse-tools")
        }
    };
    let path = folder.join("bin").join(name);
    assert!(
        path.is_file(),
        "{} is missing: ./test installs it",
        path.display()
    );
    path
}

/// The rows of docs/semantics.md that begin with a test's name: "| `rename::x` | why |".
fn expected_failures() -> BTreeSet<String> {
    let page = include_str!("../docs/semantics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once("` |"))
        .filter(|(name, reason)| name.contains("::") && reason.trim().len() > 10)
        .map(|(name, _)| name.to_owned())
        .collect()
}

const PJDFSTEST: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// The names of the tests that failed.
fn pjdfstest(on: &Path) -> BTreeSet<String> {
    let folder = temp_dir();
    let configuration = folder.path().join("pjdfstest.toml");
    std::fs::write(&configuration, PJDFSTEST).expect("our own folder");
    let other = Image::mkfs_btrfs(300, &[]);
    let second = LoopMount::read_write(other.path());
    for place in [on, second.path()] {
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(place, open).expect("the root directory can be opened to all");
    }
    let finished = run_any(
        Command::new(tool("pjdfstest"))
            .arg("-c")
            .arg(&configuration)
            .arg("-p")
            .arg(on)
            .arg("-s")
            .arg(second.path())
            .current_dir(folder.path()),
        Duration::from_secs(240),
    );
    second.unmount();
    let output = finished.output();
    let summary = output.lines().find(|line| line.starts_with("Summary:"));
    let summary = summary.unwrap_or_else(|| panic!("pjdfstest has no summary:\n{output}"));
    let verdicts = output.lines().filter_map(|line| line.rsplit_once(' '));
    let of = |wanted: &str| -> BTreeSet<String> {
        let lines = verdicts.clone().filter(|(_, verdict)| *verdict == wanted);
        lines.map(|(name, _)| name.trim().to_owned()).collect()
    };
    let (passed, failed) = (of("ok"), of("FAILED"));
    assert!(
        passed.len() > 350,
        "only {} tests passed: {summary}\n{output}",
        passed.len()
    );
    assert!(
        summary.contains(&format!(" {} failed", failed.len())),
        "{summary}, but {failed:?}"
    );
    eprintln!("pjdfstest: {summary}");
    failed
}

#[test]
fn pjdfstest_on_the_kernels_mount_fails_only_what_btrfs_itself_decides() {
    let image = Image::mkfs_btrfs(600, &[]);
    let mount = LoopMount::read_write(image.path());
    let failed = pjdfstest(mount.path());
    mount.unmount();
    assert_eq!(
        failed,
        BTreeSet::from(["rename::updates_link_parent".to_owned()])
    );
}

#[test]
fn pjdfstest_fails_exactly_what_the_documentation_lists() {
    let image = Image::mkfs_btrfs(600, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,allow_other");
    let failed = pjdfstest(mount.path());
    mount.unmount();
    btrfs_check(image.path());
    assert_eq!(
        failed,
        expected_failures(),
        "found (left) against docs/semantics.md (right)"
    );
}

const FSX_WEIGHTS: &str = "
[weights]
close_open = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
invalidate = 1
truncate = 5
fsync = 0.1
fdatasync = 0.1
posix_fallocate = 2
punch_hole = 5
sendfile = 2
posix_fadvise = 1
copy_file_range = 2
";

/// `longest` is the largest file, a tenth of it the largest operation.
fn fsx(on: &Path, seed: u64, operations: u64, longest: u64) {
    let folder = temp_dir();
    let configuration = folder.path().join("fsx.toml");
    let sizes = format!(
        "flen = {longest}
[opsize]
min = 1
max = {}
",
        longest / 10
    );
    std::fs::write(&configuration, sizes + FSX_WEIGHTS).expect("our own folder");
    let finished = run_any(
        Command::new(tool("fsx"))
            .args(["-N", &operations.to_string(), "-S", &seed.to_string(), "-f"])
            .arg(&configuration)
            .arg("-P")
            .arg(folder.path())
            .arg(on.join(format!("fsx-{seed}"))),
        Duration::from_secs(200 + operations / 50),
    );
    let output = finished.output();
    let tail = &output[output.len().saturating_sub(4000)..];
    assert!(
        finished.status.success(),
        "fsx -S {seed}: {}\n{tail}",
        finished.status
    );
    assert!(
        output.contains("All operations completed"),
        "fsx -S {seed} said no end:\n{tail}"
    );
}

/// How many operations, and seeds: `scripts/fsx` names more.
fn wanted(operations: u64, seeds: u64) -> (u64, u64) {
    let number = |name| {
        let text = std::env::var(name).ok();
        text.map(|text| text.parse().expect("a number"))
    };
    (
        number("BTRFUSE_FSX_OPERATIONS").unwrap_or(operations),
        number("BTRFUSE_FSX_SEEDS").unwrap_or(seeds),
    )
}

#[test]
fn fsx_passes_on_the_kernels_mount() {
    let image = Image::mkfs_btrfs(600, &[]);
    let mount = LoopMount::read_write(image.path());
    let (operations, seeds) = wanted(2000, 1);
    for seed in 1..=seeds {
        fsx(mount.path(), seed, operations, 1_000_000);
    }
    println!("the kernel's mount: {seeds} seeds of {operations} operations");
    mount.unmount();
}

#[test]
fn fsx_passes_and_the_kernel_reads_its_files() {
    let image = Image::mkfs_btrfs(600, &[]);
    let mount = BtrfuseMount::read_write(image.path());
    let (operations, seeds) = wanted(3000, 4);
    for seed in 1..=seeds {
        fsx(mount.path(), seed, operations, 1_000_000);
    }
    // Around the limit of what is kept inline.
    for seed in seeds + 1..=seeds + 2 {
        fsx(mount.path(), seed, operations, 6000);
    }
    println!("ours: {} seeds of {operations} operations", seeds + 2);
    // What still waits in memory counts as blocks of its own, and no fsync of another file writes it.
    mount.sync();
    let ours = walk(mount.path());
    mount.unmount();
    btrfs_check(image.path());
    let mount = LoopMount::read_only(image.path());
    assert_same(
        "the kernel's mount after fsx",
        &walk(mount.path()),
        &ours,
        &Rules::fuse(),
    );
    mount.unmount();
}
