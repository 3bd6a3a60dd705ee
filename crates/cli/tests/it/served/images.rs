//! Images: fetched, sent, cloned, encrypted, decrypted, exported.

use serde_json::Value;
use sha2::{Digest, Sha512};

use super::{LEN, Served, claim, class, clone, download, elsewhere, secret, with_images};
use crate::secrecy::{CANARY, NEW_CANARY};

#[test]
fn a_clone_that_is_encrypted_and_decrypted_is_what_it_was() {
    let served = with_images();
    for (name, file) in [("raw", "plain"), ("qcow2", "plain.qcow2")] {
        let source = elsewhere(&served.place, file);
        served.applied(&secret("lab", &format!("{name}-key"), CANARY));
        served.applied(&download(name, &source.url(&format!("/{file}"))));
        let fetched = served.image("lab", name);
        assert_eq!(fetched["status"]["checksum"], checksum(&served, file));
        assert_eq!(fetched["status"]["virtualSize"], LEN);

        let key = format!("{name}-key");
        let (copy, locked) = (format!("{name}-copy"), format!("{name}-locked"));
        served.applied(&clone(&copy, name, "ignore", ""));
        served.applied(&clone(&locked, name, "encrypt", &key));
        assert_eq!(served.image("lab", &copy)["status"]["checksum"], fetched["status"]["checksum"]);
        let encrypted = served.image("lab", &locked);
        assert_eq!(encrypted["spec"]["secret"], key);
        assert_eq!(encrypted["spec"]["secretNamespace"], "lab");
        assert_eq!(encrypted["status"]["virtualSize"], LEN);

        served.applied(&clone(&format!("{name}-open"), &locked, "decrypt", &key));
        let open = served.image("lab", &format!("{name}-open"));
        assert_eq!(open["status"]["checksum"], checksum(&served, "plain"));
        assert_eq!(open["spec"]["secret"].as_str().unwrap_or_default(), "");

        served.download("lab", &locked, &locked);
        served.place.strongroom(&format!("image compare plain {locked} --passphrase-file pw")).ok();
        served.download("lab", &format!("{name}-open"), &format!("{name}.open"));
        served.place.same("plain", &format!("{name}.open")).unwrap();
    }
}

#[test]
fn what_upstream_accepts_and_cannot_do_is_refused_with_the_reason() {
    let served = with_images();
    let source = elsewhere(&served.place, "plain");
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&secret("lab", "other", NEW_CANARY));
    served.applied(&download("raw", &source.url("/plain")));
    served.image("lab", "raw");
    served.applied(&clone("locked", "raw", "encrypt", "key"));
    served.image("lab", "locked");

    let refused = served.refused(&clone("again", "locked", "encrypt", "key"));
    assert!(refused.contains("already encrypted"), "{refused}");
    let refused = served.refused(&clone("again", "raw", "decrypt", "key"));
    assert!(refused.contains("decrypt"), "{refused}");
    let refused = served.refused(&clone("again", "locked", "decrypt", "other"));
    assert!(refused.contains("lab/key") && refused.contains("lab/other"), "{refused}");
    let refused = served.refused(&clone("again", "raw", "encrypt", "missing"));
    assert!(refused.contains("missing"), "{refused}");
    let refused = served.refused(&clone("again", "nothing", "ignore", ""));
    assert!(refused.contains("nothing"), "{refused}");
    let refused = served.refused(&clone("again", "raw", "sideways", ""));
    assert!(refused.contains("sideways"), "{refused}");
    let refused = served.refused(&secret("lab", "poor", "").replace("pbkdf2", "md5"));
    assert!(refused.contains("CRYPTO_"), "{refused}");

    let refused = served.run("delete secret key -n lab");
    assert!(refused.code != Some(0) && refused.stderr.contains("locked"), "{}", refused.describe());
    served.run("delete backingimage locked -n lab").ok();
    served.run("delete secret key -n lab").ok();
}

