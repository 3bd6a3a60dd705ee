//! Manifests of Longhorn's encryption Secret: bounded, never a panic, no passphrase in `Debug`;
//! what was read is read the same from a manifest that says all of it.

#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use strongroom_model::EncryptionSettings;
use strongroom_model::dialect::longhorn::EncryptionSecret;

fuzz_target!(|manifest: &[u8]| {
    let secret = match EncryptionSecret::parse(manifest) {
        Ok(secret) => secret,
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.to_string().ends_with('.'));
            return;
        }
    };
    let (name, namespace) = (secret.name().to_owned(), secret.namespace().map(str::to_owned));
    let shown = format!("EncryptionSecret {{ name: {name:?}, namespace: {namespace:?}, .. }}");
    assert_eq!(format!("{secret:?}"), shown, "Debug shows nothing but the names");
    let (settings, passphrase) = secret.into_parts();
    assert!(!passphrase.is_empty(), "a Secret has a passphrase");
    let canonical = canonical(&name, &settings, &passphrase);
    let again = EncryptionSecret::parse(canonical.as_bytes()).expect("it says what was read");
    assert_eq!(again.name(), name);
    assert_eq!(again.settings(), &settings);
    assert_eq!(*again.into_parts().1, *passphrase, "the passphrase is the exact bytes");
});

/// Returns a manifest with every setting in it.
fn canonical(name: &str, settings: &EncryptionSettings, passphrase: &[u8]) -> String {
    let number = |number: Option<u32>| number.unwrap_or(0);
    format!(
        r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":{name:?}}},"data":{{"CRYPTO_KEY_VALUE":{:?}}},
        "stringData":{{"CRYPTO_KEY_CIPHER":{:?},"CRYPTO_KEY_HASH":{:?},"CRYPTO_KEY_SIZE":"{}","CRYPTO_PBKDF":{:?},
        "CRYPTO_PBKDF_MEMORY":"{}","CRYPTO_PBKDF_FORCE_ITERATIONS":"{}"}}}}"#,
        STANDARD.encode(passphrase),
        settings.cipher,
        settings.hash,
        settings.key_size_bits,
        settings.pbkdf.name(),
        number(settings.pbkdf_memory_kib),
        number(settings.pbkdf_iterations),
    )
}
