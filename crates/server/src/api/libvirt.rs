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
use axum::http::Method;
use strongroom::jobs::Jobs;
use strongroom::libvirt::{Libvirt, Vault, VolumeName};
use strongroom_crypto::CostPolicy;

use super::endpoint::{Content, Endpoint, routes as routes_of};
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
pub(super) struct Asked {
    place: Place,
    jobs: Arc<Jobs>,
}

/// Returns the paths of secrets and volumes. Whoever asks was let in before.
pub(crate) fn routes(place: Place, jobs: Arc<Jobs>) -> Router {
    routes_of(endpoints())
        .method_not_allowed_fallback(async || Failure::method())
        .with_state(Arc::new(Asked { place, jobs }))
}

/// Returns the paths, with what answers there.
pub(super) fn endpoints() -> Vec<Endpoint<Arc<Asked>>> {
    secrets().into_iter().chain(volumes()).chain(changes()).collect()
}

type Of = Endpoint<Arc<Asked>>;

fn secrets() -> [Of; 5] {
    const ALL: &str = "/v1/libvirt/secrets";
    const ONE: &str = "/v1/libvirt/secrets/{uuid}";
    const VALUE: &str = "/v1/libvirt/secrets/{uuid}/value";
    [
        Endpoint::new(
            Method::GET,
            ALL,
            "List libvirt's secrets, without their values",
            |on, path| path.on(on, secrets::list),
        )
        .answers(200, "the secrets", Content::AnyJson),
        Endpoint::new(Method::POST, ALL, "Define a secret by its document in XML", |on, path| {
            path.on(on, secrets::define)
        })
        .query("force", "true: though a value that volumes need is then in memory alone.")
        .takes(Content::Text)
        .answers(
            201,
            "its uuid, and what of the document has no effect",
            Content::AnyJson,
        ),
        Endpoint::new(Method::GET, ONE, "Read the document of a secret", |on, path| {
            path.on(on, secrets::read)
        })
        .answers(200, "the document in XML", Content::Text),
        Endpoint::new(Method::DELETE, ONE, "Take a secret away, with its value", |on, path| {
            path.on(on, secrets::undefine)
        })
        .query("force", "true: though volumes are lost by that.")
        .answers(200, "it is gone", Content::AnyJson),
        Endpoint::new(
            Method::PUT,
            VALUE,
            "Give a secret its value; nobody is told it",
            |on, path| path.on(on, secrets::set_value),
        )
        .query("force", "true: though the value that it has is needed, and lost by that.")
        .takes(Content::Bytes)
        .answers(200, "it has its value", Content::AnyJson),
    ]
}

fn volumes() -> [Of; 5] {
    const ALL: &str = "/v1/libvirt/volumes";
    const ONE: &str = "/v1/libvirt/volumes/{name}";
    [
        Endpoint::new(Method::GET, ALL, "List libvirt's volumes", |on, path| {
            path.on(on, volumes::list)
        })
        .answers(200, "the volumes", Content::AnyJson),
        Endpoint::new(Method::POST, ALL, "Make the volume of a document in XML", |on, path| {
            path.on(on, volumes::create)
        })
        .query("from", "The name of a volume whose contents it gets, by a job.")
        .takes(Content::Text)
        .answers(201, "its document in XML, with the secret that opens it", Content::Text)
        .answers(202, "the job that makes it", Content::AnyJson),
        Endpoint::new(Method::GET, ONE, "Read the document of a volume", |on, path| {
            path.on(on, volumes::read)
        })
        .answers(200, "the document in XML", Content::Text),
        Endpoint::new(Method::DELETE, ONE, "Delete a volume", |on, path| {
            path.on(on, volumes::delete)
        })
        .query("withSecret", "true: the secret that was made for it goes, too.")
        .answers(200, "which secret is gone, or stays", Content::AnyJson),
        Endpoint::new(
            Method::GET,
            "/v1/libvirt/volumes/{name}/info",
            "Read the size of a volume",
            |on, path| path.on(on, volumes::info),
        )
        .answers(200, "its size", Content::AnyJson),
    ]
}

fn changes() -> [Of; 3] {
    [
        Endpoint::new(
            Method::GET,
            "/v1/libvirt/volumes/{name}/disk",
            "Read the disk of a domain for a volume",
            |on, path| path.on(on, volumes::disk),
        )
        .query("target", "What the guest calls the disk: vda.")
        .query("bus", "How it is attached: virtio.")
        .answers(200, "the element in XML", Content::Text),
        Endpoint::new(
            Method::POST,
            "/v1/libvirt/volumes/{name}/resize",
            "Make a volume larger, or smaller",
            |on, path| path.on(on, volumes::resize),
        )
        .takes(Content::AnyJson)
        .answers(200, "its new capacity", Content::AnyJson),
        Endpoint::new(
            Method::POST,
            "/v1/libvirt/volumes/{name}/wipe",
            "Destroy the keys of an encrypted volume, or overwrite a raw one",
            |on, path| path.on(on, volumes::wipe),
        )
        .query("algorithm", "keys; or zero, for a raw volume.")
        .answers(200, "nobody opens it any more", Content::AnyJson)
        .answers(202, "the job that overwrites it", Content::AnyJson),
    ]
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
