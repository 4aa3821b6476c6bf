//! An image is filled, changed at the brim and emptied, again and again on one mount.
//!
//! Owns: the order of things, and what must hold after each. Invariant: no space is an answer to
//! whoever wants more, and to nobody else; removing works, whatever there is; what was acknowledged is
//! there; the mount stays writable.

use crate::folder::{Folder, Tally};
use crate::plan::Plan;
use btrfuse_test_support::daemon_log::judge_log;
use btrfuse_test_support::{
    BtrfuseMount, Image, Judge, LoopMount, Rng, btrfs_check, btrfuse_binary, run, run_any,
};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Names of each folder that the kernel removes from a full image in any case, and how long it goes on.
const KERNEL_REMOVES_LEAST: usize = 150;
const KERNEL_REMOVES: Duration = Duration::from_secs(3);

/// What was seen over all images.
#[derive(Default)]
pub struct Figures {
    pub cycles: u64,
    pub images: u64,
    pub made: Tally,
    pub overwritten: Tally,
    pub truncated: Tally,
    pub moved: Tally,
    pub snapshots: Tally,
    /// Names removed, and how often there was no space while a snapshot had the same blocks.
    pub removed: Tally,
    /// Images that the kernel filled, and full ones that it removed names from.
    pub by_kernel: u64,
    pub removed_by_kernel: u64,
    pub checks: u64,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |tally: &Tally| format!("{} and {} refusals", tally.done, tally.refused);
        write!(
            f,
            "{} cycles on {} images ({} filled by the kernel, {} where it removed names, {} checked while full): \
             made {}; at the brim overwritten {}, truncated {}, renamed {}, snapshots {}; removed {}",
            self.cycles,
            self.images,
            self.by_kernel,
            self.removed_by_kernel,
            self.checks,
            of(&self.made),
            of(&self.overwritten),
            of(&self.truncated),
            of(&self.moved),
            of(&self.snapshots),
            of(&self.removed)
        )
    }
}

/// A snapshot and what must be in it.
struct Snapshot {
    name: String,
    folders: Vec<Folder>,
}

struct Stage<'a> {
    plan: &'a Plan,
    image: &'a Image,
    mount: Option<BtrfuseMount>,
    rng: Rng,
    folders: Vec<Folder>,
    snapshots: Vec<Snapshot>,
    figures: &'a mut Figures,
}

/// Plays the plan, at most so many cycles of it.
pub fn play(plan: &Plan, most: u64, figures: &mut Figures) {
    let image = plan.image();
    let cycles = plan.cycles.min(most);
    let mut stage = Stage {
        plan,
        image: &image,
        mount: None,
        rng: Rng::new(plan.seed ^ 0x5eed),
        folders: Vec::new(),
        snapshots: Vec::new(),
        figures,
    };
    for cycle in 0..cycles {
        let mut clock = Clock::start();
        if cycle == 0 && plan.kernel_fills {
            stage.fill_by_kernel();
            stage.mount();
        } else {
            stage.mount();
            stage.fill(cycle);
        }
        clock.lap("filled");
        stage.change();
        // Beside snapshots each removal may wait for a commit, so they are the smaller part.
        let snapshots = *stage.rng.choose(&[0, 0, 0, 1, 2]);
        for number in 0..snapshots {
            stage.snapshot(cycle, number);
        }
        clock.lap("changed");
        if stage.rng.one_in(3) {
            stage.unmount();
            stage.judge_full();
            stage.mount();
        }
        clock.lap("judged");
        stage.verify();
        clock.lap("compared");
        stage.empty();
        clock.lap("emptied");
        stage.want_writable();
        stage.figures.cycles += 1;
        println!("  cycle {cycle}: {}", clock.said);
    }
    stage.unmount();
    btrfs_check(image.path());
    let kernel = LoopMount::read_only(image.path());
    let left = std::fs::read_dir(kernel.path()).expect("a mount").count();
    assert_eq!(left, 0, "everything was removed");
    kernel.unmount();
    stage.figures.images += 1;
}

/// Where the time of a cycle goes.
struct Clock {
    since: Instant,
    said: String,
}

impl Clock {
    fn start() -> Self {
        Self {
            since: Instant::now(),
            said: String::new(),
        }
    }

    fn lap(&mut self, what: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        let gap = if self.said.is_empty() { "" } else { ", " };
        self.said.push_str(&format!("{gap}{what} {seconds:.1} s"));
        self.since = Instant::now();
    }
}

