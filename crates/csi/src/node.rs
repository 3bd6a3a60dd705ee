//! The node service: volumes appear on this machine, and go away.

mod stats;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom::volumes::{AttachRequest, Attachment, Show, Volume, VolumeProblem};
use strongroom_attach::loop_device::Access;
use strongroom_model::VolumeId;
use tonic::{Request, Response, Status};

use crate::capability::{AccessMode, AccessType, Capability};
use crate::capacity::{SizeRange, bytes};
use crate::controller::{load, recorded_file_system};
use crate::driver::Driver;
use crate::glue::Node;
use crate::messages::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
    NodePublishVolumeResponse, NodeStageVolumeRequest, NodeStageVolumeResponse,
    NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, NodeUnstageVolumeRequest,
    NodeUnstageVolumeResponse, ServiceCapability, ServiceRpc,
};
use crate::secrets::Secrets;
use crate::{requests, status};

/// The service.
#[derive(Debug)]
pub(crate) struct NodeService(pub(crate) Arc<Driver>);

#[tonic::async_trait]
impl Node for NodeService {
    async fn stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let mut request = request.into_inner();
        let secrets = request.take_secrets();
        let id = requests::known_volume_id(&request.volume_id)?;
        let staging = requests::path("staging_target_path", &request.staging_target_path)?;
        let capability = Capability::read(request.volume_capability.as_ref())?;
        let turn = self.0.in_flight.begin(format!("volume {id}"))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            let volume = load(driver, &id)?;
            stage(driver, &volume, staging, capability, secrets)?;
            Ok(NodeStageVolumeResponse {})
        };
        self.0.work(work).await
    }

    async fn unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let request = request.into_inner();
        let id = requests::volume_id(&request.volume_id)?;
        requests::path("staging_target_path", &request.staging_target_path)?;
        let Some(id) = id else { return Ok(Response::new(NodeUnstageVolumeResponse {})) };
        let turn = self.0.in_flight.begin(format!("volume {id}"))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            driver.volumes.detach(&id).map_err(|error| status::of(&error))?;
            Ok(NodeUnstageVolumeResponse {})
        };
        self.0.work(work).await
    }

    async fn publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let mut request = request.into_inner();
        drop(request.take_secrets());
        let id = requests::known_volume_id(&request.volume_id)?;
        let target = requests::path("target_path", &request.target_path)?;
        let capability = Capability::read(request.volume_capability.as_ref())?;
        if request.staging_target_path.is_empty() {
            return Err(Status::failed_precondition(
                "staging_target_path is missing: stage it first",
            ));
        }
        let staging = requests::path("staging_target_path", &request.staging_target_path)?;
        let access = access(&capability, request.readonly);
        let turn = self.0.in_flight.begin(format!("volume {id}"))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            let attachment = attached(driver, &id)?;
            check_publishing(&attachment, &capability, &staging, &target)?;
            let flags = match capability.access {
                AccessType::Mount { flags, .. } => flags,
                AccessType::Block => Vec::new(),
            };
            let published = driver.volumes.publish(&id, &target, access, &flags);
            published.map_err(|error| status::of(&error))?;
            Ok(NodePublishVolumeResponse {})
        };
        self.0.work(work).await
    }

    async fn unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let id = requests::volume_id(&request.volume_id)?;
        let target = requests::path("target_path", &request.target_path)?;
        let Some(id) = id else { return Ok(Response::new(NodeUnpublishVolumeResponse {})) };
        let turn = self.0.in_flight.begin(format!("volume {id}"))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            driver.volumes.unpublish(&id, &target).map_err(|error| status::of(&error))?;
            Ok(NodeUnpublishVolumeResponse {})
        };
        self.0.work(work).await
    }

    async fn volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        let id = requests::volume_id(&request.volume_id)?;
        let path = requests::place("volume_path", &request.volume_path)?;
        let id = match id {
            Some(id) => id,
            None => requests::known_volume_id(&request.volume_id)?,
        };
        let work = move |driver: &Driver| {
            let attachment = shown(driver, &load(driver, &id)?, &path)?;
            let usage = stats::usage(&attachment, &path)?;
            Ok(NodeGetVolumeStatsResponse { usage })
        };
        self.0.work(work).await
    }

    async fn expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let mut request = request.into_inner();
        drop(request.take_secrets());
        let id = requests::known_volume_id(&request.volume_id)?;
        let path = requests::place("volume_path", &request.volume_path)?;
        let range = SizeRange::read(request.capacity_range.as_ref())?;
        let turn = self.0.in_flight.begin(format!("volume {id}"))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            let volume = load(driver, &id)?;
            shown(driver, &volume, &path)?;
            if range.least.is_some_and(|least| least > volume.size) {
                return Err(Status::out_of_range(format!(
                    "volume {id} has {} bytes: the controller has to expand it first",
                    volume.size
                )));
            }
            let size = driver.volumes.grow(&id).map_err(|error| status::of(&error))?;
            Ok(NodeExpandVolumeResponse { capacity_bytes: bytes(size) })
        };
        self.0.work(work).await
    }

    async fn capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capability = |r#type| ServiceCapability { rpc: Some(ServiceRpc { r#type }) };
        let capabilities = CAPABILITIES.into_iter().map(capability).collect();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.0.settings.node_id.clone(),
            // As many as the machine bears.
            max_volumes_per_node: 0,
            accessible_topology: Some(self.0.place.topology()),
        }))
    }
}

