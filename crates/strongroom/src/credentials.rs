//! From the values of a Secret to what a KMS asks for.

use strongroom_crypto::Token;
use strongroom_kms::Credentials;
use strongroom_model::dialect::osc::CredentialParts;
use zeroize::Zeroizing;

/// Returns the credentials that the values of a Secret are, without leaving a copy.
pub fn credentials(mut parts: CredentialParts) -> Credentials {
    Credentials {
        secret: parts.token.as_mut().map(|bytes| Token::new(take(bytes))),
        passphrase: None,
        authorities: parts.authorities.as_mut().map(take),
        certificate: parts.certificate.as_mut().map(take),
        private_key: parts.private_key.as_mut().map(|bytes| Token::new(take(bytes))),
    }
}

fn take(bytes: &mut Zeroizing<Vec<u8>>) -> Vec<u8> {
    std::mem::take(bytes)
}
