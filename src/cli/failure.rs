//! How a command fails: one sentence and a documented exit code.
//!
//! Owns: the table of exit codes. Invariant: every failure that reaches the user says what
//! went wrong, where, and what to do, in one sentence.

use crate::Error;
use std::fmt;

/// What the process exits with. `docs/usage.md` explains the table to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command line is wrong.
    Usage = 1,
    /// The system or a device refused: no permission, no space, an I/O error.
    Failed = 2,
    /// The image can't be used as asked: not btrfs, damaged, or it needs an unsupported feature.
    Refused = 3,
    /// A bug in btrfuse.
    Bug = 4,
    /// The mount is gone, but its last commit failed or its outcome is unknown.
    LastCommit = 5,
    /// Somebody else uses the image, the device or the mount.
    Busy = 6,
    /// What was checked isn't as it must be: a wrong answer or contents, a broken rule.
    Wrong = 7,
    /// `mount(8)`'s code for "the mount failed"; only its helpers use it.
    MountHelper = 32,
}

impl Exit {
    /// The number and its meaning, for the manual.
    pub const TABLE: [(u8, &'static str); 9] = [
        (0, "success"),
        (1, "the command line is wrong"),
        (
            2,
            "the system, a device or the filesystem refused: no permission, no space, an I/O error, a \
             name that exists",
        ),
        (
            3,
            "the image can't be used as asked: not btrfs, damaged, or an unsupported feature",
        ),
        (4, "a bug in btrfuse"),
        (
            5,
            "the mount is gone, but its last commit failed or its outcome is unknown",
        ),
        (
            6,
            "somebody else uses the image, the device or the mount; or mkfs would overwrite \
             something and -f is missing",
        ),
        (
            7,
            "what was checked isn't as it must be: a wrong answer, wrong contents, a broken rule",
        ),
        (32, "mount(8) helper: the mount failed"),
    ];

    /// The code that a number from another process of ours stands for.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Usage,
            3 => Self::Refused,
            5 => Self::LastCommit,
            6 => Self::Busy,
            7 => Self::Wrong,
            2 => Self::Failed,
            32 => Self::MountHelper,
            _ => Self::Bug,
        }
    }
}

/// A command's failure.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What the user reads; empty when all was already said (a report on stdout).
    pub sentence: String,
}

impl Failure {
    /// A failure with any code.
    pub fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self {
            exit,
            sentence: sentence.into(),
        }
    }

    /// The command line is wrong.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    /// The system or a device refused.
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Failed, sentence)
    }

    /// The image can't be used as asked.
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Refused, sentence)
    }

    /// Somebody else uses it.
    pub fn busy(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Busy, sentence)
    }

    /// An image can't be opened: who may, and what to do, where that is the reason.
    pub fn of_opening(error: Error) -> Self {
        let hint = match &error {
            Error::Device { source, .. } => match source.raw_os_error() {
                Some(libc::EACCES | libc::EPERM) => {
                    "; run it as somebody who may, or have its owner change that with chmod"
                }
                _ => "",
            },
            _ => "",
        };
        let mut failure = Self::from(error);
        failure.sentence.push_str(hint);
        failure
    }

    /// The same failure, with the thing it happened to in front: `"IMAGE: sentence"`, unless
    /// the sentence names it already.
    pub fn at(self, place: impl fmt::Display) -> Self {
        let place = place.to_string();
        let mut words = self
            .sentence
            .split([' ', ':', ',', ';'])
            .filter(|word| !word.is_empty());
        if words.any(|word| word == place) {
            return self;
        }
        Self {
            sentence: format!("{place}: {}", self.sentence),
            ..self
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The system's words are enough; its number is for who reads the source.
        let mut parts = self.sentence.split(" (os error ");
        f.write_str(parts.next().unwrap_or_default())?;
        parts.try_for_each(|part| match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                f.write_str(rest)
            }
            _ => write!(f, " (os error {part}"),
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Corrupt(_) | Error::Unsupported(_) | Error::ReadOnly(_) => Exit::Refused,
            Error::NoGoodCopy(_) => Exit::Refused,
            Error::Busy(_) => Exit::Busy,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast_ref::<Error>() {
            Some(known) => Self {
                exit: Self::from(known.clone()).exit,
                sentence: format!("{error:#}"),
            },
            None => Self::failed(format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Logical;

    #[test]
    fn exit_codes_are_those_of_the_table() {
        for (number, words) in Exit::TABLE {
            assert!(!words.is_empty());
            if number != 0 {
                assert_eq!(Exit::from_number(number) as u8, number);
            }
        }
    }

    /// The documents' table had fallen behind the program's.
    #[test]
    fn the_documents_have_the_same_table() {
        let page = include_str!("../../docs/usage.md");
        let (_, table) = page.split_once("## Exit codes").expect("a chapter");
        let rows: Vec<(u8, String)> = table
            .lines()
            .skip_while(|line| !line.starts_with('|'))
            .take_while(|line| line.starts_with('|'))
            .filter_map(|line| {
                let (code, words) = line.trim_matches('|').split_once('|')?;
                Some((code.trim().parse().ok()?, words.replace('`', "")))
            })
            .collect();
        assert_eq!(rows.len(), Exit::TABLE.len(), "{rows:?}");
        for ((number, words), (written, row)) in Exit::TABLE.iter().zip(&rows) {
            assert_eq!(number, written);
            assert!(
                row.trim().starts_with(words),
                "{number}: {row}; not: {words}"
            );
        }
    }

    #[test]
    fn sentences_name_the_place_once_and_no_numbers_of_errors() {
        let why = std::io::Error::from_raw_os_error(libc::ENOENT);
        let failure = Failure::failed(format!("open a.img: {why}; make it"));
        assert_eq!(
            failure.clone().at("a.img").to_string(),
            "open a.img: No such file or directory; make it"
        );
        assert!(failure.at("a").to_string().starts_with("a: open a.img"));
        let odd = Failure::failed("a file named (os error x)");
        assert_eq!(odd.to_string(), odd.sentence);
    }

    #[test]
    fn a_damaged_image_is_refused_and_a_broken_device_failed() {
        let damaged = Failure::from(Error::corrupt_block(Logical(4096), None, "level 9"));
        assert_eq!(damaged.exit, Exit::Refused);
        let broken = Error::device("read /dev/x at 0", std::io::Error::other("gone"));
        assert_eq!(Failure::from(broken).exit, Exit::Failed);
        let context = anyhow::Error::from(Error::Busy("mounted at /mnt".into())).context("a.img");
        let failure = Failure::from(context);
        assert_eq!(
            (failure.exit, failure.to_string().as_str()),
            (Exit::Busy, "a.img: mounted at /mnt")
        );
    }
}
