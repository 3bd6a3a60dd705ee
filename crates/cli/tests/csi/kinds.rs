//! The kinds of volumes: parameters of their StorageClass, and the Secret for staging them.

use strongroom_csi::messages::Map;
use strongroom_testkit::{OpenBao, skip};

use crate::driver::map;

/// A kind of volume.
pub(crate) struct Kind {
    pub(crate) parameters: Map,
    pub(crate) secrets: Map,
    /// The KMS, which ends with this.
    pub(crate) bao: Option<OpenBao>,
}

/// A volume that is not encrypted.
pub(crate) fn plain() -> Kind {
    Kind { parameters: Map::new(), secrets: Map::new(), bao: None }
}

/// A volume of Longhorn's dialect.
pub(crate) fn passphrase() -> Kind {
    Kind {
        parameters: map(&[("encrypted", "true"), ("numberOfReplicas", "3")]),
        secrets: secret(PASSPHRASE),
        bao: None,
    }
}

/// A volume under a key of this machine.
pub(crate) fn local() -> Kind {
    let parameters = map(&[("encryptionEnabled", "true"), ("encryptionKMSType", "local")]);
    Kind { parameters, secrets: Map::new(), bao: None }
}

/// A volume of OSC's dialect; `None` where there is no OpenBao.
pub(crate) fn transit(test: &str) -> Option<Kind> {
    let Some((bao, token)) = OpenBao::for_driver("pvc-kek") else {
        skip(test, "OpenBao is not installed");
        return None;
    };
    let parameters = map(&[
        ("encryptionEnabled", "true"),
        ("encryptionKMSType", "transit"),
        ("encryptionKMSEndpoint", &bao.url()),
        ("encryptionKMSKeyID", "pvc-kek"),
    ]);
    Some(Kind { parameters, secrets: map(&[("token", &token)]), bao: Some(bao) })
}

/// Returns Longhorn's Secret with a passphrase and the cheapest derivation.
pub(crate) fn secret(passphrase: &str) -> Map {
    map(&[
        ("CRYPTO_KEY_VALUE", passphrase),
        ("CRYPTO_KEY_PROVIDER", "secret"),
        ("CRYPTO_PBKDF", "pbkdf2"),
        ("CRYPTO_PBKDF_FORCE_ITERATIONS", "1000"),
    ])
}

/// Stands nowhere but in a Secret.
pub(crate) const PASSPHRASE: &str = "canary-passphrase-77c1";
