//! From what people say to a provider.

use strongroom_crypto::{Passphrase, Token, leaving_no_trace};
use strongroom_model::{KmsKind, KmsRequest};

use crate::breaker::Guarded;
use crate::kek::Provider;
#[cfg(feature = "pkcs11")]
use crate::pkcs11;
use crate::{KeyProvider, Limits, Result, kmip, local, passphrase, transit};

/// What proves to a KMS who we are, and to us who it is.
#[derive(Debug, Default)]
pub struct Credentials {
    /// A token, the secret of an AppRole, a service account's web token, or the PIN of a module:
    /// whatever the login asks for. The exact bytes.
    pub secret: Option<Token>,
    /// The passphrase of the kind that has one.
    pub passphrase: Option<Passphrase>,
    /// The certificates of authorities that may vouch for the server, in PEM form.
    pub authorities: Option<Vec<u8>>,
    /// The client's certificate with its chain, in PEM form.
    pub certificate: Option<Vec<u8>>,
    /// The key of that certificate, in PEM form.
    pub private_key: Option<Token>,
}

/// Returns the provider that a request means.
///
/// # Errors
///
/// [`Misconfigured`](crate::ErrorKind::Misconfigured) when something is missing or does not fit; nobody is talked to yet,
/// unless logging in has to come first.
pub fn open(request: &KmsRequest, credentials: Credentials) -> Result<Box<dyn KeyProvider>> {
    open_within(request, credentials, &Limits::default())
}

/// Returns the provider that a request means, which keeps to these limits.
///
/// # Errors
///
/// Those of [`open`].
pub fn open_within(
    request: &KmsRequest,
    credentials: Credentials,
    limits: &Limits,
) -> Result<Box<dyn KeyProvider>> {
    leaving_no_trace(|| open_kind(request, credentials, limits))
}

fn open_kind(
    request: &KmsRequest,
    credentials: Credentials,
    limits: &Limits,
) -> Result<Box<dyn KeyProvider>> {
    match request.kind {
        KmsKind::Passphrase => passphrase::open(request, credentials, limits),
        KmsKind::Local => local::open(request),
        #[cfg(feature = "pkcs11")]
        KmsKind::Pkcs11 => pkcs11::open(request, credentials),
        #[cfg(not(feature = "pkcs11"))]
        KmsKind::Pkcs11 => {
            let problem = "this build lacks security modules";
            Err(crate::Error::new(crate::ErrorKind::Misconfigured, "pkcs11", problem)
                .hinted("build it with the cargo feature pkcs11"))
        }
        KmsKind::Kmip => kmip::open(request, &credentials, limits),
        KmsKind::Transit => {
            let kek = transit::open(request, credentials, limits)?;
            Ok(Box::new(Provider::new(Guarded::new(kek, limits))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_needs_a_build_that_can_and_an_endpoint() {
        let request = KmsRequest::new(KmsKind::Pkcs11);
        let error = open(&request, Credentials::default()).unwrap_err();
        let expected = match cfg!(feature = "pkcs11") {
            true => "pkcs11: one endpoint is needed, a pkcs11: URI",
            false => "pkcs11: this build lacks security modules",
        };
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.kind(), crate::ErrorKind::Misconfigured);
    }
}