/// Makes a volume appear: as a device, or mounted at its staging path.
fn stage(
    driver: &Driver,
    volume: &Volume,
    staging: PathBuf,
    capability: Capability,
    secrets: Secrets,
) -> Result<(), Status> {
    let access = access(&capability, false);
    let show = match capability.access {
        AccessType::Block => Show::Device,
        AccessType::Mount { file_system, flags } => Show::Mount {
            target: staging,
            file_system: file_system.or_else(|| recorded_file_system(volume)).unwrap_or_default(),
            options: flags,
        },
    };
    let earlier = driver.volumes.attachment(&volume.id).map_err(|error| status::of(&error))?;
    if let Some(earlier) = earlier.filter(|earlier| is_incompatible(earlier, &show)) {
        let how = earlier.describe();
        let problem = format!("volume {} is staged already, {how}, and not as wanted", volume.id);
        return Err(Status::already_exists(problem));
    }
    // It is open: nobody needs its key again.
    let standing = driver.volumes.attached_as(&volume.id, &show, access);
    if standing.map_err(|error| status::of(&error))?.is_some() {
        return Ok(());
    }
    let opener = secrets.opener(volume, driver.settings.kek_file.as_deref())?;
    let request = AttachRequest {
        opener: opener.as_ref().map(crate::secrets::Opener::opener),
        backend: driver.settings.backend,
        show,
        access,
    };
    driver.volumes.attach(&volume.id, &request).map_err(|error| status::of(&error))?;
    Ok(())
}

/// Tells whether a volume is staged at the same path in another way.
fn is_incompatible(earlier: &Attachment, show: &Show) -> bool {
    match (&earlier.show, show) {
        (Show::Mount { target: a, .. }, Show::Mount { target: b, .. }) => {
            a == b && earlier.show != *show
        }
        _ => false,
    }
}

/// Returns how a volume appears here.
///
/// # Errors
///
/// `NOT_FOUND` when there is no such volume, `FAILED_PRECONDITION` when it does not appear.
fn attached(driver: &Driver, id: &VolumeId) -> Result<Attachment, Status> {
    load(driver, id)?;
    let found = driver.volumes.attachment(id).map_err(|error| status::of(&error))?;
    found.ok_or_else(|| {
        let problem = Box::new(VolumeProblem::NotAttached);
        status::of(&strongroom::Error::Volume { id: id.to_string(), problem })
    })
}

/// Returns how a volume appears here, if it appears at `path`.
///
/// # Errors
///
/// `NOT_FOUND`.
fn shown(driver: &Driver, volume: &Volume, path: &Path) -> Result<Attachment, Status> {
    let found = driver.volumes.attachment(&volume.id).map_err(|error| status::of(&error))?;
    let is_here = |attachment: &Attachment| {
        let staged = match &attachment.show {
            Show::Mount { target, .. } => target == path,
            _ => attachment.device.as_deref() == Some(path),
        };
        staged || attachment.published.iter().any(|target| target == path)
    };
    found.filter(is_here).ok_or_else(|| {
        Status::not_found(format!("volume {} is not at {}", volume.id, path.display()))
    })
}

/// Refuses to publish a volume that is staged in another way, or published elsewhere where it may be at
/// one place alone.
fn check_publishing(
    attachment: &Attachment,
    capability: &Capability,
    staging: &Path,
    target: &Path,
) -> Result<(), Status> {
    let id = &attachment.volume;
    let fits = match (&attachment.show, &capability.access) {
        (Show::Mount { target, .. }, AccessType::Mount { .. }) => target == staging,
        (Show::Device, AccessType::Block) => true,
        _ => false,
    };
    if !fits {
        let how = attachment.describe();
        return Err(Status::failed_precondition(format!(
            "volume {id} is not staged at {} as wanted, but {how}",
            staging.display()
        )));
    }
    let elsewhere = attachment.published.iter().find(|published| *published != target);
    match elsewhere.filter(|_| capability.mode == AccessMode::SingleWriter) {
        Some(published) => Err(Status::failed_precondition(format!(
            "volume {id} may be published at one place alone (ReadWriteOncePod), and is at {}",
            published.display()
        ))),
        None => Ok(()),
    }
}

fn access(capability: &Capability, read_only: bool) -> Access {
    if read_only || capability.mode == AccessMode::ReaderOnly {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    }
}

/// What the node can do: stage and unstage, tell how full a volume is, expand, let several pods write.
const CAPABILITIES: [i32; 4] = [1, 2, 3, 5];
