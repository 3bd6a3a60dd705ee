//! A server without its face: documents go into the store, and what follows is seen there.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::audit::Audit;
use strongroom::jobs::{Jobs, Limits, Worker};
use strongroom::library::Library;
use strongroom::sealing::Sealer;
use strongroom::volumes::Volumes;
use strongroom_attach::Launcher;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;
use strongroom_testkit::{Pattern, Reply, Server};

use super::{Controllers, Work, start};
use crate::Context;
use crate::store::Store;

/// A data directory, and what works on it.
pub(crate) struct Stage {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) running: Option<Running>,
}

pub(crate) struct Running {
    pub(crate) context: Context,
    controllers: Controllers,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let running = Some(open(directory.path()));
        Self { directory, running }
    }

    pub(crate) fn context(&self) -> &Context {
        &self.running.as_ref().unwrap().context
    }

    /// Ends everything where it stands, as a restart does.
    pub(crate) fn stop(&mut self) {
        let Running { context, controllers } = self.running.take().unwrap();
        context.jobs.stop();
        controllers.stop();
    }

    pub(crate) fn start(&mut self) {
        self.running = Some(open(self.directory.path()));
    }

    pub(crate) fn apply(&self, document: Value) -> Arc<Object> {
        self.context().store.create(Object::of_value(document).unwrap()).unwrap()
    }

    pub(crate) fn delete(&self, resource: Resource, namespace: Option<&str>, name: &str) {
        self.context().store.delete(resource, namespace, name, None).unwrap();
    }

    pub(crate) fn find(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Object>> {
        self.context().store.read(resource, namespace, name)
    }

    /// Waits until a document is as wanted, or gone.
    pub(crate) fn wait(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
        wanted: impl Fn(Option<&Object>) -> bool,
    ) -> Option<Arc<Object>> {
        let begun = Instant::now();
        loop {
            let found = self.find(resource, namespace, name);
            if wanted(found.as_deref()) {
                return found;
            }
            if begun.elapsed() > PATIENCE {
                let status = found.map(|found| Value::Object(found.fields().clone()));
                panic!("{} {name} is not as wanted: {status:#?}", resource.kind());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn wait_for_image(&self, name: &str, state: &str) -> Arc<Object> {
        let is = |found: Option<&Object>| {
            found.is_some_and(|found| found.text(&["status", "state"]) == Some(state))
        };
        self.wait(Resource::BackingImage, Some("lab"), name, is).unwrap()
    }

    pub(crate) fn wait_for_claim(&self, name: &str, phase: &str) -> Arc<Object> {
        let is = |found: Option<&Object>| {
            found.is_some_and(|found| found.text(&["status", "phase"]) == Some(phase))
        };
        self.wait(Resource::PersistentVolumeClaim, Some("lab"), name, is).unwrap()
    }

    /// Waits until a claim tells why it waits.
    pub(crate) fn wait_for_reason(&self, name: &str, reason: &str) -> String {
        let condition = |found: &Object| {
            let conditions = found.at(&["status", "conditions"])?.as_array()?;
            let is = |condition: &&Value| condition["reason"] == reason;
            conditions.iter().find(is).and_then(|found| Some(found["message"].as_str()?.to_owned()))
        };
        let resource = Resource::PersistentVolumeClaim;
        let found = self.wait(resource, Some("lab"), name, |found| {
            found.is_some_and(|found| condition(found).is_some())
        });
        condition(&found.unwrap()).unwrap()
    }

    pub(crate) fn wait_until_gone(&self, resource: Resource, namespace: Option<&str>, name: &str) {
        self.wait(resource, namespace, name, |found| found.is_none());
    }

    /// Waits until an event with this reason tells of a document.
    pub(crate) fn wait_for_event(&self, of: &str, reason: &str) -> Arc<Object> {
        let begun = Instant::now();
        loop {
            let (events, _) = self.context().store.list(Resource::Event, None);
            let is = |event: &&Arc<Object>| {
                event.text(&["involvedObject", "name"]) == Some(of)
                    && event.text(&["reason"]) == Some(reason)
            };
            if let Some(found) = events.iter().find(is) {
                return Arc::clone(found);
            }
            assert!(begun.elapsed() < PATIENCE, "no event {reason} of {of}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the checksum of a ready image.
    pub(crate) fn checksum(&self, name: &str) -> String {
        let image = self.find(Resource::BackingImage, Some("lab"), name).unwrap();
        image.text(&["status", "checksum"]).unwrap().to_owned()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.stop();
        }
    }
}

fn open(directory: &Path) -> Running {
    let launcher = Launcher { program: "/nowhere".into(), arguments: Vec::new() };
    let volumes = Volumes::open(&directory.join("pool"), launcher).unwrap();
    let catalog = volumes.catalog();
    let library = Library::open(&directory.join("images"), Arc::clone(&catalog)).unwrap();
    let kek_file = directory.join("kek");
    let sealer = Sealer::open(&kek_file, &*catalog).unwrap();
    let store = Store::open(Arc::clone(&catalog), sealer).unwrap();
    let audit = Audit::open(&directory.join("audit.log"), Arc::clone(&catalog)).unwrap();
    let audit = Arc::new(audit);
    let work = Arc::new(Work::new(
        store.clone(),
        volumes.clone(),
        library.clone(),
        Arc::clone(&audit),
        kek_file.clone(),
    ));
    let limits = Limits {
        at_once: 4,
        memory: 1 << 30,
        first_pause: Duration::from_millis(50),
        longest_pause: Duration::from_millis(200),
        attempts: 3,
    };
    let worker: Arc<dyn Worker> = Arc::<Work>::clone(&work);
    let jobs = Arc::new(Jobs::start(catalog, worker, limits).unwrap());
    let context = Context { store, volumes, library, jobs, audit, kek_file };
    let controllers = start(context.clone(), &work);
    Running { context, controllers }
}

/// Returns a server that has an image of so many bytes.
pub(crate) fn serve(len: u64) -> Server {
    let pattern = Pattern::sparse(7, 64 << 10);
    let content = move |range: Range<u64>| {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        pattern.fill(&mut bytes, range.start);
        bytes
    };
    Server::serving(content, move |request| Reply::ranged(request, len, "\"one\""))
}

pub(crate) fn secret(name: &str, passphrase: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "namespace": "lab", "name": name },
        "stringData": {
            "CRYPTO_KEY_VALUE": passphrase,
            "CRYPTO_KEY_PROVIDER": "secret",
            "CRYPTO_PBKDF": "pbkdf2",
            "CRYPTO_PBKDF_FORCE_ITERATIONS": "1000",
        },
    })
}

pub(crate) fn image(name: &str, kind: &str, parameters: &Value) -> Value {
    json!({
        "apiVersion": "longhorn.io/v1beta2",
        "kind": "BackingImage",
        "metadata": { "namespace": "lab", "name": name },
        "spec": { "sourceType": kind, "sourceParameters": parameters },
    })
}

pub(crate) fn clone(name: &str, from: &str, encryption: &str, secret: &str) -> Value {
    let parameters = json!({
        "backing-image": from,
        "encryption": encryption,
        "secret": secret,
        "secret-namespace": "lab",
    });
    image(name, "clone", &parameters)
}

/// Returns a class; its volumes are encrypted with a Secret when there is one.
pub(crate) fn class(name: &str, secret: Option<&str>, parameters: Value) -> Value {
    let mut all = parameters;
    if let Some(secret) = secret {
        all["encrypted"] = "true".into();
        for of in ["node-stage", "node-publish", "node-expand"] {
            all[format!("csi.storage.k8s.io/{of}-secret-name")] = secret.into();
            all[format!("csi.storage.k8s.io/{of}-secret-namespace")] = "lab".into();
        }
    }
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": { "name": name },
        "provisioner": "driver.longhorn.io",
        "allowVolumeExpansion": true,
        "parameters": all,
    })
}

pub(crate) fn claim(name: &str, class: &str, size: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": { "namespace": "lab", "name": name },
        "spec": {
            "storageClassName": class,
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Block",
            "resources": { "requests": { "storage": size } },
        },
    })
}

/// How long a test waits for what should come at once.
const PATIENCE: Duration = Duration::from_secs(60);