impl Stage<'_> {
    fn mount(&mut self) {
        if self.mount.is_none() {
            let mount = BtrfuseMount::new(self.image.path(), &self.plan.options);
            self.move_to(mount.path());
            self.mount = Some(mount);
        }
    }

    fn root(&self) -> &Path {
        self.mount.as_ref().expect("mounted").path()
    }

    fn move_to(&mut self, root: &Path) {
        for folder in &mut self.folders {
            *folder = folder.at(root);
        }
        for snapshot in &mut self.snapshots {
            let inside = root.join(&snapshot.name);
            for folder in &mut snapshot.folders {
                *folder = folder.at(&inside);
            }
        }
    }

    fn unmount(&mut self) {
        if let Some(mount) = self.mount.take() {
            let log = mount.unmount_to_log();
            let said = judge_log(&log, &[]);
            let wrong: Vec<_> = said
                .iter()
                .filter(|line| !line.contains("no space"))
                .collect();
            assert!(wrong.is_empty(), "{wrong:?}\n{log}");
        }
    }

    /// A mount that aborted says why.
    fn want_writable(&self) {
        let mut command = Command::new(btrfuse_binary());
        let stats = run(command.args(["stats", "--json"]).arg(self.root()));
        assert!(
            stats.stdout.contains("\"read_only\": null"),
            "{}",
            stats.stdout
        );
    }

    fn make_folders(&mut self, root: &Path, cycle: u64) {
        self.folders = (0..self.plan.writers as u64)
            .map(|writer| {
                let seed = (self.plan.seed % 1000) << 12 | cycle << 4 | writer;
                Folder::new(root.join(format!("c{cycle}w{writer}")), seed)
            })
            .collect();
        for folder in &self.folders {
            assert!(
                folder.make(),
                "no space for a folder on an empty filesystem"
            );
        }
    }

    fn fill(&mut self, cycle: u64) {
        let root = self.root().to_owned();
        self.make_folders(&root, cycle);
        self.fill_folders();
    }

    fn fill_by_kernel(&mut self) {
        let kernel = LoopMount::read_write(self.image.path());
        let root = kernel.path().to_owned();
        self.make_folders(&root, 0);
        self.fill_folders();
        kernel.unmount_damaged();
        self.figures.by_kernel += 1;
    }

    /// With content, with names, or with both, until there is no space.
    fn fill_folders(&mut self) {
        let names_first = self.plan.mib <= 256 && self.rng.one_in(4);
        let only_data = self.rng.one_in(5);
        let mib = self.plan.mib;
        let made = self.side_by_side(|folder| {
            let mut tally = Tally::default();
            if names_first {
                fill_with_names(folder, &mut tally);
            }
            fill_with_data(folder, mib << 20, &mut tally);
            if !only_data {
                fill_with_names(folder, &mut tally);
            }
            tally
        });
        made.into_iter()
            .for_each(|tally| self.figures.made += tally);
    }

    fn side_by_side<T: Send>(&mut self, work: impl Fn(&mut Folder) -> T + Sync) -> Vec<T> {
        let work = &work;
        std::thread::scope(|scope| {
            let all: Vec<_> = self
                .folders
                .iter_mut()
                .map(|folder| scope.spawn(move || work(folder)))
                .collect();
            let all = all.into_iter();
            all.map(|it| {
                it.join()
                    .unwrap_or_else(|why| std::panic::resume_unwind(why))
            })
            .collect()
        })
    }

    /// What is there is written over, cut and renamed while there is no space; what that frees is
    /// filled again.
    fn change(&mut self) {
        let shared = !self.snapshots.is_empty();
        let done = self.side_by_side(|folder| {
            let mut tallies = [Tally::default(); 4];
            for round in 0..40 {
                folder.overwrite(round % 4 == 0, &mut tallies[0]);
                if round % 4 == 1 {
                    folder.rename(&mut tallies[1]);
                }
                if round % 8 == 2 {
                    folder.truncate(shared, &mut tallies[2]);
                }
            }
            fill_with_names(folder, &mut tallies[3]);
            fill_with_data(folder, 1 << 20, &mut tallies[3]);
            tallies
        });
        for [overwritten, moved, truncated, made] in done {
            self.figures.overwritten += overwritten;
            self.figures.moved += moved;
            self.figures.truncated += truncated;
            self.figures.made += made;
        }
    }

    /// A snapshot at the brim. Where that is refused, some names go and it is asked for again; then what
    /// there is still room for is filled.
    fn snapshot(&mut self, cycle: u64, number: u64) {
        let name = format!("snapshot-{cycle}-{number}");
        let place = self.root().join(&name);
        for most in [0, 30, 150] {
            self.remove_some(most);
            let (taken, said) = self.subvolume(&["snapshot"], &[self.root(), &place]);
            assert!(taken || said.contains("no space is left"), "{said}");
            self.figures.snapshots += Tally {
                done: u64::from(taken),
                refused: u64::from(!taken),
            };
            if taken {
                let folders = self.folders.iter().map(|it| it.at(&place)).collect();
                self.snapshots.push(Snapshot { name, folders });
                self.change();
                return;
            }
        }
    }

    /// Removes up to so many names of each folder; where snapshots share them, there may be no space.
    fn remove_some(&mut self, most: usize) {
        let done = self.side_by_side(|folder| remove_from(folder, most.min(folder.len())));
        for (tally, why) in done {
            self.figures.removed += tally;
            if let Some(why) = why {
                assert!(!self.snapshots.is_empty(), "{why}");
                self.figures.removed.refused += 1;
            }
        }
    }

    fn subvolume(&self, verb: &[&str], places: &[&Path]) -> (bool, String) {
        let mut command = Command::new(btrfuse_binary());
        command.arg("subvolume").args(verb).args(places);
        let finished = run_any(&mut command, Duration::from_secs(120));
        (finished.status.success(), finished.output())
    }

    /// The image as it lies there, full: `btrfs check`, and from time to time the kernel, which must be
    /// able to go on.
    fn judge_full(&mut self) {
        // Some files have very many names.
        let judge = Judge::strict().excusing_extended_references();
        judge.assert_content(self.image.path());
        self.figures.checks += 1;
        if !self.rng.one_in(2) {
            return;
        }
        let copy = self.image.copy();
        let kernel = LoopMount::read_write(copy.path());
        let inside = |folder: &Folder| folder.at(kernel.path());
        let mut folders: Vec<_> = self.folders.iter().map(inside).collect();
        folders.iter().for_each(Folder::verify);
        for snapshot in &self.snapshots {
            let place = kernel.path().join(&snapshot.name);
            snapshot
                .folders
                .iter()
                .for_each(|it| it.at(&place).verify());
            run(Command::new("btrfs")
                .args(["subvolume", "delete"])
                .arg(place));
        }
        if !self.snapshots.is_empty() {
            let mut command = Command::new("btrfs");
            run(command.args(["subvolume", "sync"]).arg(kernel.path()));
        }
        // Not always to the end: on a full filesystem the kernel commits for each name that it removes.
        let to_the_end = self.rng.one_in(8);
        let end = Instant::now() + KERNEL_REMOVES;
        for folder in &mut folders {
            for removed in 0..folder.len() {
                if !to_the_end && removed >= KERNEL_REMOVES_LEAST && Instant::now() > end {
                    break;
                }
                folder
                    .remove_one()
                    .unwrap_or_else(|why| panic!("the kernel's {why}"));
            }
            if folder.len() == 0 {
                folder.remove();
            }
        }
        let said = kernel.unmount_damaged();
        // It makes its list of subvolumes anew, and has no space either.
        let about_space = |line: &String| line.contains("uuid_scan_kthread failed -28");
        assert!(said.iter().all(about_space), "{said:?}");
        judge.assert_content(copy.path());
        self.figures.removed_by_kernel += 1;
    }

    fn verify(&mut self) {
        self.side_by_side(|folder| folder.verify());
        for snapshot in &self.snapshots {
            snapshot.folders.iter().for_each(Folder::verify);
        }
    }

    fn delete_snapshot(&mut self) {
        if let Some(snapshot) = self.snapshots.pop() {
            let place = self.root().join(snapshot.name);
            let (deleted, said) = self.subvolume(&["delete"], &[&place]);
            assert!(deleted, "deleting a snapshot: {said}");
        }
    }

    /// Everything goes, in an order that has nothing to do with where it lies; snapshots before, between
    /// and after.
    fn empty(&mut self) {
        let share = 2 + self.rng.below(6) as usize;
        for round in 0.. {
            if self.rng.one_in(3) {
                self.delete_snapshot();
            }
            let left: usize = self.folders.iter().map(Folder::len).sum();
            if left == 0 {
                break;
            }
            let done = self.side_by_side(|folder| {
                let some = (folder.len() / share).max(50);
                remove_from(folder, some.min(folder.len()))
            });
            let mut refused = None;
            for (tally, why) in done {
                self.figures.removed += tally;
                refused = refused.or(why);
            }
            let Some(why) = refused else { continue };
            assert!(!self.snapshots.is_empty(), "round {round}: {why}");
            // What a snapshot shares costs space to remove; the snapshot itself always goes.
            self.figures.removed.refused += 1;
            self.delete_snapshot();
            self.wait_for_room();
        }
        while !self.snapshots.is_empty() {
            self.delete_snapshot();
        }
        self.folders.iter().for_each(Folder::remove);
        self.folders.clear();
    }

    /// Until what the deleted snapshot alone had is free.
    fn wait_for_room(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Some(Err(why)) = self
            .folders
            .iter_mut()
            .find(|folder| folder.len() > 0)
            .map(Folder::remove_one)
        {
            if !self.snapshots.is_empty() {
                self.delete_snapshot();
            }
            assert!(Instant::now() < deadline, "without a snapshot: {why}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// How many names were removed, and why no more.
fn remove_from(folder: &mut Folder, most: usize) -> (Tally, Option<String>) {
    let mut tally = Tally::default();
    for _ in 0..most {
        match folder.remove_one() {
            Ok(()) => tally.done += 1,
            Err(why) => return (tally, Some(why)),
        }
    }
    (tally, None)
}

fn fill_with_data(folder: &mut Folder, total: u64, tally: &mut Tally) {
    let mut refusals = 0;
    while refusals < 4 {
        let (len, preallocate, sync) = folder.draw_file(total, refusals);
        if folder.file(len, preallocate, sync) {
            tally.done += 1;
        } else {
            tally.refused += 1;
            refusals += 1;
        }
    }
}

fn fill_with_names(folder: &mut Folder, tally: &mut Tally) {
    let mut refusals = 0;
    while refusals < 6 {
        if folder.name() {
            tally.done += 1;
        } else {
            tally.refused += 1;
            refusals += 1;
        }
    }
}
