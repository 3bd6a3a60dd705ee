//! Edge. What tests need and no product has: patterns, disks that record, disks that fail,
//! servers that lie, other people's tools.

mod authority;
mod faulty;
mod libvirt;
mod openbao;
mod pattern;
mod proxy;
mod pykmip;
mod recording;
mod server;
mod skip;
mod tool;

pub use authority::Authority;
pub use faulty::{Fault, FaultyDisk};
pub use libvirt::Libvirt;
pub use openbao::{OpenBao, free_port, server_program};
pub use pattern::Pattern;
pub use proxy::{TcpFault, TcpProxy};
pub use pykmip::{KmipClient, PyKmip};
pub use recording::{Change, RecordingDisk, Tearing};
pub use server::{Body, Reply, Request, Server};
pub use skip::skip;
pub use tool::{Outcome, Tool, measured, run, wait};
