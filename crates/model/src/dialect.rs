//! The documents that people already have, read into the types of this crate.

pub mod admission;
pub mod documents;
pub mod harvester;
pub mod kubernetes;
pub mod kubevirt;
pub mod libvirt;
pub mod longhorn;
pub mod object;
pub mod osc;
pub mod resource;
pub mod volume_class;

mod fields;
mod manifest;
mod syntax;
