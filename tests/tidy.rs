//! Reads the source and holds the rules of the house: layers, doors, file sizes, headers,
//! left-overs. Each rule has a planted violation below that it must catch.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first; a folder names only itself and folders before it. The first three are one layer.
const LAYERS: &[&str] = &[
    "units",
    "error",
    "sync",
    "ondisk",
    "volume",
    "extent_buffer",
    "allocator",
    "transaction",
    "btree",
    "compress",
    "commit",
    "fs",
    "fuse",
    "lab",
    "cli",
];
const BOTTOM: usize = 3;

/// A name that only these paths may use.
const DOORS: &[(&str, &[&str])] = &[
    ("parking_lot", &["src/sync/"]),
    ("std::sync", &["src/sync/"]),
    ("std::thread", &["src/sync/"]),
    ("loom", &["src/sync/"]),
    ("shuttle", &["src/sync/"]),
    ("shuttle_parking_lot", &["src/sync/"]),
    ("zerocopy", &["src/ondisk/"]),
    ("lru", &["src/extent_buffer/eviction.rs"]),
    ("fuser", &["src/fuse/"]),
    ("clap", &["src/cli/", "src/main.rs"]),
    ("env_logger", &["src/cli/"]),
];

/// Longer files have a place to split.
const LINES_MAX: usize = 600;

/// A source file: where it is in the project, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    #[cfg(test)]
    fn planted(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
        }
    }

    /// Lines with their numbers, without comments and the insides of strings.
    fn code(&self) -> Vec<(usize, String)> {
        let stripped = strip(&self.text);
        stripped
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.to_owned()))
            .collect()
    }

    fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }
}

/// Rust without comments and without the contents of string literals, line by line as before.
fn strip(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            rest.iter()
                .position(|&byte| byte == b'\n')
                .unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            text[at..].find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(text, at) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = hashes + 2;
            text[at + open..]
                .find(&close)
                .map_or(rest.len(), |end| open + end + close.len())
        } else if rest[0] == b'"' {
            string_end(rest)
        } else if rest.starts_with(b"'\"'") {
            3
        } else if rest.starts_with(b"'\\\"'") {
            4
        } else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        // The lines stay where they were.
        out.extend(rest[..end].iter().filter(|&&byte| byte == b'\n'));
        at += end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn raw_string(text: &str, at: usize) -> Option<usize> {
    let rest = text[at..].strip_prefix('r')?;
    let before = text[..at].chars().next_back();
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') && before != Some('b') {
        return None;
    }
    let hashes = rest.chars().take_while(|&c| c == '#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Does `line` use `word` as a whole name?
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !part(before) && !part(after)
    })
}

fn layers(source: &Source) -> Vec<String> {
    let Some(own) = source
        .layer()
        .and_then(|layer| LAYERS.iter().position(|l| *l == layer))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let code = source.code();
    let joined: String = code.iter().map(|(_, line)| format!("{line}\n")).collect();
    for (at, _) in joined.match_indices("crate::") {
        let line = joined[..at].lines().count().max(1);
        for name in first_names(&joined[at + "crate::".len()..]) {
            let Some(other) = LAYERS.iter().position(|layer| *layer == name) else {
                continue;
            };
            if other > own && other >= BOTTOM {
                found.push(format!(
                    "{}:{line}: {} names {name} above it",
                    source.path, LAYERS[own]
                ));
            }
        }
    }
    found
}

/// The first path segments after `crate::`: one name, or those of a group.
fn first_names(after: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let Some(group) = after.strip_prefix('{') else {
        return vec![name(after)];
    };
    let (mut depth, mut part, mut out) = (0, String::new(), Vec::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => out.push(name(&std::mem::take(&mut part))),
            _ => {}
        }
        part.push(if c == ',' { ' ' } else { c });
    }
    out.push(name(&part));
    out
}

fn doors(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    if !source.path.starts_with("src/") {
        return found;
    }
    for (number, line) in source.code() {
        for (word, places) in DOORS {
            let behind = places.iter().any(|place| source.path.starts_with(place));
            if !behind && names(&line, word) {
                let places = places.join(", ");
                found.push(format!(
                    "{}:{number}: {word} belongs in {places}",
                    source.path
                ));
            }
        }
    }
    found
}

fn size(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= LINES_MAX {
        return Vec::new();
    }
    vec![format!(
        "{}: {lines} lines; {LINES_MAX} at most",
        source.path
    )]
}

fn header(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        return Vec::new();
    }
    vec![format!(
        "{}: opens without //! words about what it owns",
        source.path
    )]
}

