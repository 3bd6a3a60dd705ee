//! What `kubectl` has to know, in a file.

use std::fs::OpenOptions;
use std::io::Write;
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
