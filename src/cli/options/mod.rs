//! The `-o` list of `btrfuse mount`, `mount(8)` and fstab.
//!
//! Owns: what each option means here, and the words for those that we drop or refuse.
//! Invariant: nothing is passed to the kernel or to the FUSE library that isn't understood
//! here first; an unknown option is refused by its name.

mod foreign;
mod split;
pub mod table;

#[cfg(test)]
mod tests;

use super::{Failure, size};
use foreign::Verdict;

/// How access times are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Atime {
    /// Updated when older than the last change, or than a day.
    #[default]
    Relative,
    /// Updated on each read.
    Strict,
    /// Never updated.
    Never,
}

/// Flags of the mount point that the kernel keeps itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointFlags {
    /// `nosuid`: set-id bits of programs mean nothing.
    pub nosuid: bool,
    /// `nodev`: device nodes can't be opened.
    pub nodev: bool,
    /// `noexec`: programs can't be started.
    pub noexec: bool,
    /// `sync`: writes don't wait in the page cache.
    pub sync: bool,
    /// `dirsync`: directory changes are synchronous.
    pub dirsync: bool,
    /// `nosymfollow`: symbolic links aren't followed.
    pub nosymfollow: bool,
}

/// A parsed `-o` list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `ro`: nothing is written, not even the log is replayed on disk.
    pub read_only: bool,
    /// `commit=N`: seconds between commits.
    pub commit_secs: Option<u64>,
    /// `metadata_cache=SIZE`: the bound of the tree block cache.
    pub metadata_cache_bytes: Option<u64>,
    /// `subvol=PATH`: the subvolume to show as the root.
    pub subvol: Option<String>,
    /// `subvolid=N`: the same by number.
    pub subvolid: Option<u64>,
    /// `nologreplay`: show the last commit, leave the log alone.
    pub nologreplay: bool,
    /// `notreelog`: each fsync is a commit.
    pub notreelog: bool,
    /// `discard`: tell the device or host file which blocks became free.
    pub discard: bool,
    /// `user_subvol_rm_allowed`: users delete subvolumes that they could remove as directories.
    pub user_subvol_rm_allowed: bool,
    /// `noatime`, `relatime`, `strictatime`.
    pub atime: Atime,
    /// `nodiratime`: reads of directories don't move it.
    pub nodiratime: bool,
    /// `allow_other` and `noallow_other`; unset: as root yes, otherwise no.
    pub allow_other: Option<bool>,
    /// `threads=N`: how many threads answer requests.
    pub threads: Option<usize>,
    /// `nofuseblk`: a plain `fuse` mount also for a block device.
    pub plain_fuse: bool,
    /// `protocol=P`: the lifetime protocol (builds with `protocols`, and so race-lab builds).
    pub protocol: Option<String>,
    /// `delay=POINT:µs`: armed delay points (race-lab builds).
    pub delays: Vec<String>,
    /// `ahead=freed`: readers ahead follow pointers to freed blocks, too (race-lab builds).
    pub ahead_freed: bool,
    /// `reclaim=always`: idle tree blocks don't stay in the cache (race-lab builds).
    pub reclaim_always: bool,
    /// `supervise`: mount again when the daemon has crashed.
    pub supervise: bool,
    /// `nofail`: mount(8) doesn't mind an absent image.
    pub nofail: bool,
    /// What the kernel keeps.
    pub point: PointFlags,
    /// What the user should know: dropped options and why.
    pub notes: Vec<String>,
}

/// Reads the lists of all `-o` arguments, in order; later options win.
///
/// `sloppy` (mount(8)'s `-s`) turns unknown options into notes.
pub fn parse<S: AsRef<str>>(lists: &[S], sloppy: bool) -> Result<Options, Failure> {
    let mut options = Options::default();
    for list in lists {
        for option in split::commas(list.as_ref())? {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            if !options.take_own(name, value)? && !options.take_point(name) {
                options.take_foreign(&option, name, value, sloppy)?;
            }
        }
    }
    options.check_together()?;
    Ok(options)
}

