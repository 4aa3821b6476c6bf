//! Who is compared, and what every run is made of.

use crate::commit::mkfs::MkfsOptions;
use crate::lab::workload::mix::Mix;
use crate::units::{GIB, MIB};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// One of those that are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// What reports call it.
    pub name: String,
    /// The program.
    pub binary: PathBuf,
    /// What a race-lab build is told to live by.
    pub protocol: Option<String>,
    /// What a build that was given says of itself.
    pub version: Option<String>,
}

impl Subject {
    /// Whether broken rules are what is to be shown, and no failure of the command.
    pub fn may_break(&self) -> bool {
        may_break(&self.name)
    }
}

/// [`Subject::may_break`] of the subject with this name.
pub fn may_break(name: &str) -> bool {
    matches!(name, "unfixed" | "handshake" | "fixed")
}

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// In the order in which they take turns.
    pub subjects: Vec<Subject>,
    /// `POINT:µs`, for all of them.
    pub delays: Vec<String>,
    /// The first seed; the others follow it.
    pub seed: u64,
    /// How many seeds at most.
    pub seeds: u64,
    /// No run begins after this.
    pub time: Option<Duration>,
    /// No run begins once every subject has done so many operations.
    pub operations: Option<u64>,
    /// A run lasts so long, unless a rule is broken before.
    pub each: Duration,
    /// Operations of each process of a run at most.
    pub steps: Option<u64>,
    /// End everything at the first broken rule.
    pub until_first: bool,
    /// Processes.
    pub processes: u64,
    /// What they do.
    pub mix: Mix,
    /// Of the images.
    pub nodesize: u32,
    /// Of the images, which are sparse.
    pub size_bytes: u64,
    /// `metadata_cache=`: small, so that reclaim runs.
    pub cache_bytes: u64,
    /// `commit=`.
    pub commit_secs: u64,
    /// More mount options.
    pub options: Vec<String>,
    /// Where images lie while they are used.
    pub folder: PathBuf,
    /// Where images and logs of broken runs go.
    pub keep: Option<PathBuf>,
    /// Whether the kernel is asked, which only root can.
    pub kernel: bool,
    /// The program of the workload's processes.
    #[serde(skip)]
    pub worker: PathBuf,
}

impl Plan {
    /// The shape of the original reproducer: small nodes, leaves that empty, and pressure.
    pub fn new(subjects: Vec<Subject>, worker: PathBuf, mix: Mix) -> Self {
        Self {
            subjects,
            delays: Vec::new(),
            seed: 1,
            seeds: 3,
            time: None,
            operations: None,
            each: Duration::from_secs(20),
            steps: None,
            until_first: false,
            processes: 8,
            mix,
            nodesize: 4096,
            size_bytes: 4 * GIB,
            cache_bytes: MIB,
            commit_secs: 5,
            options: Vec::new(),
            folder: std::env::temp_dir(),
            keep: None,
            kernel: rustix::process::geteuid().is_root(),
            worker,
        }
    }

    /// How images are made.
    pub fn image_options(&self) -> MkfsOptions {
        MkfsOptions {
            nodesize: self.nodesize,
            owner: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
            ..MkfsOptions::default()
        }
    }

    /// The `-o` list of a subject's mounts.
    pub fn mount_options(&self, subject: &Subject) -> String {
        let mut options = vec![
            format!("metadata_cache={}", self.cache_bytes),
            format!("commit={}", self.commit_secs),
        ];
        options.extend(
            subject
                .protocol
                .iter()
                .map(|name| format!("protocol={name}")),
        );
        options.extend(self.delays.iter().map(|delay| format!("delay={delay}")));
        options.extend(self.options.iter().cloned());
        options.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_told_its_protocol_and_its_delays() {
        let subject = Subject {
            name: "unfixed".into(),
            binary: "btrfuse".into(),
            protocol: Some("unfixed".into()),
            version: None,
        };
        let mix = Mix::parse("empty-leaves").unwrap();
        let mut plan = Plan::new(vec![subject.clone()], "btrfuse".into(), mix);
        plan.delays.push("drop-tested:50".into());
        plan.options.push("noatime".into());
        assert_eq!(
            plan.mount_options(&subject),
            "metadata_cache=1048576,commit=5,protocol=unfixed,delay=drop-tested:50,noatime"
        );
        assert!(subject.may_break());
        let owned = Subject {
            name: "owned".into(),
            ..subject
        };
        assert!(!owned.may_break());
    }
}
