//! How a daemon is made to die.

use btrfuse_test_support::{BtrfuseMount, Rng};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a daemon without memory is watched before it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// What ends it.
#[derive(Clone, Copy, Debug)]
pub enum Death {
    /// SIGKILL, at any moment.
    Kill,
    /// It may have this much more data: what it asks for beyond is refused.
    Refusals(u64),
    /// From now on it may have this much memory: the kernel kills it for more.
    Memory(u64),
}

impl Death {
    /// One of those for want of memory.
    pub fn of_hunger(rng: &mut Rng) -> Self {
        match rng.one_in(2) {
            true => Self::Refusals(rng.below(16 << 20)),
            false => Self::Memory((128 << 10) + rng.below(8 << 20)),
        }
    }

    /// Brings it about; true if the daemon died of it, and wasn't killed by us.
    pub fn come(self, mount: &BtrfuseMount) -> bool {
        let id = mount.daemon_id();
        let pid = Pid::from_raw(id.cast_signed()).expect("running");
        let _group = match self {
            Self::Kill => None,
            Self::Refusals(more) => {
                let limit = Some(data_bytes(id) + more);
                let limit = Rlimit {
                    current: limit,
                    maximum: limit,
                };
                prlimit(Some(pid), Resource::Data, limit).expect("our own child");
                None
            }
            Self::Memory(bytes) => Some(Group::around(id, bytes)),
        };
        let deadline = Instant::now() + PATIENCE;
        while !matches!(self, Self::Kill) && Instant::now() < deadline {
            if is_dead(id) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        kill_process(pid, Signal::KILL).expect("our own child");
        false
    }
}

fn status(id: u32) -> String {
    fs::read_to_string(format!("/proc/{id}/status")).expect("a child that wasn't waited for")
}

fn data_bytes(id: u32) -> u64 {
    let status = status(id);
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = kib.expect("a size").parse().expect("a number");
    kib * 1024
}

/// Ended, and not waited for yet.
fn is_dead(id: u32) -> bool {
    status(id).lines().any(|line| line.starts_with("State:\tZ"))
}

/// A control group with a limit and one process; gone when this is dropped.
struct Group(PathBuf);

impl Group {
    fn around(id: u32, bytes: u64) -> Self {
        let own = fs::read_to_string("/proc/self/cgroup").expect("control groups");
        // The hierarchy of version 1 that has the controller, else the one of version 2.
        let first = own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let has_memory = controllers.split(',').any(|name| name == "memory");
            has_memory.then(|| path.trim_start_matches('/').to_owned())
        });
        let (parent, limit) = match first {
            Some(path) => (
                Path::new("/sys/fs/cgroup/memory").join(path),
                "memory.limit_in_bytes",
            ),
            None => (PathBuf::from("/sys/fs/cgroup"), "memory.max"),
        };
        let group = Self(parent.join(format!("btrfuse-test-{id}")));
        fs::create_dir(&group.0).expect("a memory controller");
        let set = |file: &str, text: String| {
            let file = group.0.join(file);
            fs::write(&file, text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        };
        set(limit, bytes.to_string());
        set("cgroup.procs", id.to_string());
        group
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        // Busy until the process is gone from it.
        while let Err(why) = fs::remove_dir(&self.0) {
            if Instant::now() > deadline {
                eprintln!("{}: {why}", self.0.display());
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
