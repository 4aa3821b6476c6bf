//! The helpers of mount(8) and umount(8): their argument order, their exit codes.
//!
//! `mount -t btrfuse IMAGE DIR` runs `/sbin/mount.btrfuse IMAGE DIR -o …`, and `umount DIR`
//! runs `/sbin/umount.fuse.btrfuse DIR`; the scripts in `mount-helper/` hand both to the hidden
//! subcommands `mount8` and `umount8`.

use super::{Exit, Failure, mount, umount};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// `mount.TYPE SOURCE DIR [-sfnv] [-N namespace] [-o options] [-t type]`, as mount(8) calls it.
#[derive(clap::Args, Debug)]
#[command(override_usage = "mount.btrfuse IMAGE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]")]
pub struct MountArgs {
    /// The image or block device.
    source: OsString,
    /// The directory to mount on.
    dir: PathBuf,
    /// Sloppy: unknown options are ignored.
    #[arg(short)]
    sloppy: bool,
    /// Fake: check the arguments, don't mount.
    #[arg(short)]
    fake: bool,
    /// No mtab; there is none.
    #[arg(short)]
    no_mtab: bool,
    /// Verbose.
    #[arg(short)]
    verbose: bool,
    /// The namespace; mount(8) has already entered it.
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<OsString>,
    /// Mount options.
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// The type; the helper's name already says it.
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<OsString>,
}

/// `umount.TYPE DIR [-flnrv] [-N namespace] [-t type]`, as umount(8) calls it.
#[derive(clap::Args, Debug)]
#[command(override_usage = "umount.btrfuse DIR [-flnrv] [-N NAMESPACE] [-t TYPE]")]
pub struct UmountArgs {
    /// The mount point.
    dir: PathBuf,
    /// Force; a live daemon needs none.
    #[arg(short)]
    force: bool,
    /// Lazy.
    #[arg(short)]
    lazy: bool,
    /// No mtab; there is none.
    #[arg(short)]
    no_mtab: bool,
    /// Remount read-only when busy; not possible here.
    #[arg(short)]
    read_only: bool,
    /// Verbose.
    #[arg(short)]
    verbose: bool,
    /// The namespace; umount(8) has already entered it.
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<OsString>,
    /// The type; the helper's name already says it.
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<OsString>,
}

/// Runs the mount helper.
pub fn mount(args: MountArgs) -> Result<(), Failure> {
    let source = PathBuf::from(without_subtype(args.source));
    let options = super::options::parse(&args.options, args.sloppy)?;
    if args.fake || options.nofail && is_absent(&source) {
        return Ok(());
    }
    if args.verbose {
        crate::cli::print::complain!(
            "btrfuse: mounting {} on {}",
            source.display(),
            args.dir.display()
        );
    }
    mount::start(mount::Wish {
        image: source,
        dir: args.dir,
        options: args.options,
        sloppy: args.sloppy,
        from_mount8: true,
        foreground: false,
        supervise: false,
        log: None,
    })
    .map_err(|failure| match failure.exit {
        Exit::Usage => failure,
        _ => Failure {
            exit: Exit::MountHelper,
            ..failure
        },
    })
}

/// Runs the umount helper.
pub fn umount(args: UmountArgs) -> Result<(), Failure> {
    let how = umount::How {
        lazy: args.lazy,
        verbose: args.verbose,
        from_umount8: true,
    };
    umount::unmount(&args.dir, how)
}

/// What `nofail` makes mount(8) pass over in silence for filesystems without a helper.
fn is_absent(source: &Path) -> bool {
    source
        .metadata()
        .is_err_and(|why| why.kind() == std::io::ErrorKind::NotFound)
}

/// An old fstab way to name a FUSE program is `btrfuse#SOURCE`.
fn without_subtype(source: OsString) -> OsString {
    match source
        .to_str()
        .and_then(|text| text.strip_prefix("btrfuse#"))
    {
        Some(rest) => rest.into(),
        None => source,
    }
}
