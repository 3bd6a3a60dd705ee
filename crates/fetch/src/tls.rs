//! Whom to trust.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::Error;

/// Returns a configuration that trusts the system's certificates and those in `ca_file`.
///
/// # Errors
///
/// [`Error::CaFile`] when that file cannot be read or holds no certificate.
pub(crate) fn config(ca_file: Option<&Path>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    // A system without certificates, or with some that are odd, can still talk to whom the file
    // vouches for, and without TLS; everybody else is refused as unknown.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        add(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Setup { source: Arc::new(error) })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Returns what to do about a certificate that was refused.
pub(crate) fn advice(error: &CertificateError) -> &'static str {
    match error {
        // The signature is bad when an authority that is trusted has the name of the one that signed.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "none of the authorities that are trusted here has signed it; \
             give the CA file of the one that has"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name than that of the host"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet; is the clock right?"
        }
        _ => "it does not stand up to the checks",
    }
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    let refuse = |reason: String| Error::CaFile { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate =
            certificate.map_err(|error| refuse(format!("it is not a PEM file ({error})")))?;
        roots
            .add(certificate)
            .map_err(|error| refuse(format!("one of its certificates is of no use ({error})")))?;
        found = true;
    }
    if found { Ok(()) } else { Err(refuse("it holds no certificate in PEM form".to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(content: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        config(Some(file.path())).unwrap_err().to_string()
    }

    #[test]
    fn refuses_a_file_without_a_usable_certificate() {
        assert!(complaint(b"").ends_with("it holds no certificate in PEM form"));
        assert!(complaint(&[0x30, 0x82, 1, 2]).ends_with("it holds no certificate in PEM form"));
        let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(complaint(junk).contains("one of its certificates is of no use"));
        let missing = config(Some(Path::new("/nowhere/ca.pem"))).unwrap_err().to_string();
        assert!(missing.starts_with("cannot use the CA file /nowhere/ca.pem: "), "{missing}");
    }

    #[test]
    fn trusts_the_system_alone_without_a_file() {
        assert!(config(None).is_ok());
    }
}