#[test]
fn an_encrypted_image_is_sent_and_used() {
    let served = with_images();
    served
        .place
        .strongroom(
            "image encrypt plain locked --passphrase-file pw --pbkdf pbkdf2 \
                             --pbkdf-iterations 1000",
        )
        .ok();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(
        "apiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {name: sent, namespace: lab}\n\
         spec: {sourceType: upload, sourceParameters: {}, secret: key, secretNamespace: lab}\n",
    );
    served.run("upload backingimage/sent locked -n lab").ok();
    let sent = served.image("lab", "sent");
    assert_eq!(sent["status"]["checksum"], checksum(&served, "locked"));
    assert_eq!(sent["status"]["virtualSize"], LEN);
    served.applied(&clone("open", "sent", "decrypt", "key"));
    assert_eq!(served.image("lab", "open")["status"]["checksum"], checksum(&served, "plain"));

    served.applied(&class("of-sent", "key", "  backingImage: sent\n"));
    served.applied(&claim("disk", "of-sent", "64Mi"));
    let volume = served.bound("lab", "disk");
    let report =
        served.place.strongroom(&format!("volume report {volume} --pool data/pool --json"));
    let report: Value = serde_json::from_str(&report.ok()).unwrap();
    assert!(report.to_string().contains("aes-xts-plain64"), "{report:#}");
}

#[test]
fn a_volume_becomes_an_image_and_the_image_a_volume() {
    let served = with_images();
    let source = elsewhere(&served.place, "plain.qcow2");
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&download("qcow2", &source.url("/plain.qcow2")));
    served.image("lab", "qcow2");
    served.applied(&clone("locked", "qcow2", "encrypt", "key"));
    served.image("lab", "locked");
    served.applied(&class("of-locked", "key", "  backingImage: locked\n"));
    served.applied(&claim("disk", "of-locked", "24Mi"));
    let volume = served.bound("lab", "disk");
    served.applied(&format!(
        "apiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {{name: exported, namespace: \
         lab}}\nspec: {{sourceType: export-from-volume, sourceParameters: {{volume-name: {volume}, \
         export-type: raw}}}}\n"
    ));
    let exported = served.image("lab", "exported");
    assert_eq!(exported["spec"]["secret"], "key", "{exported:#}");
    served.download("lab", "exported", "exported");
    served.place.strongroom("image compare plain exported --passphrase-file pw").ok();
}

#[test]
fn harvesters_images_are_encrypted_decrypted_and_used() {
    let served = with_images();
    let source = elsewhere(&served.place, "plain.qcow2");
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encryption", "key", ""));
    let image = |name: &str, more: &str| {
        format!(
            "apiVersion: harvesterhci.io/v1beta1\nkind: VirtualMachineImage\nmetadata: {{name: {name}, \
             namespace: lab, annotations: {{harvesterhci.io/storageClassName: {class}}}}}\nspec:\n  \
             displayName: {name}\n{more}",
            class = if name == "locked" { "encryption" } else { "''" },
        )
    };
    let imported = |name: &str| {
        served.until(&format!("vmimage {name} -n lab"), |image| image["status"]["progress"] == 100)
    };
    let url = source.url("/plain.qcow2");
    served.applied(&image("lab", &format!("  sourceType: download\n  url: {url}\n")));
    imported("lab");
    let parameters = |operation: &str, of: &str| {
        format!(
            "  sourceType: clone\n  securityParameters: {{cryptoOperation: {operation}, \
             sourceImageName: {of}, sourceImageNamespace: lab}}\n"
        )
    };
    served.applied(&image("locked", &parameters("encrypt", "lab")));
    let locked = imported("locked");
    served.applied(&image("open", &parameters("decrypt", "locked")));
    let open = imported("open");
    let refused = served.refused(&image("twice", &parameters("encrypt", "locked")));
    assert!(refused.contains("already encrypted"), "{refused}");

    for (image, name) in [(&locked, "locked-disk"), (&open, "open-disk")] {
        let class = image["status"]["storageClassName"].as_str().unwrap();
        served.applied(&claim(name, class, "24Mi"));
        served.bound("lab", name);
    }
    served.applied(
        "apiVersion: kubevirt.io/v1\nkind: VirtualMachine\nmetadata: {name: machine, namespace: lab}\n\
         spec: {template: {spec: {volumes: [{name: a, persistentVolumeClaim: {claimName: locked-disk}}, \
         {name: b, persistentVolumeClaim: {claimName: open-disk}}]}}}\n",
    );
    served.until("vm machine -n lab", |machine| machine.to_string().contains("\"some\""));
}

fn checksum(served: &Served, file: &str) -> String {
    Sha512::digest(served.place.read(file)).iter().map(|byte| format!("{byte:02x}")).collect()
}
