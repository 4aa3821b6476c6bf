//! Who judges a state: `btrfs check`, and the model, of what we show, in memory and on the device, and of
//! what a kernel shows, which replays what it finds: this machine's, or another in user mode.

use crate::model::{Model, lines};
use crate::other_kernel::{Batch, Booted, Seen};
use crate::recording::CrashState;
use btrfuse::fs::{Filesystem, MountOptions, NodeId};
use btrfuse::ondisk::Superblock;
use btrfuse::volume::{BlockDevice, MemoryDevice};
use btrfuse_test_support::check::{check, complaints, is_about_shared_orphans};
use btrfuse_test_support::command::{run, run_any};
use btrfuse_test_support::judge::apart_from_quotas;
use btrfuse_test_support::walk::walk;
use btrfuse_test_support::{LoopMount, Manifest};
use serde_json::Value;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

const PRIMARY_AT: u64 = 64 << 10;
const SECOND_AT: u64 = 64 << 20;
/// So many images a boot.
const BATCH: usize = 500;
const FAILURES_MAX: usize = 12;

/// What a kernel says of quotas that a writer without accounting marked as inconsistent, which is true.
const QUOTAS_MARKED: &str = "qgroup generation mismatch, marked as inconsistent";

/// Which kernels.
#[derive(Clone, Copy, Debug)]
pub struct Jury {
    /// Every so many-th state goes to this machine's kernel; none at 0.
    pub host_every: usize,
    /// The others go to the other one; or to none.
    pub other: bool,
    /// A state whose superblocks are those of the one before should look the same, and a kernel finds the
    /// same way: only so many-th of them goes to one.
    pub alike_every: usize,
}

/// A state, and what may be there.
pub struct Case {
    pub state: CrashState,
    /// What the model is told of the workload.
    pub history: Rc<Value>,
    /// When in it the power went.
    pub moment: Value,
    /// For people.
    pub label: String,
}

/// What is known of a case whose image is with the other kernel.
struct Waiting {
    history: Rc<Value>,
    moment: Value,
    label: String,
    has_quotas: bool,
    /// What the kernel leaves is looked at.
    afterwards: Afterwards,
}

/// What a kernel may have done to an image besides mounting it.
#[derive(Clone, Copy)]
struct Afterwards {
    /// It replayed a log.
    has_replayed: bool,
    /// Everything is looked at: all was removed, and no inode may be left that nobody has.
    thorough: bool,
}

/// The judges, and what they said.
pub struct Judges {
    model: Model,
    jury: Jury,
    /// Quotas are on: their numbers are marked as inconsistent, and check may say so.
    pub has_quotas: bool,
    /// The superblocks of the last state.
    superblocks: Vec<u8>,
    /// How many states had the same.
    alike: usize,
    batch: Batch,
    waiting: Vec<Waiting>,
    booted: Option<(Booted, Vec<Waiting>)>,
    /// States that were judged.
    pub judged: usize,
    /// Those whose first superblock was torn, and had to be restored from a copy.
    pub torn: usize,
    /// Those that this machine's kernel, and the other one, mounted.
    by_host: usize,
    by_other: usize,
    /// States that a kernel was to mount.
    for_kernels: usize,
    /// What speaks against states.
    pub failures: Vec<String>,
}

impl Judges {
    pub fn new(jury: Jury) -> Self {
        Self {
            model: Model::new(),
            jury,
            has_quotas: false,
            superblocks: Vec::new(),
            alike: 0,
            batch: Batch::new(),
            waiting: Vec::new(),
            booted: None,
            judged: 0,
            torn: 0,
            by_host: 0,
            by_other: 0,
            for_kernels: 0,
            failures: Vec::new(),
        }
    }

    /// Whether enough was found.
    pub fn is_over(&self) -> bool {
        self.failures.len() >= FAILURES_MAX
    }

    pub fn judge(&mut self, case: Case) {
        if let Err(why) = self.look(&case) {
            self.failures
                .push(format!("{}, {}: {why}", case.label, case.state.what));
        }
    }

