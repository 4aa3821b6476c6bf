//! `btrfs check` on the image of a run, and its one false alarm.

use super::children;
use crate::extent_buffer::Kind;
use crate::fs::{Filesystem, MountOptions};
use crate::sync::Arc;
use crate::volume::{BlockDevice, FileDevice};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

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
/// check can't be run, or somebody killed it: nothing is known of the image. Once it has found
/// something that stands, whatever keeps the alarm from being looked into.
pub fn check(image: &Path) -> io::Result<Vec<String>> {
    let found = complaints(image, "original")?;
    if !is_unnamed_alarm(&found) {
        return Ok(found);
    }
    Ok(match doubt(image) {
        Ok(reasons) if reasons.is_empty() => Vec::new(),
        Ok(reasons) => [found, reasons].concat(),
        Err(error) => [found, vec![format!("not looked into: {error}")]].concat(),
    })
}

/// What speaks against taking the unnamed alarm for a false one.
fn doubt(image: &Path) -> io::Result<Vec<String>> {
    let lowmem = complaints(image, "lowmem")?;
    if !lowmem.is_empty() {
        return Ok(lowmem);
    }
    let copy = Copy::of(image)?;
    if let Err(error) = clean(&copy.0) {
        return Ok(vec![format!("a mount of a copy: {error}")]);
    }
    let mut after = Vec::new();
    for mode in ["original", "lowmem"] {
        after.extend(complaints(&copy.0, mode)?);
    }
    Ok(after)
}

fn complaints(image: &Path, mode: &str) -> io::Result<Vec<String>> {
    let output = children::command("btrfs")
        .args(["check", "--check-data-csum", "--mode", mode])
        .arg(image)
        .output()?;
    // A check that crashes has met something; one that was killed has seen nothing.
    if let Some(signal @ (libc::SIGINT | libc::SIGTERM | libc::SIGKILL | libc::SIGHUP)) =
        output.status.signal()
    {
        return Err(io::Error::other(format!("killed by signal {signal}")));
    }
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
        let output = children::command("cp")
            .args(["--sparse=always", "--no-target-directory"])
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
mod tests;
