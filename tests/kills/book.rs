//! What a crash may leave of a folder: every name, with all that it may hold.

use std::collections::BTreeMap;
use std::path::Path;

/// A file's contents, or that there is none.
pub type State = Option<Vec<u8>>;

/// The states of one name that a crash may leave: the last that is durable, and those after it.
#[derive(Clone, Debug)]
struct Name(Vec<State>);

impl Name {
    fn now(&self) -> &State {
        self.0.last().expect("never empty")
    }

    /// Whether a crash may leave this. Of writes that nobody made durable each block may have come
    /// through or not; what never was in any of them can't be there.
    fn allows(&self, found: &State) -> bool {
        if let [only] = self.0.as_slice() {
            return only == found;
        }
        let Some(found) = found else {
            return self.0.contains(&None);
        };
        let may: Vec<&Vec<u8>> = self.0.iter().flatten().collect();
        let shortest = may.iter().map(|state| state.len()).min();
        let longest = may.iter().map(|state| state.len()).max();
        let len = found.len();
        let fits = shortest.is_some_and(|least| least <= len) && longest >= Some(len);
        fits && found.iter().enumerate().all(|(at, byte)| {
            may.iter().any(|state| match state.get(at) {
                Some(other) => other == byte,
                // Cut off there, and grown again: zeros.
                None => *byte == 0,
            })
        })
    }
}

/// A folder's names.
#[derive(Default)]
pub struct Book(BTreeMap<String, Name>);

impl Book {
    /// Names that hold something by now.
    pub fn names(&self) -> Vec<String> {
        let held = self.0.iter().filter(|(_, name)| name.now().is_some());
        held.map(|(name, _)| name.clone()).collect()
    }

    /// What a name holds by now.
    pub fn now(&self, name: &str) -> State {
        self.0.get(name).and_then(|name| name.now().clone())
    }

    /// An operation that is asked for next, and may come through or not.
    pub fn next(&mut self, name: &str, state: State) {
        let states = self.0.entry(name.to_owned()).or_insert(Name(vec![None]));
        states.0.push(state);
    }

    /// It was told that this name is durable as it is.
    pub fn told(&mut self, name: &str) {
        if let Some(states) = self.0.get_mut(name) {
            states.0 = vec![states.now().clone()];
        }
    }

    /// It was told that the folder is: which names there are, and not what they hold.
    pub fn told_names(&mut self) {
        for name in self.0.values_mut() {
            match name.now() {
                None => name.0 = vec![None],
                Some(_) => name.0.retain(Option::is_some),
            }
        }
    }

    /// Compares with what a crash has left, which is what there is from now on.
    pub fn compare(&mut self, folder: &Path) -> Result<usize, String> {
        let mut files = 0;
        for entry in std::fs::read_dir(folder).map_err(|why| format!("{folder:?}: {why}"))? {
            let name = entry
                .map_err(|why| format!("{folder:?}: {why}"))?
                .file_name();
            let name = name.to_string_lossy();
            if !self.0.contains_key(&*name) {
                return Err(format!("{name} was never made"));
            }
        }
        for (name, states) in &mut self.0 {
            let found = match std::fs::read(folder.join(name)) {
                Ok(bytes) => Some(bytes),
                Err(why) if why.kind() == std::io::ErrorKind::NotFound => None,
                Err(why) => return Err(format!("{name}: {why}")),
            };
            if !states.allows(&found) {
                return Err(format!(
                    "{name}: {} was found; {} may be",
                    words(&found),
                    states.0.iter().map(words).collect::<Vec<_>>().join(", ")
                ));
            }
            files += usize::from(found.is_some());
            states.0 = vec![found];
        }
        Ok(files)
    }
}

fn words(state: &State) -> String {
    match state {
        None => "nothing".into(),
        Some(bytes) => {
            let sum = bytes.iter().fold(0_u32, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(u32::from(*byte))
            });
            format!("{} bytes (sum {sum:08x})", bytes.len())
        }
    }
}

#[test]
fn the_book_says_no() {
    let place = tempfile::tempdir().expect("a place");
    let put = |name: &str, bytes: &[u8]| std::fs::write(place.path().join(name), bytes);
    let mut book = Book::default();
    book.next("a", Some(b"one".to_vec()));
    book.told("a");
    assert!(book.compare(place.path()).is_err(), "what was told is gone");
    put("a", b"two").expect("a file");
    assert!(book.compare(place.path()).is_err(), "other bytes");
    put("a", b"one").expect("a file");
    assert_eq!(book.compare(place.path()), Ok(1));
    book.next("a", Some(b"once".to_vec()));
    put("a", b"onc").expect("a file");
    assert_eq!(
        book.compare(place.path()),
        Ok(1),
        "one byte of two came through"
    );
    book.next("a", None);
    book.told_names();
    assert!(
        book.compare(place.path()).is_err(),
        "it was told that it is gone"
    );
    std::fs::remove_file(place.path().join("a")).expect("a file");
    assert_eq!(book.compare(place.path()), Ok(0));
    put("b", b"").expect("a file");
    assert!(book.compare(place.path()).is_err(), "nobody made it");
}
