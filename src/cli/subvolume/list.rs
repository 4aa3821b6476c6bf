//! The subvolumes below a directory, found from the outside in: each tells of those in it, and is
//! asked through its own root directory. So everybody sees what they can reach.

use super::open;
use super::refusal::Doing;
use crate::cli::Failure;
use crate::cli::print::say;
use crate::fuse::subvolumes::{self, Info};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A subvolume and the way to it from the directory that was named.
struct Found {
    path: Vec<u8>,
    info: Info,
}

/// Runs `btrfuse subvolume list`.
pub fn run(dir: &Path, json: bool) -> Result<(), Failure> {
    let top = open(dir, Doing::List)?;
    let own = subvolumes::info(&top).map_err(|why| Doing::List.failure(dir, why))?;
    let mut found = Vec::new();
    // A subvolume is in one other only, so each is met once; the depth is that of paths.
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        for (path, info) in below(dir, &path)? {
            waiting.push(path.clone());
            found.push(Found { path, info });
        }
    }
    found.sort_by_key(|one| one.info.id);
    if json {
        let rows: Vec<Value> = found.iter().map(|one| row(&one.info, &one.path)).collect();
        say!("{}", json!({ "id": own.id, "subvolumes": rows }));
        return Ok(());
    }
    if !found.is_empty() {
        say!(
            "{:>8} {:>8} {:>10} {:5} PATH",
            "ID",
            "IN",
            "GENERATION",
            "MODE"
        );
    }
    for Found { path, info } in &found {
        let mode = if info.read_only { "ro" } else { "rw" };
        let path = String::from_utf8_lossy(path);
        say!(
            "{:>8} {:>8} {:>10} {mode:5} {}",
            info.id,
            info.parent,
            info.generation,
            path.escape_debug()
        );
    }
    Ok(())
}

/// The subvolumes directly in the one at `path` below `dir`, as far as they can be reached.
fn below(dir: &Path, path: &[u8]) -> Result<Vec<(Vec<u8>, Info)>, Failure> {
    let place: PathBuf = dir.join(OsStr::from_bytes(path));
    let failed = |why| Doing::List.failure(&place, why);
    let outer = open(&place, Doing::List)?;
    let mut found = Vec::new();
    for (id, dirid) in subvolumes::nested(&outer).map_err(failed)? {
        let inside = match subvolumes::place(&outer, id, dirid) {
            Ok(inside) => inside,
            // Not below this directory, not to be seen by this user, or gone by now.
            Err(Errno::ACCESS | Errno::NOENT) => continue,
            Err(why) => return Err(failed(why)),
        };
        let full = match path {
            b"" => inside,
            path => [path, b"/", &inside].concat(),
        };
        let there = subvolumes::open(&dir.join(OsStr::from_bytes(&full)));
        match there.and_then(|there| subvolumes::info(&there)) {
            // Unless something else has the name by now.
            Ok(info) if info.id == id => found.push((full, info)),
            Ok(_) | Err(Errno::ACCESS | Errno::NOENT | Errno::NOTDIR) => {}
            Err(why) => return Err(failed(why)),
        }
    }
    Ok(found)
}

/// One subvolume as JSON.
pub fn row(info: &Info, path: &[u8]) -> Value {
    json!({
        "id": info.id,
        "in": info.parent,
        "path": String::from_utf8_lossy(path),
        "read_only": info.read_only,
        "generation": info.generation,
        "made_in": info.made_in,
        "made_at": info.made_at,
        "uuid": uuid(&info.uuid),
        "parent_uuid": uuid(&info.parent_uuid),
        "received_uuid": uuid(&info.received_uuid),
    })
}

fn uuid(bytes: &[u8; 16]) -> Option<String> {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    (*bytes != [0; 16]).then(|| {
        let parts = [
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..],
        ];
        parts.join("-")
    })
}
