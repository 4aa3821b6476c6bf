//! Image files: made sparse in a folder of their own, by mkfs.btrfs, by our mkfs, or unpacked.

use crate::command::run;
use crate::{btrfuse_binary, temp_dir};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the first superblock stands.
pub const SUPER_AT: u64 = 65_536;

/// One image file; gone with the value.
pub struct Image {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Image {
    /// An empty sparse file of `mib` MiB.
    pub fn blank(mib: u64) -> Self {
        let folder = temp_dir();
        let path = folder.path().join("image.raw");
        let file = File::create_new(&path).expect("a new file in our own folder");
        file.set_len(mib << 20).expect("a sparse file");
        Self {
            path,
            _folder: folder,
        }
    }

    /// `mkfs.btrfs OPTIONS` on a fresh file.
    pub fn mkfs_btrfs(mib: u64, options: &[&str]) -> Self {
        let image = Self::blank(mib);
        run(Command::new("mkfs.btrfs")
            .arg("-q")
            .args(options)
            .arg(&image.path));
        image
    }

    /// `btrfuse mkfs OPTIONS` on a fresh file.
    pub fn mkfs_btrfuse(mib: u64, options: &[&str]) -> Self {
        let image = Self::blank(mib);
        run(Command::new(btrfuse_binary())
            .arg("mkfs")
            .args(options)
            .arg(&image.path));
        image
    }

    /// A `.zst` file unpacked, sparse.
    pub fn unpacked(zst: &Path) -> Self {
        assert!(zst.is_file(), "the test image {} is missing", zst.display());
        let folder = temp_dir();
        let path = folder.path().join("image.raw");
        run(Command::new("zstd")
            .args(["-q", "--long=26", "--sparse", "-d"])
            .arg(zst)
            .arg("-o")
            .arg(&path));
        // The sources are read-only, and zstd copies their mode.
        let mut permissions = std::fs::metadata(&path).expect("unpacked").permissions();
        #[allow(clippy::permissions_set_readonly_false, reason = "a test's own file")]
        permissions.set_readonly(false);
        std::fs::set_permissions(&path, permissions).expect("our own file");
        Self {
            path,
            _folder: folder,
        }
    }

    /// A copy with holes kept: two judges never share a file.
    pub fn copy(&self) -> Self {
        let folder = temp_dir();
        let path = folder.path().join("image.raw");
        run(Command::new("cp")
            .arg("--sparse=always")
            .arg(&self.path)
            .arg(&path));
        Self {
            path,
            _folder: folder,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `btrfstune -fu`: a fresh filesystem id, so that the kernel can't confuse two copies.
    pub fn fresh_fsid(self) -> Self {
        run(Command::new("btrfstune").args(["-f", "-u"]).arg(&self.path));
        self
    }

    /// The filesystem id in the first superblock.
    pub fn fsid(&self) -> String {
        fsid_of(&self.path)
    }

    /// The generation in the first superblock.
    pub fn generation(&self) -> u64 {
        let mut bytes = [0; 8];
        let file = File::open(&self.path).expect("our own image");
        file.read_exact_at(&mut bytes, SUPER_AT + 72)
            .expect("an image is larger than that");
        u64::from_le_bytes(bytes)
    }

    /// Whether the first superblock names a log tree.
    pub fn has_log(&self) -> bool {
        let mut bytes = [0; 8];
        let file = File::open(&self.path).expect("our own image");
        file.read_exact_at(&mut bytes, SUPER_AT + 96)
            .expect("an image is larger than that");
        bytes != [0; 8]
    }

    /// SHA-256 of the whole file: what "writes nothing" is judged by.
    pub fn digest(&self) -> String {
        let mut file = File::open(&self.path).expect("our own image");
        let (mut hash, mut bytes) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut bytes).expect("our own image") {
                0 => return crate::walk::to_hex(&hash.finalize()),
                len => hash.update(&bytes[..len]),
            }
        }
    }
}

/// The filesystem id of an image, as `/sys/fs/btrfs` spells it.
pub fn fsid_of(image: &Path) -> String {
    let mut id = [0_u8; 16];
    File::open(image)
        .and_then(|file| file.read_exact_at(&mut id, SUPER_AT + 32))
        .unwrap_or_else(|e| panic!("no superblock in {}: {e}", image.display()));
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
