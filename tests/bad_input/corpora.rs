//! Images of other programs' test suites, where `BTRFUSE_CORPORA` says, made raw.

use btrfuse_test_support::golden::Golden;
use btrfuse_test_support::{Image, run};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An image with a name for messages.
pub struct Sample {
    pub name: String,
    pub image: Image,
}

impl Sample {
    /// The first device of a golden set.
    pub fn golden(set: Golden) -> Self {
        let image = set.devices().swap_remove(0);
        Self {
            name: set.name,
            image,
        }
    }
}

/// The images of `btrfs-progs/INDEX.jsonl` whose path begins with `prefix`, unpacked one by one.
pub fn samples(prefix: &str) -> impl Iterator<Item = Sample> {
    let folder = std::env::var_os("BTRFUSE_CORPORA").map(|it| Path::new(&it).join("btrfs-progs"));
    if folder.is_none() {
        eprintln!("BTRFUSE_CORPORA is not set: no images {prefix}*");
    }
    let lines: Vec<(PathBuf, Value)> = folder
        .into_iter()
        .flat_map(|folder| {
            let index = std::fs::read_to_string(folder.join("INDEX.jsonl")).expect("an index");
            let parse = |line: &str| serde_json::from_str(line).expect("JSON");
            let lines: Vec<Value> = index.lines().map(parse).collect();
            lines.into_iter().map(move |line| (folder.clone(), line))
        })
        .collect();
    let prefix = prefix.to_owned();
    let wanted = |(_, line): &(PathBuf, Value)| text(&line["image"]).starts_with(&prefix);
    assert!(
        lines.is_empty() || lines.iter().any(wanted),
        "the index names no image {prefix}*"
    );
    lines
        .into_iter()
        .filter(move |(_, line)| text(&line["image"]).starts_with(&prefix))
        .filter_map(|(folder, line)| unpack(&folder, &line))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The raw image, or `None` of what is none (a send stream).
fn unpack(folder: &Path, line: &Value) -> Option<Sample> {
    let name = text(&line["image"]);
    let kind = text(&line["parts"][0]["kind"]);
    let image = Image::blank(0);
    let packed = folder.join(name);
    let stored = if kind == "raw" {
        image.path().to_owned()
    } else {
        image.path().with_extension("dump")
    };
    let mut command = match name {
        _ if name.ends_with(".tar.xz") => command("tar", &["-xJOf"]),
        _ if name.ends_with(".xz") => command("xz", &["-dc"]),
        _ => command("cat", &[]),
    };
    let mut child = command
        .arg(&packed)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", packed.display()));
    // Sparse: a fuzzed image of a few KiB may be 16 GiB long.
    let copied = Command::new("cp")
        .args(["--sparse=always", "/dev/stdin"])
        .arg(&stored)
        .stdin(child.stdout.take().expect("a pipe"))
        .status();
    assert!(
        copied.expect("cp").success() && child.wait().expect("our child").success(),
        "{name}"
    );
    match kind {
        "raw" => {}
        "btrfs-image metadump" => {
            File::create(image.path()).expect("our own folder");
            run(Command::new("btrfs-image")
                .arg("-r")
                .arg(&stored)
                .arg(image.path()));
        }
        _ => return None,
    }
    Some(Sample {
        name: name.to_owned(),
        image,
    })
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}
