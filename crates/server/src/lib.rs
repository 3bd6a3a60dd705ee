//! Edge. The standalone server: the documents that people already have, over HTTP, in the shapes of
//! Kubernetes' API; and what does the work that they ask for.
//!
//! A request goes the same way everywhere: who asks is known (`access`), the document is admitted
//! (`strongroom_model::dialect::admission`) and kept (`store`), and what follows from it is done by
//! `controllers`, which see every change and call the use cases of `strongroom` on threads that may block.

#![forbid(unsafe_code)]

mod access;
mod api;
pub mod client;
mod context;
pub mod controllers;
mod error;
mod kubeconfig;
mod listening;
mod logging;
mod metrics;
mod notify;
mod opening;
mod room;
mod serve;
mod settings;
pub mod store;
mod transfer;

pub use access::{Caller, Role};
pub use context::Context;
pub use error::{Error, Result};
pub use logging::{Log, LogLevel};
pub use serve::{Serving, serve};
pub use settings::{Settings, TlsFiles};
