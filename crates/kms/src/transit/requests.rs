//! What is asked of a server, as values: a method, a path and a body.

use bytes::Bytes;
use serde::Serialize;
use strongroom_crypto::Token;
use zeroize::Zeroizing;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The method.
    pub(crate) method: Method,
    /// The path below `/v1/`, encoded.
    pub(crate) path: String,
    /// The body, which may hold secrets and is wiped with the last copy of this value.
    pub(crate) body: Option<Body>,
    /// What errors say it is about.
    pub(crate) about: String,
    /// Where it belongs.
    pub(crate) scope: Scope,
    /// The longest answer in bytes.
    pub(crate) most: usize,
}

/// The methods that the interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Reads.
    Get,
    /// Everything else.
    Post,
}

/// Which namespace answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The one that was configured.
    Namespace,
    /// The root's: it alone knows how the server is.
    Root,
}

/// Bytes that are wiped, and shown to nobody.
#[derive(Clone)]
pub(crate) struct Body(pub(crate) Bytes);

/// A key of a Transit engine: where the engine is mounted, and the key's name there. Both are fit
/// to be parts of a path, whoever has said them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    mount: String,
    name: String,
}

impl Key {
    /// Returns a key.
    ///
    /// # Errors
    ///
    /// What is wrong with the names.
    pub(crate) fn new(mount: &str, name: &str) -> Result<Self, String> {
        if !is_name(name) {
            return Err(format!("{name:?} is no name of a key"));
        }
        if !is_path(mount) {
            return Err(format!("nothing can be mounted at {mount:?}"));
        }
        Ok(Self { mount: mount.to_owned(), name: name.to_owned() })
    }

    /// Returns where the engine is mounted.
    pub(crate) fn mount(&self) -> &str {
        &self.mount
    }

    /// Returns the key's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of what is done with the key, as policies write it.
    pub(crate) fn path(&self, verb: &str) -> String {
        format!("{}/{verb}/{}", self.mount, self.name)
    }

    /// Returns the line that a policy needs.
    pub(crate) fn policy(&self, verb: &str, capability: &str) -> String {
        format!("path \"{}\" {{ capabilities = [\"{capability}\"] }}", self.path(verb))
    }

    /// Asks for the key's properties.
    pub(crate) fn read(&self) -> Request {
        Request { most: MAX_KEY_ANSWER, ..self.request(Method::Get, "keys", None) }
    }

    /// Asks to encrypt.
    pub(crate) fn encrypt(&self, plaintext: &[u8]) -> Request {
        let plaintext = Zeroizing::new(base64(plaintext));
        let body = body(&Plaintext { plaintext: &plaintext });
        self.request(Method::Post, "encrypt", Some(body))
    }

    /// Asks to decrypt.
    pub(crate) fn decrypt(&self, ciphertext: &str) -> Request {
        self.request(Method::Post, "decrypt", Some(body(&Ciphertext { ciphertext })))
    }

    /// Asks to encrypt the same under the newest version.
    pub(crate) fn rewrap(&self, ciphertext: &str) -> Request {
        self.request(Method::Post, "rewrap", Some(body(&Ciphertext { ciphertext })))
    }

    fn request(&self, method: Method, verb: &str, body: Option<Body>) -> Request {
        Request {
            method,
            path: encode(&self.path(verb)),
            body,
            about: format!("key {}", self.name),
            scope: Scope::Namespace,
            most: MAX_ANSWER,
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}

/// Asks how the server is.
pub(crate) fn health() -> Request {
    Request {
        method: Method::Get,
        path: "sys/health".to_owned(),
        body: None,
        about: "health".to_owned(),
        scope: Scope::Root,
        most: MAX_ANSWER,
    }
}

/// Asks what a token is worth.
pub(crate) fn lookup_self() -> Request {
    token_request(Method::Get, "auth/token/lookup-self", None)
}

/// Asks for more time.
pub(crate) fn renew_self() -> Request {
    token_request(Method::Post, "auth/token/renew-self", Some(body(&Nothing {})))
}

/// Asks what a token may do with paths.
pub(crate) fn capabilities(paths: &[String]) -> Request {
    token_request(Method::Post, "sys/capabilities-self", Some(body(&Paths { paths })))
}

/// Asks for a token, by the identifiers of an AppRole.
pub(crate) fn app_role_login(mount: &str, role_id: &str, secret_id: &str) -> Request {
    login(mount, body(&AppRole { role_id, secret_id }))
}

/// Asks for a token, by the web token of a Kubernetes service account.
pub(crate) fn kubernetes_login(mount: &str, role: &str, jwt: &str) -> Request {
    login(mount, body(&Kubernetes { role, jwt }))
}

/// Asks for a token, by the certificate of the connection.
pub(crate) fn certificate_login(mount: &str, name: Option<&str>) -> Request {
    login(mount, body(&Certificate { name }))
}

/// Returns whether this may be where something is mounted.
pub(crate) fn is_path(path: &str) -> bool {
    path.split('/').all(is_name)
}

/// Finds a byte of a token that a header cannot carry as it is. Says what and where it is, and
/// nothing of the token.
pub(crate) fn flaw(token: &Token) -> Option<String> {
    let bytes = token.expose_bytes();
    if bytes.is_empty() {
        return Some("it is empty".to_owned());
    }
    let at = bytes.iter().position(|byte| !byte.is_ascii_graphic())?;
    let what = match bytes.get(at) {
        Some(b'\n' | b'\r') => "a line break",
        Some(b' ' | b'\t') => "a space",
        _ => "a byte that is no printable ASCII",
    };
    Some(format!("byte {} of {} is {what}", at + 1, bytes.len()))
}

/// Returns whether this may be one part of a path. Servers resolve dots and slashes before they look
/// at policies, and no two of them agree on control characters.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= MAX_NAME
        && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control())
}

