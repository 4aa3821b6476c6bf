//! Paths below a run's folder: bytes, as the system has them, and words for logs and people.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;

/// A path relative to the folder of a process. Below [`CROWD`] it means that process's names in
/// a directory that all share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(pub Vec<u8>);

/// The directory that all processes fill with names of their own: its leaves belong to all.
pub const CROWD: &[u8] = b"@";

impl Name {
    /// The path of an entry of this directory.
    pub fn child(&self, name: &[u8]) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend(name);
        Self(path)
    }

    /// The directory and the last component.
    pub fn split(&self) -> (Self, &[u8]) {
        match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(at) => (Self(self.0[..at].to_vec()), &self.0[at + 1..]),
            None => (Self::default(), &self.0),
        }
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in &self.0 {
            match byte {
                b'%' | b'\\' | b'"' => write!(f, "%{byte:02x}")?,
                b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                _ => write!(f, "%{byte:02x}")?,
            }
        }
        Ok(())
    }
}

impl Name {
    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                out.push(byte);
                continue;
            }
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
            out.push(u8::try_from(high * 16 + low).ok()?);
        }
        Some(Self(out))
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("{text} isn't a path of a log")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_a_log() {
        let name = Name((1..=255).collect());
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        assert_eq!(Name::parse("50%"), None);
        assert_eq!(Name::parse("%zz"), None);
    }

    #[test]
    fn a_path_has_a_directory_and_a_last_component() {
        let path = Name::from("a").child(b"b").child(b"c");
        assert_eq!(path, Name::from("a/b/c"));
        assert_eq!(path.split(), (Name::from("a/b"), b"c".as_slice()));
        assert_eq!(Name::from("x").split(), (Name::default(), b"x".as_slice()));
    }
}
