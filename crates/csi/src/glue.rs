//! The services as `tonic` calls them, made by `build.rs`.

pub(crate) use controller::controller_server::{Controller, ControllerServer};
pub(crate) use identity::identity_server::{Identity, IdentityServer};
pub(crate) use node::node_server::{Node, NodeServer};

#[allow(clippy::all, clippy::nursery, clippy::pedantic)]
#[allow(missing_docs, unreachable_pub, unused_qualifications)]
mod controller {
    include!(concat!(env!("OUT_DIR"), "/csi.v1.Controller.rs"));
}

#[allow(clippy::all, clippy::nursery, clippy::pedantic)]
#[allow(missing_docs, unreachable_pub, unused_qualifications)]
mod identity {
    include!(concat!(env!("OUT_DIR"), "/csi.v1.Identity.rs"));
}

#[allow(clippy::all, clippy::nursery, clippy::pedantic)]
#[allow(missing_docs, unreachable_pub, unused_qualifications)]
mod node {
    include!(concat!(env!("OUT_DIR"), "/csi.v1.Node.rs"));
}
