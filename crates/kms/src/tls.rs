//! Whom to trust, and who we are.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::{Credentials, Error, ErrorKind, Result};

/// Returns a configuration that shows the client certificate where there is one, and trusts the
/// authorities that were given, else those of the system.
///
/// # Errors
///
/// [`ErrorKind::Misconfigured`] when the certificates or the key cannot be used; `label` is what
/// errors call the KMS.
pub(crate) fn config(credentials: &Credentials, label: &str) -> Result<ClientConfig> {
    let wrong = |problem: &str| Error::new(ErrorKind::Misconfigured, label, problem);
    let mut roots = RootCertStore::empty();
    match &credentials.authorities {
        // Whoever names an authority wants no other.
        Some(pem) => {
            for certificate in certificates(pem, "CA certificate", label)? {
                roots.add(certificate).map_err(|error| {
                    wrong("one of the CA certificates is of no use").with_source(error)
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("TLS cannot be set up").with_source(error))?
        .with_root_certificates(roots);
    match (&credentials.certificate, &credentials.private_key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate, "client certificate", label)?;
            let key = PrivateKeyDer::from_pem_slice(key.expose_bytes())
                .map_err(|_| wrong("the client's key is not a private key in PEM form"))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                wrong("the client's certificate and key do not fit each other").with_source(error)
            })
        }
        (Some(_), None) => {
            Err(wrong("a client certificate needs its key").hinted("give it with --kms-key-file"))
        }
        (None, Some(_)) => {
            Err(wrong("a client key needs its certificate").hinted("give it with --kms-cert-file"))
        }
    }
}

/// Returns the certificates in a PEM file, at least one.
fn certificates(pem: &[u8], what: &str, label: &str) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |problem: String| Error::new(ErrorKind::Misconfigured, label, problem);
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found =
        found.map_err(|error| wrong(format!("the {what} is not a PEM file")).with_source(error))?;
    if found.is_empty() {
        return Err(wrong(format!("the {what} file holds no certificate in PEM form")));
    }
    Ok(found)
}
