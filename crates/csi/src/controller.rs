//! The controller service: volumes and snapshots are made, listed, changed and deleted.

use std::sync::Arc;

use strongroom::volumes::{NewVolume, Source, Volume, VolumeEncryption, VolumeProblem};
use strongroom::{Error, volumes};
use strongroom_model::dialect::osc::Encryption;
use strongroom_model::dialect::volume_class::VolumeParameters;
use strongroom_model::{FileSystem, VolumeId};
use tonic::{Request, Response, Status};

use crate::capability::Capability;
use crate::capacity::{SizeRange, bytes, least_size};
use crate::driver::Driver;
use crate::glue::Controller;
use crate::messages::{
    Confirmed, ControllerExpandVolumeRequest, ControllerExpandVolumeResponse,
    ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse,
    ControllerGetVolumeRequest, ControllerGetVolumeResponse, ControllerModifyVolumeRequest,
    ControllerModifyVolumeResponse, CreateSnapshotRequest, CreateSnapshotResponse,
    CreateVolumeRequest, CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    DeleteVolumeRequest, DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse,
    GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest, ListSnapshotsResponse,
    ListVolumesRequest, ListVolumesResponse, Map, ServiceCapability, ServiceRpc,
    ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse, Volume as VolumeMessage,
    VolumeContentSource, VolumeEntry, VolumeStatus,
};
use crate::pages::Page;
use crate::{content_source, requests, snapshots, status};

/// The service.
#[derive(Debug)]
pub(crate) struct ControllerService(pub(crate) Arc<Driver>);

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let mut request = request.into_inner();
        drop(request.take_secrets());
        let creation = Creation::read(&request)?;
        self.0.place.check(request.accessibility_requirements.as_ref())?;
        let turn = self.0.in_flight.begin(format!("volume {}", creation.id))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            let volume = creation.carry_out(driver)?;
            let source = creation.source.as_ref().map(content_source::write);
            Ok(CreateVolumeResponse { volume: Some(message(driver, &volume, source)) })
        };
        self.0.work(work).await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let mut request = request.into_inner();
        drop(request.take_secrets());
        let Some(id) = requests::volume_id(&request.volume_id)? else {
            return Ok(Response::new(DeleteVolumeResponse {}));
        };
        let turn = self.0.in_flight.begin(format!("volume {id}"))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            driver.volumes.delete(&id).map_err(|error| status::of(&error))?;
            Ok(DeleteVolumeResponse {})
        };
        self.0.work(work).await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let mut request = request.into_inner();
        drop(request.take_secrets());
        let id = requests::known_volume_id(&request.volume_id)?;
        if request.volume_capabilities.is_empty() {
            return Err(Status::invalid_argument("volume_capabilities are missing"));
        }
        self.0.work(move |driver| validated(&load(driver, &id)?, &request)).await
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(request.max_entries, &request.starting_token)?;
        let after: Option<VolumeId> = page.after_id()?;
        let work = move |driver: &Driver| {
            let found = driver.volumes.list(after.as_ref(), page.limit + 1);
            let found = found.map_err(|error| status::of(&error))?;
            let (volumes, next_token) = page.cut(found, |volume| volume.id.to_string());
            let entry =
                |volume: &Volume| VolumeEntry { volume: Some(message(driver, volume, None)) };
            Ok(ListVolumesResponse { entries: volumes.iter().map(entry).collect(), next_token })
        };
        self.0.work(work).await
    }

    async fn capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let request = request.into_inner();
        let elsewhere =
            request.accessible_topology.as_ref().is_some_and(|place| !self.0.place.is_in(place));
        let unfit = request
            .volume_capabilities
            .iter()
            .any(|capability| Capability::of(capability).is_err());
        if elsewhere || unfit {
            return Ok(Response::new(GetCapacityResponse { available_capacity: 0 }));
        }
        let encryption = parameters(&request.parameters, &Map::new())?.encryption;
        let header = volumes::device_len(0, &encryption_of(encryption));
        let work = move |driver: &Driver| {
            let space = driver.volumes.space().map_err(|error| status::of(&error))?;
            let available = space.available.saturating_sub(header);
            Ok(GetCapacityResponse { available_capacity: bytes(available) })
        };
        self.0.work(work).await
    }

    async fn capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capability = |r#type| ServiceCapability { rpc: Some(ServiceRpc { r#type }) };
        let capabilities = CAPABILITIES.into_iter().map(capability).collect();
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        snapshots::create(&self.0, request.into_inner()).await
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        snapshots::delete(&self.0, request.into_inner()).await
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        snapshots::list(&self.0, request.into_inner()).await
    }

    async fn snapshot(
        &self,
        request: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        snapshots::one(&self.0, request.into_inner()).await
    }

    async fn expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let mut request = request.into_inner();
        drop(request.take_secrets());
        let id = requests::known_volume_id(&request.volume_id)?;
        let range = request.capacity_range.as_ref();
        let range = range.ok_or_else(|| Status::invalid_argument("capacity_range is missing"))?;
        let range = SizeRange::read(Some(range))?;
        let turn = self.0.in_flight.begin(format!("volume {id}"))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            let found = load(driver, &id)?;
            let volume = match range.least.is_none_or(|least| found.size >= least) {
                true if range.holds(found.size) => found,
                true => return Err(too_large(&found, range)),
                false => {
                    let grown = driver.volumes.expand(&id, range.size(1)?);
                    grown.map_err(|error| status::of(&error))?
                }
            };
            Ok(ControllerExpandVolumeResponse {
                capacity_bytes: bytes(volume.size),
                node_expansion_required: true,
            })
        };
        self.0.work(work).await
    }

    async fn volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        let id = requests::known_volume_id(&request.into_inner().volume_id)?;
        let work = move |driver: &Driver| {
            let volume = load(driver, &id)?;
            Ok(ControllerGetVolumeResponse {
                volume: Some(message(driver, &volume, None)),
                status: Some(VolumeStatus::default()),
            })
        };
        self.0.work(work).await
    }

    async fn modify_volume(
        &self,
        request: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        let mut request = request.into_inner();
        drop(request.take_secrets());
        let id = requests::known_volume_id(&request.volume_id)?;
        requests::check_map("mutable_parameters", &request.mutable_parameters)?;
        let turn = self.0.in_flight.begin(format!("volume {id}"))?;
        let work = move |driver: &Driver| {
            let _turn = turn;
            let volume = load(driver, &id)?;
            let tuning = VolumeParameters::tuned(volume.tuning, &request.mutable_parameters)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            driver.volumes.tune(&id, tuning).map_err(|error| status::of(&error))?;
            Ok(ControllerModifyVolumeResponse {})
        };
        self.0.work(work).await
    }
}

