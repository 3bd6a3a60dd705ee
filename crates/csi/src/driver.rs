//! What all three services share.

use std::path::PathBuf;
use std::sync::Arc;

use strongroom::volumes::{Backend, Volumes};
use tokio::sync::Semaphore;
use tonic::{Response, Status};

use crate::in_flight::InFlight;
use crate::topology::Place;
use crate::{Error, Result};

/// What the driver is told when it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of the driver, which StorageClasses call the provisioner: `csi.example.com`.
    pub driver_name: String,
    /// The name of the node that this is.
    pub node_id: String,
    /// The file with the key of the local kind of KMS.
    pub kek_file: Option<PathBuf>,
    /// By what volumes are made to appear.
    pub backend: Backend,
    /// The users who may call, besides root and the one that the driver runs as.
    pub allowed_uids: Vec<u32>,
}

/// The driver: every service is answered by it.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) volumes: Volumes,
    pub(crate) settings: Settings,
    pub(crate) place: Place,
    pub(crate) in_flight: InFlight,
    /// Bounds the threads that work at the same time.
    work: Arc<Semaphore>,
}

impl Settings {
    /// Refuses names that CSI does not allow.
    ///
    /// # Errors
    ///
    /// [`Error::Name`].
    pub(crate) fn check(&self) -> Result<()> {
        let refused = |what, name: &str, problem| {
            Err(Error::Name { what, name: name.chars().take(LONGEST_NAME).collect(), problem })
        };
        let name = &self.driver_name;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        let good = name.len() <= LONGEST_NAME
            && name.bytes().all(fits)
            && ends(name.bytes().next())
            && ends(name.bytes().next_back());
        if !good {
            let problem = "use 1 to 63 letters, digits, '-' and '.', as in csi.example.com";
            return refused("driver name", name, problem);
        }
        let node = &self.node_id;
        let fits = |byte: u8| fits(byte) || byte == b'_';
        let good = node.len() <= LONGEST_NAME
            && node.bytes().all(fits)
            && ends(node.bytes().next())
            && ends(node.bytes().next_back());
        if !good {
            let problem = "use the name of the node: 1 to 63 letters, digits, '-', '_' and '.'";
            return refused("node id", node, problem);
        }
        Ok(())
    }
}

impl Driver {
    pub(crate) fn new(volumes: Volumes, settings: Settings) -> Self {
        let place = Place::new(&settings.driver_name, &settings.node_id);
        Self {
            volumes,
            settings,
            place,
            in_flight: InFlight::default(),
            work: Arc::new(Semaphore::new(MOST_AT_WORK)),
        }
    }

    /// Does work on a thread that may block. It is done to its end even when the caller goes away.
    ///
    /// # Errors
    ///
    /// Those of the work; `INTERNAL` when it panics.
    pub(crate) async fn work<T, F>(
        self: &Arc<Self>,
        work: F,
    ) -> std::result::Result<Response<T>, Status>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> std::result::Result<T, Status> + Send + 'static,
    {
        let permit = Arc::clone(&self.work).acquire_owned().await;
        let permit = permit.map_err(|_| Status::unavailable("the driver is shutting down"))?;
        let driver = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&driver)
        });
        match done.await {
            Ok(result) => result.map(Response::new),
            Err(_) => Err(Status::internal("the driver failed: see its log")),
        }
    }
}

/// How many calls work at the same time; others wait. A call that copies a volume is one of them.
const MOST_AT_WORK: usize = 64;

/// What Kubernetes allows for both names, in bytes.
const LONGEST_NAME: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(driver_name: &str, node_id: &str) -> Settings {
        Settings {
            driver_name: driver_name.to_owned(),
            node_id: node_id.to_owned(),
            kek_file: None,
            backend: Backend::Auto,
            allowed_uids: Vec::new(),
        }
    }

    #[test]
    fn names_are_those_that_kubernetes_takes() {
        assert!(settings("driver.longhorn.io", "node-1").check().is_ok());
        let long = "x".repeat(64);
        for bad in ["", "-a", "a.", "a/b", "a b", &long] {
            assert!(settings(bad, "node-1").check().is_err(), "{bad}");
            assert!(settings("csi.example", bad).check().is_err(), "{bad}");
        }
    }
}
