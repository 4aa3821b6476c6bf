//! `btrfuse mount IMAGE DIR`: the command's side of a mount, and the daemon's life.
//!
//! Invariant: the command returns 0 only when requests are answered, and with `-f` only when
//! the last commit is durable. The image is locked until that commit is over.

use super::daemon::{self, Side, Starter};
use super::ending::{Ending, Open};
use super::guardian::Guardian;
use super::logging::{self, Target};
use super::options::{self, Atime, Options};
use super::{Exit, Failure, signals, signature, supervise, utab};
use crate::extent_buffer::Kind;
use crate::fs::{AtimeMode, Filesystem, MountOptions};
use crate::fuse::control::Watchers;
use crate::fuse::{Access, Adapter, Point, Session, default_threads};
use crate::lab::live::mount::AGAIN;
use crate::sync::Arc;
use crate::volume::FileDevice;
use rustix::mount::MountFlags;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Mount an image or block device on a directory.
///
/// Returns when the mount answers; a daemon goes on serving it until `umount`. As a user,
/// fusermount3 (package fuse3) mounts, and only you can use the mount unless `-o allow_other`
/// is given and /etc/fuse.conf permits it. As root, everybody can, as permissions allow.
#[derive(clap::Args, Debug)]
#[command(after_long_help = options::table::help())]
pub struct Args {
    /// The image file or block device.
    image: PathBuf,
    /// The directory to mount on.
    dir: PathBuf,
    /// Stay in the foreground until the mount ends and its last commit is durable; exit 5 if
    /// that failed. The log goes to stderr.
    #[arg(short, long)]
    foreground: bool,
    /// Mount options, separated by commas: ro, commit=SECONDS, metadata_cache=SIZE,
    /// subvol=PATH, subvolid=ID, allow_other, noatime, discard and others, and what mount(8) and
    /// fstab add. The manual page and the long --help list them.
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// Append the log to FILE instead of stderr or syslog.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Mount again when the daemon has crashed or was killed; also `-o supervise`. What was durable is
    /// there then; files that were open must be opened again.
    #[arg(long)]
    supervise: bool,
}

/// What to mount, from either command line.
#[derive(Debug)]
pub struct Wish {
    /// The image file or block device.
    pub image: PathBuf,
    /// The directory.
    pub dir: PathBuf,
    /// `-o` lists.
    pub options: Vec<String>,
    /// Unknown options are ignored.
    pub sloppy: bool,
    /// mount(8) called.
    pub from_mount8: bool,
    /// Don't fork.
    pub foreground: bool,
    /// The log file.
    pub log: Option<PathBuf>,
    /// Mount again after a crash.
    pub supervise: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let Args {
        image,
        dir,
        foreground,
        options,
        log,
        supervise,
    } = args;
    start(Wish {
        image,
        dir,
        options,
        sloppy: false,
        from_mount8: false,
        foreground,
        log,
        supervise,
    })
}

/// A wish with everything checked that needs no engine.
struct Plan {
    image: PathBuf,
    block_device: bool,
    dir: PathBuf,
    options: Options,
    protocol: Kind,
    /// umount(8) is told that it has a helper to call.
    register: bool,
}

/// Mounts, in this process or in a daemon.
pub fn start(wish: Wish) -> Result<(), Failure> {
    let plan = ready(&wish)?;
    let log = log(&wish)?;
    let supervise = wish.supervise || plan.options.supervise;
    let begin = |plan: Plan, starter| match supervise {
        true => supervise::run(&wish, &plan.image, &plan.dir, starter),
        false => live(plan, starter),
    };
    if wish.foreground {
        logging::start(&log)?;
        return begin(plan, Starter::foreground());
    }
    match daemon::split()? {
        Side::Parent(child) => {
            let dir = plan.dir;
            child.wait_until_ready()?;
            // One round trip: the mount answers, or we learn here that it doesn't.
            match rustix::fs::statfs(&dir) {
                Ok(_) => Ok(()),
                Err(why) => Err(Failure::failed(format!(
                    "mounted on {}, but it doesn't answer: {why}",
                    dir.display()
                ))),
            }
        }
        Side::Daemon(starter) => {
            let done = logging::start(&log).and_then(|()| begin(plan, starter));
            // The parent has reported a failed start; later failures are in the log.
            std::process::exit(done.map_or_else(|failure| i32::from(failure.exit as u8), |()| 0))
        }
    }
}