/// A volume that somebody wants to have made.
struct Creation {
    id: VolumeId,
    range: SizeRange,
    /// What its file system needs at least, in bytes.
    least: u64,
    parameters: VolumeParameters,
    source: Option<Source>,
}

impl Creation {
    fn read(request: &CreateVolumeRequest) -> Result<Self, Status> {
        let id = requests::new_volume_id(&request.name)?;
        let capabilities = Capability::read_all(&request.volume_capabilities)?;
        let mut parameters = parameters(&request.parameters, &request.mutable_parameters)?;
        let file_system = file_system(&capabilities, parameters.file_system)?;
        if let Some(file_system) = file_system {
            parameters.others.insert(FILE_SYSTEM.to_owned(), file_system.to_string());
        }
        Ok(Self {
            id,
            range: SizeRange::read(request.capacity_range.as_ref())?,
            least: least_size(file_system),
            parameters,
            source: content_source::read(request.volume_content_source.as_ref())?,
        })
    }

    /// Makes the volume, or finds the one that was made already.
    fn carry_out(&self, driver: &Driver) -> Result<Volume, Status> {
        let size = match driver.volumes.volume(&self.id) {
            Ok(found) if self.range.holds(found.size) => found.size,
            Ok(found) => {
                let difference = format!("has {} bytes, which is not what is wanted", found.size);
                let problem = Box::new(VolumeProblem::Exists { difference });
                return Err(status::of(&Error::Volume { id: found.id.to_string(), problem }));
            }
            Err(error) if is_not_found(&error) => self.size_of_new(driver)?,
            Err(error) => return Err(status::of(&error)),
        };
        let new = NewVolume {
            id: self.id.clone(),
            size,
            encryption: encryption_of(self.parameters.encryption.clone()),
            tuning: self.parameters.tuning,
            source: self.source.clone(),
            parameters: self.parameters.others.clone(),
        };
        driver.volumes.create(&new, &()).map_err(|error| status::of(&error))
    }

    /// Returns the size of a volume that is not there yet: at least that of its source.
    fn size_of_new(&self, driver: &Driver) -> Result<u64, Status> {
        let of_source = match &self.source {
            None => None,
            Some(Source::Volume(id)) => Some(load(driver, id)?.size),
            Some(Source::Snapshot(id)) => Some(snapshots::load(driver, id)?.of.size),
        };
        match of_source {
            // Where nobody wants another size it is the source's, whatever it was rounded to.
            Some(size) if self.range.least.is_none_or(|least| least <= size) => {
                if self.range.holds(size) {
                    Ok(size)
                } else {
                    let problem = format!("the source has {size} bytes, more than limit_bytes");
                    Err(Status::out_of_range(problem))
                }
            }
            _ => self.range.size(self.least),
        }
    }
}

