//! What `kubectl` has to know, in a file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::{Error, Result};

/// Writes the file by which `kubectl --kubeconfig` finds a server without TLS, and its admin's token. The
/// token is a password there: kubectl sends no other credentials in the clear, not even to the machine
/// itself.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn write(file: &Path, address: SocketAddr, token_file: &Path) -> Result<()> {
    let failed = |source| Error::Io { what: format!("cannot write {}", file.display()), source };
    let token = Zeroizing::new(std::fs::read_to_string(token_file).map_err(failed)?);
    let text = Zeroizing::new(format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: strongroom\nclusters:\n- name: strongroom\n  \
         cluster:\n    server: http://admin:{}@{address}\ncontexts:\n- name: strongroom\n  \
         context:\n    cluster: strongroom\n    user: strongroom\nusers:\n- name: strongroom\n  \
         user: {{}}\n",
        token.trim()
    ));
    let new = file.with_extension("new");
    // One that a killed process has left may be anything.
    let _ = std::fs::remove_file(&new);
    let mut opened =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    opened.write_all(text.as_bytes()).map_err(failed)?;
    std::fs::rename(&new, file).map_err(failed)
}

/// Takes away the file of a server that had no TLS before: it would send the admin's token in the clear.
///
/// # Errors
///
/// When it cannot be taken away.
pub(crate) fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::Io { what: format!("cannot take away {}", file.display()), source: error })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_server_without_tls_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubeconfig");
        std::fs::write(&file, "old").unwrap();
        remove(&file).unwrap();
        assert!(!file.exists());
        remove(&file).unwrap();
    }
}
