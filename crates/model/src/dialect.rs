//! The documents that people already have, read into the types of this crate.

pub mod longhorn;
pub mod osc;

mod manifest;
