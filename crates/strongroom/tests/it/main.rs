//! The use cases over disks that tests control.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this binary is tests throughout")]

mod crash;
mod faulty_kms;
mod libvirt;
mod managed;
mod managed_abandoned;
mod managed_candidates;
mod managed_crash;
mod managed_races;
mod managed_rewrap;
mod managed_volume;
