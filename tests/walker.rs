//! The walker proved on the kernel: what it sees on the kernel's own mounts is what the golden
//! manifests say, every field of every line. So a difference on our mount is ours.

use btrfuse_test_support::compare::assert_same;
use btrfuse_test_support::{LoopMount, Rules, golden, walk};
use std::path::Path;

#[test]
fn walks_of_kernel_mounts_equal_the_golden_manifests() {
    let mut compared = 0;
    for golden in golden::own() {
        if golden.name.starts_with("super-bad-s11-primary") {
            continue;
        }
        let images = golden.devices();
        let paths: Vec<&Path> = images.iter().map(|image| image.path()).collect();
        let mount = LoopMount::new(&paths, &golden.options("manifest"));
        let walked = walk(mount.path());
        assert_same(
            &golden.name,
            &golden.manifest("manifest"),
            &walked,
            &Rules::all(),
        );
        // Damaged images are in the set on purpose, and the kernel says so.
        mount.unmount_damaged();
        compared += 1;
    }
    assert!(compared > 30, "only {compared} golden images were found");
}
