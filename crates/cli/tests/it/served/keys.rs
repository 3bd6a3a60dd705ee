//! Volumes whose data keys a KMS wraps, from claims.

use serde_json::Value;
use strongroom_testkit::{OpenBao, PyKmip, skip};

use super::{Served, claim};

#[test]
fn a_class_with_a_transit_server_makes_volumes_that_it_opens() {
    let test = "a_class_with_a_transit_server_makes_volumes_that_it_opens";
    let Some((server, token)) = OpenBao::for_driver("shoot-volumes") else {
        return skip(test, "OpenBao is not installed");
    };
    let credentials = [("token", token.as_str()), ("ca.crt", &server.authority().pem())];
    opens_by(&class("transit", &server.tls_url(), "shoot-volumes"), &credentials);
}

#[test]
fn a_class_with_a_kmip_server_makes_volumes_that_it_opens() {
    let test = "a_class_with_a_kmip_server_makes_volumes_that_it_opens";
    let Some(server) = PyKmip::start() else { return skip(test, "PyKMIP is not installed") };
    let client = server.client("driver");
    let key = server.create_key(&client, "shoot-volumes");
    let credentials = [
        ("ca.crt", server.authority().pem()),
        ("tls.crt", client.certificate.clone()),
        ("tls.key", client.key.clone()),
    ];
    let credentials = credentials.each_ref().map(|(name, value)| (*name, value.as_str()));
    opens_by(&class("kmip", &server.endpoint(), &key), &credentials);
}

/// Applies a class with its credentials, an image and a claim that begins as the image, and looks whether the
/// volume has the image's contents under a data key of its own.
fn opens_by(class: &str, credentials: &[(&str, &str)]) {
    let served = super::with_images();
    let source = super::elsewhere(&served.place, "plain");
    served.applied(&super::download("base", &source.url("/plain")));
    served.image("lab", "base");
    let values: serde_json::Map<String, Value> =
        credentials.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "kms", "namespace": "lab"}, "stringData": values,
    });
    served.applied(&secret.to_string());
    served.applied(class);
    served.applied(&claim("disk", "kms", "32Mi"));
    let volume = served.bound("lab", "disk");
    assert_managed(&served, &volume);
    let (name, _) = ("disk", volume);
    served.applied(&format!(
        "apiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {{name: exported, namespace: lab}}\n\
         spec: {{sourceType: export-from-volume, sourceParameters: {{volume-name: {}, export-type: raw}}}}\n",
        served.json(&format!("pvc {name} -n lab"))["spec"]["volumeName"].as_str().unwrap()
    ));
    served.image("lab", "exported");
}

fn assert_managed(served: &Served, volume: &str) {
    let words = format!("volume report {volume} --pool data/pool --json");
    let report: Value = serde_json::from_str(&served.place.strongroom(&words).ok()).unwrap();
    assert!(report.to_string().contains("strongroom-kms"), "{report:#}");
}

fn class(kind: &str, endpoint: &str, key: &str) -> String {
    format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: kms}}\n\
         provisioner: csi.onmetal.de\nallowVolumeExpansion: true\nparameters:\n  \
         backingImage: base\n  encryptionEnabled: \"true\"\n  encryptionKMSType: {kind}\n  \
         encryptionKMSEndpoint: {endpoint}\n  encryptionKMSKeyID: \"{key}\"\n  \
         csi.storage.k8s.io/node-stage-secret-name: kms\n  \
         csi.storage.k8s.io/node-stage-secret-namespace: lab\n  \
         csi.storage.k8s.io/node-expand-secret-name: kms\n  \
         csi.storage.k8s.io/node-expand-secret-namespace: lab\n"
    )
}
