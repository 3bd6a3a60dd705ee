//! The server: one socket, three services, until somebody says that it is enough.

use std::sync::Arc;

use strongroom::volumes::Volumes;
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;

use crate::controller::ControllerService;
use crate::driver::{Driver, Settings};
use crate::endpoint::Callers;
use crate::glue::{ControllerServer, IdentityServer, NodeServer};
use crate::identity::IdentityService;
use crate::node::NodeService;
use crate::{Endpoint, Error, Result};

/// Serves the driver until SIGTERM or SIGINT, and then until the calls that are there are answered.
/// `ready` is called when the socket takes connections.
///
/// # Guarantees
///
/// Nobody but root, the user of this process and those who are named in the settings is answered.
///
/// # Errors
///
/// When a name is not possible, the socket cannot be made, or the server fails.
pub fn serve(
    volumes: Volumes,
    settings: Settings,
    endpoint: &Endpoint,
    ready: impl FnOnce(),
) -> Result<()> {
    settings.check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(Error::io("start threads"))?;
    // Dropped, the runtime waits for the work of callers who have gone away.
    runtime.block_on(run(Driver::new(volumes, settings), endpoint, ready))
}

async fn run(driver: Driver, endpoint: &Endpoint, ready: impl FnOnce()) -> Result<()> {
    let allowed = allowed(&driver.settings.allowed_uids);
    let enough = enough()?;
    let callers = match driver.settings.allowed_uids.as_slice() {
        [] => Callers::Owner,
        _ => Callers::Everybody,
    };
    let listener = endpoint.listen(callers)?;
    let driver = Arc::new(driver);
    let path = endpoint.path().to_owned();
    let shown = path.display();
    let listener =
        UnixListener::from_std(listener).map_err(Error::io(format!("listen at {shown}")))?;
    let connections = UnixListenerStream::new(listener)
        .filter(move |found| found.as_ref().is_ok_and(|stream| may_come(stream, &allowed)));
    ready();
    let served = Server::builder()
        .concurrency_limit_per_connection(MOST_OF_ONE)
        .max_concurrent_streams(MOST_OF_ONE as u32)
        .add_service(
            IdentityServer::new(IdentityService(Arc::clone(&driver)))
                .max_decoding_message_size(LARGEST_REQUEST),
        )
        .add_service(
            ControllerServer::new(ControllerService(Arc::clone(&driver)))
                .max_decoding_message_size(LARGEST_REQUEST),
        )
        .add_service(
            NodeServer::new(NodeService(driver)).max_decoding_message_size(LARGEST_REQUEST),
        )
        .serve_with_incoming_shutdown(connections, enough)
        .await;
    // Whoever comes next finds nobody rather than a socket that does not answer.
    let _ = std::fs::remove_file(&path);
    served.map_err(|error| Error::Server { path, source: error.into() })
}

/// Returns what is there when somebody wants the server to end.
fn enough() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).map_err(Error::io("watch for signals"));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        std::future::poll_fn(|context| {
            let came = term.poll_recv(context).is_ready() || int.poll_recv(context).is_ready();
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    })
}

/// Returns the users who may call.
fn allowed(named: &[u32]) -> Vec<u32> {
    let own = rustix::process::geteuid().as_raw();
    [0, own].into_iter().chain(named.iter().copied()).collect()
}

/// Tells whether the process at the other end is one of a user who may call. The kernel says who it was
/// when it connected.
fn may_come(stream: &UnixStream, allowed: &[u32]) -> bool {
    stream.peer_cred().is_ok_and(|peer| allowed.contains(&peer.uid()))
}

/// Threads that speak with callers; the work is done on others.
const WORKERS: usize = 2;

/// Calls of one connection that are answered at the same time.
const MOST_OF_ONE: usize = 256;

/// The largest request in bytes: far above what CSI's own limits come to.
const LARGEST_REQUEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_may_not_come() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let own = rustix::process::geteuid().as_raw();
            assert!(may_come(&ours, &allowed(&[])));
            assert!(may_come(&ours, &[own]));
            assert!(!may_come(&ours, &[own + 1]));
            assert!(!may_come(&ours, &[]));
        });
    }
}
