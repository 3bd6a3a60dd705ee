//! Reading a log from beginning to end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use super::AuditProblem;
use super::entry::{Entry, MAX_LINE};
use super::head::Head;

/// A log as it was read.
#[derive(Debug)]
pub(super) struct Log {
    /// The last whole entry.
    pub(super) tip: Head,
    /// How many bytes the whole entries have.
    pub(super) len: u64,
    pub(super) ending: Ending,
}

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// With a whole line.
    Whole,
    /// With a part of one.
    Half,
}

/// Reads a log in bounded memory, and checks each line; with what is known of its head, that it is there.
///
/// # Errors
///
/// What is wrong with the first line that is not as it was written.
pub(super) fn read(file: &File, known: Option<&Head>) -> Result<Log, AuditProblem> {
    let mut reader = BufReader::with_capacity(BUFFER, file);
    let mut log = Log { tip: Head::of_nothing(), len: 0, ending: Ending::Whole };
    let mut line = Vec::new();
    loop {
        line.clear();
        let taken = (&mut reader).take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line);
        taken.map_err(|error| AuditProblem::reading(&error))?;
        if line.is_empty() {
            break;
        }
        if line.last() != Some(&b'\n') && line.len() <= MAX_LINE {
            log.ending = Ending::Half;
            break;
        }
        log.tip = follow(&log.tip, &line, known)?;
        log.len += line.len() as u64;
    }
    match known {
        Some(known) if log.tip.n < known.n => Err(AuditProblem::cut_off(&log.tip, known)),
        _ => Ok(log),
    }
}

/// Returns the head after one more line.
fn follow(tip: &Head, line: &[u8], known: Option<&Head>) -> Result<Head, AuditProblem> {
    let number = tip.n + 1;
    let (entry, hash) = Entry::parse(line).ok_or(AuditProblem::Changed { line: number })?;
    if entry.n > number {
        return Err(AuditProblem::Missing { line: number, from: number, to: entry.n - 1 });
    }
    if entry.n < number {
        return Err(AuditProblem::Inserted { line: number, number: entry.n });
    }
    if entry.previous != tip.hash {
        return Err(AuditProblem::Unlinked { line: number });
    }
    match known {
        Some(known) if known.n == number && known.hash != hash => {
            Err(AuditProblem::Replaced { line: number })
        }
        _ => Ok(Head { n: number, hash }),
    }
}

const BUFFER: usize = 256 << 10;
