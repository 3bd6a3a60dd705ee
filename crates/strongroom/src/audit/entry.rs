//! A line of the log.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::head::Head;
use super::{Act, AuditProblem};
use crate::hexadecimal;

/// What a line says, but for its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) n: u64,
    /// When, as RFC 3339 writes it.
    time: String,
    #[serde(flatten)]
    act: Act,
    /// The hash of the entry before it.
    pub(super) previous: String,
}

impl Entry {
    /// Makes sure that the line of an act is no longer than lines are read.
    ///
    /// # Errors
    ///
    /// When it is.
    pub(super) fn check(act: &Act) -> Result<(), AuditProblem> {
        let longest = Head { n: u64::MAX - 1, hash: Head::of_nothing().hash };
        let (line, _) = Self::line(&longest, SystemTime::UNIX_EPOCH, act);
        if line.len() > MAX_LINE {
            return Err(AuditProblem::TooLong { limit: MAX_LINE });
        }
        Ok(())
    }

    /// Returns the line of an act that follows on `previous`, with its end, and the head that it makes.
    pub(super) fn line(previous: &Head, time: SystemTime, act: &Act) -> (String, Head) {
        let entry = Self {
            n: previous.n + 1,
            time: humantime::format_rfc3339_millis(time).to_string(),
            act: act.clone(),
            previous: previous.hash.clone(),
        };
        let mut line = serde_json::to_string(&entry).expect("strings and numbers are JSON");
        // What follows the last member is the closing brace.
        line.pop();
        let hash = hash(line.as_bytes());
        line.push_str(BEFORE_HASH);
        line.push_str(&hash);
        line.push_str(AFTER_HASH);
        (line, Head { n: entry.n, hash })
    }

    /// Reads a line, with its end. Returns what it says and its hash, `None` when it is not as it was
    /// written.
    pub(super) fn parse(line: &[u8]) -> Option<(Self, String)> {
        let line = std::str::from_utf8(line).ok()?;
        let rest = line.strip_suffix(AFTER_HASH)?;
        let (hashed, hash) = rest.rsplit_once(BEFORE_HASH)?;
        if hash != self::hash(hashed.as_bytes()) {
            return None;
        }
        let entry = serde_json::from_str(&format!("{hashed}}}")).ok()?;
        Some((entry, hash.to_owned()))
    }
}

/// Returns SHA-256 in hexadecimal.
fn hash(text: &[u8]) -> String {
    hexadecimal(&Sha256::digest(text))
}

/// How many bytes a line has at most, with its end.
pub(super) const MAX_LINE: usize = 64 << 10;

const BEFORE_HASH: &str = ",\"hash\":\"";
const AFTER_HASH: &str = "\"}\n";
