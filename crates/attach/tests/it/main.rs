//! Attached volumes, with the kernel of the machine that this runs on.
#![allow(clippy::unwrap_used)]

mod fuse;
mod loop_device;
mod rig;
