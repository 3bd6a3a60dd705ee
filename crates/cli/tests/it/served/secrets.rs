//! What is secret stays so, and what needs a Secret waits for it.

use std::fs;
use std::path::Path;

use super::{Served, claim, class, clone, download, elsewhere, secret, with_images};
use crate::secrecy::{CANARY, NEW_CANARY, holds_canary};

#[test]
fn a_claim_waits_for_its_secret_and_goes_on_by_itself() {
    let served = Served::new();
    served.applied(
        &class("own", "${pvc.name}", "")
            .replace("namespace: lab\n", "namespace: ${pvc.namespace}\n"),
    );
    served.applied(&claim("ledger", "own", "64Mi"));
    served.until("events -n lab", |events| events.to_string().contains("lab/ledger"));
    assert_eq!(served.json("pvc ledger -n lab")["status"]["phase"], "Pending");
    served.applied(&secret("lab", "ledger", CANARY));
    served.bound("lab", "ledger");
}

#[test]
fn no_secret_is_anywhere() {
    let served = with_images();
    let source = elsewhere(&served.place, "plain");
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&secret("lab", "key", NEW_CANARY));
    served.applied(&download("raw", &source.url("/plain")));
    served.image("lab", "raw");
    served.applied(&clone("locked", "raw", "encrypt", "key"));
    served.image("lab", "locked");
    served.applied(&class("encrypted", "key", ""));
    served.applied(&claim("disk", "encrypted", "64Mi"));
    served.bound("lab", "disk");
    // Everything that can be asked for is also looked through when the place goes.
    for what in ["secret key -n lab", "backingimage locked -n lab", "pvc disk -n lab"] {
        served.json(what);
        served.run(&format!("describe {what}")).ok();
    }
    served.run("events -A").ok();
    served.run("jobs list").ok();
    let silent = |folder: &Path| {
        let mut folders = vec![folder.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                match entry.file_type().unwrap() {
                    kind if kind.is_dir() => folders.push(entry.path()),
                    kind if kind.is_file() => {
                        let bytes = fs::read(entry.path()).unwrap();
                        assert!(!holds_canary(&bytes), "{}", entry.path().display());
                    }
                    _ => {}
                }
            }
        }
    };
    silent(&served.place.path("data"));
    served.stop();
    let begun = std::time::Instant::now();
    // Every line is there a little after the process has ended.
    while !served.logged.lock().unwrap().contains(" info stopped") {
        assert!(begun.elapsed() < super::PATIENCE, "{}", served.logged.lock().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let logged = served.logged.lock().unwrap().clone();
    for line in [
        "info request method=POST path=/api/v1/namespaces/lab/secrets by=admin from=127.0.0.1",
        "info job begins",
        "task=clone-image about=\"backingimages.longhorn.io lab/locked\"",
        "info job is done",
        "info stopping",
    ] {
        assert!(logged.contains(line), "{line} is not in {logged}");
    }
    silent(&served.place.path("data"));
    served.place.strongroom("audit verify --data data").ok();
}

#[test]
fn an_audit_log_that_was_changed_is_known() {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    served.run("delete secret key -n lab").ok();
    served.stop();
    served.place.strongroom("audit verify --data data").ok();
    let log = String::from_utf8(served.place.read("data/audit.log")).unwrap();
    assert!(log.contains("secrets lab/key"), "{log}");
    served.place.write("data/audit.log", log.replacen("lab/key", "lab/kez", 1));
    let refused = served.place.strongroom("audit verify --data data");
    assert!(refused.code != Some(0) && refused.stderr.contains("line"), "{}", refused.describe());
}
