//! Edge. A CSI driver (Container Storage Interface 1.12) for the volumes of a pool on one node.
//!
//! A call goes the same way in every service: the message is parsed, a use case of `strongroom` runs on
//! a thread that may block, and its error is mapped in one table (`status`).

#![forbid(unsafe_code)]

mod capability;
mod capacity;
mod content_source;
mod controller;
mod driver;
mod endpoint;
mod error;
mod glue;
mod identity;
mod in_flight;
pub mod messages;
mod node;
mod pages;
mod requests;
mod secrets;
mod server;
mod snapshots;
mod status;
mod topology;

pub use driver::Settings;
pub use endpoint::Endpoint;
pub use error::{Error, Result};
pub use server::serve;
