//! The golden images: every line of every manifest, birth times included, read-only and
//! read-write.

use crate::walk::walk;
use crate::{mounted, options};
use btrfuse::fs::NodeId;
use btrfuse_test_support::compare::{Inodes, differences};
use btrfuse_test_support::{Image, Manifest, Rules, btrfs_check, check, golden};

/// Images whose features come later; the tests on real mounts hold what each gets today.
fn comes_later(name: &str) -> bool {
    let later = ["raid", "log", "comp-", "seed-", "super-bad", "convert-ext4"];
    later.iter().any(|prefix| name.starts_with(prefix))
}

fn shard(index: usize) {
    for (at, golden) in golden::all().into_iter().enumerate() {
        if at % 4 != index || comes_later(&golden.name) {
            continue;
        }
        eprintln!("{}", golden.name);
        let whole = golden.manifest("manifest");
        let rules = Rules {
            inodes: Inodes::Of(5),
            without: vec![],
            only_expected: false,
        };
        for read_only in [true, false] {
            let image = golden.image();
            let before = image.digest();
            let fs = mounted(image.path(), &options(read_only));
            let found = walk(&fs, NodeId::ROOT);
            let expected = without_compressed(&whole, &found);
            let differences = differences(&expected, &found, &rules);
            assert!(
                differences.is_empty(),
                "{} read_only={read_only}: {} differences (expected -> found):\n{}",
                golden.name,
                differences.len(),
                differences[..differences.len().min(20)].join("\n")
            );
            let wrote = fs.read_only_reason().is_none();
            fs.unmount().unwrap();
            drop(fs);
            // Damaged copies that nobody read stay damaged, and what check says of the kernel's
            // own image it may say of ours.
            let sound = !golden.name.contains("-rot-") && !complains(&golden.image());
            if wrote && sound {
                btrfs_check(image.path());
            } else if !wrote {
                assert_eq!(
                    image.digest(),
                    before,
                    "{}: a read-only mount wrote",
                    golden.name
                );
            }
        }
    }
}

fn complains(image: &Image) -> bool {
    let check = |mode| check::complaints(&check::check(image.path(), mode));
    !check("original").is_empty() || !check("lowmem").is_empty()
}

/// What is expected today: compressed content answers that it is compressed.
fn without_compressed(whole: &Manifest, found: &Manifest) -> Manifest {
    let mut expected = whole.clone();
    for record in &mut expected.0 {
        let error = found
            .get(&record.path)
            .and_then(|found| found.fields.get("error"));
        if let Some(error) = error
            && error.to_string().contains("the content is compressed")
        {
            for field in ["data", "sha256", "sha256_blocks"] {
                record.fields.remove(field);
            }
            record.fields.insert("error".into(), error.clone());
        }
    }
    expected
}

#[test]
fn golden_images_walk_as_listed_0() {
    shard(0);
}

#[test]
fn golden_images_walk_as_listed_1() {
    shard(1);
}

#[test]
fn golden_images_walk_as_listed_2() {
    shard(2);
}

#[test]
fn golden_images_walk_as_listed_3() {
    shard(3);
}
