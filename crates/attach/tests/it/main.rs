//! Attached volumes, with the kernel of the machine that this runs on.
#![allow(clippy::unwrap_used)]

mod file_systems;
mod fuse;
mod fuse_crash;
mod loop_device;
mod rig;