fn left_overs(source: &Source) -> Vec<String> {
    const MACROS: &[&str] = &["todo!", "unimplemented!", "dbg!"];
    let mut found = Vec::new();
    for (number, line) in source.code() {
        for word in MACROS {
            if names(line.replace('!', "").as_str(), word.trim_end_matches('!'))
                && line.contains(word)
            {
                found.push(format!("{}:{number}: {word}", source.path));
            }
        }
        if line.contains("#[ignore") {
            found.push(format!(
                "{}:{number}: a test that is never run",
                source.path
            ));
        }
    }
    found
}

/// A test that leaves early because something is missing passes without having looked.
fn skips(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        let low = line.to_lowercase();
        let print = low.contains("print") || low.contains("log::");
        if print
            && (low.contains("\"skip") || low.contains(" skipping") || low.contains("skipped:"))
        {
            found.push(format!(
                "{}:{}: a test fails or passes, it never skips",
                source.path,
                at + 1
            ));
        }
    }
    found
}

fn unsafe_words(source: &Source) -> Vec<String> {
    let originals: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (number, line) in source.code() {
        let opens = line.contains("unsafe {")
            || line.contains("unsafe impl")
            || line.contains("unsafe fn")
            || line.contains("unsafe extern");
        let above = &originals[number.saturating_sub(12)..number];
        let said = above
            .iter()
            .any(|l| l.contains("SAFETY") || l.contains("# Safety"));
        if opens && !said {
            found.push(format!("{}:{number}: unsafe without SAFETY", source.path));
        }
    }
    found
}

fn machine_paths(source: &Source) -> Vec<String> {
    // Spelt in pieces, so that this file doesn't hold them.
    let places = [["/", "work/"], ["/", "farm/"], ["/", "root/"]].map(|pieces| pieces.concat());
    let mut found = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        if let Some(place) = places.iter().find(|place| line.contains(*place)) {
            found.push(format!(
                "{}:{}: a path of one machine: {place}",
                source.path,
                at + 1
            ));
        }
    }
    found
}

/// Links of a page that lead nowhere in the project.
fn links(source: &Source) -> Vec<String> {
    let folder = project().join(&source.path);
    let folder = folder.parent().expect("a file is in a folder");
    let mut found = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        for (start, _) in line.match_indices("](") {
            let target: String = line[start + 2..]
                .chars()
                .take_while(|c| *c != ')')
                .collect();
            let target = target.split('#').next().expect("a first part");
            let outside = target.is_empty() || target.contains("://");
            if !outside && !folder.join(target).exists() {
                found.push(format!("{}:{}: {target} isn't there", source.path, at + 1));
            }
        }
    }
    found
}

const PROMISES: u32 = 20;

/// What is wrong with the table of what programs were promised: rules without tests, or with tests that
/// aren't there. `sources` are the tests.
fn promises(page: &str, sources: &[Source]) -> Vec<String> {
    let is_a_test = |name: &str| {
        let head = format!("#[test]\nfn {name}()");
        sources.iter().any(|source| source.text.contains(&head))
    };
    let workloads = sources
        .iter()
        .filter(|source| source.path.starts_with("tests/crash/rules/"));
    let mut found = Vec::new();
    for number in 1..=PROMISES {
        let row = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("| R{number} | ")));
        let (_, last) = row
            .and_then(|row| row.split_once(" | "))
            .unwrap_or_default();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            found.push(format!("R{number} names no test"));
        }
        let lost = names.iter().filter(|name| !is_a_test(name));
        found.extend(lost.map(|name| format!("R{number}: there is no test {name}")));
        let has_workload = workloads
            .clone()
            .any(|it| it.text.contains(&format!("\"R{number}\"")));
        if names.iter().any(|name| name.starts_with("rules_of_")) && !has_workload {
            found.push(format!("R{number} has no workload"));
        }
    }
    found
}

type Rule = fn(&Source) -> Vec<String>;

const RUST_RULES: &[Rule] = &[layers, doors, size, header, left_overs, skips, unsafe_words];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, wanted: &dyn Fn(&Path) -> bool, out: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            if !name.starts_with("target") && name != ".git" && name != "golden" {
                collect(&path, wanted, out);
            }
        } else if name != ".git" && wanted(&path) {
            let shown = path
                .strip_prefix(project())
                .expect("inside")
                .display()
                .to_string();
            if let Ok(text) = fs::read_to_string(&path) {
                out.push(Source { path: shown, text });
            }
        }
    }
}

fn rust_files() -> Vec<Source> {
    let mut out = Vec::new();
    for folder in ["src", "tests", "examples", "benches", "fuzz"] {
        let folder: PathBuf = project().join(folder);
        collect(
            &folder,
            &|path| path.extension().is_some_and(|e| e == "rs"),
            &mut out,
        );
    }
    assert!(out.len() > 20, "the source wasn't found");
    out
}

