//! The program as the CSI driver of a node: against the conformance suite, and as kubelet calls it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this binary is tests throughout")]

mod client;
mod driver;
mod kinds;
mod sanity;
mod socket;
mod staging;