/// Encodes what is not unreserved (RFC 3986, section 2.3), but slashes.
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn token_request(method: Method, path: &str, body: Option<Body>) -> Request {
    let (path, about) = (path.to_owned(), "token".to_owned());
    Request { method, path, body, about, scope: Scope::Namespace, most: MAX_ANSWER }
}

fn login(mount: &str, body: Body) -> Request {
    Request {
        method: Method::Post,
        path: format!("auth/{}/login", encode(mount)),
        body: Some(body),
        about: format!("login at auth/{mount}"),
        scope: Scope::Namespace,
        most: MAX_ANSWER,
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Writes JSON into room that never grows: growing leaves copies behind that nobody wipes.
fn body(value: &impl Serialize) -> Body {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, value).expect("these values are JSON, and counting works");
    let mut text = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *text, value).expect("these values are JSON, and memory takes it");
    Body(Bytes::from_owner(text))
}

/// Counts what is written.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Plaintext<'a> {
    plaintext: &'a str,
}

#[derive(Serialize)]
struct Ciphertext<'a> {
    ciphertext: &'a str,
}

#[derive(Serialize)]
struct Paths<'a> {
    paths: &'a [String],
}

#[derive(Serialize)]
struct AppRole<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

#[derive(Serialize)]
struct Kubernetes<'a> {
    role: &'a str,
    jwt: &'a str,
}

#[derive(Serialize)]
struct Certificate<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// The longest answer in bytes: many times what anything but a key's properties takes.
const MAX_ANSWER: usize = 64 << 10;

/// The longest answer in bytes about a key, which says of each version when it was made: tens of
/// thousands of them.
const MAX_KEY_ANSWER: usize = 1 << 20;

/// The longest name in bytes.
const MAX_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: &Request) -> &str {
        std::str::from_utf8(&request.body.as_ref().unwrap().0).unwrap()
    }

    #[test]
    fn asks_for_what_the_interface_has() {
        let key = Key::new("team/transit", "pvc kek?").unwrap();
        let request = key.encrypt(b"hello");
        assert_eq!(request.path, "team/transit/encrypt/pvc%20kek%3F");
        assert_eq!(text(&request), r#"{"plaintext":"aGVsbG8="}"#);
        assert_eq!(text(&key.decrypt("vault:v1:AA==")), r#"{"ciphertext":"vault:v1:AA=="}"#);
        assert_eq!(key.rewrap("x").path, "team/transit/rewrap/pvc%20kek%3F");
        assert_eq!(key.read().method, Method::Get);
        assert!(key.read().body.is_none());
        assert_eq!(
            text(&capabilities(&[key.path("decrypt")])),
            r#"{"paths":["team/transit/decrypt/pvc kek?"]}"#
        );
    }

    #[test]
    fn logs_in_with_the_exact_bytes() {
        let request = app_role_login("team/approle", "role", "secret\n\"");
        assert_eq!(request.path, "auth/team/approle/login");
        assert_eq!(text(&request), r#"{"role_id":"role","secret_id":"secret\n\""}"#);
        let request = kubernetes_login("kubernetes", "csi", "a.b.c");
        assert_eq!(request.path, "auth/kubernetes/login");
        assert_eq!(text(&request), r#"{"role":"csi","jwt":"a.b.c"}"#);
        assert_eq!(text(&certificate_login("cert", None)), "{}");
        assert_eq!(text(&certificate_login("cert", Some("node"))), r#"{"name":"node"}"#);
    }

    #[test]
    fn no_name_leads_elsewhere() {
        let long = "a".repeat(256);
        for name in ["", ".", "..", "a/b", "../sys/seal", "a\\b", "a\0", "a\n", &long] {
            assert!(Key::new("transit", name).is_err(), "{name:?}");
        }
        for mount in ["", "/", "a//b", "a/", "/a", "a/../b", "a/./b", "a\r\nb"] {
            assert!(Key::new(mount, "kek").is_err(), "{mount:?}");
        }
        let odd = Key::new("transit", "%2e%2e%2fsys").unwrap();
        assert_eq!(odd.read().path, "transit/keys/%252e%252e%252fsys");
    }

    #[test]
    fn says_what_a_header_cannot_carry_and_shows_nothing() {
        let flaw = |bytes: &[u8]| flaw(&Token::new(bytes.to_vec()));
        assert_eq!(flaw(b"s.canary"), None);
        assert_eq!(flaw(b"s.canary\n").unwrap(), "byte 9 of 9 is a line break");
        assert_eq!(flaw(b" s.canary").unwrap(), "byte 1 of 9 is a space");
        assert_eq!(flaw(b"s.\xffary").unwrap(), "byte 3 of 6 is a byte that is no printable ASCII");
        assert_eq!(flaw(b"").unwrap(), "it is empty");
    }

    #[test]
    fn shows_no_body() {
        let shown = format!("{:?}", app_role_login("approle", "role", "canary"));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