/// Mounts in this process, which a supervisor has started to be the daemon.
pub fn start_supervised(wish: &Wish) -> Result<(), Failure> {
    let starter = Starter::supervised(!wish.foreground)?;
    let prepared = ready(wish).and_then(|plan| logging::start(&log(wish)?).map(|()| plan));
    match prepared {
        Ok(plan) => live(plan, starter),
        Err(failure) => {
            starter.fail(&failure);
            Err(failure)
        }
    }
}

/// What can be refused before there is a daemon is.
fn ready(wish: &Wish) -> Result<Plan, Failure> {
    let plan = plan(wish, options::parse(&wish.options, wish.sloppy)?)?;
    arm_lab(&plan.options)?;
    // One line: it goes into a log.
    if let Ok(words) = std::env::var(AGAIN)
        && let Some(words) = words.lines().next()
    {
        crate::extent_buffer::set_again(words.to_owned());
    }
    Ok(plan)
}

fn log(wish: &Wish) -> Result<Target, Failure> {
    Ok(match &wish.log {
        Some(path) => {
            logging::open_log(path)?;
            // Absolute before the daemon leaves its directory.
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            Target::File(path)
        }
        None if wish.foreground => Target::Stderr,
        None => Target::Syslog,
    })
}

fn plan(wish: &Wish, options: Options) -> Result<Plan, Failure> {
    let named = wish.image.display();
    let image = wish.image.canonicalize().map_err(|why| {
        let hint = match named.to_string().split_once('=') {
            Some(("UUID" | "LABEL" | "PARTUUID" | "PARTLABEL", _)) => {
                "; only mount(8) resolves such names: use `mount -t btrfuse` or the path"
            }
            _ => "",
        };
        Failure::failed(format!("image {named}: {why}{hint}"))
    })?;
    let kind = image
        .metadata()
        .map_err(|why| Failure::failed(format!("image {named}: {why}")))?
        .file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(Failure::refused(format!(
            "image {named}: neither a regular file nor a block device"
        )));
    }
    let (dir, is_dir) = wish
        .dir
        .canonicalize()
        .and_then(|dir| dir.metadata().map(|metadata| (dir, metadata.is_dir())))
        .map_err(|why| {
            let hint = match why.kind() {
                io::ErrorKind::NotFound => "; make it with mkdir",
                // The second of a request that was under way when it died.
                io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted => {
                    "; a mount there has lost its daemon: clear it with `umount -l`"
                }
                _ => "",
            };
            Failure::failed(format!("mount point {}: {why}{hint}", wish.dir.display()))
        })?;
    if !is_dir {
        return Err(Failure::failed(format!(
            "mount point {}: not a directory",
            dir.display()
        )));
    }
    let protocol = protocol(&options)?;
    let register = utab::wanted(&wish.options, wish.from_mount8);
    Ok(Plan {
        image,
        block_device: kind.is_block_device(),
        dir,
        options,
        protocol,
        register,
    })
}

