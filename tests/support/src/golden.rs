//! The golden images: what the kernel wrote, and what it shows of it.
//!
//! A chosen part lies in `tests/images/golden`; `BTRFUSE_CORPORA` names a folder with all.

use crate::command::run;
use crate::{Image, Manifest};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One image set.
pub struct Golden {
    /// Its name, as `default-s11`.
    pub name: String,
    folder: PathBuf,
    /// Its `meta.json`.
    pub meta: Value,
}

/// The sets that are always there, sorted by name.
pub fn own() -> Vec<Golden> {
    all_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/golden"))
}

/// Every set: those of `BTRFUSE_CORPORA` when it is set, else our own.
pub fn all() -> Vec<Golden> {
    match std::env::var_os("BTRFUSE_CORPORA") {
        Some(corpora) => all_in(&Path::new(&corpora).join("golden")),
        None => own(),
    }
}

fn all_in(folder: &Path) -> Vec<Golden> {
    let entries = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("golden images in {}: {error}", folder.display()));
    let mut found: Vec<Golden> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.is_dir())
        .map(|folder| {
            let name = folder
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let meta = std::fs::read(folder.join("meta.json"))
                .unwrap_or_else(|error| panic!("{name}/meta.json: {error}"));
            let meta = serde_json::from_slice(&meta).expect("meta.json is JSON");
            Golden { name, folder, meta }
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The set of that name, which must be there.
#[track_caller]
pub fn named(name: &str) -> Golden {
    all()
        .into_iter()
        .chain(own())
        .find(|golden| golden.name == name)
        .unwrap_or_else(|| panic!("the golden image {name} is missing"))
}

impl Golden {
    /// Its device images, unpacked, in the order of `meta.json`.
    pub fn devices(&self) -> Vec<Image> {
        let devices = self.meta["devices"]
            .as_array()
            .expect("meta.json lists the devices");
        let files = devices
            .iter()
            .map(|device| device["file"].as_str().expect("a file"));
        files
            .map(|file| Image::unpacked(&self.folder.join(file)))
            .collect()
    }

    /// The one device image.
    #[track_caller]
    pub fn image(&self) -> Image {
        let mut devices = self.devices();
        assert_eq!(devices.len(), 1, "{} has several devices", self.name);
        devices.remove(0)
    }

    /// The mount options of its walk, as the kernel takes them.
    pub fn options(&self, manifest: &str) -> String {
        let options = self.meta["kernel_mount"][manifest]["opts"]
            .as_str()
            .unwrap_or("defaults");
        if options == "defaults" {
            "subvolid=5".into()
        } else {
            format!("{options},subvolid=5")
        }
    }

    /// Whether it has that manifest (`manifest`, `manifest-nologreplay`).
    pub fn has(&self, manifest: &str) -> bool {
        self.file(manifest).is_file()
    }

    /// What the kernel shows.
    pub fn manifest(&self, manifest: &str) -> Manifest {
        let unpacked = run(Command::new("zstd")
            .args(["-q", "--long=26", "-dc"])
            .arg(self.file(manifest)));
        Manifest::parse(&unpacked.stdout)
    }

    /// A file of the set, as it is.
    pub fn archive(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn file(&self, manifest: &str) -> PathBuf {
        self.folder.join(format!("{manifest}.jsonl.zst"))
    }
}
