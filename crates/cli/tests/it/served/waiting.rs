//! What is waited for, and what does not come any more.

use std::time::Instant;

use super::{PATIENCE, Served, claim, class, download, elsewhere, secret, with_images};
use crate::secrecy::CANARY;

#[test]
fn waiting_ends_with_the_reason_when_an_image_has_failed() {
    let served = with_images();
    let source = elsewhere(&served.place, "plain");
    let wrong = "0".repeat(128);
    let image = download("broken", &source.url("/plain"));
    served.applied(&image.replace("spec: {", &format!("spec: {{checksum: '{wrong}', ")));
    let began = Instant::now();
    for condition in ["state=ready", "jsonpath={.status.state}=ready"] {
        let words = format!("wait backingimage/broken -n lab --timeout 10m --for {condition}");
        let told = served.run(&words).fails(4);
        assert!(told.contains("backingimage.longhorn.io/broken has failed: "), "{told}");
        assert!(told.contains("checksum"), "{told}");
        assert!(
            told.contains("strongroom describe backingimage.longhorn.io/broken -n lab"),
            "{told}"
        );
    }
    served.run("wait backingimage/broken -n lab --for state=failed").ok();
    served.applied(&format!(
        "apiVersion: harvesterhci.io/v1beta1\nkind: VirtualMachineImage\nmetadata: {{name: broken, \
         namespace: lab}}\nspec: {{displayName: broken, sourceType: download, retry: 0, checksum: \
         '{wrong}', url: '{}'}}\n",
        source.url("/plain")
    ));
    let told = served.run("wait vmimage broken -n lab --for state=ready --timeout 10m").fails(4);
    assert!(told.contains("broken has failed: ") && told.contains("checksum"), "{told}");
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn images_of_harvester_are_waited_for_in_kubectls_words() {
    let served = with_images();
    let source = elsewhere(&served.place, "plain");
    served.applied(&format!(
        "apiVersion: harvesterhci.io/v1beta1\nkind: VirtualMachineImage\nmetadata: {{name: lab, \
         namespace: lab}}\nspec: {{displayName: lab, sourceType: download, url: '{}'}}\n",
        source.url("/plain")
    ));
    for condition in [
        "state=ready",
        "condition=Imported",
        "condition=imported=true",
        "jsonpath={.status.conditions[?(@.type==\"Imported\")].status}=True",
        "jsonpath={.status.progress}=100",
    ] {
        served.run(&format!("wait vmimage/lab -n lab --for={condition} --timeout=2m")).ok();
    }
    served.run("wait vmimage --all -n lab --for=state=ready --timeout=2m").ok();
}

#[test]
fn waiting_ends_with_the_reason_when_a_volume_cannot_be_made() {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    served
        .applied(&class("plain", "key", "").replace("encrypted: \"true\"", "encrypted: \"false\""));
    // It cannot be refused at once, since nobody knows yet what its source is like.
    let source = "spec:\n  dataSource: {kind: PersistentVolumeClaim, name: disk}\n";
    served.applied(&claim("copy", "encrypted", "64Mi").replace("spec:\n", source));
    served.applied(&claim("disk", "plain", "64Mi"));
    served.run("wait pvc/disk -n lab --for state=bound").ok();
    let told = served.run("wait pvc/copy -n lab --for state=bound --timeout 10m").fails(4);
    assert!(told.contains("persistentvolumeclaim/copy has failed: "), "{told}");
    assert!(told.contains("not encrypted"), "{told}");
}

#[test]
fn what_cannot_be_waited_for_is_told_with_what_can() {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    served.applied(&claim("disk", "missing", "64Mi"));
    for (words, told) in [
        ("pvc/disk -n lab --for ready", "state=STATE, condition=TYPE[=STATUS], jsonpath={PATH}"),
        ("pvc/disk -n lab --for state=ready", "its states are Pending, Bound, Lost"),
        ("sc/encrypted --for state=ready", "a StorageClass has no state"),
        ("pvc -n lab --for state=bound", "no PersistentVolumeClaim is named"),
        ("pvc disk -l a=b -n lab --for state=bound", "leave out the name, or -l"),
    ] {
        let said = served.run(&format!("wait {words}")).fails(2);
        assert!(said.contains(told), "{said}");
    }
    served.run("wait pvc/nobody -n lab --for state=bound").fails(8);
    served.run("wait pvc -l a=b -n lab --for state=bound").fails(8);
    served.run("wait pvc -l a=b -n lab --for delete").ok();
    // It waits for its class, which may come.
    let told = served.run("wait pvc/disk -n lab --for state=bound --timeout 1s").fails(1);
    assert!(told.contains("its state is Pending (") && told.contains("missing"), "{told}");
}
