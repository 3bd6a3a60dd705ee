//! Images that real servers open: OpenBao and PyKMIP. What the commands do with them, and what of
//! them stays in memory.

use serde_json::json;
use strongroom_crypto::Token;
use strongroom_kms::{Credentials, KeyProvider};
use strongroom_model::{KmsKind, KmsRequest};
use strongroom_testkit::{OpenBao, Pattern, PyKmip, skip};

use crate::managed::Managed;
use crate::managed_jobs::{holds, memory_while_copying};
use crate::workplace::Workplace;

/// A server with a key, and what the commands are told of it.
struct Server {
    running: Running,
    /// The options that name it.
    options: String,
    /// The parameters of a StorageClass that name it.
    parameters: String,
    /// The Secret of that, as YAML.
    secret: String,
    request: KmsRequest,
    credentials: fn(&Workplace) -> Credentials,
    /// What proves to it who is asking.
    proof: Vec<u8>,
}

enum Running {
    Bao(OpenBao),
    Kmip(PyKmip),
}

fn place(len: u64) -> Workplace {
    let place = Workplace::new();
    place.image_of("plain", len, &Pattern::dense(3));
    place
}

fn transit(place: &Workplace) -> Option<Server> {
    let (server, token) = OpenBao::for_driver("pvc-kek")?;
    place.write("bao.crt", server.authority().pem());
    place.write("token", &token);
    let url = server.tls_url();
    Some(Server {
        options: format!(
            "--kms transit --kms-endpoint {url} --kms-key-id pvc-kek --kms-ca-file bao.crt \
             --kms-token-file token"
        ),
        parameters: parameters("transit", &url, "pvc-kek"),
        secret: secret(&[("token", &token), ("ca.crt", &server.authority().pem())]),
        request: KmsRequest {
            endpoints: vec![url],
            key_id: Some("pvc-kek".to_owned()),
            ..KmsRequest::new(KmsKind::Transit)
        },
        credentials: |place| Credentials {
            secret: Some(Token::new(place.read("token"))),
            authorities: Some(place.read("bao.crt")),
            ..Credentials::default()
        },
        proof: token.into_bytes(),
        running: Running::Bao(server),
    })
}

fn kmip(place: &Workplace) -> Option<Server> {
    let server = PyKmip::start()?;
    let client = server.client("tester");
    let id = server.create_key(&client, "kek");
    place.write("kmip.crt", server.authority().pem());
    place.write("tls.crt", &client.certificate);
    place.write("tls.key", &client.key);
    let endpoint = server.endpoint();
    let line = client.key.lines().nth(1).unwrap().as_bytes().to_vec();
    let pem = server.authority().pem();
    let parts =
        [("ca.crt", pem.as_str()), ("tls.crt", &client.certificate), ("tls.key", &client.key)];
    Some(Server {
        options: format!(
            "--kms kmip --kms-endpoint {endpoint} --kms-key-id {id} --kms-ca-file kmip.crt \
             --kms-cert-file tls.crt --kms-key-file tls.key"
        ),
        parameters: parameters("kmip", &endpoint, &id),
        secret: secret(&parts),
        request: KmsRequest {
            endpoints: vec![endpoint],
            key_id: Some(id),
            ..KmsRequest::new(KmsKind::Kmip)
        },
        credentials: |place| Credentials {
            authorities: Some(place.read("kmip.crt")),
            certificate: Some(place.read("tls.crt")),
            private_key: Some(Token::new(place.read("tls.key"))),
            ..Credentials::default()
        },
        proof: line,
        running: Running::Kmip(server),
    })
}

/// Returns the servers that the machine has, and skips the test for the others.
fn servers(test: &str, place: &Workplace) -> Vec<Server> {
    let found = [("bao", transit(place)), ("pykmip-server", kmip(place))];
    let known = found.into_iter().filter_map(|(name, server)| {
        if server.is_none() {
            skip(test, &format!("{name} is missing: scripts/install-test-servers installs it"));
        }
        server
    });
    known.collect()
}

fn parameters(kind: &str, endpoint: &str, key: &str) -> String {
    format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: encrypted}}\n\
         provisioner: csi.onmetal.de\nparameters:\n  encryptionEnabled: \"true\"\n  \
         encryptionKMSType: {kind}\n  encryptionKMSEndpoint: \"{endpoint}\"\n  \
         encryptionKMSKeyID: \"{key}\"\n"
    )
}