#[test]
fn the_source_keeps_the_rules_of_the_house() {
    let mut found = Vec::new();
    for source in rust_files() {
        for rule in RUST_RULES {
            found.extend(rule(&source));
        }
    }
    assert!(
        found.is_empty(),
        "{} violations:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn no_file_names_a_place_on_one_machine() {
    let mut sources = Vec::new();
    collect(project(), &|_| true, &mut sources);
    let found: Vec<String> = sources.iter().flat_map(machine_paths).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    let mut pages = Vec::new();
    collect(
        project(),
        &|path| path.extension().is_some_and(|e| e == "md"),
        &mut pages,
    );
    assert!(pages.len() >= 5, "the documentation wasn't found");
    let found: Vec<String> = pages.iter().flat_map(links).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_promise_names_its_tests() {
    let path = project().join("docs/testing.md");
    let page = fs::read_to_string(path).expect("the documentation");
    let found = promises(&page, &rust_files());
    assert!(found.is_empty(), "{}", found.join("\n"));
    // Planted: a rule without a row, a test that isn't there, a rule that no workload is of.
    let planted = page.replace("| R7 |", "| R99 |");
    assert_eq!(promises(&planted, &rust_files()).len(), 1);
    let planted = page.replace("`what_was_synced_is_on_the_image`", "`nobody`");
    assert_eq!(promises(&planted, &rust_files()).len(), 1);
    let planted = page.replace(
        "`each_descriptor_",
        "`rules_of_names_hold_at_every_write` `each_descriptor_",
    );
    assert_eq!(promises(&planted, &rust_files()).len(), 1);
}

#[test]
fn every_folder_is_a_layer() {
    for entry in fs::read_dir(project().join("src")).expect("the source") {
        let name = entry
            .expect("the source")
            .file_name()
            .to_string_lossy()
            .into_owned();
        let name = name.strip_suffix(".rs").unwrap_or(&name);
        let known = LAYERS.contains(&name) || name == "lib" || name == "main";
        assert!(known, "src/{name} has no place among the layers");
    }
}

#[test]
fn planted_violations_are_caught() {
    let caught = |rule: Rule, path: &str, text: &str| {
        let found = rule(&Source::planted(path, text));
        assert_eq!(found.len(), 1, "{path}: {text:?}: {found:?}");
    };
    let passes = |rule: Rule, path: &str, text: &str| {
        let found = rule(&Source::planted(path, text));
        assert!(found.is_empty(), "{path}: {text:?}: {found:?}");
    };
    caught(layers, "src/ondisk/key.rs", "use crate::volume::Volume;");
    caught(
        layers,
        "src/ondisk/key.rs",
        "use crate::{error::{Error, Result}, units::Logical, btree};",
    );
    caught(
        layers,
        "src/fs/dir.rs",
        "fn f() { crate::fuse::adapter::g() }",
    );
    passes(
        layers,
        "src/fs/dir.rs",
        "use crate::btree::Cursor; // crate::fuse",
    );
    passes(layers, "src/units.rs", "use crate::error::Result;");
    caught(doors, "src/btree/search.rs", "use std::sync::Arc;");
    caught(
        doors,
        "src/extent_buffer/cache.rs",
        "type L = lru::LruCache<u64, u32>;",
    );
    passes(
        doors,
        "src/extent_buffer/eviction.rs",
        "type L = lru::LruCache<u64, u32>;",
    );
    passes(
        doors,
        "src/extent_buffer/cache.rs",
        "let lru_of = \"parking_lot\"; // fuser",
    );
    caught(size, "src/fs/dir.rs", &"\n".repeat(LINES_MAX + 1));
    caught(header, "src/fs/dir.rs", "use std::io;");
    caught(
        left_overs,
        "src/fs/dir.rs",
        &["fn f() { to", "do!() }"].concat(),
    );
    caught(left_overs, "tests/a.rs", &["#[ign", "ore]"].concat());
    caught(
        skips,
        "tests/a.rs",
        &["eprintln!(\"sk", "ipping: no loop devices\")"].concat(),
    );
    caught(
        unsafe_words,
        "src/sync/door.rs",
        "fn f() {\n    unsafe { g() }\n}",
    );
    passes(
        unsafe_words,
        "src/sync/door.rs",
        "// SAFETY: g has no needs.\nunsafe { g() }",
    );
    caught(
        links,
        "README.md",
        "[there](docs/nowhere.md) and [here](Cargo.toml)",
    );
    caught(machine_paths, "README.md", &["cd /", "work/main"].concat());
}
