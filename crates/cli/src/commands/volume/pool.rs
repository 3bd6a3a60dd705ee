//! Which pool a command works in.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use strongroom::ErrorKind;
use strongroom::volumes::Volumes;
use strongroom_attach::Launcher;
use strongroom_crypto::CostPolicy;

use crate::command_error::CommandError;
use crate::commands::serve::data_directory;

/// The pool that a command works in
#[derive(Debug, Args)]
pub(crate) struct PoolArgs {
    /// The directory of the pool [env: STRONGROOM_POOL] [default: `pool` in the data directory, which is
    /// that of STRONGROOM_DATA, /var/lib/strongroom for root, or else $XDG_DATA_HOME/strongroom]
    #[arg(long, value_name = "DIR")]
    pool: Option<PathBuf>,
}

impl PoolArgs {
    /// Returns the directory, if it was named on the command line.
    pub(super) fn named(&self) -> Option<&Path> {
        self.pool.as_deref()
    }

    /// Opens the pool.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(super) fn open(&self, policy: CostPolicy) -> Result<Volumes, CommandError> {
        let root = self.root()?;
        if !root.is_dir() {
            let problem = format!("there is no pool in {}", root.display());
            return Err(CommandError::of_kind(ErrorKind::NotFound, problem).hinted(
                "name another one with --pool DIR, or make one with the first volume: \
                 `strongroom volume create`",
            ));
        }
        self.open_or_make(policy)
    }

    /// Opens the pool, and makes it when there is none.
    ///
    /// # Errors
    ///
    /// When something else lies there, or it cannot be made.
    pub(crate) fn open_or_make(&self, policy: CostPolicy) -> Result<Volumes, CommandError> {
        let root = self.root()?;
        if let Some(parent) = root.parent() {
            std::fs::create_dir_all(parent).map_err(|source| {
                CommandError::io(format!("cannot make {}", parent.display()), source)
            })?;
        }
        Ok(Volumes::open(&root, launcher()?)?.with_policy(policy))
    }

    fn root(&self) -> Result<PathBuf, CommandError> {
        if let Some(named) = &self.pool {
            return absolute(named);
        }
        let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
        if let Some(named) = variable(VARIABLE) {
            return absolute(Path::new(&named));
        }
        // That of a server of this machine, whether there is one or not.
        Ok(data_directory(None)?.join(BELOW))
    }
}

/// Returns a path that means the same in every directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    std::path::absolute(path)
        .map_err(|source| CommandError::io(format!("cannot find {}", path.display()), source))
}

/// Returns how this program is started again to serve an attached volume.
pub(crate) fn launcher() -> Result<Launcher, CommandError> {
    let program = std::env::current_exe()
        .map_err(|source| CommandError::io("cannot find this program".to_owned(), source))?;
    Ok(Launcher { program, arguments: vec![SERVICE.into()] })
}

/// Names the pool.
const VARIABLE: &str = "STRONGROOM_POOL";

/// The pool in the data directory of a server.
const BELOW: &str = "pool";

/// The hidden command that serves.
const SERVICE: &str = "attachment-service";
