//! Manifests with a StorageClass of OSC and the Secret with its credentials: bounded, never a
//! panic, no credential in errors or `Debug`; what was read is read the same from a manifest that
//! says no more.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use strongroom_model::dialect::osc::{CredentialsSecret, Encryption, StorageClass};
use strongroom_model::{KmsKind, KmsRequest};

fuzz_target!(|manifest: &[u8]| {
    match StorageClass::parse(manifest) {
        Ok(class) => {
            if let Encryption::Kms(request) = class.encryption() {
                let again = StorageClass::parse(canonical(request).as_bytes());
                assert_eq!(again.expect("it says what was read").encryption(), class.encryption());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let Ok(secret) = CredentialsSecret::parse(manifest) else {
        return;
    };
    let shown = format!("CredentialsSecret {{ name: {:?}, .. }}", secret.name());
    assert_eq!(format!("{secret:?}"), shown, "Debug shows nothing but the name");
    let Ok(parts) = secret.into_parts(KmsKind::Transit) else {
        return;
    };
    let token = parts.token.expect("a KMS of the kind transit needs it");
    let canonical = format!(
        r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"a"}},"data":{{"token":{:?}}}}}"#,
        STANDARD.encode(&token)
    );
    let again = CredentialsSecret::parse(canonical.as_bytes()).expect("it says what was read");
    let again = again.into_parts(KmsKind::Transit).expect("it has a token");
    assert!(again.token.is_some_and(|again| *again == *token), "the token is the exact bytes");
});

/// Returns a manifest with all that a request says.
fn canonical(request: &KmsRequest) -> String {
    let optional = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!(",{name:?}:{}", quoted(value))).unwrap_or_default()
    };
    format!(
        r#"{{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{{"name":"a"}},
        "parameters":{{"encryptionEnabled":"true","encryptionKMSType":"{}"{}{}{}{}}}}}"#,
        request.kind,
        optional("encryptionKMSEndpoint", &request.endpoints.first().cloned()),
        optional("encryptionKMSKeyID", &request.key_id),
        optional("encryptionKMSMount", &request.mount),
        optional("encryptionKMSNamespace", &request.namespace),
    )
}

/// Returns visible ASCII as a string of JSON.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
