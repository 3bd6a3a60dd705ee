//! Calls of the system that no safe library has. All `unsafe` of this crate is in the files below.
#![allow(unsafe_code)]

pub(crate) mod device_mapper;
pub(crate) mod freezing;
pub(crate) mod fuse;
pub(crate) mod keyring;
pub(crate) mod loop_device;
pub(crate) mod mount_attributes;
pub(crate) mod pages;
pub(crate) mod process;
