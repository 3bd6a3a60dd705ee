//! The programs that know file systems.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Error, ErrorKind, Result};

/// A program, and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Program {
    name: &'static str,
    /// The package that has it in Debian and those that descend from it.
    package: &'static str,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Outcome {
    program: String,
    /// The exit code, `None` when a signal ended it.
    pub(super) code: Option<i32>,
    words: String,
}

impl Program {
    pub(super) const MKFS_EXT4: Self = Self { name: "mkfs.ext4", package: "e2fsprogs" };
    pub(super) const E2FSCK: Self = Self { name: "e2fsck", package: "e2fsprogs" };
    pub(super) const RESIZE2FS: Self = Self { name: "resize2fs", package: "e2fsprogs" };
    pub(super) const MKFS_XFS: Self = Self { name: "mkfs.xfs", package: "xfsprogs" };
    pub(super) const XFS_GROWFS: Self = Self { name: "xfs_growfs", package: "xfsprogs" };

    /// Returns a command that starts it, with an environment that is always the same.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] when it is not installed.
    pub(super) fn command(self) -> Result<Command> {
        let directories = directories();
        let Some(path) = directories
            .iter()
            .map(|directory| directory.join(self.name))
            .find(|path| path.is_file())
        else {
            let problem = format!("{} is not installed", self.name);
            let hint = format!("install the package {}", self.package);
            return Err(Error::new(ErrorKind::Unsupported, problem).hinted(hint));
        };
        let mut command = Command::new(path);
        let search_path = std::env::join_paths(directories).unwrap_or_default();
        command.env_clear().env("LC_ALL", "C").env("PATH", search_path).stdin(Stdio::null());
        Ok(command)
    }
}

/// Runs a command to its end.
pub(super) fn run(mut command: Command, problem: impl Fn() -> String) -> Result<Outcome> {
    let output = command.output().map_err(|error| Error::from_io(problem(), error))?;
    let mut words = String::from_utf8_lossy(&output.stdout).into_owned();
    words.push('\n');
    words.push_str(&String::from_utf8_lossy(&output.stderr));
    let program = PathBuf::from(command.get_program());
    let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Outcome { program, code: output.status.code(), words })
}

impl Outcome {
    /// Returns whether the program said one of these.
    pub(super) fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.words.contains(word))
    }

    /// Returns the error of a program that failed: the last thing that it said, or how it ended.
    pub(super) fn error(&self, kind: ErrorKind, problem: String) -> Error {
        let Self { program, .. } = self;
        let reason =
            match (self.words.lines().map(str::trim).rfind(|line| !line.is_empty()), self.code) {
                (Some(line), _) => {
                    format!(
                        "{program}: {}",
                        line.trim_start_matches(&format!("{program}: ")).escape_debug()
                    )
                }
                (None, Some(code)) => format!("{program} ended with code {code}"),
                (None, None) => format!("{program} was killed"),
            };
        Error::new(kind, problem).with_source(reason)
    }
}

/// Returns where programs lie: those of administrators are outside of many a search path.
fn directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> =
        std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect();
    directories.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from));
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Outcome {
        let mut command = Program { name: "sh", package: "dash" }.command().unwrap();
        command.args(["-c", script]);
        run(command, || "cannot run it".to_owned()).unwrap()
    }

    fn reason(outcome: &Outcome) -> String {
        let error = outcome.error(ErrorKind::Io, "it fails".to_owned());
        std::error::Error::source(&error).unwrap().to_string()
    }

    #[test]
    fn a_failure_says_the_last_words() {
        assert_eq!(reason(&shell("echo one; echo 'sh: two' >&2; echo >&2; exit 3")), "sh: two");
        assert_eq!(reason(&shell("exit 3")), "sh ended with code 3");
        assert_eq!(reason(&shell("kill -9 $$")), "sh was killed");
    }

    #[test]
    fn a_program_sees_nothing_of_our_environment() {
        assert_eq!(shell("test -z \"$CARGO_PKG_NAME\" && test \"$LC_ALL\" = C").code, Some(0));
    }

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let error =
            Program { name: "mkfs.nothing", package: "nothing-tools" }.command().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("mkfs.nothing"), "{error}");
        assert!(error.hint().unwrap().contains("nothing-tools"));
    }
}
