//! The program as people run it, against the tools that they run beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this binary is tests throughout")]

mod arguments;
mod concurrency;
mod hazards;
mod interop;
mod kill;
mod secrecy;
mod sources;
mod workplace;
