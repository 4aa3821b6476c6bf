//! `btrfuse subvolume`: make, snapshot, delete and list subvolumes of a mount.
//!
//! Works through the mount ([`crate::fuse::subvolumes`]), and on the kernel's btrfs as well.

mod list;
mod refusal;

use super::print::{complain, say};
use super::{Failure, mountinfo};
use crate::fuse::subvolumes;
use refusal::Doing;
use serde_json::json;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Make, snapshot, delete and list subvolumes of a mount.
///
/// Root and the owner of the mount may do all of it. Other users make subvolumes where they may
/// make directories, snapshot subvolumes that they own, and remove empty ones with rmdir(1);
/// `-o user_subvol_rm_allowed` lets them delete others of theirs.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Report as JSON, one value.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

const EXAMPLES: &str = "Examples:\n  \
    btrfuse subvolume create /data/home\n  \
    btrfuse subvolume snapshot -r /data/home /data/home.monday\n  \
    btrfuse subvolume list /data\n  \
    btrfuse subvolume read-only /data/home.monday no\n  \
    btrfuse subvolume delete /data/home.monday";

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Make an empty subvolume.
    ///
    /// It looks like a directory, and can be snapshotted, deleted at once and mounted by itself
    /// (`-o subvol=`).
    Create {
        /// The name to make, as in `/data/home`; the directory before it is on a mount.
        path: PathBuf,
    },
    /// Make a subvolume that begins as a copy of another.
    ///
    /// Takes a moment, however much is in it, and is durable when the command returns. Subvolumes
    /// in the source are empty directories in the snapshot.
    Snapshot {
        /// The snapshot can't be written.
        #[arg(short, long)]
        read_only: bool,
        /// The subvolume, by its root directory.
        source: PathBuf,
        /// The name to make; in a directory that exists, the source's name.
        dest: PathBuf,
    },
    /// Delete subvolumes with everything that is in them.
    ///
    /// The names go at once, the space comes back in the background. One that contains others,
    /// is mounted as the root, or is what the image mounts by default, stays. Of several, one that
    /// can't be deleted doesn't keep the others.
    Delete {
        /// The subvolumes, by their root directories.
        #[arg(required = true)]
        path: Vec<PathBuf>,
    },
    /// List the subvolumes below a directory.
    ///
    /// A line for each: its number (ID), the number of the subvolume that it is in (IN), the
    /// transaction of its last change (GENERATION), rw or ro (MODE), and its path, relative to DIR.
    /// With --json one object: `id`, the number of the subvolume that DIR is in, and `subvolumes`,
    /// each with `id`, `in`, `path`, `read_only`, `generation`; `made_in` and `made_at`, the
    /// transaction and the time (seconds since 1970) that made it; `uuid`, `parent_uuid` (of what
    /// it is a snapshot of) and `received_uuid` (of what was sent), null where there is none.
    List {
        /// The mount point, or a directory below.
        dir: PathBuf,
    },
    /// Show whether a subvolume is read-only, or change that.
    ReadOnly {
        /// The subvolume, by its root directory.
        dir: PathBuf,
        /// What it is to be.
        #[arg(value_name = "yes|no", value_parser = yes_or_no)]
        value: Option<bool>,
    },
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    match args.what {
        What::Create { path } => create(&path, args.json),
        What::Snapshot {
            read_only,
            source,
            dest,
        } => snapshot(&source, &dest, read_only, args.json),
        What::Delete { path } => delete(&path, args.json),
        What::List { dir } => list::run(&dir, args.json),
        What::ReadOnly { dir, value } => read_only(&dir, value, args.json),
    }
}

/// The directory that a path is in, open, and the name there.
fn split(path: &Path, doing: Doing) -> Result<(OwnedFd, &[u8]), Failure> {
    let Some(name) = path.file_name().map(OsStr::as_bytes) else {
        return Err(Failure::usage(format!(
            "{} has no name at its end; write DIR/NAME",
            path.display()
        )));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let dir = subvolumes::open(parent).map_err(|why| doing.parent_failure(path, parent, why))?;
    Ok((dir, name))
}

fn open(dir: &Path, doing: Doing) -> Result<OwnedFd, Failure> {
    subvolumes::open(dir).map_err(|why| doing.failure(dir, why))
}

fn create(path: &Path, json: bool) -> Result<(), Failure> {
    let (parent, name) = split(path, Doing::Create)?;
    subvolumes::create(&parent, name).map_err(|why| refusal::of_name(Doing::Create, path, why))?;
    made(path, json)
}

fn snapshot(source: &Path, dest: &Path, read_only: bool, json: bool) -> Result<(), Failure> {
    let from = open(source, Doing::Source)?;
    let dest = match (dest.is_dir(), mountinfo::absolute(source)?.file_name()) {
        (true, Some(name)) => dest.join(name),
        _ => dest.to_owned(),
    };
    let (parent, name) = split(&dest, Doing::Snapshot)?;
    subvolumes::snapshot(&from, &parent, name, read_only).map_err(|why| {
        // Which of the two isn't on a btrfs, the answer doesn't say.
        let foreign = subvolumes::info(&from).is_err();
        refusal::of_snapshot(source, &dest, foreign, why)
    })?;
    made(&dest, json)
}

/// Says what there is now.
fn made(path: &Path, json: bool) -> Result<(), Failure> {
    if json {
        let shown = subvolumes::open(path).and_then(|dir| subvolumes::info(&dir));
        let info = shown.map_err(|why| {
            let place = path.display();
            Failure::failed(format!(
                "made {place}, but can't show it: {why}; `btrfuse subvolume list` of the \
                 directory that it is in tries again"
            ))
        })?;
        say!("{}", list::row(&info, path.as_os_str().as_bytes()));
    }
    Ok(())
}

fn delete(paths: &[PathBuf], json: bool) -> Result<(), Failure> {
    let mut deleted = Vec::new();
    let mut outcome = Ok(());
    for path in paths {
        let gone = split(path, Doing::Delete).and_then(|(parent, name)| {
            subvolumes::delete(&parent, name).map_err(|why| refusal::of_delete(path, &parent, why))
        });
        match gone {
            Ok(()) => deleted.push(path.to_string_lossy()),
            // As rm(1): the others are deleted nevertheless.
            Err(failure) => {
                complain!("btrfuse: {failure}");
                outcome = outcome.and(Err(Failure::new(failure.exit, "")));
            }
        }
    }
    if json {
        say!("{}", json!({ "deleted": deleted }));
    }
    outcome
}

fn read_only(dir: &Path, value: Option<bool>, json: bool) -> Result<(), Failure> {
    let subvolume = open(dir, Doing::ReadOnly)?;
    let refused = |why| Doing::ReadOnly.failure(dir, why);
    if let Some(value) = value {
        subvolumes::set_read_only(&subvolume, value).map_err(refused)?;
        if !json {
            return Ok(());
        }
    }
    let now = subvolumes::is_read_only(&subvolume).map_err(refused)?;
    match json {
        true => say!(
            "{}",
            json!({ "path": dir.to_string_lossy(), "read_only": now })
        ),
        false => say!("{}", if now { "yes" } else { "no" }),
    }
    Ok(())
}
