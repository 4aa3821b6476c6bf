//! `btrfuse sync DIR`: everything written so far survives a power cut when it returns.

use super::{Failure, ask};
use std::path::PathBuf;

/// Make everything written to a mount durable (a full commit), and wait for it.
///
/// On a FUSE mount sync(1) doesn't reach the filesystem; this does. Needs no root: whoever can
/// open DIR may ask.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The mount point, or any directory in the mount.
    dir: PathBuf,
}

const EXAMPLES: &str = "Examples:\n  \
    btrfuse sync /data";

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let dir = ask::open_ours(&args.dir)?;
    let place = args.dir.display();
    match ask::full_commit(&dir) {
        Ok(ask::Committed::All) => Ok(()),
        Ok(ask::Committed::ButForRefused(why)) => {
            crate::cli::print::complain!(
                "btrfuse: {place} is durable, except for earlier writes that were refused \
                 ({why}); fsync or close told their programs"
            );
            Ok(())
        }
        Err(why) => Err(Failure::failed(format!(
            "the commit of {place} failed ({why}), so recent changes aren't durable; the \
             daemon's log names the reason"
        ))),
    }
}