    fn look(&mut self, case: &Case) -> Result<(), String> {
        let device = &case.state.device;
        let thorough = self.judged.is_multiple_of(4);
        self.judged += 1;
        let (found, _) = shown_by_us(device.clone(), true)?;
        self.ask(case, "our mount", &found)?;
        if thorough {
            self.go_on_with_us(case)?;
        }
        let path = self.batch.place();
        write(device, &path);
        if !first_is_whole(device) {
            // Nobody but us mounts that; a tool of the others' mends it.
            self.torn += 1;
            // It succeeds with status 2, and words.
            let mut mend = Command::new("btrfs");
            mend.args(["rescue", "super-recover", "-y"]).arg(&path);
            let mended = run_any(&mut mend, Duration::from_secs(60)).output();
            assert!(mended.contains("Recovered bad superblocks"), "{mended}");
        }
        let modes = ["original", "lowmem"];
        let modes = if thorough { &modes[..] } else { &modes[..1] };
        checked(&path, modes, self.has_quotas)?;
        if self.is_like_the_last(device) && !self.alike.is_multiple_of(self.jury.alike_every) {
            return Ok(());
        }
        let host_every = self.jury.host_every;
        let for_host = host_every > 0 && self.for_kernels.is_multiple_of(host_every);
        self.for_kernels += 1;
        let afterwards = Afterwards {
            has_replayed: has_log(device),
            thorough,
        };
        if for_host {
            self.by_host += 1;
            self.ask_host(case, &path, thorough)?;
            return after_a_kernel(&path, self.has_quotas, afterwards);
        }
        if self.jury.other {
            self.batch.add(thorough, self.for_kernels.is_multiple_of(3));
            self.waiting.push(Waiting {
                history: case.history.clone(),
                moment: case.moment.clone(),
                label: format!("{}, {}", case.label, case.state.what),
                has_quotas: self.has_quotas,
                afterwards,
            });
            if self.batch.len() >= BATCH {
                self.boot();
            }
        }
        Ok(())
    }

    fn is_like_the_last(&mut self, device: &MemoryDevice) -> bool {
        let mut bytes = vec![0; 8192];
        let (first, second) = bytes.split_at_mut(4096);
        device.read_at(PRIMARY_AT, first).expect("memory");
        device.read_at(SECOND_AT, second).expect("memory");
        let is_like = self.superblocks == bytes;
        self.alike = if is_like { self.alike + 1 } else { 0 };
        self.superblocks = bytes;
        is_like
    }

    fn ask(&mut self, case: &Case, who: &str, found: &Manifest) -> Result<(), String> {
        let found = lines(found);
        let said = self.model.judge(&case.history, &case.moment, found);
        said.map_err(|why| format!("{who}: {why}"))
    }

    /// A mount of ours that writes: what was replayed becomes durable, and what nobody has goes.
    fn go_on_with_us(&mut self, case: &Case) -> Result<(), String> {
        let (found, device) = shown_by_us(case.state.device.clone(), false)?;
        self.ask(case, "our next mount", &found)?;
        let image = self.batch.place().with_extension("ours");
        write(&device, &image);
        let everything = Afterwards {
            has_replayed: true,
            thorough: true,
        };
        let done = after_a_kernel(&image, self.has_quotas, everything);
        std::fs::remove_file(&image).expect("our own file");
        done.map_err(|why| format!("our next mount: {why}"))
    }

    fn ask_host(&mut self, case: &Case, image: &Path, is_emptied: bool) -> Result<(), String> {
        let kernel = LoopMount::read_write(image);
        let found = walk(kernel.path());
        self.ask(case, "the kernel's mount", &found)?;
        if is_emptied {
            // Directories have the right size only if what is emptied can be removed.
            for entry in std::fs::read_dir(kernel.path()).expect("a root") {
                let path = entry.expect("an entry").path();
                let removed = match path.symlink_metadata().expect("an inode").is_dir() {
                    true => std::fs::remove_dir_all(&path),
                    false => std::fs::remove_file(&path),
                };
                removed.map_err(|why| format!("{} can't be removed: {why}", path.display()))?;
            }
        }
        kernel.unmount();
        Ok(())
    }

    /// Hands over what waits, and goes on while the other kernel looks.
    fn boot(&mut self) {
        self.hear();
        if self.batch.len() > 0 {
            let batch = std::mem::replace(&mut self.batch, Batch::new());
            let waiting = std::mem::take(&mut self.waiting);
            self.booted = Some((batch.boot(), waiting));
        }
    }

    /// What it has to say.
    fn hear(&mut self) {
        let Some((booted, waiting)) = self.booted.take() else {
            return;
        };
        let (_images, seen) = booted.wait();
        assert_eq!(seen.len(), waiting.len(), "an answer each");
        for (seen, case) in seen.into_iter().zip(waiting) {
            self.by_other += 1;
            if let Err(why) = self.weigh(seen, &case) {
                self.failures
                    .push(format!("{}: the other kernel: {why}", case.label));
            }
        }
    }

    fn weigh(&mut self, seen: Seen, case: &Waiting) -> Result<(), String> {
        let found = seen.found?;
        self.model.judge(&case.history, &case.moment, found)?;
        let mut complaints = seen.complaints;
        if case.has_quotas {
            complaints.retain(|it| !it.contains(QUOTAS_MARKED));
        }
        match complaints.is_empty() {
            true => after_a_kernel(&seen.image, case.has_quotas, case.afterwards),
            false => Err(complaints.join("\n")),
        }
    }

