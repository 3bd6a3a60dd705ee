//! Volumes of claims on the machine of the server: made to appear, with the key of the Secret that the claim
//! names, so that nobody types one.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use strongroom::audit::Act;
use strongroom::volumes::{AttachRequest, Attachment, Backend, Show, Volume};
use strongroom_attach::loop_device::Access;
use strongroom_model::VolumeId;

use super::refusal::Refusal;
use crate::Context;
use crate::access::{Caller, Role};
use crate::controllers::{KeyMaterial, bound_volume, secret_of_volume};

/// How somebody wants a volume to appear.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wanted {
    /// A directory to mount it at.
    mount: Option<PathBuf>,
    /// Where to export it over NBD: the path of a unix socket, or `host:port`.
    nbd: Option<String>,
    /// A block device.
    #[serde(default)]
    device: bool,
    #[serde(default)]
    read_only: bool,
}

/// The claim of a volume, and who asks.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) namespace: String,
    pub(super) claim: String,
    pub(super) caller: Option<Caller>,
}

impl Asked {
    /// Makes the volume appear. One that does so already in that way stays as it is.
    pub(super) fn attach(&self, context: &Arc<Context>, body: &Bytes) -> Result<Response, Refusal> {
        let actor = self.admin()?;
        let wanted: Wanted = serde_json::from_slice(body).map_err(|error| {
            Refusal::bad_request(format!(
                "say how the volume shall appear, {{\"mount\": \"/DIR\"}}, {{\"nbd\": \"SOCKET\"}} or \
                 {{\"device\": true}}: {error}"
            ))
        })?;
        let volume = context.volumes.volume(&self.volume(context)?)?;
        let show = wanted.show(&volume)?;
        let access = if wanted.read_only { Access::ReadOnly } else { Access::ReadWrite };
        if let Some(found) = context.volumes.attached_as(&volume.id, &show, access)? {
            return Ok(shown(StatusCode::OK, Some(&found)));
        }
        let subject = format!("volume {}", volume.id);
        let detail = format!("of claim {}/{}", self.namespace, self.claim);
        record(context, &actor, "attach", &subject, &detail)?;
        let keys = KeyMaterial {
            store: context.store.clone(),
            audit: Arc::clone(&context.audit),
            kek_file: context.kek_file.clone(),
            actor,
        };
        let secret = secret_of_volume(&context.store, volume.id.as_str());
        let held =
            keys.volume_keys(&volume.encryption, secret.as_ref(), &format!("attach {subject}"));
        let held = held?;
        let (opener, backend) = (held.opener(), Backend::Auto);
        let request = AttachRequest { opener, backend, show, access };
        let attachment = context.volumes.attach(&volume.id, &request)?;
        Ok(shown(StatusCode::OK, Some(&attachment)))
    }

    /// Tells how the volume appears.
    pub(super) fn look(&self, context: &Context) -> Result<Response, Refusal> {
        let attachment = context.volumes.attachment(&self.volume(context)?)?;
        Ok(shown(StatusCode::OK, attachment.as_ref()))
    }

    /// Undoes it. It needs no key.
    pub(super) fn detach(&self, context: &Context) -> Result<Response, Refusal> {
        let actor = self.admin()?;
        let id = self.volume(context)?;
        record(context, &actor, "detach", &format!("volume {id}"), "")?;
        context.volumes.detach(&id)?;
        Ok(shown(StatusCode::OK, None))
    }

    fn volume(&self, context: &Context) -> Result<VolumeId, Refusal> {
        Ok(bound_volume(&context.store, &self.namespace, &self.claim)?)
    }

    /// Returns who asks, if they may say what is mounted where on this machine.
    fn admin(&self) -> Result<String, Refusal> {
        match &self.caller {
            Some(caller) if caller.role == Role::Admin => Ok(caller.actor()),
            _ => {
                let message = "only admins make volumes appear on the machine of the server";
                Err(Refusal::new(StatusCode::FORBIDDEN, "Forbidden", message))
            }
        }
    }
}

impl Wanted {
    fn show(&self, volume: &Volume) -> Result<Show, Refusal> {
        match (&self.mount, &self.nbd, self.device) {
            (Some(target), None, false) if target.is_absolute() => {
                let recorded = volume.parameters.get("fsType").and_then(|name| name.parse().ok());
                Ok(Show::Mount {
                    target: target.clone(),
                    file_system: volume.file_system.or(recorded).unwrap_or_default(),
                    options: Vec::new(),
                })
            }
            (Some(_), None, false) => Err(Refusal::bad_request("mount is a path from / on")),
            (None, Some(address), false) => Ok(Show::Nbd { address: address.clone(), tls: None }),
            (None, None, true) => Ok(Show::Device),
            _ => Err(Refusal::bad_request("name exactly one of mount, nbd and device")),
        }
    }
}

fn record(
    context: &Context,
    actor: &str,
    verb: &str,
    subject: &str,
    detail: &str,
) -> Result<(), Refusal> {
    Ok(context.audit.record(&Act {
        actor: actor.to_owned(),
        verb: verb.to_owned(),
        subject: subject.to_owned(),
        detail: detail.to_owned(),
    })?)
}

fn shown(code: StatusCode, attachment: Option<&Attachment>) -> Response {
    let body = match attachment {
        None => json!({ "attached": false }),
        Some(attachment) => json!({
            "attached": true,
            "volume": attachment.volume,
            "backend": attachment.backend,
            "show": serde_json::to_value(&attachment.show).unwrap_or(Value::Null),
            "device": attachment.device,
            "readOnly": attachment.read_only,
        }),
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = code;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
