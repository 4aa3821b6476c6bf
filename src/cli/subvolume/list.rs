//! The subvolumes below a directory, found from the outside in: each tells of those in it, and is
//! asked through its own root directory. So everybody sees what they can reach.

use super::open;
use super::refusal::Doing;
use crate::cli::Failure;
use crate::cli::print::say;
use crate::fuse::subvolumes::{self, Info};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A subvolume and the way to it from the directory that was named.
#[derive(Debug)]
struct Found {
    path: Vec<u8>,
    info: Info,
}

/// Runs `btrfuse subvolume list`.
pub fn run(dir: &Path, json: bool) -> Result<(), Failure> {
    let top = open(dir, Doing::List)?;
    let own = subvolumes::info(&top).map_err(|why| Doing::List.failure(dir, why))?;
    let mut found = walk(own.id, |path| below(dir, path))
        .map_err(|(path, why)| Doing::List.failure(&dir.join(OsStr::from_bytes(&path)), why))?;
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

/// Whether an answer only says that a subvolume can't be reached: it isn't below the directory that
/// was named, not to be seen by this user, or gone by now.
fn is_out_of_reach(why: Errno) -> bool {
    matches!(
        why,
        Errno::ACCESS | Errno::LOOP | Errno::NOENT | Errno::NOTDIR | Errno::STALE
    )
}

/// All that are below `own`, by asking for what is directly in each. An image may list one in several
/// others, or in itself: each is asked once.
fn walk(
    own: u64,
    mut below: impl FnMut(&[u8]) -> Result<Vec<Found>, Errno>,
) -> Result<Vec<Found>, (Vec<u8>, Errno)> {
    let mut found = Vec::new();
    let mut known = HashSet::from([own]);
    let mut waiting = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let inside = match below(&path) {
            Ok(inside) => inside,
            Err(why) if is_out_of_reach(why) && !path.is_empty() => continue,
            Err(why) => return Err((path, why)),
        };
        for one in inside {
            if known.insert(one.info.id) {
                waiting.push(one.path.clone());
                found.push(one);
            }
        }
    }
    Ok(found)
}

/// The subvolumes directly in the one at `path` below `dir`, as far as they can be reached.
fn below(dir: &Path, path: &[u8]) -> Result<Vec<Found>, Errno> {
    let outer = subvolumes::open(&dir.join(OsStr::from_bytes(path)))?;
    let mut found = Vec::new();
    for (id, dirid) in subvolumes::nested(&outer)? {
        let inside = match subvolumes::place(&outer, id, dirid) {
            Ok(inside) => inside,
            Err(why) if is_out_of_reach(why) => continue,
            Err(why) => return Err(why),
        };
        let path = match path {
            b"" => inside,
            path => [path, b"/", &inside].concat(),
        };
        let there = subvolumes::open(&dir.join(OsStr::from_bytes(&path)));
        match there.and_then(|there| subvolumes::info(&there)) {
            // Unless something else has the name by now.
            Ok(info) if info.id == id => found.push(Found { path, info }),
            Ok(_) => {}
            Err(why) if is_out_of_reach(why) => {}
            Err(why) => return Err(why),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &[u8], id: u64) -> Found {
        let info = Info {
            id,
            parent: 0,
            generation: 0,
            made_in: 0,
            read_only: false,
            uuid: [0; 16],
            parent_uuid: [0; 16],
            received_uuid: [0; 16],
            made_at: 0,
        };
        let path = path.to_vec();
        Found { path, info }
    }

    /// The list of twenty that are all in each other never came.
    #[test]
    fn each_is_asked_once_whatever_lists_it() {
        let mut asked = 0;
        let all = walk(5, |path| {
            asked += 1;
            let inside = |id: u8| found(&[path, &[b'/', b'a' + id]].concat(), u64::from(id));
            Ok((0..20).map(inside).collect())
        });
        // The directory's own subvolume is one of the twenty.
        assert_eq!((all.unwrap().len(), asked), (19, 20));
    }

    /// A subvolume that went while the list was made spoiled it.
    #[test]
    fn what_can_not_be_reached_is_passed_over() {
        for why in [Errno::STALE, Errno::NOTDIR, Errno::NOENT, Errno::LOOP] {
            let gone = |path: &[u8]| match path {
                b"" => Ok(vec![found(b"a", 256), found(b"b", 257)]),
                b"b" => Err(why),
                _ => Ok(vec![found(b"a/c", 258)]),
            };
            assert_eq!(walk(5, gone).unwrap().len(), 3);
        }
        let (path, why) = walk(5, |_| Err(Errno::STALE)).unwrap_err();
        assert_eq!((&path[..], why), (&b""[..], Errno::STALE));
        let broken = |path: &[u8]| match path {
            b"" => Ok(vec![found(b"a", 256)]),
            _ => Err(Errno::IO),
        };
        assert!(walk(5, broken).is_err());
    }
}
