//! KMIP, against PyKMIP.

mod faults;
mod keys;
mod protocol;
mod tls;

use strongroom_crypto::{DataKey, Token};
use strongroom_kms::{Binding, Credentials, Error, KeyProvider, open};
use strongroom_model::{KmsKind, KmsRequest};
use strongroom_testkit::{KmipClient, PyKmip, skip};

/// A server with an active key that a client of the name `tester` owns.
struct Place {
    server: PyKmip,
    client: KmipClient,
    /// The identifier of the key whose name is `kek`.
    id: String,
}

impl Place {
    /// Returns a place, unless the machine has no such server; `test` is skipped then.
    fn new(test: &str) -> Option<Self> {
        Self::speaking(test, &[])
    }

    fn speaking(test: &str, versions: &[(u32, u32)]) -> Option<Self> {
        let Some(server) = PyKmip::speaking(versions) else {
            skip(test, "pykmip-server is missing: scripts/install-test-servers installs it");
            return None;
        };
        let client = server.client("tester");
        let id = server.create_key(&client, "kek");
        Some(Self { server, client, id })
    }

    fn request(&self, key: &str) -> KmsRequest {
        KmsRequest {
            endpoints: vec![self.server.endpoint()],
            key_id: Some(key.to_owned()),
            ..KmsRequest::new(KmsKind::Kmip)
        }
    }

    fn credentials(&self) -> Credentials {
        credentials(&self.server.authority().pem(), &self.client)
    }

    fn provider(&self, key: &str) -> Box<dyn KeyProvider> {
        open(&self.request(key), self.credentials()).expect("nothing is missing")
    }

    fn provider_at(&self, endpoint: &str, key: &str) -> Box<dyn KeyProvider> {
        let request = KmsRequest { endpoints: vec![endpoint.to_owned()], ..self.request(key) };
        open(&request, self.credentials()).expect("nothing is missing")
    }
}

fn credentials(authority: &str, client: &KmipClient) -> Credentials {
    Credentials {
        authorities: Some(authority.as_bytes().to_vec()),
        certificate: Some(client.certificate.as_bytes().to_vec()),
        private_key: Some(Token::new(client.key.as_bytes().to_vec())),
        ..Credentials::default()
    }
}

fn data_key() -> DataKey {
    DataKey::new(b"canary-canary-canary-canary-canary-canary-c".to_vec())
}

fn binding() -> Binding {
    Binding::volume("pvc-1")
}

/// Wraps and unwraps.
fn round_trip(provider: &dyn KeyProvider) -> Result<(), Error> {
    let envelope = provider.wrap(&data_key(), &binding())?;
    assert!(provider.unwrap(&envelope, &binding())? == data_key(), "it is another key");
    Ok(())
}

/// Returns an error with its hint and its sources, as people see it.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!("; because {cause}"));
        source = cause.source();
    }
    text.push_str(&format!("; hint: {}", error.hint().unwrap_or("none")));
    assert!(!text.contains("canary"), "{text}");
    text
}
