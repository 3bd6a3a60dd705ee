//! Calls a driver.

use std::path::Path;

use prost::Message;
use tokio::runtime::Runtime;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// A connection to a driver.
pub(crate) struct Client {
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    /// Connects; `None` while nobody listens.
    pub(crate) fn connect(socket: &Path) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).unwrap();
        let channel = runtime.block_on(endpoint.connect()).ok()?;
        Some(Self { runtime, channel })
    }

    /// Calls `csi.v1.…`.
    pub(crate) fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path: PathAndQuery = format!("/csi.v1.{method}").parse().unwrap();
        self.runtime.block_on(async {
            let mut service = tonic::client::Grpc::new(self.channel.clone());
            service.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = tonic_prost::ProstCodec::<Q, A>::default();
            Ok(service.unary(Request::new(request), path, codec).await?.into_inner())
        })
    }
}
