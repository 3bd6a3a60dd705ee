//! Edge. What tests need and no product has: patterns, disks that record, disks that fail, other
//! people's tools.

mod faulty;
mod pattern;
mod recording;
mod skip;
mod tool;

pub use faulty::{Fault, FaultyDisk};
pub use pattern::Pattern;
pub use recording::{Change, RecordingDisk, Tearing};
pub use skip::skip;
pub use tool::{Outcome, Tool, run, wait};
