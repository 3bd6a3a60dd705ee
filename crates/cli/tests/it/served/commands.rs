//! What the commands say and do, beside bringing documents about.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use strongroom_testkit::run;

use super::{Served, claim, class, secret};
use crate::secrecy::CANARY;

#[test]
fn a_misspelt_field_is_told_with_its_line_and_nothing_is_applied() {
    let served = Served::new();
    let documents = claim("disk", "nothing", "64Mi").replace("storageClassName", "storageClassNme");
    let refused = served.refused(&format!("{}{documents}", secret("lab", "key", CANARY)));
    assert!(refused.contains("standard input:10:"), "{refused}");
    assert!(refused.contains("spec.storageClassNme"), "{refused}");
    let missing = served.run("get secret key -n lab").fails(8);
    assert!(missing.contains("key"), "{missing}");
    served.place.write("documents.yaml", documents);
    let warned = served.run("apply -f documents.yaml --validate warn");
    assert!(warned.stderr.contains("spec.storageClassNme"), "{}", warned.describe());
    assert_eq!(warned.code, Some(0), "{}", warned.describe());
}

#[test]
fn what_is_there_is_shown_whatever_is_not() {
    let served = Served::new();
    served.applied(&class("encrypted", "key", ""));
    let shown = served.run("get sc encrypted nothing");
    assert_eq!(shown.code, Some(8), "{}", shown.describe());
    assert!(shown.stdout.contains("encrypted") && shown.stderr.contains("nothing"));
}

#[test]
fn a_token_lets_its_owner_do_what_its_role_allows_and_no_more() {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    served.run("token create watcher --role viewer -n lab --out watcher").ok();
    served.run("token create worker --role operator -n lab --out worker").ok();
    assert!(served.run("token list").ok().contains("worker"));
    let mode = served.place.path("worker").metadata().unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, Permissions::from_mode(0o600).mode());
    let by = |token: &str, words: &str| {
        let mut command = served.place.command(&format!("{words} --token-file {token}"));
        command.env("STRONGROOM_SERVER", &*served.url.borrow());
        run(command, b"")
    };
    by("watcher", "get pvc -n lab").ok();
    by("watcher", "get secrets -n lab").fails(12);
    by("watcher", "get pvc -n other").fails(12);
    served.place.write("claim.yaml", claim("disk", "encrypted", "64Mi"));
    by("watcher", "apply -f claim.yaml").fails(12);
    by("worker", "apply -f claim.yaml").ok();
    served.bound("lab", "disk");
    let stolen = "apiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {name: stolen, namespace: \
                  lab}\nspec: {sourceType: upload, sourceParameters: {}, secret: key, secretNamespace: \
                  other}\n";
    served.place.write("stolen.yaml", stolen);
    by("worker", "apply -f stolen.yaml");
    served.run("get backingimage stolen -n lab").fails(8);
    served.run("token delete worker").ok();
    by("worker", "get pvc -n lab").fails(12);
}

#[test]
fn the_volumes_of_a_server_are_those_of_the_pool_in_its_directory() {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    served.applied(&claim("disk", "encrypted", "64Mi"));
    let volume = served.bound("lab", "disk");
    let mut command = served.place.command("volume list");
    command.env("STRONGROOM_DATA", served.place.path("data")).env_remove("STRONGROOM_POOL");
    assert!(run(command, b"").ok().contains(&volume));
}
