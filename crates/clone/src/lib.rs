//! Edge. The image pipeline: copies one disk to another, or compares them, in a single pass.
//!
//! What the disks are decides what happens to the bytes: a copy from a raw disk to an
//! [`Encrypted`](strongroom_disk::Encrypted) one encrypts. The source's extents are cut into
//! chunks; every worker takes the next chunk, reads it and hands it to the target, which may
//! encrypt it where it lies. The result is the same for any number of workers.

mod buffer;
mod chunks;
mod compare;
mod copy;
mod error;
mod ledger;
mod pass;
mod plan;
mod pour;
mod queue;
mod rate;
mod workers;
mod zero;

pub use compare::{Comparison, compare};
pub use copy::{Report, run};
pub use error::Error;
pub use pass::{Checkpoints, Pass, Progress, Resumption, Rhythm};
pub use plan::{Plan, Zeroes};
pub use pour::pour;
