//! A server in this process, and requests to it as they are on the wire.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::jobs::Limits;
use strongroom_attach::Launcher;
use strongroom_crypto::CostPolicy;
use tokio::sync::oneshot;

use crate::settings::TlsFiles;
use crate::{Log, Result, Settings};

/// A server that runs until it is dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    data: PathBuf,
    admin: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// An answer.
pub(super) struct Answered {
    pub(super) code: u16,
    pub(super) head: String,
    pub(super) body: String,
}

/// Returns settings for a server in a directory.
pub(super) fn settings(data: &Path, tls: Option<TlsFiles>) -> Settings {
    Settings {
        downloads: strongroom::library::Downloads::default(),
        data: data.to_owned(),
        libvirt_pool: None,
        listen: "127.0.0.1:0".parse().unwrap(),
        tls,
        limits: Limits {
            at_once: 1,
            memory: 1 << 30,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(1),
            attempts: 1,
        },
        rate_limit: None,
        policy: CostPolicy::default(),
        launcher: Launcher { program: "/nowhere".into(), arguments: Vec::new() },
        log: Log::off(),
    }
}

impl Server {
    /// Starts one.
    pub(super) fn start(data: &Path) -> Self {
        Self::with(settings(data, None))
    }

    /// Starts one with these settings.
    pub(super) fn with(settings: Settings) -> Self {
        let data = settings.data.clone();
        let (told, heard) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = super::super::runtime()?;
            let enough = async { drop(stopped.await) };
            super::super::serve_until(&settings, &runtime, enough, |serving| {
                told.send(serving.clone()).unwrap();
            })
        });
        let serving = heard.recv_timeout(Duration::from_secs(60)).unwrap();
        let admin = std::fs::read_to_string(&serving.token_file).unwrap().trim().to_owned();
        let (stop, thread) = (Some(stop), Some(thread));
        Self { address: serving.address, data, admin, stop, thread }
    }

    /// Stops it, and waits until it has.
    pub(super) fn stop(mut self) {
        self.end().unwrap();
    }

    fn end(&mut self) -> Result<()> {
        drop(self.stop.take());
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }

    /// Returns the directory.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the token of the admin.
    pub(super) fn admin(&self) -> &str {
        &self.admin
    }

    /// Begins a request of HTTP/1.0, whose answer ends with the connection.
    pub(super) fn open(&self, head: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        let text = format!("{head} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        // A server that has said no does not take the rest.
        let _ = stream.write_all(body);
        stream
    }

    /// Makes a request with a token and a body of a content type.
    pub(super) fn ask(&self, token: &str, head: &str, kind: &str, body: &str) -> Answered {
        let headers = format!("Authorization: Bearer {token}\r\nContent-Type: {kind}\r\n");
        Answered::read(self.open(head, &headers, body.as_bytes()))
    }

    /// Makes a request as the admin.
    pub(super) fn admin_asks(&self, head: &str, body: &Value) -> Answered {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(&self.admin, head, "application/json", &text)
    }

    /// Reads something as the admin.
    pub(super) fn get(&self, path: &str) -> Answered {
        self.admin_asks(&format!("GET {path}"), &Value::Null)
    }

    /// Puts a document in, where its namespace and kind say.
    pub(super) fn create(&self, path: &str, document: &Value) -> Value {
        let answer = self.admin_asks(&format!("POST {path}"), document);
        assert_eq!(answer.code, 201, "{}", answer.body);
        answer.json()
    }

    /// Waits for the first job to be as it should, and returns it.
    pub(super) fn job_that(&self, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let jobs = self.get("/v1/jobs").json();
            let found = jobs["items"].get(0).cloned().unwrap_or_default();
            if is(&found) {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{jobs}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Makes a token.
    pub(super) fn token(&self, name: &str, role: &str, namespaces: &[&str]) -> String {
        let all = namespaces.is_empty();
        let wanted =
            json!({ "name": name, "role": role, "namespaces": namespaces, "allNamespaces": all });
        let made = self.create("/v1/tokens", &wanted);
        made["token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

impl Answered {
    /// Reads an answer to its end.
    pub(super) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{read:?} {text}"));
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        Self { code, head: head.to_owned(), body: body.to_owned() }
    }

    /// Returns the body as JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Returns an image that waits for its upload.
pub(super) fn image(name: &str) -> Value {
    json!({
        "apiVersion": "longhorn.io/v1beta2",
        "kind": "BackingImage",
        "metadata": { "name": name },
        "spec": { "sourceType": "upload", "sourceParameters": {} },
    })
}

/// Returns a class of storage: nothing follows from one, so that nobody else changes it.
pub(super) fn class(name: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": { "name": name },
        "provisioner": "driver.longhorn.io",
        "parameters": { "numberOfReplicas": "1" },
    })
}

/// Returns a volume of 1 GiB.
pub(super) fn volume(name: &str) -> Value {
    json!({
        "apiVersion": "longhorn.io/v1beta2",
        "kind": "Volume",
        "metadata": { "name": name },
        "spec": { "size": "1073741824", "numberOfReplicas": 1, "frontend": "blockdev" },
    })
}

/// Returns a Secret with a key for volumes.
pub(super) fn secret(name: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name },
        "stringData": { "CRYPTO_KEY_VALUE": value, "CRYPTO_KEY_PROVIDER": "secret" },
    })
}

/// Where the classes of storage are.
pub(super) const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";

/// Where the images of a namespace are.
pub(super) const IMAGES: &str = "/apis/longhorn.io/v1beta2/namespaces/lab/backingimages";

/// Where the volumes of a namespace are.
pub(super) const VOLUMES: &str = "/apis/longhorn.io/v1beta2/namespaces/lab/volumes";

/// Where the Secrets of a namespace are.
pub(super) const SECRETS: &str = "/api/v1/namespaces/lab/secrets";
