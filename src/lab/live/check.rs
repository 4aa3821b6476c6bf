//! `btrfs check` on the image of a run, and its one false alarm.

use crate::extent_buffer::Kind;
use crate::fs::{Filesystem, MountOptions};
use crate::sync::Arc;
use crate::volume::{BlockDevice, FileDevice};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Complaints that are told.
const COMPLAINTS: usize = 20;

/// What `btrfs check --check-data-csum` finds in an image.
///
/// Original mode says of a snapshot that shares a leaf with ORPHAN_ITEMs, as a power cut leaves it,
/// that something is wrong, and not what; so it does when the kernel made it. That alarm counts for
/// nothing where lowmem mode is content, and both are with a copy on which a mount has deleted what
/// nobody uses.
///
/// # Errors
/// check can't be run.
pub fn check(image: &Path) -> io::Result<Vec<String>> {
    let found = complaints(image, "original")?;
    if !is_unnamed_alarm(&found) || !complaints(image, "lowmem")?.is_empty() {
        return Ok(found);
    }
    let copy = Copy::of(image)?;
    if let Err(error) = clean(&copy.0) {
        return Ok([found, vec![format!("a mount of a copy: {error}")]].concat());
    }
    for mode in ["original", "lowmem"] {
        let after = complaints(&copy.0, mode)?;
        if !after.is_empty() {
            return Ok([found, after].concat());
        }
    }
    Ok(Vec::new())
}

fn complaints(image: &Path, mode: &str) -> io::Result<Vec<String>> {
    let output = Command::new("btrfs")
        .args(["check", "--check-data-csum", "--mode", mode])
        .arg(image)
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr);
    // Lowmem mode may name an error and end with 0.
    if output.status.success() && !words.contains("ERROR") {
        return Ok(Vec::new());
    }
    let mut found = complaints_in(&words);
    found.push(format!("btrfs check ended with {}", output.status));
    Ok(found)
}

fn complaints_in(words: &str) -> Vec<String> {
    words
        .lines()
        .filter(|line| !line.starts_with('[') && !line.trim().is_empty())
        .filter(|line| *line != "Opening filesystem to check...")
        .take(COMPLAINTS)
        .map(str::to_owned)
        .collect()
}

/// It says that there are errors in fs roots, and names none.
fn is_unnamed_alarm(found: &[String]) -> bool {
    let unnamed = |line: &String| {
        line == "ERROR: errors found in fs roots" || line.starts_with("btrfs check ended with ")
    };
    !found.is_empty() && found.iter().all(unnamed)
}

/// Mounts the image, which deletes what was unlinked and in use, and what is left of subvolumes.
fn clean(image: &Path) -> crate::error::Result<()> {
    let device: Arc<dyn BlockDevice> = Arc::new(FileDevice::open(image, false)?);
    let options = MountOptions {
        protocol: Kind::Owned,
        background: false,
        ..MountOptions::default()
    };
    let fs = Filesystem::mount(vec![device], &options)?;
    while fs.drop_deleted()? {}
    fs.unmount()
}

/// A sparse copy of an image, gone with this.
struct Copy(PathBuf);

impl Copy {
    fn of(image: &Path) -> io::Result<Self> {
        let copy = Self(image.with_extension("cleaned"));
        let output = Command::new("cp")
            .arg("--sparse=always")
            .args([image, &copy.0])
            .output()?;
        match output.status.success() {
            true => Ok(copy),
            false => Err(io::Error::other(format!(
                "{} can't be copied: {}",
                image.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn an_alarm_that_names_nothing_is_told_from_errors() {
        let alarm = [
            "ERROR: errors found in fs roots",
            "btrfs check ended with exit status: 1",
        ];
        assert!(is_unnamed_alarm(&lines(&alarm)));
        assert!(!is_unnamed_alarm(&[]));
        let named = ["root 5 inode 257 errors 2001, no inode item, link count wrong"];
        assert!(!is_unnamed_alarm(&lines(&[&alarm[..], &named].concat())));
    }

    #[test]
    fn stages_are_no_complaints() {
        let said = "Opening filesystem to check...\n[1/7] checking root items\n\nERROR: x\n";
        assert_eq!(complaints_in(said), ["ERROR: x"]);
    }
}
