//! kill -9 under load: whoever was told that something is durable finds it.
//!
//! Four threads make, change, rename and delete files, each in a folder of its own, and fsync some
//! of it; the daemon is killed at any moment, or dies because it gets no more memory, and a new mount must
//! hold what the book allows.

mod book;
mod deaths;

use book::Book;
use btrfuse_test_support::check::{check, complaints};
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Rng, btrfs_check};
use deaths::Death;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WRITERS: u64 = 4;
/// How often the judges see the image, in kills.
const JUDGED_EVERY: u64 = 25;

/// One operation of a writer, with the book kept.
fn step(folder: &Path, book: &mut Book, rng: &mut Rng) -> io::Result<bool> {
    let names = book.names();
    let fresh = format!("f{:02}", rng.below(40));
    let name = match names.is_empty() || rng.one_in(4) {
        true => fresh.clone(),
        false => rng.choose(&names).clone(),
    };
    let path = folder.join(&name);
    let old = book.now(&name).unwrap_or_default();
    let room = |rng: &mut Rng| rng.below(40_000) as usize;
    let open = || {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
    };
    match rng.below(10) {
        // Append, or write over what is there, or leave a hole.
        0..=4 => {
            let at = match rng.below(3) {
                0 => old.len(),
                1 => rng.below(old.len() as u64 + 1) as usize,
                _ => old.len() + room(rng) / 8,
            };
            let len = room(rng);
            let bytes = rng.bytes(len);
            let mut new = old.clone();
            new.resize(new.len().max(at + len), 0);
            new[at..at + len].copy_from_slice(&bytes);
            // Made, and not written yet.
            book.next(&name, Some(old));
            let file = open()?;
            book.next(&name, Some(new));
            file.write_all_at(&bytes, at as u64)?;
            made_durable(&file, &name, book, rng)
        }
        5 => {
            let len = rng.below(old.len() as u64 + 5000) as usize;
            let mut new = old.clone();
            new.resize(len, 0);
            book.next(&name, Some(old));
            let file = open()?;
            book.next(&name, Some(new));
            file.set_len(len as u64)?;
            made_durable(&file, &name, book, rng)
        }
        // Replaced the way programs do it.
        6 | 7 => {
            let len = room(rng);
            let bytes = rng.bytes(len);
            let file = File::create(folder.join("new"))?;
            book.next("new", Some(Vec::new()));
            book.next("new", Some(bytes.clone()));
            file.write_all_at(&bytes, 0)?;
            file.sync_all()?;
            book.told("new");
            book.next("new", None);
            book.next(&name, Some(bytes));
            fs::rename(folder.join("new"), &path)?;
            match made_durable(&file, &name, book, rng)? {
                true => {
                    book.told("new");
                    Ok(true)
                }
                false => Ok(true),
            }
        }
        8 if !names.is_empty() => {
            let gone = rng.choose(&names).clone();
            book.next(&gone, None);
            fs::remove_file(folder.join(&gone))?;
            if rng.one_in(2) {
                return Ok(false);
            }
            File::open(folder)?.sync_all()?;
            book.told_names();
            Ok(true)
        }
        _ => {
            File::open(folder)?.sync_all()?;
            book.told_names();
            Ok(true)
        }
    }
}

/// Usually.
fn made_durable(file: &File, name: &str, book: &mut Book, rng: &mut Rng) -> io::Result<bool> {
    match rng.below(5) {
        0 => return Ok(false),
        1 => file.sync_data()?,
        _ => file.sync_all()?,
    }
    book.told(name);
    Ok(true)
}

/// Works until the daemon is gone; how often something was told to be durable.
fn work(folder: &Path, book: &mut Book, rng: &mut Rng, killed: &AtomicBool) -> u64 {
    let mut told = 0;
    loop {
        match step(folder, book, rng) {
            Ok(durable) => told += u64::from(durable),
            Err(why) => {
                // It may also live on, and say so: what failed may have been done in part.
                if killed.load(Ordering::SeqCst) && why.raw_os_error() == Some(libc::ENOMEM) {
                    continue;
                }
                let gone = [libc::ENOTCONN, libc::ECONNABORTED, libc::EIO].map(Some);
                assert!(killed.load(Ordering::SeqCst), "before the kill: {why}");
                assert!(gone.contains(&why.raw_os_error()), "after the kill: {why}");
                return told;
            }
        }
    }
}

/// Has the daemon hold as much as it will, until it is gone.
fn inflate(folder: &Path) {
    let bytes = vec![7; 4 << 20];
    let path = folder.join("balloon");
    let blow = || -> io::Result<()> {
        let file = File::create(&path)?;
        for at in 0..24 {
            file.write_all_at(&bytes, at * bytes.len() as u64)?;
        }
        drop(file);
        fs::remove_file(&path)
    };
    loop {
        // Without space or memory there may be some again.
        let gone = [libc::ENOTCONN, libc::ECONNABORTED].map(Some);
        if let Err(why) = blow()
            && gone.contains(&why.raw_os_error())
        {
            return;
        }
    }
}