/// The life of a mount: start, serve, last commit, report.
fn live(plan: Plan, mut starter: Starter) -> Result<(), Failure> {
    daemon::leave_directory();
    signals::log_panics();
    for note in &plan.options.notes {
        starter.note(note);
    }
    let started = begin(&plan, &mut starter);
    let (session, ending) = match started {
        Ok(parts) => parts,
        Err(failure) => {
            starter.fail(&failure);
            return Err(failure);
        }
    };
    log::info!(
        "{} mounted on {} (protocol: {})",
        plan.image.display(),
        plan.dir.display(),
        plan.protocol
    );
    if starter.is_daemon() {
        // After this nothing reaches the caller's terminal but the news of the start.
        if let Err(why) = daemon::leave_terminal() {
            log::warn!("can't let go of the terminal: {why}");
        }
    }
    if plan.register {
        utab::remember(&plan.image, &plan.dir);
    }
    starter.ready();
    let guardian = session.device().map(|device| Guardian::start(&device));
    let guardian = guardian.and_then(|started| {
        let why = started.as_ref().err().map(ToString::to_string);
        if let Some(why) = why {
            log::debug!("nobody ends the connection of a killed daemon: {why}");
        }
        started.ok()
    });
    let served = session.serve();
    drop(guardian);
    ending.leave_to_session();
    let outcome = ending.reach(served.map_err(|why| {
        format!("serving requests ended early ({why}); everything written before is committed")
    }));
    outcome.map_err(|words| Failure::new(Exit::LastCommit, words).at(plan.image.display()))
}

fn begin(plan: &Plan, starter: &mut Starter) -> Result<(Session, Arc<Ending>), Failure> {
    let options = &plan.options;
    let device = open_device(&plan.image, options.read_only)?;
    let fs = Filesystem::mount(
        vec![device.clone()],
        &engine_options(options, plan.protocol),
    )
    .map_err(|error| signature::explain(error, &*device).at(plan.image.display()))?;
    let refused = fs.read_only_reason();
    if let Some(reason) = refused.as_ref().filter(|_| !options.read_only) {
        starter.note(&format!(
            "{} is mounted read-only: {reason}",
            plan.image.display()
        ));
    }
    let is_root = rustix::process::geteuid().is_root();
    let point = Point {
        dir: plan.dir.clone(),
        image: plan.image.clone(),
        block_device: plan.block_device,
        plain_fuse: options.plain_fuse,
        access: match options.allow_other.unwrap_or(is_root) {
            true => Access::Everybody,
            false => Access::Owner,
        },
        read_only: options.read_only || refused.is_some(),
        flags: point_flags(options),
        threads: options.threads.unwrap_or_else(default_threads),
    };
    let watchers = Arc::new(Watchers::new());
    let owner = rustix::process::getuid().as_raw();
    let adapter = Adapter::new(fs.clone(), watchers.clone(), owner);
    let mounted = Session::mount(adapter, &point).map_err(Failure::failed);
    let session = match mounted {
        Ok(session) => session,
        Err(failure) => {
            // Nothing was changed through a mount that never was; leave the image clean.
            let _ = fs.unmount();
            return Err(failure);
        }
    };
    let unmounter = session.unmounter();
    let open = Open { device, fs };
    let hand_over = session.hand_over();
    let mut ending = Ending::new(&plan.image, &plan.dir, open, watchers, hand_over);
    ending.registered = plan.register;
    ending.in_background = starter.is_daemon();
    let ending = Arc::new(ending);
    match signals::watch(unmounter.clone(), ending.clone()) {
        Ok(()) => Ok((session, ending)),
        Err(failure) => {
            // Nobody would serve it.
            let _ = unmounter.detach();
            drop(session);
            let _ = ending.reach(Ok(()));
            Err(failure)
        }
    }
}

fn open_device(image: &Path, read_only: bool) -> Result<Arc<FileDevice>, Failure> {
    match FileDevice::open(image, read_only) {
        Ok(device) => Ok(Arc::new(device)),
        Err(error) => {
            let denied = [libc::EROFS, libc::EACCES, libc::EPERM].map(Some);
            let hint = match &error {
                crate::Error::Device { source, .. }
                    if !read_only && denied.contains(&source.raw_os_error()) =>
                {
                    "; mount it with `-o ro` if reading is enough"
                }
                _ => "",
            };
            let mut failure = match hint {
                "" => Failure::of_opening(error),
                _ => Failure::from(error),
            };
            failure.sentence.push_str(hint);
            Err(failure.at(image.display()))
        }
    }
}

