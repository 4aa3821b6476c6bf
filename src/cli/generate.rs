//! The manual pages and shell completions, written from the command's own definition.

use super::options::table;
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
    let mut paged = without_help(command.clone());
    paged.build();
    write_pages(&paged, "btrfuse", &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "btrfuse", &completions)?;
    }
    Ok(())
}

/// `btrfuse help COMMAND` is no command of its own in the manual.
fn without_help(command: clap::Command) -> clap::Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|sub| sub.get_name().to_owned())
        .collect();
    names
        .into_iter()
        .fold(command.disable_help_subcommand(true), |command, name| {
            command.mut_subcommand(name, without_help)
        })
}

/// A page for the command and each below it, so that every page that one refers to is there.
fn write_pages(command: &clap::Command, name: &str, dir: &Path) -> std::io::Result<()> {
    write_page(command, name, dir)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        write_pages(sub, &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(())
}

fn write_page(command: &clap::Command, name: &str, dir: &Path) -> std::io::Result<()> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").replace('-', "\\-");
    // The page header shows the number only: the protocol is the build's, not the manual's.
    let command = command
        .clone()
        .name(name.to_owned())
        .version(env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone())
        .date("")
        .manual("btrfuse");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    page.extend_from_slice(format!(".SH SYNOPSIS\n{usage}\n").as_bytes());
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if name == "btrfuse-mount" {
        page.extend_from_slice(mount_options().as_bytes());
    } else if command.get_after_long_help().is_some() {
        let mut extra = Vec::new();
        man.render_extra_section(&mut extra)?;
        page.extend_from_slice(titled(&String::from_utf8_lossy(&extra)).as_bytes());
    }
    page.extend_from_slice(b".SH \"EXIT STATUS\"\n");
    for (code, words) in Exit::TABLE {
        page.extend_from_slice(format!(".TP\n\\fB{code}\\fR\n{words}\n").as_bytes());
    }
    std::fs::write(dir.join(format!("{name}.1")), page)
}

/// What the long help has at its end, with what it is as the titles of sections.
fn titled(extra: &str) -> String {
    let mut section = String::new();
    for line in extra.lines().filter(|line| *line != ".SH EXTRA") {
        match line
            .strip_suffix(':')
            .filter(|title| !title.starts_with(' '))
        {
            Some(title) => {
                let end = if section.is_empty() { "" } else { ".fi\n" };
                // What is said of it in brackets stays a sentence.
                let (title, rest) = title.split_once(" (").unwrap_or((title, ""));
                section.push_str(&format!("{end}.SH {}\n", title.to_uppercase()));
                if let Some(rest) = rest.strip_suffix(')') {
                    section.push_str(&format!("({rest})\n"));
                }
                section.push_str(".nf\n");
            }
            None => section.push_str(&format!("{line}\n")),
        }
    }
    section.push_str(".fi\n");
    section
}

/// The options of `-o`, a paragraph each.
fn mount_options() -> String {
    let mut section = String::from(".SH \"MOUNT OPTIONS\"\n");
    for (written, words) in table::OWN {
        section.push_str(&format!(".TP\n\\fB{written}\\fR\n{words}\n"));
    }
    section.push_str(&format!(".PP\n{}\n", table::OTHERS));
    section.push_str(".SH EXAMPLES\n.nf\n");
    for line in table::EXAMPLES {
        section.push_str(&format!("  {}\n", line.replace('-', "\\-")));
    }
    section.push_str(".fi\n");
    section.replace("\n'", "\n\\&'")
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
        let page = std::fs::read_to_string(dir.path().join("man/btrfuse-mount.1")).unwrap();
        for words in [
            "btrfuse mount [OPTIONS] <IMAGE> <DIR>",
            ".SH \"MOUNT OPTIONS\"",
            "nologreplay",
        ] {
            assert!(page.contains(words), "{page}");
        }
        for command in [
            "mkfs",
            "mount",
            "umount",
            "inspect",
            "sync",
            "stress",
            "subvolume",
        ] {
            let page = dir.path().join(format!("man/btrfuse-{command}.1"));
            let page = std::fs::read_to_string(page).unwrap();
            let examples = page.matches("EXAMPLES").count();
            assert!(examples == 1 && !page.contains("EXTRA"), "{page}");
        }
        every_reference_leads_to_a_page(&dir.path().join("man"));
        let bash = std::fs::read_to_string(dir.path().join("completions/btrfuse.bash")).unwrap();
        assert!(bash.contains("umount"));
    }

    fn every_reference_leads_to_a_page(man: &Path) {
        let mut references = 0;
        for entry in std::fs::read_dir(man).unwrap() {
            let page = std::fs::read_to_string(entry.unwrap().path()).unwrap();
            let named = page.lines().filter_map(|line| line.strip_suffix("(1)"));
            for name in named.map(|name| name.replace('\\', "")) {
                assert!(man.join(format!("{name}.1")).exists(), "{name}");
                references += 1;
            }
        }
        assert!(references >= 9, "{references}");
    }
}
