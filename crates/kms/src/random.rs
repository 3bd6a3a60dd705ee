//! Random bytes of the system.

use crate::{Error, ErrorKind, Result};

/// Fills `bytes`; `label` is what errors call the KMS.
pub(crate) fn fill(bytes: &mut [u8], label: &str) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::Unavailable, label, "the system gives no random bytes")
            .with_source(error)
    })
}
