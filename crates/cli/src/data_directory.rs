//! The directory in which a server keeps everything, as far as nobody names another.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::command_error::CommandError;

/// Returns the directory that somebody names, or that of this user.
///
/// # Errors
///
/// When nothing says where the user's files lie.
pub(crate) fn data_directory(named: Option<&Path>) -> Result<PathBuf, CommandError> {
    let variable = |name| std::env::var_os(name).filter(|value: &OsString| !value.is_empty());
    if let Some(named) = named.map(Path::to_owned).or_else(|| variable(VARIABLE).map(Into::into)) {
        return std::path::absolute(&named).map_err(|source| {
            CommandError::io(format!("cannot find {}", named.display()), source)
        });
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(OF_ROOT));
    }
    let data = variable("XDG_DATA_HOME").map(PathBuf::from).filter(|data| data.is_absolute());
    let home = || variable("HOME").map(|home| Path::new(&home).join(".local/share"));
    let data = data.or_else(home).ok_or_else(|| {
        CommandError::request("nothing says where your files lie: HOME is not set")
            .hinted("name the directory of the server with STRONGROOM_DATA")
    })?;
    Ok(data.join("strongroom"))
}

/// Names the directory.
const VARIABLE: &str = "STRONGROOM_DATA";

/// The directory of root.
const OF_ROOT: &str = "/var/lib/strongroom";
