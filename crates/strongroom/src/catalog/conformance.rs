//! What every catalog must do.

use super::Catalog;

/// Puts a catalog that `open` opens through everything that [`Catalog`] promises; `open` opens the same
/// store each time.
///
/// # Panics
///
/// When it does not keep a promise.
pub fn run(_open: &dyn Fn() -> Box<dyn Catalog>) {}