fn engine_options(options: &Options, protocol: Kind) -> MountOptions {
    let defaults = MountOptions::default();
    MountOptions {
        // The adapter asks for the writeback cache, which every supported kernel has.
        kernel_keeps_times: true,
        protocol,
        read_only: options.read_only,
        subvol: options
            .subvol
            .as_ref()
            .map(|path| path.clone().into_bytes()),
        subvolid: options.subvolid,
        commit_interval_secs: options.commit_secs.unwrap_or(defaults.commit_interval_secs),
        metadata_cache_bytes: options
            .metadata_cache_bytes
            .unwrap_or(defaults.metadata_cache_bytes),
        nologreplay: options.nologreplay,
        treelog: !options.notreelog,
        atime: match options.atime {
            Atime::Relative => AtimeMode::Relatime,
            Atime::Strict => AtimeMode::Strict,
            Atime::Never => AtimeMode::Off,
        },
        nodiratime: options.nodiratime,
        discard: options.discard,
        user_subvol_rm_allowed: options.user_subvol_rm_allowed,
        ..defaults
    }
}

/// The lifetime protocol of the mount: the build's, unless a lab build was told another.
fn protocol(options: &Options) -> Result<Kind, Failure> {
    match &options.protocol {
        Some(name) => name
            .parse()
            .map_err(|why| Failure::usage(format!("-o protocol={name}: {why}"))),
        None => Ok(Kind::BUILD),
    }
}

/// Arms what a lab build was told.
#[cfg(feature = "race-lab")]
fn arm_lab(options: &Options) -> Result<(), Failure> {
    use crate::sync::race_point::{Delay, install_delays};
    let delays: Result<Vec<Delay>, Failure> = options
        .delays
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|why| Failure::usage(format!("-o delay={text}: {why}")))
        })
        .collect();
    let delays = delays?;
    if !delays.is_empty() {
        install_delays(&delays);
    }
    if options.ahead_freed {
        crate::extent_buffer::follow_freed();
    }
    if options.reclaim_always {
        crate::extent_buffer::press();
    }
    Ok(())
}

#[cfg(not(feature = "race-lab"))]
fn arm_lab(_options: &Options) -> Result<(), Failure> {
    Ok(())
}

fn point_flags(options: &Options) -> MountFlags {
    let point = options.point;
    let mut flags = MountFlags::empty();
    for (on, flag) in [
        (point.nosuid, MountFlags::NOSUID),
        (point.nodev, MountFlags::NODEV),
        (point.noexec, MountFlags::NOEXEC),
        (point.sync, MountFlags::SYNCHRONOUS),
        (point.dirsync, MountFlags::DIRSYNC),
        (
            point.nosymfollow,
            MountFlags::from_bits_retain(libc::MS_NOSYMFOLLOW as _),
        ),
        (options.atime == Atime::Never, MountFlags::NOATIME),
        (options.nodiratime, MountFlags::NODIRATIME),
    ] {
        flags.set(flag, on);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(image: &Path, dir: &Path) -> Wish {
        Wish {
            image: image.to_owned(),
            dir: dir.to_owned(),
            options: Vec::new(),
            sloppy: false,
            from_mount8: false,
            foreground: true,
            log: None,
            supervise: false,
        }
    }

    #[test]
    fn a_start_that_cannot_work_is_refused_before_the_fork() {
        let place = tempfile::tempdir().unwrap();
        let image = place.path().join("image");
        let refuse = |wish: Wish| match plan(&wish, Options::default()) {
            Err(failure) => failure.sentence,
            Ok(_) => panic!("{wish:?} was accepted"),
        };
        assert!(refuse(wish(&image, place.path())).contains("image"));
        assert!(refuse(wish(Path::new("UUID=1-2"), place.path())).contains("mount(8)"));
        assert!(refuse(wish(place.path(), place.path())).contains("neither a regular file"));
        std::fs::write(&image, b"x").unwrap();
        assert!(refuse(wish(&image, &place.path().join("absent"))).contains("mkdir"));
        assert!(refuse(wish(&image, &image)).contains("not a directory"));
        assert!(plan(&wish(&image, place.path()), Options::default()).is_ok());
    }
}
