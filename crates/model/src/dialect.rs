//! The documents that people already have, read into the types of this crate.

pub mod longhorn;
pub mod osc;
pub mod volume_class;

mod manifest;
