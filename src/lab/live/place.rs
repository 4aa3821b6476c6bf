//! The files of a run, gone with it.

use super::children;
use super::plan::Plan;
use anyhow::Context;
use std::path::PathBuf;

/// See the module.
pub struct Place {
    folder: PathBuf,
    stays: bool,
}

impl Place {
    /// For the run with this name.
    pub fn new(plan: &Plan, name: &str) -> anyhow::Result<Self> {
        let id = std::process::id();
        let folder = plan.folder.join(format!("btrfuse-live-{id}-{name}"));
        std::fs::create_dir_all(folder.join("mount"))
            .with_context(|| format!("can't make {}", folder.display()))?;
        Ok(Self {
            folder,
            stays: false,
        })
    }

    /// The image.
    pub fn image(&self) -> PathBuf {
        self.folder.join("image.btrfs")
    }

    /// The log of its mount.
    pub fn log(&self) -> PathBuf {
        self.folder.join("mount.log")
    }

    /// All of the log.
    pub fn log_text(&self) -> String {
        let bytes = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The mount point.
    pub fn dir(&self) -> PathBuf {
        self.folder.join("mount")
    }

    /// Copies image and log to where the plan wants them, if anywhere. Where that fails they stay
    /// here: they are evidence.
    pub fn keep(&mut self, plan: &Plan, name: &str) -> (Option<PathBuf>, anyhow::Result<()>) {
        let Some(keep) = &plan.keep else {
            return (None, Ok(()));
        };
        let target = keep.join(name);
        match self.copy_to(&target) {
            Ok(()) => (Some(target), Ok(())),
            Err(error) => {
                self.stays = true;
                (Some(self.folder.clone()), Err(error))
            }
        }
    }

    fn copy_to(&self, target: &std::path::Path) -> anyhow::Result<()> {
        let words = || format!("can't keep {}", target.display());
        std::fs::create_dir_all(target).with_context(words)?;
        // A mount that failed early has no log.
        let files = [self.image(), self.log()];
        let there = files.iter().filter(|file| file.exists());
        // Sparse as it was; cp knows how.
        let copied = children::command("cp")
            .arg("--sparse=always")
            .args(there)
            .arg(target)
            .output()
            .with_context(words)?;
        anyhow::ensure!(
            copied.status.success(),
            "{}: {}",
            words(),
            String::from_utf8_lossy(&copied.stderr).trim()
        );
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Never into a mount that is still there: the rmdir of a mount point fails.
        if !self.stays && std::fs::remove_dir(self.dir()).is_ok() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::workload::mix::Mix;

    /// The evidence was deleted because it couldn't be copied.
    #[test]
    fn what_cannot_be_kept_elsewhere_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mix = Mix::parse("empty-leaves").unwrap();
        let mut plan = Plan::new(Vec::new(), "btrfuse".into(), mix);
        plan.folder = dir.path().join("folder");
        let image = |keep: Option<PathBuf>| {
            let plan = Plan {
                keep,
                ..plan.clone()
            };
            let mut place = Place::new(&plan, "unfixed-1").unwrap();
            std::fs::write(place.image(), "image").unwrap();
            let (kept, copied) = place.keep(&plan, "unfixed-1");
            let folder = place.folder.clone();
            drop(place);
            (kept, copied.is_ok(), folder)
        };
        let (kept, is_copied, folder) = image(None);
        assert!(is_copied && kept.is_none() && !folder.exists());
        let target = dir.path().join("kept");
        let (kept, is_copied, folder) = image(Some(target.clone()));
        assert!(is_copied && !folder.exists());
        assert_eq!(kept, Some(target.join("unfixed-1")));
        assert!(target.join("unfixed-1/image.btrfs").exists());
        let in_the_way = dir.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let (kept, is_copied, folder) = image(Some(in_the_way));
        assert!(!is_copied);
        assert_eq!(kept.as_ref(), Some(&folder));
        assert!(folder.join("image.btrfs").exists());
    }
}
