//! The script model proved on the kernel: its answers and its trees are the model's, so where our
//! mount answers otherwise, it is ours.

use btrfuse_test_support::{Image, LoopMount, Story, btrfs_check};

#[test]
fn scripts_on_a_kernel_mount_agree_with_the_model() {
    for seed in 1..=6 {
        let image = Image::mkfs_btrfs(300, &["-n", ["4096", "16384", "65536"][seed as usize % 3]]);
        let mut story = Story::new(seed, "story");
        let mount = LoopMount::read_write(image.path());
        story.begin(mount.path());
        story.go_on(mount.path(), 800);
        story.assert_told("kernel, live", mount.path());
        mount.unmount();
        let mount = LoopMount::read_write(image.path());
        story.assert_told("kernel, mounted again", mount.path());
        assert!(
            story.names() > 50,
            "seed {seed} made only {} names",
            story.names()
        );
        story.clear(mount.path());
        story.assert_told("kernel, cleared", mount.path());
        mount.unmount();
        btrfs_check(image.path());
    }
}
