//! Edge. What tests need and no product has: patterns, disks that record, disks that fail.

mod faulty;
mod pattern;
mod recording;

pub use faulty::{Fault, FaultyDisk};
pub use pattern::Pattern;
pub use recording::{Change, RecordingDisk, Tearing};