    /// All of it; panics with what was found.
    pub fn end(mut self) -> usize {
        self.boot();
        self.hear();
        self.failures.truncate(FAILURES_MAX);
        assert!(self.failures.is_empty(), "{}", self.failures.join("\n\n"));
        println!(
            "{} states, {} with a torn superblock; {} to this kernel, {} to the other",
            self.judged, self.torn, self.by_host, self.by_other
        );
        self.judged
    }
}

fn write(device: &MemoryDevice, path: &Path) {
    let file = File::create(path).expect("room for an image");
    device.copy_to(&file).expect("room for an image");
}

/// All of it as a mount of ours shows it; one that doesn't write replays in memory.
fn shown_by_us(
    device: MemoryDevice,
    read_only: bool,
) -> Result<(Manifest, Arc<MemoryDevice>), String> {
    let options = MountOptions {
        read_only,
        subvolid: Some(5),
        background: false,
        ..MountOptions::default()
    };
    let device = Arc::new(device);
    let fs = Filesystem::mount(vec![device.clone()], &options)
        .map_err(|why| format!("we refuse it: {why}"))?;
    let mut found = crate::own_walk::walk(&fs, NodeId::ROOT);
    for record in &mut found.0 {
        // Inodes of other subvolumes have numbers that no two of a mount share.
        let number = record.fields["ino"].as_u64().expect("a number");
        if number >> 63 == 1 {
            record.fields["ino"] = (number & ((1 << 40) - 1)).into();
        }
    }
    fs.unmount().map_err(|why| format!("our unmount: {why}"))?;
    Ok((found, device))
}

/// Whether the first superblock is valid, by itself: where a cut fell between its write and that of a copy
/// with a log, we go on with the copy, and others with the first.
fn first_is_whole(device: &MemoryDevice) -> bool {
    let mut bytes = vec![0; 4096];
    device.read_at(PRIMARY_AT, &mut bytes).expect("memory");
    Superblock::parse_at(&bytes, PRIMARY_AT).is_ok()
}

fn has_log(device: &MemoryDevice) -> bool {
    let mut bytes = vec![0; 4096];
    device.read_at(PRIMARY_AT, &mut bytes).expect("memory");
    // A torn one was restored from a copy, with or without.
    Superblock::parse_at(&bytes, PRIMARY_AT).map_or(true, |it| it.log_root.get() != 0)
}

fn checked(image: &Path, modes: &[&str], has_quotas: bool) -> Result<(), String> {
    for mode in modes {
        let mut found = complaints(&check(image, mode));
        if has_quotas {
            found = apart_from_quotas(found);
        }
        // A snapshot shares a leaf with what was deleted and is still open: original mode's alarm, and not
        // lowmem's.
        if is_about_shared_orphans(&found) && *mode == "original" {
            checked(image, &["lowmem"], has_quotas)?;
        } else if !found.is_empty() {
            return Err(found.join("\n"));
        }
    }
    Ok(())
}

/// After a mount that writes there is nothing that nobody has: no orphan, and no alarm about one.
fn after_a_kernel(image: &Path, has_quotas: bool, afterwards: Afterwards) -> Result<(), String> {
    if afterwards.has_replayed || afterwards.thorough {
        let done = checked(image, &["original"], has_quotas);
        done.map_err(|why| format!("afterwards: {why}"))?;
    }
    let orphans = if afterwards.thorough {
        orphans(image)
    } else {
        Vec::new()
    };
    match orphans.is_empty() {
        true => Ok(()),
        false => Err(format!("afterwards there are orphans: {orphans:?}")),
    }
}

/// Inodes that nobody has, as "tree inode". A deleted subvolume is dropped later, and all that is in it.
fn orphans(image: &Path) -> Vec<String> {
    let dump = run(Command::new("btrfs")
        .args(["inspect-internal", "dump-tree"])
        .arg(image));
    let (mut found, mut deleted, mut tree) = (Vec::new(), Vec::new(), String::new());
    for line in dump.stdout.lines() {
        if let Some((_, rest)) = line.split_once("tree key (") {
            tree = rest.split(' ').next().expect("a number").to_owned();
        } else if line.starts_with("root tree") {
            tree.clear();
        } else if let Some((_, rest)) = line.split_once("key (ORPHAN ORPHAN_ITEM ") {
            let number = rest.split(')').next().expect("a number").to_owned();
            match tree.is_empty() {
                true => deleted.push(number),
                false => found.push((tree.clone(), number)),
            }
        }
    }
    found.retain(|(tree, _)| !deleted.contains(tree));
    let words = found.iter().map(|(tree, inode)| format!("{tree} {inode}"));
    words.collect()
}
