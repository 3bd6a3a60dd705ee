use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use strongroom_testkit::{run, skip, wait};

use super::server::{Server, settings};
use crate::settings::TlsFiles;

/// A `kubectl` that keeps what it remembers in a folder of its own.
struct Kubectl<'a> {
    server: &'a Server,
    home: &'a Path,
}

impl Kubectl<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.env("HOME", self.home).env_remove("KUBECONFIG");
        command.arg("--kubeconfig").arg(self.server.data().join("kubeconfig"));
        command.args(["--request-timeout", "30s", "-n", "lab"]).args(arguments);
        command
    }

    fn ok(&self, arguments: &[&str]) -> String {
        self.with(arguments, "")
    }

    fn with(&self, arguments: &[&str], stdin: &str) -> String {
        let outcome = run(self.command(arguments), stdin.as_bytes()).success();
        let outcome = outcome.unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"));
        outcome.ok()
    }

    fn fails(&self, arguments: &[&str]) -> String {
        run(self.command(arguments), b"").fails(1)
    }
}

impl Kubectl<'_> {
    /// Waits until a field of a document has a value. Older versions of kubectl cannot wait for that.
    fn until(&self, document: &[&str], field: &str, value: &str) {
        let output = format!("jsonpath={field}");
        let words = [&["get"], document, &["-o", &output]].concat();
        let begun = Instant::now();
        while self.ok(&words) != value {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{document:?}: {field} is not {value}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn is_there(test: &str) -> bool {
    let found = Command::new("kubectl").args(["version", "--client"]).output().is_ok();
    if !found {
        skip(test, "kubectl is not installed");
    }
    found
}

#[test]
fn kubectl_applies_changes_watches_waits_and_deletes() {
    if !is_there("kubectl_applies_changes_watches_waits_and_deletes") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let kubectl = Kubectl { server: &server, home: home.path() };

    let first = kubectl.with(&["apply", "-f", "-"], DOCUMENTS);
    assert_eq!(first.matches("created").count(), 5, "{first}");
    let second = kubectl.with(&["apply", "-f", "-"], DOCUMENTS);
    assert_eq!(second.matches("unchanged").count(), 4, "{second}");
    let mut watch = kubectl.command(&["get", "sc", "-w", "--no-headers"]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut until = |wanted: &str| {
        while !lines.next().unwrap().unwrap().contains(wanted) {}
    };
    until("slow");

    kubectl.ok(&["annotate", "pvc", "data", "note=one"]);
    kubectl.ok(&["patch", "pvc", "data", "-p", r#"{"metadata":{"labels":{"a":"b"}}}"#]);
    let labels = kubectl.ok(&["get", "pvc", "data", "-o", "jsonpath={.metadata.labels.a}"]);
    assert_eq!(labels, "b");
    kubectl.until(&["pvc", "data"], "{.status.phase}", "Bound");
    assert!(kubectl.ok(&["describe", "pvc", "data"]).contains("Bound"));
    kubectl.ok(&["label", "lhbi", "ubuntu", "tier=gold"]);
    kubectl.until(&["lhbi", "ubuntu"], "{.status.state}", "pending");
    assert!(kubectl.ok(&["get", "backingimages"]).contains("VIRTUALSIZE"));
    assert!(kubectl.ok(&["get", "lhbi", "-l", "tier=gold", "-o", "name"]).contains("ubuntu"));
    kubectl.ok(&["patch", "sc", "slow", "-p", r#"{"allowVolumeExpansion":true}"#]);
    until("true");

    kubectl.ok(&[
        "create",
        "secret",
        "generic",
        "other",
        "--from-literal=CRYPTO_KEY_VALUE=canary-b",
    ]);
    let secrets = kubectl.ok(&["get", "secrets", "-o", "yaml"]);
    assert!(secrets.contains("CRYPTO_KEY_VALUE") && !secrets.contains("canary"), "{secrets}");
    assert!(kubectl.fails(&["apply", "--server-side", "-f", "-"]).len() > 1);
    kubectl.ok(&["delete", "sc", "slow"]);
    until("slow");
    kubectl.ok(&["delete", "lhbi", "ubuntu"]);
    assert!(kubectl.fails(&["get", "lhbi", "ubuntu"]).contains("NotFound"));
    // The class is used by the claim, which therefore goes first.
    kubectl.ok(&["delete", "pvc", "data"]);
    kubectl.with(&["delete", "--ignore-not-found", "-f", "-"], DOCUMENTS);
    watch.kill().unwrap();
    assert!(wait(&mut watch, Duration::from_secs(10)).is_some());
}

#[test]
fn kubectl_comes_with_a_token_over_tls() {
    if !is_there("kubectl_comes_with_a_token_over_tls") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("server.pem"),
        key: folder.path().join("server.key"),
    };
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&files.certificate, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::with(settings(&folder.path().join("data"), Some(files.clone())));
    assert!(!server.data().join("kubeconfig").exists());
    let ask = |token: &str| {
        let mut command = Command::new("kubectl");
        command.env("HOME", folder.path()).env("KUBECONFIG", "/dev/null");
        command.arg(format!("--server=https://{}", server.address));
        command.arg(format!("--certificate-authority={}", files.certificate.display()));
        run(
            {
                command.args(["--token", token, "get", "sc"]);
                command
            },
            b"",
        )
    };
    assert!(ask(server.admin()).success().is_ok());
    assert!(ask("strongroom_nobody").success().is_err());
}

/// One document of each sort of patch, and one with values.
const DOCUMENTS: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {CRYPTO_KEY_VALUE: canary-a, CRYPTO_KEY_PROVIDER: secret}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: plain}
provisioner: driver.longhorn.io
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: slow}
provisioner: driver.longhorn.io
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: plain
  resources: {requests: {storage: 1Gi}}
---
apiVersion: longhorn.io/v1beta2
kind: BackingImage
metadata: {name: ubuntu}
spec: {sourceType: upload}
";
