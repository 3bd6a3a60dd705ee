//! OpenBao, a key management system, started for one test.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Authority;

/// A server on ports of the loopback, with an empty Transit engine at `transit`. Everything it
/// knows is in memory, and it ends when it is dropped.
pub struct OpenBao {
    child: Child,
    port: u16,
    tls_port: u16,
    http: Client,
    authority: Authority,
    directory: TempDir,
}

impl OpenBao {
    /// Starts a server, `None` where the machine has none: the test skips itself then.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start() -> Option<Self> {
        let program = server_program("bao")?;
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let authority = Authority::new();
        let (port, tls_port) = (free_port(), free_port());
        let (certificate, key) = authority.server_pem("127.0.0.1");
        let path = |name: &str| directory.path().join(name);
        let write = |name: &str, text: &str| {
            std::fs::write(path(name), text).expect("there is room for a file");
        };
        write("tls.crt", &certificate);
        write("tls.key", &key);
        let listener = json!({"tcp": {
            "address": format!("127.0.0.1:{tls_port}"),
            "tls_cert_file": path("tls.crt"),
            "tls_key_file": path("tls.key"),
        }});
        write("config.json", &json!({"listener": [listener]}).to_string());
        let http = Client::builder()
            // It talks to the port without TLS, but does not start without any.
            .tls_backend_preconfigured(authority.client())
            .no_proxy()
            .build()
            .expect("the settings are good");
        let log = std::fs::File::create(path("log")).expect("there is room for a file");
        let child = Command::new(program)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-root-token-id={ROOT_TOKEN}"))
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .arg(format!("-config={}", path("config.json").display()))
            .env("HOME", directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be written from two places"))
            .stderr(log)
            .spawn()
            .expect("the server can be started");
        let server = Self { child, port, tls_port, http, authority, directory };
        server.wait();
        server.call(Method::POST, "sys/mounts/transit", &json!({"type": "transit"}));
        Some(server)
    }

    /// Returns the URL without TLS.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the URL with TLS; [`OpenBao::authority`] vouches for the server.
    pub fn tls_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.tls_port)
    }

    /// Returns the port without TLS.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port with TLS.
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Returns who has signed the server's certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Asks as root, and returns the answer's body, [`Value::Null`] for an empty one.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub fn call(&self, method: Method, path: &str, body: &Value) -> Value {
        let (status, answer) = self.try_call(method, path, body);
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Asks as root, and returns the status and the answer's body.
    ///
    /// # Panics
    ///
    /// When the server cannot be reached.
    pub fn try_call(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let response = self
            .http
            .request(method, format!("{}/v1/{path}", self.url()))
            .header("X-Vault-Token", ROOT_TOKEN)
            .body(body.to_string())
            .send()
            .expect("the server answers");
        let status = response.status().as_u16();
        let text = response.text().expect("the answer is text");
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Creates a key.
    pub fn create_key(&self, name: &str) {
        self.call(Method::POST, &format!("transit/keys/{name}"), &json!({}));
    }

    /// Returns whether there is such a key.
    pub fn has_key(&self, name: &str) -> bool {
        let path = format!("transit/keys/{name}");
        self.try_call(Method::GET, &path, &Value::Null).0 == 200
    }

    /// Makes a newer version of a key.
    pub fn rotate_key(&self, name: &str) {
        self.call(Method::POST, &format!("transit/keys/{name}/rotate"), &json!({}));
    }

    /// Sets the oldest version with which the key still decrypts.
    pub fn set_min_decryption_version(&self, name: &str, version: u64) {
        let settings = json!({"min_decryption_version": version});
        self.call(Method::POST, &format!("transit/keys/{name}/config"), &settings);
    }

    /// Destroys a key.
    pub fn delete_key(&self, name: &str) {
        let path = format!("transit/keys/{name}");
        self.call(Method::POST, &format!("{path}/config"), &json!({"deletion_allowed": true}));
        self.call(Method::DELETE, &path, &Value::Null);
    }

    /// Creates or replaces a policy.
    pub fn policy(&self, name: &str, text: &str) {
        let path = format!("sys/policies/acl/{name}");
        self.call(Method::PUT, &path, &json!({"policy": text}));
    }

    /// Starts a server with a key, and returns it with the token of a driver that may do with it what
    /// [`driver_policy`](Self::driver_policy) says; `None` where the machine has no server.
    pub fn for_driver(key: &str) -> Option<(Self, String)> {
        let server = Self::start()?;
        server.create_key(key);
        server.driver_policy(key);
        let token = server.token(&["pvc-enc"], &json!({"period": "24h"}));
        Some((server, token))
    }

    /// Creates the policy `pvc-enc` that the OSC documentation gives a driver: to encrypt and to
    /// decrypt with one key, and nothing else.
    pub fn driver_policy(&self, key: &str) {
        let path =
            |verb| format!("path \"transit/{verb}/{key}\" {{\n  capabilities = [\"update\"]\n}}\n");
        self.policy("pvc-enc", &(path("encrypt") + &path("decrypt")));
    }

    /// Creates a token without a parent, with these policies (the server adds `default`) and these
    /// settings, `{"period": "24h"}` or `{"ttl": "5s"}` for instance.
    pub fn token(&self, policies: &[&str], settings: &Value) -> String {
        let mut body = settings.clone();
        body["policies"] = json!(policies);
        let answer = self.call(Method::POST, "auth/token/create-orphan", &body);
        text(&answer, "/auth/client_token")
    }

    /// Revokes a token.
    pub fn revoke(&self, token: &str) {
        self.call(Method::POST, "auth/token/revoke", &json!({"token": token}));
    }

    /// Enables a method of logging in at a path of the same name.
    pub fn enable_auth(&self, method: &str) {
        self.call(Method::POST, &format!("sys/auth/{method}"), &json!({"type": method}));
    }

    /// Creates an AppRole whose tokens have these settings, and returns its identifier and a secret
    /// identifier.
    pub fn app_role(&self, name: &str, settings: &Value) -> (String, String) {
        let path = format!("auth/approle/role/{name}");
        self.call(Method::POST, &path, settings);
        let role = self.call(Method::GET, &format!("{path}/role-id"), &Value::Null);
        let secret = self.call(Method::POST, &format!("{path}/secret-id"), &json!({}));
        (text(&role, "/data/role_id"), text(&secret, "/data/secret_id"))
    }

    /// Seals the server. It cannot be unsealed.
    pub fn seal(&self) {
        self.call(Method::PUT, "sys/seal", &Value::Null);
    }

    fn wait(&self) {
        let begun = Instant::now();
        let url = format!("{}/v1/sys/health", self.url());
        while !self.http.get(&url).send().is_ok_and(|answer| answer.status() == 200) {
            let log = || std::fs::read_to_string(self.directory.path().join("log"));
            assert!(begun.elapsed() < LIMIT, "the server does not start: {:?}", log());
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a server's program: below the folder that `STRONGROOM_TEST_SERVERS` names, else where
/// `scripts/install-test-servers` puts it.
pub fn server_program(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("STRONGROOM_TEST_SERVERS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/servers/bin"),
        PathBuf::from,
    );
    Some(folder.join(name)).filter(|program| program.is_file())
}

/// Returns a port that nobody listens on just now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("a listener has an address").port()
}

fn text(answer: &Value, pointer: &str) -> String {
    answer.pointer(pointer).and_then(Value::as_str).expect("the answer has this text").to_owned()
}

/// The token of root.
const ROOT_TOKEN: &str = "root-token-of-the-test";

/// How long the start may take, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);
