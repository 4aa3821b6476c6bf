//! Who judges an image after its run: `btrfs check`, the kernel, and the workload's memory.

use super::children;
use super::mount::Mounted;
use crate::lab::workload::conductor;
use crate::lab::workload::judge::{Finding, Loss};
use crate::lab::workload::spec::Record;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What the judges say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// What `btrfs check` complains of, or why a mount is refused.
    pub damage: Vec<String>,
    /// Why `btrfs check` hasn't judged the image: then it isn't known to be sound.
    pub unchecked: Option<String>,
    /// Other judges that weren't asked, and why.
    pub not_asked: Vec<String>,
    /// Who compared the files: the kernel, or our own mount.
    pub read_by: String,
    /// How many names of each kind of loss, and how many of those were durable.
    pub losses: BTreeMap<Loss, Lost>,
    /// Some of them, in words.
    pub examples: Vec<String>,
}

/// Names that a user misses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// All of them; after a broken rule also what was done since the last commit.
    pub names: u64,
    /// Those that nothing had changed since a sync that succeeded.
    pub promised: u64,
}

/// Findings that are told in words.
const EXAMPLES: usize = 5;

impl Judgement {
    /// Nobody found anything wrong with the image itself.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }

    /// Sums findings.
    pub fn count(&mut self, findings: &[Finding]) {
        for finding in findings {
            let lost = self.losses.entry(finding.loss).or_default();
            lost.names += 1;
            lost.promised += u64::from(finding.promised);
        }
        let promised_first = findings.iter().filter(|f| f.promised);
        let then = findings.iter().filter(|f| !f.promised);
        let examples = promised_first.chain(then).take(EXAMPLES);
        self.examples.extend(examples.map(ToString::to_string));
    }
}

/// `btrfs check`, with data checksums.
pub fn check(image: &Path, judgement: &mut Judgement) {
    match super::check::check(image) {
        Ok(found) => judgement.damage = found,
        Err(error) => {
            let from = match error.kind() {
                std::io::ErrorKind::NotFound => " (it is in the package btrfs-progs)",
                _ => "",
            };
            judgement.unchecked = Some(format!("btrfs check: {error}{from}"));
        }
    }
}

/// Mounts the image read-only, by the kernel or by `fallback`, and compares.
pub fn compare(
    image: &Path,
    dir: &Path,
    record: &Record,
    kernel: bool,
    fallback: &Path,
    judgement: &mut Judgement,
) -> anyhow::Result<()> {
    if kernel {
        let mounted = children::command("mount")
            .args(["-t", "btrfs", "-o", "loop,ro,noatime"])
            .args([image, dir])
            .output()?;
        if mounted.status.success() {
            judgement.read_by = "the kernel".into();
            let findings = conductor::judge(record, dir);
            // What was found counts, however the mount ends.
            let judged = findings.map(|findings| judgement.count(&findings));
            return judged.and(unmount(dir));
        }
        let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
        judgement
            .damage
            .push(format!("the kernel refuses to mount it: {why}"));
    } else {
        let why = match rustix::process::geteuid().is_root() {
            true => "the kernel: not asked (--no-kernel)",
            false => "the kernel: only root can mount with it",
        };
        judgement.not_asked.push(why.into());
    }
    let log = image.with_extension("judge.log");
    let mounted = match Mounted::new(fallback, image, dir, &log, "ro", "") {
        Ok(mounted) => mounted,
        Err(refusal) => {
            judgement
                .damage
                .push(format!("we refuse to mount it: {}", refusal.words));
            judgement.read_by = "nobody".into();
            return Ok(());
        }
    };
    judgement.read_by = "btrfuse".into();
    let findings = conductor::judge(record, dir);
    let judged = findings.map(|findings| judgement.count(&findings));
    let ended = mounted.unmount().map_err(anyhow::Error::msg);
    judged.and(ended.map(drop))
}

/// Ends the kernel's mount; one that is busy as soon as nobody uses it, as the image goes with it.
fn unmount(dir: &Path) -> anyhow::Result<()> {
    let unmounted = children::command("umount").arg(dir).output()?;
    if unmounted.status.success() {
        return Ok(());
    }
    let _ = children::command("umount").arg("-l").arg(dir).output();
    anyhow::bail!(
        "can't unmount {}: {}",
        dir.display(),
        String::from_utf8_lossy(&unmounted.stderr).trim()
    )
}