/// Returns a volume.
///
/// # Errors
///
/// `NOT_FOUND`.
pub(crate) fn load(driver: &Driver, id: &VolumeId) -> Result<Volume, Status> {
    driver.volumes.volume(id).map_err(|error| status::of(&error))
}

/// Returns the file system that a volume was to have when it was made.
pub(crate) fn recorded_file_system(volume: &Volume) -> Option<FileSystem> {
    volume.file_system.or_else(|| volume.parameters.get(FILE_SYSTEM)?.parse().ok())
}

/// Returns a volume as CSI writes it.
fn message(
    driver: &Driver,
    volume: &Volume,
    content_source: Option<VolumeContentSource>,
) -> VolumeMessage {
    VolumeMessage {
        capacity_bytes: bytes(volume.size),
        volume_id: volume.id.to_string(),
        volume_context: context(volume),
        content_source,
        accessible_topology: vec![driver.place.topology()],
    }
}

/// Returns what Kubernetes shows of a volume for ever: that it is encrypted, and by which key. Nothing is
/// read from it again.
fn context(volume: &Volume) -> Map {
    let encrypted = volume.encryption.is_encrypted().to_string();
    let mut context = Map::from([("encrypted".to_owned(), encrypted)]);
    if let VolumeEncryption::Kms(request) = &volume.encryption {
        let mut put = |key: &str, value: &str| context.insert(key.to_owned(), value.to_owned());
        put("encryptionEnabled", "true");
        put("encryptionKMSType", request.kind.name());
        if let Some(endpoint) = request.endpoints.first() {
            put("encryptionKMSEndpoint", endpoint);
        }
        if let Some(key_id) = &request.key_id {
            put("encryptionKMSKeyID", key_id);
        }
    }
    context
}

/// Says whether a volume can be used as somebody wants.
fn validated(
    volume: &Volume,
    request: &ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, Status> {
    let unfit = |message: String| ValidateVolumeCapabilitiesResponse { confirmed: None, message };
    for capability in &request.volume_capabilities {
        let wanted = match Capability::of(capability) {
            Ok(capability) => capability.file_system().flatten(),
            Err(problem) => return Ok(unfit(problem)),
        };
        if let (Some(wanted), Some(found)) = (wanted, volume.file_system)
            && wanted != found
        {
            return Ok(unfit(format!("volume {} holds {found}, not {wanted}", volume.id)));
        }
    }
    let confirmed = Confirmed {
        volume_context: request.volume_context.clone(),
        volume_capabilities: request.volume_capabilities.clone(),
        parameters: request.parameters.clone(),
        mutable_parameters: request.mutable_parameters.clone(),
    };
    Ok(ValidateVolumeCapabilitiesResponse { confirmed: Some(confirmed), message: String::new() })
}

/// Returns the file system that a new volume will get; `None` when it is for a block device alone.
fn file_system(
    capabilities: &[Capability],
    of_class: Option<FileSystem>,
) -> Result<Option<FileSystem>, Status> {
    let mut named = None;
    for wanted in capabilities.iter().filter_map(Capability::file_system) {
        let wanted = wanted.or(of_class).unwrap_or_default();
        if named.is_some_and(|other| other != wanted) {
            return Err(Status::invalid_argument("volume_capabilities name two file systems"));
        }
        named = Some(wanted);
    }
    Ok(named)
}

fn parameters(parameters: &Map, mutable: &Map) -> Result<VolumeParameters, Status> {
    requests::check_map("parameters", parameters)?;
    requests::check_map("mutable_parameters", mutable)?;
    VolumeParameters::read(parameters, mutable)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

fn encryption_of(encryption: Encryption) -> VolumeEncryption {
    match encryption {
        Encryption::None => VolumeEncryption::None,
        Encryption::Passphrase => VolumeEncryption::Passphrase,
        Encryption::Kms(request) => VolumeEncryption::Kms(request),
    }
}

fn is_not_found(error: &Error) -> bool {
    matches!(error, Error::Volume { problem, .. } if **problem == VolumeProblem::NotFound)
}

fn too_large(volume: &Volume, range: SizeRange) -> Status {
    let limit = range.most.unwrap_or_default();
    Status::out_of_range(format!(
        "volume {} has {} bytes already, more than limit_bytes {limit}",
        volume.id, volume.size
    ))
}

/// Under this name the file system is recorded that a volume will get when it is formatted.
const FILE_SYSTEM: &str = "fsType";

/// What the controller can do: create and delete volumes, list them, tell the room, create, delete and list
/// snapshots, clone, expand, show one volume, let several pods of the node write, modify, show a snapshot.
const CAPABILITIES: [i32; 11] = [1, 3, 4, 5, 6, 7, 9, 12, 13, 14, 15];

#[cfg(test)]
mod tests;
