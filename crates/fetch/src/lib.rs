//! Edge. Resources over HTTP and HTTPS, read like a disk or as a stream.
//!
//! [`open`] asks for the first bytes of a URL. A server that answers with a range makes a
//! [`Remote`], a disk that is read at any offset; one that sends everything makes a [`Stream`].
//! Both go on after cut connections and notice a resource that changes meanwhile.
//!
//! The face is synchronous. The runtime that the network needs is one thread, hidden below it, and
//! ends with the resource.
//!
//! A URL may hold a password or a signature: errors, labels and [`Identity`] show scheme, host,
//! port and path alone.

mod address;
mod again;
mod answer;
mod blocks;
mod claim;
mod engine;
mod error;
mod identity;
mod link;
mod open;
mod options;
mod pipe;
mod reach;
mod remote;
mod retry;
mod runs;
mod stream;
mod tls;

pub use error::{Cause, Error};
pub use identity::Identity;
pub use open::{Resource, open};
pub use options::{Options, Proxy};
pub use reach::Reach;
pub use remote::Remote;
pub use stream::{End, Stream};
