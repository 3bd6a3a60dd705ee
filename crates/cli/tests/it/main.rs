//! The program as people run it, against the tools that they run beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this binary is tests throughout")]

mod arguments;
mod checking;
mod concurrency;
mod conversions;
mod creation;
mod documents;
mod formats;
mod hazards;
mod http;
mod http_jobs;
mod interop;
mod key_kms;
mod key_rewrap;
mod key_rotation;
mod key_transit;
mod kill;
mod leftovers;
mod libvirt;
mod limits;
mod managed;
mod managed_images;
mod managed_jobs;
mod managed_servers;
mod real_images;
mod resizing;
mod resume;
mod secrecy;
mod served;
mod sources;
mod streams;
mod volume;
mod workplace;
