//! The identity service: who the driver is.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use crate::driver::Driver;
use crate::glue::Identity;
use crate::messages::{
    BoolValue, GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest,
    GetPluginInfoResponse, Map, PluginCapability, PluginExpansion, PluginService, ProbeRequest,
    ProbeResponse,
};

/// The service.
#[derive(Debug)]
pub(crate) struct IdentityService(pub(crate) Arc<Driver>);

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: self.0.settings.driver_name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: Map::new(),
        }))
    }

    async fn plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let service = |r#type| PluginCapability {
            service: Some(PluginService { r#type }),
            volume_expansion: None,
        };
        let expansion = PluginCapability {
            service: None,
            volume_expansion: Some(PluginExpansion { r#type: ONLINE }),
        };
        Ok(Response::new(GetPluginCapabilitiesResponse {
            capabilities: vec![
                service(CONTROLLER_SERVICE),
                service(VOLUME_ACCESSIBILITY_CONSTRAINTS),
                expansion,
            ],
        }))
    }

    /// Says whether the pool can be read.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let readable = self.0.work(|driver| {
            driver.volumes.list(None, 1).map_err(|error| {
                Status::failed_precondition(crate::status::of(&error).message().to_owned())
            })
        });
        readable.await?;
        Ok(Response::new(ProbeResponse { ready: Some(BoolValue { value: true }) }))
    }
}

const CONTROLLER_SERVICE: i32 = 1;
const VOLUME_ACCESSIBILITY_CONSTRAINTS: i32 = 2;

/// Volumes can grow while they are used.
const ONLINE: i32 = 1;
