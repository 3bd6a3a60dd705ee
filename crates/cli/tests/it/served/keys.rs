//! Volumes whose data keys a KMS wraps, from claims.

use serde_json::Value;
use strongroom_testkit::{OpenBao, PyKmip, skip};

use super::claim;

#[test]
fn a_class_with_a_transit_server_makes_volumes_that_it_opens() {
    let test = "a_class_with_a_transit_server_makes_volumes_that_it_opens";
    let Some((server, token)) = OpenBao::for_driver("shoot-volumes") else {
        return skip(test, "OpenBao is not installed");
    };
    let credentials = [("token", token.as_str()), ("ca.crt", &server.authority().pem())];
    let url = server.tls_url();
    let options = format!(
        "--kms transit --kms-endpoint {url} --kms-key-id shoot-volumes --kms-ca-file ca.crt \
         --kms-token-file token"
    );
    opens_by(&class("transit", &url, "shoot-volumes"), &credentials, &options);
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
        ("tls.key", client.key),
    ];
    let credentials = credentials.each_ref().map(|(name, value)| (*name, value.as_str()));
    let endpoint = server.endpoint();
    let options = format!(
        "--kms kmip --kms-endpoint {endpoint} --kms-key-id {key} --kms-ca-file ca.crt \
         --kms-cert-file tls.crt --kms-key-file tls.key"
    );
    opens_by(&class("kmip", &endpoint, &key), &credentials, &options);
}

/// Applies a class with its credentials, an image and a claim that begins as the image, and looks whether the
/// volume has the image's contents under a data key of its own, which the server with `options` opens.
fn opens_by(class: &str, credentials: &[(&str, &str)], options: &str) {
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
    served.applied(&claim("disk", "kms", "24Mi"));
    let volume = served.bound("lab", "disk");
    let words = format!("volume report {volume} --pool data/pool --json");
    let report: Value = serde_json::from_str(&served.place.strongroom(&words).ok()).unwrap();
    assert_eq!(report["ledger"]["state"], "formatted", "{report:#}");
    assert_eq!(report["envelopes"].as_array().unwrap().len(), 1, "{report:#}");
    assert!(!report["recorded_envelope"].is_null(), "{report:#}");
    for (name, value) in credentials {
        served.place.write(name, value);
    }
    let data = format!("data/pool/volumes/{volume}/data --other-format luks2");
    served.place.strongroom(&format!("image compare plain {data} {options}")).ok();
    // An image has no place for the wrapped key, but whoever names the credentials has a decrypted one.
    served.applied(&format!(
        "apiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {{name: opened, namespace: lab}}\n\
         spec: {{sourceType: export-from-volume, sourceParameters: {{volume-name: {volume}, \
         export-type: raw, encryption: decrypt, secret: kms, secret-namespace: lab}}}}\n"
    ));
    served.image("lab", "opened");
    served.download("lab", "opened", "opened.img");
    served.place.strongroom("image compare plain opened.img").ok();
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