fn kill_and_look(kills: u64, seed: u64, death: impl Fn(&mut Rng) -> Death) {
    println!("{kills} deaths, seed {seed}");
    let mut rng = Rng::new(seed);
    let nodesize = *rng.choose(&["4096", "16384"]);
    let image = Image::mkfs_btrfs(900, &["-n", nodesize]);
    let mut books: Vec<Book> = (0..WRITERS).map(|_| Book::default()).collect();
    let (mut told, mut slowest, mut all) = (0, Duration::ZERO, Duration::ZERO);
    let (mut starved, mut meant) = (0_u64, 0_u64);
    let mount = BtrfuseMount::read_write(image.path());
    for writer in 0..WRITERS {
        fs::create_dir(mount.path().join(writer.to_string())).expect("a writable mount");
    }
    mount.unmount();
    for kill in 1..=kills {
        let commit = *rng.choose(&["1", "5", "300"]);
        let began = Instant::now();
        let mount = BtrfuseMount::new(image.path(), &format!("subvolid=5,commit={commit}"));
        fs::metadata(mount.path().join("0")).expect("a mount that answers");
        let took = began.elapsed();
        (slowest, all) = (slowest.max(took), all + took);
        for (writer, book) in books.iter_mut().enumerate() {
            let folder = mount.path().join(writer.to_string());
            let found = book.compare(&folder);
            found.unwrap_or_else(|words| {
                panic!("seed {seed}, before kill {kill}, writer {writer}: {words}")
            });
        }
        let (killed, mut seeds) = (AtomicBool::new(false), rng.clone());
        rng.next_u64();
        let death = death(&mut rng);
        let mut died = false;
        let sum: u64 = std::thread::scope(|scope| {
            let killed = &killed;
            let writers: Vec<_> = books
                .iter_mut()
                .enumerate()
                .map(|(writer, book)| {
                    let folder = mount.path().join(writer.to_string());
                    let mut rng = Rng::new(seeds.next_u64() ^ writer as u64);
                    scope.spawn(move || work(&folder, book, &mut rng, killed))
                })
                .collect();
            if !matches!(death, Death::Kill) {
                scope.spawn(|| inflate(mount.path()));
            }
            std::thread::sleep(Duration::from_millis(seeds.below(200)));
            killed.store(true, Ordering::SeqCst);
            died = death.come(&mount);
            writers
                .into_iter()
                .map(|writer| writer.join().expect("a writer"))
                .sum()
        });
        told += sum;
        starved += u64::from(died);
        meant += u64::from(!matches!(death, Death::Kill));
        let (status, log) = mount.end();
        assert!(!status.success(), "dead of {death:?}");
        assert!(!log.contains("bug:"), "{death:?}: {log}");
        if kill % JUDGED_EVERY == 0 || kill == kills {
            judge(&image, &mut books, &format!("seed {seed}, death {kill}"));
            println!("{kill} deaths, {told} times told durable");
        }
    }
    println!(
        "{kills} deaths ({starved} for want of memory), seed {seed}: {told} times told durable, 0 lost; \
         a mount took {:.3} s on average and {:.3} s at most",
        all.as_secs_f64() / kills as f64,
        slowest.as_secs_f64()
    );
    assert!(starved * 2 >= meant, "{starved} of {meant} starved");
    // Enough was going on to lose something.
    assert!(told > kills, "{told}");
}

/// `btrfs check`, and the kernel's own look at a copy, which it replays the log of.
fn judge(image: &Image, books: &mut [Book], when: &str) {
    btrfs_check(image.path());
    assert_eq!(
        complaints(&check(image.path(), "lowmem")),
        [""; 0],
        "{when}"
    );
    let copy = image.copy();
    let kernel = LoopMount::read_write(copy.path());
    let ours = BtrfuseMount::read_write(image.path());
    for (writer, book) in books.iter_mut().enumerate() {
        let name = writer.to_string();
        // Ours first: from then on the book has what was found, and the kernel must find the same.
        for folder in [ours.path().join(&name), kernel.path().join(&name)] {
            let found = book.compare(&folder);
            found.unwrap_or_else(|words| panic!("{when}, {}: {words}", folder.display()));
        }
    }
    ours.unmount();
    kernel.unmount();
}

/// `scripts/kills` names how many deaths of each kind: `BTRFUSE_KILLS`, of the seed `BTRFUSE_KILLS_SEED`.
fn wanted(least: u64) -> (u64, u64) {
    let number = |name: &str| {
        let text = std::env::var(name).ok();
        text.map(|text| text.parse().expect("a number"))
    };
    let kills = number("BTRFUSE_KILLS").unwrap_or(least);
    (kills, number("BTRFUSE_KILLS_SEED").unwrap_or(1))
}

#[test]
fn what_was_told_survives_kills() {
    let (kills, seed) = wanted(25);
    kill_and_look(kills, seed, |_| Death::Kill);
}

/// A limit on memory ends in a clean death, and never in a bad image.
#[test]
fn what_was_told_survives_a_lack_of_memory() {
    let (deaths, seed) = wanted(15);
    kill_and_look(deaths, seed, Death::of_hunger);
}
