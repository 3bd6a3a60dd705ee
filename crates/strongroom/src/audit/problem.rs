//! What can be wrong with an audit log.

use std::fmt;

use super::head::Head;
use crate::ErrorKind;

/// What is wrong with an audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditProblem {
    /// A line is not as it was written.
    Changed {
        /// Its number.
        line: u64,
    },
    /// Entries are gone from the middle.
    Missing {
        /// The number of the line before which they are.
        line: u64,
        /// The number of the first one.
        from: u64,
        /// The number of the last one.
        to: u64,
    },
    /// A line does not belong where it stands.
    Inserted {
        /// Its number.
        line: u64,
        /// The number that its entry bears.
        number: u64,
    },
    /// A line does not follow on the one before it.
    Unlinked {
        /// Its number.
        line: u64,
    },
    /// The end is gone.
    CutOff {
        /// How many entries there are.
        entries: u64,
        /// How many the catalog knows of.
        known: u64,
    },
    /// An entry is another one than the catalog remembers.
    Replaced {
        /// Its number.
        line: u64,
    },
    /// The last line has no end, and nothing tells whether a crash or somebody has taken it.
    Half {
        /// Its number.
        line: u64,
    },
    /// Another process writes to it.
    InUse,
    /// An entry would be too long.
    TooLong {
        /// How many bytes a line has at most.
        limit: usize,
    },
    /// There is no room for an entry.
    Full,
    /// The file or the catalog failed.
    Unusable {
        /// What happened.
        why: String,
    },
}

impl AuditProblem {
    /// Returns what kind of error this is.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse => ErrorKind::Busy,
            Self::TooLong { .. } => ErrorKind::Request,
            Self::Full | Self::Unusable { .. } => ErrorKind::Io,
            _ => ErrorKind::Image,
        }
    }

    /// Returns that the file cannot be read.
    pub(super) fn reading(error: &std::io::Error) -> Self {
        Self::Unusable { why: format!("it cannot be read: {error}") }
    }

    /// Returns that a log ends before what the catalog knows.
    pub(super) fn cut_off(found: &Head, known: &Head) -> Self {
        Self::CutOff { entries: found.n, known: known.n }
    }
}

impl fmt::Display for AuditProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed { line } => {
                write!(f, "is not as it was written: line {line} was changed")
            }
            Self::Missing { line, from, to } if from == to => {
                write!(f, "is not as it was written: entry {from} is missing before line {line}")
            }
            Self::Missing { line, from, to } => write!(
                f,
                "is not as it was written: entries {from} to {to} are missing before line {line}"
            ),
            Self::Inserted { line, number } => write!(
                f,
                "is not as it was written: line {line} was put in, it is entry {number} once more"
            ),
            Self::Unlinked { line } => write!(
                f,
                "is not as it was written: line {line} does not follow on the one before it, so one of \
                 them was written by somebody else"
            ),
            Self::CutOff { entries, known } => write!(
                f,
                "is cut off: it has {entries} whole entries, and the catalog knows of {known}"
            ),
            Self::Replaced { line } => write!(
                f,
                "is not as it was written: entry {line} is another one than the catalog remembers"
            ),
            Self::Half { line } => write!(
                f,
                "ends within line {line}: a crash has left it so, or somebody has cut it off, which only \
                 the catalog tells"
            ),
            Self::InUse => f.write_str("is written to by another process"),
            Self::TooLong { limit } => {
                write!(f, "takes no entry of more than {limit} bytes: nothing is recorded")
            }
            Self::Full => f.write_str("has no room on its file system"),
            Self::Unusable { why } => write!(f, "cannot be used: {why}"),
        }
    }
}