impl Options {
    /// btrfuse's own options and those of btrfs that it has. True when `name` was one.
    fn take_own(&mut self, name: &str, value: Option<&str>) -> Result<bool, Failure> {
        match name {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "commit" => self.commit_secs = Some(number(name, value, 0..=86400)?),
            "metadata_cache" => {
                let bytes = size::parse(needed(name, value)?)
                    .map_err(|why| Failure::usage(format!("-o metadata_cache: {why}")))?;
                if bytes < 1 << 20 {
                    return Err(Failure::usage(format!(
                        "-o metadata_cache={}: at least 1M is needed to hold the paths of \
                         concurrent operations",
                        value.unwrap_or_default()
                    )));
                }
                self.metadata_cache_bytes = Some(bytes);
            }
            "subvol" => self.subvol = Some(needed(name, value)?.to_owned()),
            "subvolid" => self.subvolid = Some(subvolume_number(needed(name, value)?)?),
            "nologreplay" | "norecovery" => self.nologreplay = true,
            "treelog" => self.notreelog = false,
            "notreelog" => self.notreelog = true,
            "rescue" if value == Some("nologreplay") => self.nologreplay = true,
            "discard" => match value {
                None | Some("async" | "sync") => self.discard = true,
                Some(other) => {
                    return Err(Failure::usage(format!(
                        "-o discard={other}: write `discard`, `discard=async` or `nodiscard`"
                    )));
                }
            },
            "nodiscard" => self.discard = false,
            "user_subvol_rm_allowed" => self.user_subvol_rm_allowed = true,
            "atime" | "relatime" | "norelatime" => self.atime = Atime::Relative,
            "strictatime" => self.atime = Atime::Strict,
            "nostrictatime" => self.atime = Atime::Relative,
            "noatime" => self.atime = Atime::Never,
            "diratime" => self.nodiratime = false,
            "nodiratime" => self.nodiratime = true,
            "allow_other" => self.allow_other = Some(true),
            "noallow_other" => self.allow_other = Some(false),
            "threads" => self.threads = Some(number(name, value, 1..=256)? as usize),
            "supervise" => self.supervise = true,
            "nosupervise" => self.supervise = false,
            "nofail" => self.nofail = true,
            "fuseblk" => self.plain_fuse = false,
            "nofuseblk" => self.plain_fuse = true,
            "protocol" | "delay" | "ahead" | "reclaim" => {
                self.take_lab(name, needed(name, value)?)?
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_lab(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let has_it =
            cfg!(feature = "race-lab") || cfg!(feature = "protocols") && name == "protocol";
        if !has_it {
            let features = match name {
                "protocol" => "`--features protocols` (or race-lab)",
                _ => "`--features race-lab`",
            };
            return Err(Failure::usage(format!(
                "-o {name}={value}: only a build with {features} can choose that at run time; this \
                 one mounts with protocol `{}`",
                super::version::PROTOCOL
            )));
        }
        match name {
            "protocol" => self.protocol = Some(value.to_owned()),
            "ahead" if value == "freed" => self.ahead_freed = true,
            "reclaim" if value == "always" => self.reclaim_always = true,
            "ahead" | "reclaim" => {
                return Err(Failure::usage(format!(
                    "-o {name}={value}: there are ahead=freed and reclaim=always"
                )));
            }
            _ => self.delays.push(value.to_owned()),
        }
        Ok(())
    }

    /// Flags of the mount point. True when `name` was one.
    fn take_point(&mut self, name: &str) -> bool {
        let point = &mut self.point;
        let (flag, on) = match name {
            "nosuid" => (&mut point.nosuid, true),
            "suid" => (&mut point.nosuid, false),
            "nodev" => (&mut point.nodev, true),
            "dev" => (&mut point.nodev, false),
            "noexec" => (&mut point.noexec, true),
            "exec" => (&mut point.noexec, false),
            "sync" => (&mut point.sync, true),
            "async" => (&mut point.sync, false),
            "dirsync" => (&mut point.dirsync, true),
            "nosymfollow" => (&mut point.nosymfollow, true),
            "symfollow" => (&mut point.nosymfollow, false),
            // mount(8) hands these on for user mounts, where they mean all three.
            "user" | "users" | "owner" | "group" => {
                point.nosuid = true;
                point.nodev = true;
                point.noexec |= name.starts_with("user");
                return true;
            }
            _ => return false,
        };
        *flag = on;
        true
    }

    fn take_foreign(
        &mut self,
        option: &str,
        name: &str,
        value: Option<&str>,
        sloppy: bool,
    ) -> Result<(), Failure> {
        match foreign::judge(name, value) {
            Verdict::Drop => {}
            Verdict::Note(words) => self.notes.push(format!("-o {option}: {words}")),
            Verdict::Refuse(words) => {
                return Err(Failure::usage(format!("-o {option}: {words}")));
            }
            Verdict::Unknown if sloppy => {
                self.notes
                    .push(format!("-o {option}: unknown, ignored because of -s"));
            }
            Verdict::Unknown => {
                return Err(Failure::usage(format!(
                    "-o {option}: unknown mount option{}; `man btrfuse-mount` lists those that \
                     are understood",
                    foreign::hint(name)
                )));
            }
        }
        Ok(())
    }

    /// What is wrong only together.
    fn check_together(&mut self) -> Result<(), Failure> {
        if self.nologreplay && !self.read_only {
            return Err(Failure::usage(
                "-o nologreplay: needs `ro` too, because writing to an image whose log was \
                 skipped would lose what programs had made durable with fsync",
            ));
        }
        if self.read_only && self.discard {
            self.notes
                .push("-o discard: means nothing on a read-only mount".to_owned());
            self.discard = false;
        }
        if self.commit_secs == Some(0) {
            self.commit_secs = None;
        }
        if let Some(secs @ 301..) = self.commit_secs {
            self.notes.push(format!(
                "-o commit={secs}: a crash can lose that many seconds of work that no program \
                 made durable with fsync"
            ));
        }
        Ok(())
    }
}

fn needed<'a>(name: &str, value: Option<&'a str>) -> Result<&'a str, Failure> {
    match value {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(Failure::usage(format!(
            "-o {name}: needs a value, as in `{name}=…`"
        ))),
    }
}

fn number(
    name: &str,
    value: Option<&str>,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, Failure> {
    let text = needed(name, value)?;
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(Failure::usage(format!(
            "-o {name}={text}: write a number from {} to {}",
            range.start(),
            range.end()
        ))),
    }
}

/// A subvolume's number, decimal or as btrfs also takes it, `0x…`.
fn subvolume_number(text: &str) -> Result<u64, Failure> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| {
        Failure::usage(format!(
            "-o subvolid={text}: write the subvolume's number, as `btrfuse subvolume list` shows \
             it; 5 is the top level"
        ))
    })
}
