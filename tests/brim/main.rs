//! Images at the brim: cycles of filling, overwriting and emptying on real mounts, and how much goes in
//! beside the kernel's btrfs.
//!
//! `scripts/full-cycles` and `scripts/full-compare` run as much of it as is wanted.

mod compare;
mod cycle;
mod files;
mod folder;
mod plan;
mod rules;

use btrfuse_test_support::Image;
use compare::{FILLINGS, Filling, Row, compare, table};

/// What ours has to hold of what the kernel's holds.
const PERCENT_LEAST: f64 = 95.0;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Makes images, fills them, and demands the least of each row.
fn hold(mib: u64, options: &[&str], fillings: &[Filling]) -> Vec<Row> {
    let image = Image::mkfs_btrfs(mib, options);
    let mkfs = options.join(" ");
    let rows = fillings.iter().map(|&it| compare(&image, &mkfs, mib, it));
    rows.collect()
}

#[track_caller]
fn want_enough(rows: &[Row]) {
    let short: Vec<_> = rows
        .iter()
        .filter(|row| row.percent() < PERCENT_LEAST)
        .map(|row| format!("{} MiB {} {}", row.mib, row.mkfs, row.filling.name()))
        .collect();
    assert!(short.is_empty(), "too little: {short:?}\n{}", table(rows));
}

#[test]
fn a_full_image_holds_what_the_kernels_holds() {
    let quick = [
        Filling::Files(1 << 20),
        Filling::Attributes(3500),
        Filling::Fallocate,
    ];
    want_enough(&hold(64, &["-m", "single"], &quick));
    want_enough(&hold(
        64,
        &["-M"],
        &[Filling::Files(100 << 10), Filling::OneFile],
    ));
    want_enough(&hold(
        110,
        &["-m", "dup", "-n", "4096"],
        &[Filling::Files(4096)],
    ));
}

/// The whole table, of the sizes in MiB that `BTRFUSE_FULL_SIZES` names. Without it there is nothing to
/// do beyond the test above.
#[test]
fn the_whole_table_of_what_is_held() {
    let Ok(sizes) = std::env::var("BTRFUSE_FULL_SIZES") else {
        return;
    };
    let mut rows = Vec::new();
    for mib in sizes.split_whitespace() {
        let mib: u64 = mib.parse().expect("a size in MiB");
        let kinds: &[&[&str]] = match mib {
            // mkfs.btrfs keeps two copies on no less.
            ..110 => &[&["-m", "single"], &["-m", "single", "-n", "4096"], &["-M"]],
            110..200 => &[&["-m", "dup"], &["-m", "dup", "-n", "4096"], &["-M"]],
            _ => &[&["-m", "dup"]],
        };
        for options in kinds {
            rows.extend(hold(mib, options, FILLINGS));
        }
    }
    println!("{}", table(&rows));
    want_enough(&rows);
}

/// As many cycles as `BTRFUSE_FULL_CYCLES` says, from the seed `BTRFUSE_FULL_SEED` on. A failure is found
/// again by the seed of its image.
#[test]
fn full_images_can_be_emptied_and_filled_again() {
    let cycles = number("BTRFUSE_FULL_CYCLES").unwrap_or(CYCLES);
    let first = number("BTRFUSE_FULL_SEED").unwrap_or(1);
    let mut figures = cycle::Figures::default();
    for seed in first.. {
        if figures.cycles >= cycles {
            break;
        }
        let plan = plan::Plan::draw(seed);
        println!("{plan}");
        cycle::play(&plan, cycles - figures.cycles, &mut figures);
    }
    println!("seeds from {first} on: {figures}");
}

/// Cycles that are always run.
const CYCLES: u64 = 5;
