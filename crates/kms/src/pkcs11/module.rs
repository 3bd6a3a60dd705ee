//! A library that speaks to tokens, loaded once in a process.
//!
//! A module has one state for the whole process: who initialises it twice gets an error, and who
//! finalises it takes it away from everybody. So the uses are counted here.

use std::collections::HashMap;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CryptokiError, RvError};

use super::failures;
use crate::{Error, ErrorKind, Result};

/// A use of a module; the last one to go finalises it.
#[derive(Debug)]
pub(super) struct Module {
    path: PathBuf,
    context: Pkcs11,
}

struct Loaded {
    context: Pkcs11,
    uses: usize,
    /// Whether finalising is up to us: somebody else in the process may have come first.
    ours: bool,
}

impl Module {
    /// Loads the module in a file, which runs its code in this process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Misconfigured`] when it is no such file or anybody could have written it.
    pub(super) fn load(path: &Path, label: &str) -> Result<Self> {
        let wrong = |problem: &str| Error::new(ErrorKind::Misconfigured, label, problem);
        let hint = "name the module's file with module-path in --kms-endpoint";
        let metadata = path.metadata().map_err(|error| {
            wrong(&format!("the module {} cannot be read", path.display()))
                .with_source(error)
                .hinted(hint)
        })?;
        if !metadata.is_file() {
            return Err(wrong(&format!("the module {} is no file", path.display())).hinted(hint));
        }
        if metadata.mode() & 0o002 != 0 {
            return Err(wrong(&format!("everybody may write the module {}", path.display()))
                .hinted(format!("take that from them: chmod o-w {}", path.display())));
        }
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = modules.get_mut(path) {
            loaded.uses += 1;
            return Ok(Self { path: path.to_owned(), context: loaded.context.clone() });
        }
        let context = Pkcs11::new(path).map_err(|error| {
            wrong(&format!("the module {} cannot be loaded", path.display()))
                .with_source(error)
                .hinted("it must be a PKCS #11 module for this machine; a static build loads none")
        })?;
        let ours = match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) => true,
            Err(CryptokiError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => false,
            Err(error) => return Err(failures::error(error, label)),
        };
        let loaded = Loaded { context: context.clone(), uses: 1, ours };
        modules.insert(path.to_owned(), loaded);
        Ok(Self { path: path.to_owned(), context })
    }
}

impl Deref for Module {
    type Target = Pkcs11;

    fn deref(&self) -> &Pkcs11 {
        &self.context
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(loaded) = modules.get_mut(&self.path) else {
            return;
        };
        loaded.uses -= 1;
        if loaded.uses > 0 {
            return;
        }
        if let Some(loaded) = modules.remove(&self.path).filter(|loaded| loaded.ours) {
            // Whatever it says, nobody uses it any more.
            let _ = loaded.context.finalize();
        }
    }
}

/// By path. Locked while a module is initialised or finalised.
static MODULES: LazyLock<Mutex<HashMap<PathBuf, Loaded>>> = LazyLock::new(Mutex::default);
