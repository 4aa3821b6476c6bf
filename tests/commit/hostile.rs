//! Damaged images opened for writing: each is refused, opened read-only, or written; never a
//! panic, and never an endless wait. Runs where `BTRFUSE_CORPORA` names the collection.

use crate::scribe::{Scribe, open_device};
use btrfuse::ondisk::ids::FS_TREE_OBJECTID;
use btrfuse::volume::FileDevice;
use btrfuse_test_support::{Rng, temp_dir};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn images(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            images(&path, found);
        } else if path.to_string_lossy().ends_with(".raw.xz") {
            found.push(path);
        }
    }
}

fn write_to(image: &Path) -> String {
    let device = match FileDevice::open(image, false) {
        Ok(device) => device,
        Err(error) => return format!("refused: {error}"),
    };
    let engine = match open_device(Arc::new(device)) {
        Ok(engine) => engine,
        Err(error) => return format!("refused: {error}"),
    };
    if let Some(reason) = engine.read_only() {
        return format!("read-only: {reason}");
    }
    let Some(mut scribe) = Scribe::try_new(&engine, FS_TREE_OBJECTID, "h") else {
        return "unreadable".into();
    };
    let mut rng = Rng::new(1);
    for _ in 0..60 {
        if let Err(error) = scribe.step(&mut rng) {
            return format!("stopped: {error}");
        }
    }
    match engine.shutdown() {
        Ok(()) => "written".into(),
        Err(error) => format!("stopped: {error}"),
    }
}

#[test]
fn damaged_images_never_panic() {
    let Some(corpora) = std::env::var_os("BTRFUSE_CORPORA") else {
        return;
    };
    let mut all = Vec::new();
    images(&Path::new(&corpora).join("btrfs-progs"), &mut all);
    assert!(
        all.len() > 10,
        "BTRFUSE_CORPORA has only {} images",
        all.len()
    );
    all.sort();
    let mut panicked = Vec::new();
    for packed in all {
        let folder = temp_dir();
        let image = folder.path().join("image.raw");
        let unpacked = Command::new("sh")
            .args(["-c", "xz -dc \"$0\" | cp --sparse=always /dev/stdin \"$1\""])
            .args([&packed, &image])
            .status()
            .unwrap();
        assert!(unpacked.success());
        let start = Instant::now();
        let verdict = catch_unwind(AssertUnwindSafe(|| write_to(&image)));
        let name = packed
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match verdict {
            Ok(words) => println!("{name}: {words}"),
            Err(_) => panicked.push(name.clone()),
        }
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{name} took {:?}",
            start.elapsed()
        );
    }
    assert!(panicked.is_empty(), "{panicked:?}");
}
