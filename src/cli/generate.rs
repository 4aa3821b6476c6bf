//! The manual pages and shell completions, written from the command's own definition.

use super::{Failure, command, failure::Exit};
use clap_complete::Shell;
use std::path::{Path, PathBuf};

/// Write the manual pages and shell completions to a directory.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where to write; made if absent.
    dir: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    write_all(&args.dir)
        .map_err(|why| Failure::failed(format!("can't write to {}: {why}", args.dir.display())))
}

fn write_all(dir: &Path) -> std::io::Result<()> {
    let man = dir.join("man");
    let completions = dir.join("completions");
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    let mut command = command();
    command.build();
    write_page(&command, "btrfuse", &man)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if sub.get_name() != "help" {
            write_page(sub, &format!("btrfuse-{}", sub.get_name()), &man)?;
        }
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "btrfuse", &completions)?;
    }
    Ok(())
}

fn write_page(command: &clap::Command, name: &str, dir: &Path) -> std::io::Result<()> {
    // The page header shows the number only: the protocol is the build's, not the manual's.
    let command = command
        .clone()
        .name(name.to_owned())
        .version(env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command).date("").manual("btrfuse");
    let mut page = Vec::new();
    man.render(&mut page)?;
    page.extend_from_slice(b".SH \"EXIT STATUS\"\n");
    for (code, words) in Exit::TABLE {
        page.extend_from_slice(format!(".TP\n\\fB{code}\\fR\n{words}\n").as_bytes());
    }
    std::fs::write(dir.join(format!("{name}.1")), page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_completions_cover_the_commands() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path()).unwrap();
        let page = std::fs::read_to_string(dir.path().join("man/btrfuse-umount.1")).unwrap();
        assert!(
            page.contains("last commit") && page.contains("EXIT STATUS"),
            "{page}"
        );
        assert!(!dir.path().join("man/btrfuse-mount8.1").exists());
        let bash = std::fs::read_to_string(dir.path().join("completions/btrfuse.bash")).unwrap();
        assert!(bash.contains("umount"));
    }
}
