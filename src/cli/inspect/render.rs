//! Facts on a screen, or as JSON.

use crate::ondisk::Key;
use crate::ondisk::describe::{Fact, Facts};
use serde_json::{Map, Value, json};
use std::io::{self, BufWriter, StdoutLock, Write};

/// Widest line of a list of facts.
const WIDTH: usize = 100;

/// Standard output in words or JSON.
pub(super) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self {
            out: BufWriter::new(io::stdout().lock()),
            json,
        }
    }

    /// Several facts of one thing.
    pub(super) fn value(&mut self, what: &str, facts: &Facts) -> io::Result<()> {
        if self.json {
            return self.line(&json!({ what: to_json(facts) }), what);
        }
        writeln!(self.out, "{what}")?;
        write_facts(&mut self.out, facts, 1)
    }

    /// A leaf's item.
    pub(super) fn item(
        &mut self,
        slot: usize,
        key: &Key,
        size: usize,
        facts: &Facts,
    ) -> io::Result<()> {
        if self.json {
            let item = json!({
                "slot": slot, "key": key_json(key), "size": size, "item": to_json(facts),
            });
            return self.line(&item, "item");
        }
        writeln!(self.out, "  {slot} {key} {size} bytes")?;
        write_facts(&mut self.out, facts, 2)
    }

    /// A node's pointer.
    pub(super) fn pointer(
        &mut self,
        slot: usize,
        key: &Key,
        child: u64,
        generation: u64,
    ) -> io::Result<()> {
        if self.json {
            let pointer = json!({
                "slot": slot, "key": key_json(key), "blockptr": child, "generation": generation,
            });
            return self.line(&pointer, "pointer");
        }
        writeln!(
            self.out,
            "  {slot} {key} block {child} generation {generation}"
        )
    }

    /// Something that is wrong with the image.
    pub(super) fn problem(&mut self, words: &str) -> io::Result<()> {
        if self.json {
            return self.line(&json!({ "problem": words }), "problem");
        }
        writeln!(self.out, "PROBLEM {words}")
    }

    /// Hands over what is still held back.
    pub(super) fn finish(mut self) -> Result<(), super::Stop> {
        Ok(self.out.flush()?)
    }

    /// One value for programs: over several lines where it is the only one.
    fn line(&mut self, value: &Value, what: &str) -> io::Result<()> {
        if matches!(what, "image" | "superblocks") {
            return writeln!(self.out, "{value:#}");
        }
        writeln!(self.out, "{value}")
    }
}

fn key_json(key: &Key) -> Value {
    json!({ "objectid": key.objectid, "type": key.kind, "offset": key.offset })
}

fn to_json(facts: &Facts) -> Value {
    let mut map = Map::new();
    for (name, fact) in &facts.0 {
        let value = match fact {
            Fact::Number(number) => json!(number),
            Fact::Words(words) => json!(words),
            Fact::Name(bytes) => match std::str::from_utf8(bytes) {
                Ok(name) => json!(name),
                // What is no UTF-8 stays distinguishable and loses nothing.
                Err(_) => json!({ "hex": hex(bytes) }),
            },
            Fact::List(list) => Value::Array(list.iter().map(to_json).collect()),
        };
        map.insert((*name).to_owned(), value);
    }
    Value::Object(map)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Single facts side by side as far as a line goes, lists below each other.
fn write_facts(out: &mut impl Write, facts: &Facts, depth: usize) -> io::Result<()> {
    write_listed(out, facts, depth, false)
}

/// As [`write_facts`]; an element of a list has a dash in front of its first line.
fn write_listed(
    out: &mut impl Write,
    facts: &Facts,
    depth: usize,
    element: bool,
) -> io::Result<()> {
    let indent = "    ".repeat(depth);
    let mut dash = element;
    let mut write_line = |out: &mut dyn Write, line: &mut String| {
        if line.is_empty() {
            return Ok(());
        }
        let mark = if std::mem::take(&mut dash) { "- " } else { "" };
        writeln!(out, "{}{mark}{line}", &indent[mark.len()..])?;
        line.clear();
        Ok::<_, io::Error>(())
    };
    let mut line = String::new();
    for (name, fact) in &facts.0 {
        let words = match fact {
            Fact::Number(number) => format!("{name} {number}"),
            Fact::Words(words) => format!("{name} {words}"),
            Fact::Name(bytes) => format!("{name} \"{}\"", bytes.escape_ascii_or_utf8()),
            Fact::List(list) => {
                write_line(out, &mut line)?;
                if !list.is_empty() {
                    write_line(out, &mut format!("{name}:"))?;
                }
                for facts in list {
                    write_listed(out, facts, depth + 1, true)?;
                }
                continue;
            }
        };
        if !line.is_empty() && indent.len() + line.len() + 2 + words.len() > WIDTH {
            write_line(out, &mut line)?;
        }
        if !line.is_empty() {
            line.push_str("  ");
        }
        line.push_str(&words);
    }
    write_line(out, &mut line)
}

/// Names may hold anything: control characters and what is no UTF-8 are escaped.
trait EscapeAsciiOrUtf8 {
    fn escape_ascii_or_utf8(&self) -> String;
}

impl EscapeAsciiOrUtf8 for [u8] {
    fn escape_ascii_or_utf8(&self) -> String {
        match std::str::from_utf8(self) {
            Ok(text) if !text.chars().any(char::is_control) => text.replace('"', "\\\""),
            _ => self.escape_ascii().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_line_are_escaped() {
        assert_eq!(b"plain".escape_ascii_or_utf8(), "plain");
        assert_eq!("gr\u{fc}n".as_bytes().escape_ascii_or_utf8(), "gr\u{fc}n");
        assert_eq!(b"a\nb\xff".escape_ascii_or_utf8(), "a\\nb\\xff");
    }

    #[test]
    fn facts_fill_lines_and_lists_go_below() {
        let inner = Facts(vec![("index", Fact::Number(2))]);
        let facts = Facts(vec![
            ("size", Fact::Number(5)),
            ("names", Fact::List(vec![inner])),
            ("name", Fact::Name(b"\xff".to_vec())),
        ]);
        let mut out = Vec::new();
        write_facts(&mut out, &facts, 1).expect("memory");
        let words = String::from_utf8(out).expect("escaped");
        assert_eq!(
            words,
            "    size 5\n    names:\n      - index 2\n    name \"\\xff\"\n"
        );
        let value = to_json(&facts);
        assert_eq!(value["name"]["hex"], "ff");
        assert_eq!(value["names"][0]["index"], 2);
    }
}
