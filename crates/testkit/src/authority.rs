//! Certificates for servers of tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;

/// An authority that signs certificates for one test.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Goes with the authority.
    _directory: TempDir,
    ca_file: PathBuf,
}

impl Authority {
    /// Returns a new authority, which nobody trusts yet.
    ///
    /// # Panics
    ///
    /// When there is no place for its file.
    #[allow(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        let mut params = params(Vec::new());
        // A certificate whose issuer has its own name passes for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("nothing is missing in it");
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, issuer.pem()).expect("there is room for a certificate");
        Self { issuer, _directory: directory, ca_file }
    }

    /// Returns the PEM file with the authority's certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    /// Returns the configuration of a server that this authority vouches for.
    pub fn server(&self, name: &str) -> ServerConfig {
        self.sign(&params(vec![name.to_owned()]))
    }

    /// Returns the configuration of a server for which this authority vouched years ago.
    pub fn expired(&self, name: &str) -> ServerConfig {
        let mut params = params(vec![name.to_owned()]);
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        self.sign(&params)
    }

    /// Returns a server's certificate and its key, in PEM form.
    pub fn server_pem(&self, name: &str) -> (String, String) {
        self.sign_pem(&params(vec![name.to_owned()]))
    }

    /// Returns a client's certificate and its key, in PEM form.
    pub fn client_pem(&self, name: &str) -> (String, String) {
        self.sign_pem(&client_params(name))
    }

    /// Returns a client's certificate that runs out at some time, and its key, in PEM form.
    pub fn client_pem_until(&self, name: &str, end: SystemTime) -> (String, String) {
        let mut params = client_params(name);
        params.not_after = end.into();
        self.sign_pem(&params)
    }

    /// Returns the authority's certificate in PEM form.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Returns the configuration of a client that trusts this authority alone.
    pub fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is a certificate");
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for them")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    fn sign_pem(&self, params: &CertificateParams) -> (String, String) {
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("the issuer has its key");
        (certificate.pem(), key.serialize_pem())
    }

    fn sign(&self, params: &CertificateParams) -> ServerConfig {
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).expect("the issuer has its key");
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has ciphers for them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key belongs to the certificate")
    }
}

fn client_params(name: &str) -> CertificateParams {
    let mut params = params(vec![name.to_owned()]);
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn params(names: Vec<String>) -> CertificateParams {
    CertificateParams::new(names).expect("names of tests are names")
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the provider makes keys")
}
