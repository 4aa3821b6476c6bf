//! Damaged images opened for writing: each is refused, opened read-only, or written; never a
//! panic, and never an endless wait. Runs where `BTRFUSE_CORPORA` names the collection.

use crate::scribe::{Scribe, open_device, open_image};
use btrfuse::ondisk::check::seal_block;
use btrfuse::ondisk::ids::{CSUM_TREE_OBJECTID, FS_TREE_OBJECTID};
use btrfuse::ondisk::tree_block;
use btrfuse::volume::FileDevice;
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Rng, temp_dir};
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

/// A block with a fitting checksum, address and generation that belongs to another kind of tree: the
/// kernel doesn't believe it, and neither do we.
#[test]
fn a_leaf_of_another_tree_is_not_believed() {
    let image = Image::mkfs_btrfs(128, &["-n", "4096"]);
    let mount = LoopMount::read_write(image.path());
    for n in 0..300 {
        std::fs::write(mount.path().join(format!("file {n}")), "x").unwrap();
    }
    mount.unmount();
    {
        let engine = open_image(image.path());
        let root = engine.ctx.roots.get(&engine.ctx, FS_TREE_OBJECTID).unwrap();
        let node = root.node();
        assert_eq!(node.level, 1, "a node and its leaves");
        let mut top = vec![0; 4096];
        engine.volume.read(node.bytenr, &mut top, 0).unwrap();
        let (at, _) = tree_block::node::ptr(&top, 1);
        let mut leaf = vec![0; 4096];
        engine.volume.read(at, &mut leaf, 0).unwrap();
        tree_block::header_mut(&mut leaf)
            .owner
            .set(CSUM_TREE_OBJECTID);
        seal_block(&engine.ctx.check, &mut leaf);
        engine.volume.write(at, &leaf).unwrap();
    }
    let stat_all = |path: &Path| -> Vec<std::io::Error> {
        let stat = |n| std::fs::metadata(path.join(format!("file {n}"))).err();
        (0..300).filter_map(stat).collect()
    };
    let mut ours = BtrfuseMount::read_only(image.path());
    let errors = stat_all(ours.path());
    assert!(errors.len() > 5, "{errors:?}");
    let code = errors[0].raw_os_error();
    assert_eq!(code, Some(libc::EUCLEAN), "{errors:?}");
    let log = ours.log();
    assert!(log.contains("tree 7"), "{log}");
    drop(ours);
    let kernel = LoopMount::read_only(image.path());
    assert!(stat_all(kernel.path()).len() > 5);
    kernel.unmount_damaged();
}
