//! A mount that works for long: its memory stays what it was after the first rounds, and the kernel
//! refers to nothing when everything is deleted.

use btrfuse_test_support::btrfuse_mount::btrfuse_binary;
use btrfuse_test_support::{BtrfuseMount, Image, btrfs_check, run, run_any};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// Rounds until everything has been used once.
const WARM_UP: usize = 3;
/// What later rounds may have more, in KiB: stacks of threads, arenas of the allocator.
const MORE_KIB: u64 = 12 << 10;

fn stats(mount: &BtrfuseMount) -> Value {
    let mut command = Command::new(btrfuse_binary());
    command.args(["stats", "--json"]).arg(mount.path());
    let finished = run_any(&mut command, Duration::from_secs(60));
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|why| panic!("{why}: {}", finished.output()))
}

fn resident_kib(mount: &BtrfuseMount) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.daemon_id()));
    let status = status.expect("a running daemon");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.trim().parse().ok()).expect("VmRSS")
}

/// Works, deletes everything, and waits until the kernel has let go of what is gone.
fn round(mount: &BtrfuseMount, seed: u64, seconds: u64) -> (u64, u64) {
    let folder = mount.path().join("work");
    fs::create_dir(&folder).expect("a writable mount");
    let mut stress = Command::new(btrfuse_binary());
    stress.arg("stress").arg(&folder);
    let (seed, time) = (seed.to_string(), seconds.to_string());
    stress.args([
        "--mix", "fsstress", "--procs", "4", "--seed", &seed, "--time", &time,
    ]);
    let finished = run_any(&mut stress, Duration::from_secs(seconds + 300));
    assert!(
        finished.status.success(),
        "seed {seed}: {}",
        finished.output()
    );
    // Read-only snapshots can't be emptied.
    for snapshot in fs::read_dir(folder.join("btrfuse-stress/snapshots")).expect("its folder") {
        let mut delete = Command::new(btrfuse_binary());
        delete
            .args(["subvolume", "delete"])
            .arg(snapshot.expect("a name").path());
        run(&mut delete);
    }
    run(Command::new("rm").arg("-rf").arg(&folder));
    mount.sync();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let stats = stats(mount);
        let of = |name: &str| stats["kernel"][name].as_u64().expect("a number");
        let (given, returned) = (of("lookups"), of("forgotten"));
        // Nobody works, but FORGETs of what is gone may be on their way.
        let held = given.saturating_sub(returned) == of("references");
        // The root, and what `stats` itself opens.
        if held && of("inodes") <= 2 {
            return (resident_kib(mount), given);
        }
        assert!(Instant::now() < deadline, "seed {seed}: {stats:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// `scripts/soak MINUTES` names for how long: `BTRFUSE_SOAK_MINUTES`, from the seed `BTRFUSE_SOAK_SEED`
/// on.
#[test]
fn memory_stays_flat_and_the_kernel_lets_go() {
    let number = |name: &str| {
        let text = std::env::var(name).ok();
        text.map(|text| text.parse::<u64>().expect("a number"))
    };
    let seed = number("BTRFUSE_SOAK_SEED").unwrap_or(1);
    let (rounds, seconds) = match number("BTRFUSE_SOAK_MINUTES") {
        Some(minutes) => (minutes.max(5), 60),
        None => (6, 2),
    };
    let image = Image::mkfs_btrfs(3000, &[]);
    let mount = BtrfuseMount::new(image.path(), "subvolid=5,metadata_cache=16M");
    let mut resident = Vec::new();
    for n in 0..rounds {
        let (kib, lookups) = round(&mount, seed + n, seconds);
        println!(
            "round {n}: {} MiB resident, {lookups} lookups so far",
            kib >> 10
        );
        resident.push(kib);
        let warm = *resident.iter().take(WARM_UP).max().expect("a round");
        assert!(
            kib <= warm + warm / 10 + MORE_KIB,
            "seed {seed}: {resident:?} KiB"
        );
    }
    mount.unmount();
    btrfs_check(image.path());
}
