//! libvirt's secrets and volumes over HTTP (`/v1/libvirt`): documents are XML, everything else is JSON.
//!
//! Volumes have names, and lie in one directory of the server's; a path in a document that comes is not
//! looked at. The value of a secret is brought, and never told.

mod answers;
mod secrets;
mod volumes;
mod work;

pub(crate) use work::LibvirtWork;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};
use strongroom::jobs::Jobs;
use strongroom::libvirt::{Libvirt, Vault, VolumeName};
use strongroom_crypto::CostPolicy;

use super::failure::Failure;
use crate::access::Caller;

/// The secrets and volumes of a server.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// What the data directory holds.
    pub(crate) vault: Arc<Vault>,
    /// Where the volumes lie.
    pub(crate) pool: PathBuf,
    /// What deriving a key may cost.
    pub(crate) policy: CostPolicy,
}

/// What requests about them work with.
#[derive(Debug)]
struct Asked {
    place: Place,
    jobs: Arc<Jobs>,
}

/// Returns the paths of secrets and volumes. Whoever asks was let in before.
pub(crate) fn routes(place: Place, jobs: Arc<Jobs>) -> Router {
    Router::new()
        .route("/v1/libvirt/secrets", get(secrets::list).post(secrets::define))
        .route("/v1/libvirt/secrets/{uuid}", get(secrets::read).delete(secrets::undefine))
        .route("/v1/libvirt/secrets/{uuid}/value", put(secrets::set_value))
        .route("/v1/libvirt/volumes", get(volumes::list).post(volumes::create))
        .route("/v1/libvirt/volumes/{name}", get(volumes::read).delete(volumes::delete))
        .route("/v1/libvirt/volumes/{name}/info", get(volumes::info))
        .route("/v1/libvirt/volumes/{name}/disk", get(volumes::disk))
        .route("/v1/libvirt/volumes/{name}/resize", post(volumes::resize))
        .route("/v1/libvirt/volumes/{name}/wipe", post(volumes::wipe))
        .method_not_allowed_fallback(async || Failure::method())
        .with_state(Arc::new(Asked { place, jobs }))
}

impl Place {
    /// Returns the secrets and volumes for somebody, as whom he is in the audit log.
    fn libvirt(&self, actor: String) -> Libvirt {
        Libvirt::held(Arc::clone(&self.vault), actor).with_policy(self.policy)
    }

    fn pool(&self) -> &Path {
        &self.pool
    }

    fn volume(&self, name: String) -> VolumeName {
        VolumeName::InPool { pool: self.pool.clone(), name }
    }
}

impl Asked {
    fn libvirt(&self, caller: &Caller) -> Libvirt {
        self.place.libvirt(caller.actor())
    }
}
