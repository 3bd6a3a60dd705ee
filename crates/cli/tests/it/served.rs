//! The server as people run it: documents are applied, and what they ask for comes about.

mod commands;
mod concurrent;
mod examples;
mod exports;
mod images;
mod keys;
mod killed;
mod kubectl;
mod leaving;
mod secrets;
mod selecting;
mod transfers;
mod waiting;

use std::cell::RefCell;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strongroom_testkit::{Outcome, Pattern, Reply, Server, run, wait};

use crate::secrecy::holds_canary;
use crate::workplace::{Workplace, signal};

/// A server of a test's own, on the data directory `data`, with the passphrase files of
/// [`Workplace::with_canaries`]. When it is over, nothing that was said held a passphrase.
struct Served {
    place: Workplace,
    running: RefCell<Option<Child>>,
    url: RefCell<String>,
    said: RefCell<String>,
    /// What the server has written on stderr.
    logged: Arc<Mutex<String>>,
}

impl Served {
    fn new() -> Self {
        let served = Self {
            place: Workplace::with_canaries(),
            running: RefCell::default(),
            url: RefCell::default(),
            said: RefCell::default(),
            logged: Arc::default(),
        };
        served.start();
        served
    }

    /// Starts the server, and waits until it listens.
    fn start(&self) {
        let words = "serve --data data --listen 127.0.0.1:0 --allow-loopback-downloads";
        let mut child = self
            .place
            .command(words)
            .env("NO_PROXY", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let url = loop {
            let Some(line) = lines.next() else {
                panic!("the server ended: {:?}: {said}", child.wait());
            };
            let line = line.unwrap();
            if let Some(at) = line.find("http://127.0.0.1:") {
                let end =
                    line[at + 7..].find(|c: char| c != ':' && c != '.' && !c.is_ascii_digit());
                break line[at..end.map_or(line.len(), |end| at + 7 + end)].to_owned();
            }
            said.push_str(&line);
        };
        // Nobody waits for room in a pipe.
        let logged = Arc::clone(&self.logged);
        logged.lock().unwrap().push_str(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                logged.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        self.url.replace(url);
        self.running.replace(Some(child));
    }

    /// Ends it as it stands.
    fn kill(&self) {
        let mut child = self.running.take().unwrap();
        signal(&child, Signal::KILL);
        child.wait().unwrap();
    }

    /// Ends it as a system does that is shut down.
    fn stop(&self) {
        let mut child = self.running.take().unwrap();
        signal(&child, Signal::TERM);
        let status = wait(&mut child, Duration::from_secs(30)).expect("it does not stop");
        assert!(status.success(), "{status}");
    }

    /// Returns the program as a client of the server.
    fn client(&self, words: &str) -> Command {
        let mut command = self.place.command(words);
        command.env("STRONGROOM_SERVER", &*self.url.borrow());
        command.env("STRONGROOM_TOKEN_FILE", self.place.path("data/admin.token"));
        command.env("NO_PROXY", "127.0.0.1");
        command
    }

    /// Runs the program as a client of the server.
    fn run(&self, words: &str) -> Outcome {
        self.run_reading(words, b"")
    }

    fn run_reading(&self, words: &str, input: &[u8]) -> Outcome {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.run_words_reading(&words, input)
    }

    /// Runs the program with words that may have spaces in them.
    fn run_words(&self, words: &[&str]) -> Outcome {
        self.run_words_reading(words, b"")
    }

    fn run_words_reading(&self, words: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.client("");
        command.args(words);
        let outcome = run(command, input);
        self.said.borrow_mut().push_str(&format!("{}{}", outcome.stdout, outcome.stderr));
        outcome
    }

    /// Applies documents.
    fn apply(&self, documents: &str) -> Outcome {
        self.run_reading("apply -f -", documents.as_bytes())
    }

    /// Applies documents that are good.
    fn applied(&self, documents: &str) {
        self.apply(documents).ok();
    }

    /// Applies a document that is refused, and returns why.
    fn refused(&self, document: &str) -> String {
        let outcome = self.apply(document);
        assert!(outcome.code != Some(0), "{}", outcome.describe());
        outcome.stderr
    }

    fn json(&self, words: &str) -> Value {
        let text = self.run(&format!("get {words} -o json")).ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Waits until a document is as it should be.
    fn until(&self, words: &str, is: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let found = self.json(words);
            if is(&found) {
                return found;
            }
            if start.elapsed() > PATIENCE {
                let events = self.run("events -A").stdout;
                panic!("{words} stays {found:#}\n{events}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until an image is ready; fails at once when it has failed.
    fn image(&self, namespace: &str, name: &str) -> Value {
        self.until(&format!("backingimage {name} -n {namespace}"), |image| {
            let state = image["status"]["state"].as_str().unwrap_or_default();
            assert_ne!(state, "failed", "{image:#}");
            state == "ready"
        })
    }

    /// Waits until a claim is bound, and returns the identifier of its volume.
    fn bound(&self, namespace: &str, name: &str) -> String {
        let claim = self.until(&format!("pvc {name} -n {namespace}"), |claim| {
            claim["status"]["phase"] == "Bound"
        });
        claim["spec"]["volumeName"].as_str().unwrap().to_owned()
    }

    /// Saves the bytes of an image.
    fn download(&self, namespace: &str, name: &str, to: &str) {
        self.run(&format!("download backingimage/{name} {to} -n {namespace}")).ok();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() {
            assert!(!holds_canary(self.said.borrow().as_bytes()), "a passphrase was said");
            let logged = self.logged.lock().unwrap();
            assert!(!holds_canary(logged.as_bytes()), "a passphrase was logged");
        }
    }
}

/// Serves a file of the place as images are served elsewhere.
fn elsewhere(place: &Workplace, name: &str) -> Server {
    let bytes = Arc::new(place.read(name));
    let len = bytes.len() as u64;
    let content =
        move |range: std::ops::Range<u64>| bytes[range.start as usize..range.end as usize].to_vec();
    Server::serving(content, move |request| Reply::ranged(request, len, "\"one\""))
}

/// Returns a place with a server and the plain images `plain` and `plain.qcow2`, which are the same inside.
fn with_images() -> Served {
    let served = Served::new();
    served.place.image_of("plain", LEN, &Pattern::sparse(5, 65536));
    served.place.strongroom("image clone plain plain.qcow2").ok();
    served
}

/// Returns a Secret with the passphrase of a file, cheap to derive a key from.
fn secret(namespace: &str, name: &str, passphrase: &str) -> String {
    format!(
        "---\n{{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {{\"name\": \"{name}\", \
         \"namespace\": \"{namespace}\"}}, \"stringData\": {{\"CRYPTO_KEY_VALUE\": \"{passphrase}\", \
         \"CRYPTO_KEY_PROVIDER\": \"secret\", \"CRYPTO_PBKDF\": \"pbkdf2\", \
         \"CRYPTO_PBKDF_FORCE_ITERATIONS\": \"1000\"}}}}\n"
    )
}

/// Returns an image that is downloaded.
fn download(name: &str, url: &str) -> String {
    format!(
        "---\napiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {{name: {name}, \
         namespace: lab}}\nspec: {{sourceType: download, sourceParameters: {{url: '{url}'}}}}\n"
    )
}

/// Returns a clone of an image.
fn clone(name: &str, of: &str, encryption: &str, secret: &str) -> String {
    let secret = match secret {
        "" => String::new(),
        secret => format!(", secret: {secret}, secret-namespace: lab"),
    };
    format!(
        "---\napiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {{name: {name}, \
         namespace: lab}}\nspec: {{sourceType: clone, sourceParameters: {{backing-image: {of}, \
         encryption: {encryption}{secret}}}}}\n"
    )
}

/// Returns a class of encrypted volumes, all with one Secret.
fn class(name: &str, secret: &str, more: &str) -> String {
    let secrets: String = ["stage", "publish", "expand"]
        .map(|call| {
            format!(
                "  csi.storage.k8s.io/node-{call}-secret-name: {secret}\n  \
                 csi.storage.k8s.io/node-{call}-secret-namespace: lab\n"
            )
        })
        .concat();
    format!(
        "---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: {name}}}\n\
         provisioner: driver.longhorn.io\nallowVolumeExpansion: true\nparameters:\n  \
         encrypted: \"true\"\n{secrets}{more}"
    )
}

/// Returns a claim.
fn claim(name: &str, class: &str, size: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}, namespace: lab}}\n\
         spec:\n  accessModes: [ReadWriteOnce]\n  volumeMode: Block\n  storageClassName: {class}\n  \
         resources: {{requests: {{storage: {size}}}}}\n"
    )
}

/// The length of the plain images.
const LEN: u64 = 24 << 20;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
