//! Volumes without devices of the kernel: what is staged here is opened in this process.

mod ledger;
mod never_format;
mod stage;
