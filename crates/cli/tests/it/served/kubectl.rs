//! `kubectl`, unmodified, against the server.

use std::process::Command;

use strongroom_testkit::{Outcome, run, skip};

use super::{Served, claim, class, clone, download, elsewhere, secret, with_images};
use crate::secrecy::CANARY;

#[test]
fn kubectl_applies_waits_patches_and_deletes() {
    let test = "kubectl_applies_waits_patches_and_deletes";
    if Command::new("kubectl").arg("help").output().is_err() {
        return skip(test, "kubectl is not installed");
    }
    let served = with_images();
    let source = elsewhere(&served.place, "plain.qcow2");
    let documents = [
        secret("lab", "key", CANARY),
        class("encrypted", "key", ""),
        download("base", &source.url("/plain.qcow2")),
        claim("disk", "encrypted", "64Mi"),
    ];
    served.place.write("documents.yaml", documents.concat());
    kubectl(&served, "apply -f documents.yaml").ok();
    assert!(kubectl(&served, "apply -f documents.yaml").ok().contains("unchanged"));
    let wait = "wait --for=condition=Ready --timeout=120s -n lab";
    kubectl(&served, &format!("{wait} backingimages.longhorn.io/base")).ok();
    served.place.write("clone.yaml", clone("locked", "base", "encrypt", "key"));
    kubectl(&served, "create -f clone.yaml").ok();
    kubectl(&served, &format!("{wait} lhbi/locked")).ok();
    let table = kubectl(&served, "get lhbi -n lab").ok();
    assert!(table.contains("locked") && table.contains("NAME"), "{table}");
    served.bound("lab", "disk");
    let patch = "{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"96Mi\"}}}}";
    kubectl(&served, &format!("patch pvc disk -n lab --type=merge -p {patch}")).ok();
    served.until("pvc disk -n lab", |claim| claim["status"]["capacity"]["storage"] == "96Mi");
    let watched = kubectl(&served, "get pvc disk -n lab -w --request-timeout=2s");
    assert!(watched.stdout.contains("disk"), "{}", watched.describe());
    let again = kubectl(&served, "create -f clone.yaml");
    assert!(again.stderr.contains("already exists"), "{}", again.describe());
    let refused = kubectl(&served, "delete secret key -n lab");
    assert!(refused.code != Some(0) && refused.stderr.contains("locked"), "{}", refused.describe());
    kubectl(&served, "delete pvc disk -n lab --timeout=60s").ok();
    kubectl(&served, "delete lhbi --all -n lab --timeout=60s").ok();
    kubectl(&served, "delete storageclass encrypted").ok();
    kubectl(&served, "delete -f documents.yaml --ignore-not-found --timeout=60s").ok();
}

fn kubectl(served: &Served, words: &str) -> Outcome {
    let mut command = Command::new("kubectl");
    command.args(words.split_whitespace()).current_dir(served.place.path("."));
    command
        .env("KUBECONFIG", served.place.path("data/kubeconfig"))
        .env("HOME", served.place.path("."));
    command.env("NO_PROXY", "127.0.0.1");
    let outcome = run(command, b"");
    served.said.borrow_mut().push_str(&outcome.stdout);
    outcome
}
