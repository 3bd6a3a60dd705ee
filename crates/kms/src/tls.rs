//! Whom to trust, and who we are.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

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
    let roots = roots(credentials, label)?;
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

/// Returns the same configuration for servers whose certificates are for `name`, whatever they are
/// called where they are.
///
/// # Errors
///
/// Those of [`config`], and [`ErrorKind::Misconfigured`] when it is no name of a server.
pub(crate) fn config_for(
    credentials: &Credentials,
    name: Option<&str>,
    label: &str,
) -> Result<ClientConfig> {
    let mut config = config(credentials, label)?;
    let Some(name) = name else { return Ok(config) };
    let wrong = |problem: String| Error::new(ErrorKind::Misconfigured, label, problem);
    let name = ServerName::try_from(name.to_owned()).map_err(|error| {
        wrong(format!("{name:?} is no name of a server"))
            .with_source(error)
            .hinted("look at --kms-server-name")
    })?;
    let provider = Arc::clone(config.crypto_provider());
    let roots = Arc::new(roots(credentials, label)?);
    let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| wrong("TLS cannot be set up".to_owned()).with_source(error))?;
    config.dangerous().set_certificate_verifier(Arc::new(Named { inner, name }));
    Ok(config)
}

/// Checks certificates as usual, but for a name of its own.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        self.inner.verify_server_cert(certificate, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Returns who may vouch for a server.
fn roots(credentials: &Credentials, label: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &credentials.authorities {
        // Whoever names an authority wants no other.
        Some(pem) => {
            for certificate in certificates(pem, "CA certificate", label)? {
                roots.add(certificate).map_err(|error| {
                    let problem = "one of the CA certificates is of no use";
                    Error::new(ErrorKind::Misconfigured, label, problem).with_source(error)
                })?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
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