fn secret(parts: &[(&str, &str)]) -> String {
    let mut yaml =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: credentials}\nstringData:\n".to_owned();
    for (name, value) in parts {
        // JSON text is YAML as well.
        yaml.push_str(&format!("  {name}: {}\n", json!(value)));
    }
    yaml
}

impl Server {
    fn provider(&self, place: &Workplace) -> Box<dyn KeyProvider> {
        strongroom_kms::open(&self.request, (self.credentials)(place)).unwrap()
    }

    fn stop(&mut self) {
        match &mut self.running {
            Running::Bao(server) => server.seal(),
            Running::Kmip(server) => server.stop(),
        }
    }
}

#[test]
fn a_server_opens_what_was_encrypted_for_it() {
    let place = place(256 << 10);
    for mut server in servers("managed_servers::opens", &place) {
        let options = &server.options;
        for (name, making, opening) in [
            ("volume", "", ""),
            ("luks1", "--format luks1 --envelope-file env", "--envelope-file env"),
            ("image.qcow2", "--envelope-file env-q", "--envelope-file env-q"),
        ] {
            place.strongroom(&format!("image encrypt plain {name} {making} {options}")).ok();
            let words = format!("image decrypt {name} again --force --format raw");
            place.strongroom(&format!("{words} {opening} {options}")).ok();
            place.same("again", "plain").unwrap();
        }
        // A StorageClass and its Secret say the same.
        place.write("class.yaml", &server.parameters);
        place.write("secret.yaml", &server.secret);
        let class = "--storage-class-file class.yaml --secret-file secret.yaml";
        place.strongroom(&format!("image decrypt volume again --force {class}")).ok();
        place.same("again", "plain").unwrap();
        place.strongroom(&format!("image encrypt plain other {class}")).ok();
        place.strongroom(&format!("image compare other volume {options}")).ok();
        let info = place.strongroom("image info other").ok();
        assert!(info.contains(&format!("token 0: {} key ", server.request.kind)), "{info}");
        let new = "--new-passphrase-file new --pbkdf pbkdf2 --pbkdf-iterations 1000";
        place.strongroom(&format!("image reencrypt other free {options} {new}")).ok();

        let options = server.options.clone();
        server.stop();
        for words in [
            format!("image decrypt volume no {options}"),
            format!("image encrypt plain no {options}"),
            format!("image create no.qcow2 1M --envelope-file no.env {options}"),
        ] {
            let message = place.strongroom(&words).fails(11);
            assert!(message.starts_with("error: "), "{message}");
            assert!(!place.names().iter().any(|name| name.contains("no")), "{words}");
        }
        // What opens without it still does.
        place.strongroom("image decrypt free again --force --passphrase-file new").ok();
        for name in ["volume", "luks1", "env", "image.qcow2", "env-q", "other", "free", "again"] {
            std::fs::remove_file(place.path(name)).unwrap();
        }
    }
}

#[test]
fn nothing_that_a_server_was_told_or_told_is_in_memory_while_an_image_is_copied() {
    let test = "managed_servers::memory";
    let place = place(96 << 20);
    for server in servers(test, &place) {
        let options = &server.options;
        for (words, image) in [
            (format!("image encrypt plain volume {options}"), "volume"),
            (format!("image decrypt volume again {options}"), "volume"),
        ] {
            let target = words.split(' ').nth(3).unwrap().to_owned();
            let Some(memory) = memory_while_copying(&place, &words, &target) else {
                skip(test, "nobody but root may look at the memory of a process");
                return;
            };
            assert!(holds(&memory, format!(".{target}.journal").as_bytes()), "{words}");
            let key = place.data_key_by(&*server.provider(&place), image);
            for (what, secret) in [
                ("the data key", &key.expose_bytes()[..22]),
                ("the data key", &key.expose_bytes()[21..]),
                ("what proves who asks", &server.proof),
            ] {
                assert!(!holds(&memory, secret), "{what}: {words}");
            }
        }
        for name in ["volume", "again"] {
            std::fs::remove_file(place.path(name)).unwrap();
        }
    }
}
