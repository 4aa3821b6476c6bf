//! The `btrfuse` command: everything is in [`btrfuse::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    btrfuse::cli::main()
}
