//! `tidy`: the rules of the house that neither the compiler nor clippy knows.
//!
//! Every rule is a file below `tidy/` with tests that prove it can fail. The whole runs as a test
//! too, so that `cargo test` is enough to find a rule broken.

mod documents;
mod error_text;
mod files;
mod finding;
mod floors;
mod house;
mod leftovers;
mod names;
mod permits;
mod purity;
mod registries;
mod secrets;
mod source;
mod unsafe_code;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use finding::Finding;
use house::House;
use source::Source;

/// Check the rules of the house: floors, purity, files, names, error texts, unsafe, documents
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The workspace to look at; this one when left out
    root: Option<PathBuf>,
}

/// Why the house could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// `cargo metadata` failed.
    #[error("cargo metadata fails in {}: {reason}", .root.display())]
    Metadata {
        /// The workspace.
        root: PathBuf,
        /// What cargo says.
        reason: String,
    },
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {reason}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The findings cannot be written.
    #[error("the findings cannot be written: {0}")]
    Write(io::Error),
}

/// Prints what is untidy, a line for each finding, and fails when there is any.
pub(crate) fn run(args: &Args, out: &mut impl Write) -> Result<ExitCode, Error> {
    let root = args.root.clone().unwrap_or_else(workspace_root);
    let findings = findings(&House::read(&root)?);
    for finding in &findings {
        writeln!(out, "{finding}").map_err(Error::Write)?;
    }
    match findings.len() {
        0 => writeln!(out, "tidy: the house is tidy"),
        count => writeln!(out, "tidy: {count} to mend"),
    }
    .map_err(Error::Write)?;
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns everything that breaks a rule, by path and line.
fn findings(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(floors::check(&house.members));
    findings.extend(purity::check_crates(house));
    findings.extend(documents::check(house));
    for file in &house.files {
        findings.extend(files::check_path(&file.path));
        findings.extend(leftovers::check_comments(file));
        findings.extend(registries::check(file));
        if !file.is_rust() {
            continue;
        }
        match Source::parse(file) {
            Ok(source) => findings.extend(source_findings(&source)),
            Err(finding) => findings.push(finding),
        }
    }
    findings.sort();
    findings
}

fn source_findings(source: &Source) -> Vec<Finding> {
    let checks = [
        error_text::check,
        files::check_length,
        leftovers::check_code,
        names::check,
        permits::check,
        purity::check_source,
        secrets::check,
        unsafe_code::check,
    ];
    checks.iter().flat_map(|check| check(source)).collect()
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("this crate lies two folders below the workspace")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_is_tidy() {
        let findings = findings(&House::read(&workspace_root()).unwrap());
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(lines.is_empty(), "{} to mend:\n{}", lines.len(), lines.join("\n"));
    }

    #[test]
    fn a_file_that_does_not_parse_is_a_finding() {
        let file = house::TextFile::new("crates/luks/src/lib.rs", "fn (");
        assert!(Source::parse(&file).is_err());
    }
}
