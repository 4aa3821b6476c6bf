//! The `btrfuse` command: arguments in, one sentence and an exit code out.
//!
//! The only folder that names `clap` and `env_logger`. A subcommand is a file with `Args` (its
//! doc comments are the help and the manual page) and `run(Args) -> Result<(), Failure>`.

mod ask;
mod daemon;
mod duration;
mod ending;
mod failure;
mod generate;
mod guardian;
mod inspect;
mod lab;
mod logging;
mod mkfs;
mod mount;
mod mount8;
mod mountinfo;
pub mod options;
mod print;
mod signals;
mod signature;
pub mod size;
mod stats;
mod stress;
mod subvolume;
mod supervise;
mod sync;
mod umount;
mod utab;
pub mod version;

pub use failure::{Exit, Failure};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// Mount real btrfs images read-write, without the kernel's btrfs.
#[derive(Debug, Parser)]
#[command(name = "btrfuse", max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Args),
    Mkfs(mkfs::Args),
    Mount(mount::Args),
    Umount(umount::Args),
    Lab(lab::Args),
    Stats(stats::Args),
    Stress(stress::Args),
    #[command(hide = true)]
    StressWorker(stress::WorkerArgs),
    Subvolume(subvolume::Args),
    Sync(sync::Args),
    #[command(hide = true)]
    Supervised(supervise::Args),
    #[command(hide = true)]
    Guardian(guardian::Args),
    #[command(hide = true)]
    Mount8(mount8::MountArgs),
    #[command(hide = true)]
    Umount8(mount8::UmountArgs),
    #[command(hide = true)]
    Generate(generate::Args),
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Inspect(args) => inspect::run(args),
        Command::Mkfs(args) => mkfs::run(args),
        Command::Mount(args) => mount::run(args),
        Command::Umount(args) => umount::run(args),
        Command::Lab(args) => lab::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Stress(args) => stress::run(args),
        Command::StressWorker(args) => stress::work(args),
        Command::Subvolume(args) => subvolume::run(args),
        Command::Sync(args) => sync::run(args),
        Command::Supervised(args) => supervise::daemon(args),
        Command::Guardian(args) => guardian::run(&args),
        Command::Mount8(args) => mount8::mount(args),
        Command::Umount8(args) => mount8::umount(args),
        Command::Generate(args) => generate::run(args),
    }
}

/// The command's definition, with the version that names the protocol.
fn command() -> clap::Command {
    Cli::command().version(version::text())
}

/// Parses the command line, runs, reports.
pub fn main() -> ExitCode {
    let parsed = command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // Help and version aren't errors.
            let usage = ExitCode::from(Exit::Usage as u8);
            return if error.use_stderr() {
                usage
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(cli.command).and_then(|()| print::finish()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.sentence.is_empty() {
                crate::cli::print::complain!("btrfuse: {failure}");
            }
            ExitCode::from(failure.exit as u8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_version_names_the_protocol() {
        let version = command().render_version();
        assert!(
            version.starts_with("btrfuse 0.1.0 (protocol: "),
            "{version}"
        );
        assert!(version.contains(version::PROTOCOL));
    }

    #[test]
    fn mount8_understands_the_order_of_mount() {
        let argv = [
            "btrfuse",
            "mount8",
            "/img",
            "/mnt",
            "-s",
            "-o",
            "rw,noatime",
            "-t",
            "btrfuse",
        ];
        let matches = command().try_get_matches_from(argv).unwrap();
        let cli = Cli::from_arg_matches(&matches).unwrap();
        assert!(matches!(cli.command, Command::Mount8(_)));
    }
}
