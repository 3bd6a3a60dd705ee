//! Copies that people watch, and may end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_pool::CopyProgress;

use crate::command_error::CommandError;
use crate::interruption;
use crate::ui::{Output, ProgressWatch, Ui};

/// A bar that follows a copy, and Ctrl-C, which ends it.
pub(super) struct WatchedCopy {
    /// The bar.
    pub(super) bar: ProgressWatch,
    /// Set when the copy shall end.
    pub(super) cancelled: Arc<AtomicBool>,
}

impl WatchedCopy {
    /// Returns one for a copy that begins now.
    ///
    /// # Errors
    ///
    /// When nobody can watch for signals.
    pub(super) fn begin(ui: &Ui, output: Output) -> Result<Self, CommandError> {
        Ok(Self { bar: ui.watch(output), cancelled: interruption::flag()? })
    }
}

impl CopyProgress for WatchedCopy {
    fn copied(&self, done: u64, of: u64) {
        self.bar.reach(done, of);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}
