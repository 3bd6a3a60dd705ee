//! The server: a data directory, what works in it, and the API, until somebody says that it is enough.

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom::audit::Audit;
use strongroom::jobs::{Jobs, Worker};
use strongroom::libvirt::Vault;
use strongroom::sealing::Sealer;
use strongroom::volumes::Volumes;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::access::Access;
use crate::api::libvirt::{self, LibvirtWork};
use crate::api::{Api, router};
use crate::controllers::{self, Controllers, Work};
use crate::listening::{bind, encryption, listen};
use crate::logging::{Line, LogLevel, LoggedWorker};
use crate::opening::{Opened, open};
use crate::store::SetAside;
use crate::{Context, Error, Result, Settings, kubeconfig, notify, transfer};

/// A server that takes connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    /// The file with the admin's token.
    pub token_file: PathBuf,
    /// The documents that cannot be read, and are left alone.
    pub set_aside: Vec<SetAside>,
}

/// Serves until SIGTERM or SIGINT, and then until the requests that are there are answered. `ready` is
/// called when the server takes connections. Jobs stay so that the next start goes on with them.
///
/// # Errors
///
/// When the settings are not possible, the data directory cannot be opened or is another server's, or the
/// address cannot be listened at.
pub fn serve(settings: &Settings, ready: impl FnOnce(&Serving)) -> Result<()> {
    let runtime = runtime()?;
    let mut stop = {
        let _entered = runtime.enter();
        Stop::by_signals()?
    };
    serve_until(settings, &runtime, async move { stop.came().await }, ready)
}

/// Serves until `enough`.
pub(crate) fn serve_until(
    settings: &Settings,
    runtime: &Runtime,
    enough: impl Future<Output = ()>,
    ready: impl FnOnce(&Serving),
) -> Result<()> {
    settings.check()?;
    let encryption = settings.tls.as_ref().map(encryption).transpose()?;
    let listener = bind(settings.listen)?;
    let opened = open(settings)?;
    let access = Access::open(&opened.admin_file, opened.volumes.catalog())?;
    let token_file = opened.admin_file.clone();
    let beside = Beside::begin(opened, settings)?;
    let (stopping, stopped) = watch::channel(false);
    let log = settings.log.clone();
    let api = Arc::new(Api::new(beside.context.clone(), access, stopped, log.clone()));
    let libvirt = libvirt::routes(beside.libvirt.clone(), Arc::clone(&beside.context.jobs));
    let router = router(&api, transfer::routes(beside.context.clone()).merge(libvirt));
    let listening = runtime.block_on(async {
        let failed = |source| Error::Io { what: "cannot listen".to_owned(), source };
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let file = settings.data.join("kubeconfig");
        match settings.tls {
            None => kubeconfig::write(&file, address, &token_file)?,
            Some(_) => kubeconfig::remove(&file)?,
        }
        let set_aside = beside.context.store.set_aside().to_vec();
        log.say(LogLevel::Info, &begun(settings, address, set_aside.len()));
        ready(&Serving { address, token_file, set_aside });
        notify::tell("READY=1");
        let enough = async {
            enough.await;
            log.say(LogLevel::Info, &Line::new("stopping: jobs go on with the next start"));
            notify::tell("STOPPING=1");
            // Watches would go on for an hour.
            stopping.send_replace(true);
        };
        listen(listener, encryption, router, enough).await;
        Ok(())
    });
    beside.end();
    log.say(LogLevel::Info, &Line::new("stopped"));
    log.close();
    listening
}

fn begun(settings: &Settings, address: SocketAddr, set_aside: usize) -> Line {
    let mut line = Line::new("serving")
        .with("version", env!("CARGO_PKG_VERSION"))
        .with("address", address)
        .with("tls", settings.tls.is_some())
        .with("data", settings.data.display());
    if set_aside > 0 {
        line = line.with("unreadable-documents", set_aside);
    }
    line
}

/// Returns the threads that speak with clients.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .enable_all()
        .build()
        .map_err(|source| Error::Io { what: "cannot start threads".to_owned(), source })
}

/// What goes on beside the API.
struct Beside {
    context: Context,
    controllers: Controllers,
    libvirt: libvirt::Place,
    _lock: std::fs::File,
}

impl Beside {
    /// Begins to do what documents ask for.
    fn begin(opened: Opened, settings: &Settings) -> Result<Self> {
        let Opened { store, volumes, library, audit, kek_file, lock, .. } = opened;
        let work = Work::new(
            store.clone(),
            volumes.clone(),
            library.clone(),
            Arc::clone(&audit),
            kek_file.clone(),
        );
        let work = Arc::new(work.with_policy(settings.policy));
        let libvirt = open_libvirt(&volumes, &audit, &kek_file, settings)?;
        let others: Arc<dyn Worker> = Arc::<Work>::clone(&work);
        let worker = Arc::new(LibvirtWork::beside(others, libvirt.clone()));
        let worker =
            LoggedWorker::new(worker, settings.log.clone()).limited_to(settings.rate_limit);
        let worker: Arc<dyn Worker> = Arc::new(worker);
        let jobs = Arc::new(Jobs::start(volumes.catalog(), worker, settings.limits)?);
        let context = Context { store, volumes, library, jobs, audit, kek_file };
        let controllers = controllers::start(context.clone(), &work);
        Ok(Self { context, controllers, libvirt, _lock: lock })
    }

    /// Ends it, so that the next start goes on.
    fn end(self) {
        self.controllers.stop();
        self.context.jobs.stop();
    }
}

/// Opens libvirt's secrets and volumes in the data directory.
fn open_libvirt(
    volumes: &Volumes,
    audit: &Arc<Audit>,
    kek_file: &Path,
    settings: &Settings,
) -> Result<libvirt::Place> {
    let usual = || settings.data.join(LIBVIRT);
    let pool = settings.libvirt_pool.clone().unwrap_or_else(usual);
    let io = |source| Error::Io { what: format!("cannot make {}", pool.display()), source };
    DirBuilder::new().recursive(true).mode(0o711).create(&pool).map_err(io)?;
    // As the volumes in it are known.
    let pool = pool.canonicalize().map_err(io)?;
    let catalog = volumes.catalog();
    let sealer = Sealer::open(kek_file, &*catalog)?;
    let vault = Arc::new(Vault::new(catalog, sealer, Arc::clone(audit), &settings.data));
    Ok(libvirt::Place { vault, pool, policy: settings.policy })
}

/// The signals that end a server.
struct Stop {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Stop {
    fn by_signals() -> Result<Self> {
        let watched = |kind| {
            let failed = |source| Error::Io { what: "cannot watch for signals".to_owned(), source };
            signal(kind).map_err(failed)
        };
        let (term, int) = (watched(SignalKind::terminate())?, watched(SignalKind::interrupt())?);
        Ok(Self { term, int })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Where the volumes of libvirt's documents lie in a data directory.
const LIBVIRT: &str = "libvirt";

/// Threads that speak with clients.
const WORKERS: usize = 2;

/// Threads that may block at the same time.
const BLOCKING: usize = 64;

#[cfg(test)]
mod tests;
