//! What is wrong with an image: references and reference counts compared.

mod counts;
mod references;
mod repair;

use self::counts::{Counted, Counts};
use self::references::References;
use super::header::Header;
use super::metadata::read_table;
use super::{read_header, read_snapshots};
use crate::{Disk, Error, ErrorKind, Operation, Resizable, Result};

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What was found, the first thousand.
    pub findings: Vec<Finding>,
    /// References and counts that contradict each other: data may get lost.
    pub corruptions: u64,
    /// Clusters that are counted but that nobody refers to: they only take space.
    pub leaks: u64,
    /// Corruptions that were repaired.
    pub corruptions_fixed: u64,
    /// Leaks that were repaired.
    pub leaks_fixed: u64,
    /// Clusters of the disk, of whatever kind.
    pub total_clusters: u64,
    /// Clusters of the disk that have data.
    pub allocated_clusters: u64,
    /// Clusters among them that are compressed.
    pub compressed_clusters: u64,
    /// Where the last cluster ends that is in use, in bytes.
    pub image_end: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub text: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Data may get lost.
    Corruption,
    /// Space is.
    Leak,
}

/// What a check may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Repair {
    /// Nothing.
    Nothing,
    /// Clusters that nobody refers to are freed.
    Leaks,
    /// Reference counts are made anew as well, and the marks "dirty" and "corrupt" removed.
    Everything,
}

/// Checks the image in `file`. Backing files and data files are not looked at, and no key is
/// needed.
///
/// # Errors
///
/// When the file fails, or the header or a table of snapshots cannot be read at all;
/// [`ErrorKind::Unsupported`] when the image uses so many clusters, or has tables in so many places,
/// that to count them would take more than 64 MiB of memory. What is wrong with the image otherwise
/// stands in the report.
pub fn check(file: &dyn Resizable, repair: Repair) -> Result<Report> {
    let header = read_header(file)?;
    let mut report = Report::default();
    let references = collect(file, &header, &mut report)?;
    let table = refcount_table(file, &header)?;
    repair::compare(file, &header, &references, &table, &mut report)?;
    let wants_repair = match repair {
        Repair::Nothing => false,
        Repair::Leaks => report.leaks > 0 && report.corruptions == 0,
        Repair::Everything => report.corruptions + report.leaks > 0 || is_marked(&header),
    };
    if wants_repair && references.is_complete() {
        let found = (report.corruptions, report.leaks);
        repair::run(file, &header, references, &table, repair, &report)?;
        // What is left is told by looking again.
        let header = read_header(file)?;
        report = Report::default();
        let references = collect(file, &header, &mut report)?;
        let table = refcount_table(file, &header)?;
        repair::compare(file, &header, &references, &table, &mut report)?;
        report.corruptions_fixed = found.0.saturating_sub(report.corruptions);
        report.leaks_fixed = found.1.saturating_sub(report.leaks);
    }
    Ok(report)
}

fn collect(file: &dyn Disk, header: &Header, report: &mut Report) -> Result<References> {
    let (snapshots, length) = read_snapshots(file, header)?;
    references::collect(file, header, (&snapshots, length), report)
}

fn refcount_table(file: &dyn Disk, header: &Header) -> Result<Vec<u64>> {
    let entries = u64::from(header.refcount_table_clusters) * header.cluster_size() / 8;
    read_table(file, "refcount table", header.refcount_table_offset, entries)
}

/// Returns that the image cannot be checked in the memory that a check may take.
fn too_scattered(file: &dyn Disk) -> Error {
    Error::new(ErrorKind::Unsupported, Operation::Interpret, file.label()).because(
        "it uses more clusters, or has tables in more places, than are counted in 64 MiB of memory; \
         `qemu-img check` takes as much as it needs",
    )
}

fn is_marked(header: &Header) -> bool {
    header.is_dirty() || header.is_corrupt()
}

impl Report {
    /// Returns whether nothing is wrong, or nothing any more.
    pub fn is_clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0
    }

    fn corruption(&mut self, text: impl FnOnce() -> String) {
        self.corruptions += 1;
        self.add(Severity::Corruption, text);
    }

    fn leak(&mut self, text: impl FnOnce() -> String) {
        self.leaks += 1;
        self.add(Severity::Leak, text);
    }

    fn add(&mut self, severity: Severity, text: impl FnOnce() -> String) {
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(Finding { severity, text: text() });
        }
    }
}

/// How many findings are kept; all are counted.
const MOST_FINDINGS: usize = 1000;
