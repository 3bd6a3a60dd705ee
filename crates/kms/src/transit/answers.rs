//! What a server answers, as values.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use strongroom_crypto::Token;
use zeroize::{Zeroize, Zeroizing};

use crate::ErrorKind;

/// What a server makes of a plaintext: `vault:v7:BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ciphertext {
    /// The whole text.
    pub(crate) text: String,
    /// The version of the key, from 1.
    pub(crate) version: u64,
}

/// A key's properties.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct KeyInfo {
    pub(crate) latest_version: u64,
    #[serde(default)]
    pub(crate) min_decryption_version: u64,
    /// Each use needs a context.
    #[serde(default)]
    pub(crate) derived: bool,
    #[serde(default = "yes")]
    pub(crate) supports_encryption: bool,
    /// One request destroys it.
    #[serde(default)]
    pub(crate) deletion_allowed: bool,
    #[serde(default)]
    pub(crate) soft_deleted: bool,
}

/// A token's properties.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct TokenInfo {
    /// Seconds that are left; none where it never expires.
    ttl: u64,
    /// Seconds that it had.
    #[serde(default)]
    creation_ttl: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
    #[serde(default)]
    expire_time: Option<String>,
    /// How often it may be used, 0 for any number.
    #[serde(default)]
    pub(crate) num_uses: u64,
}

/// A token, and how long it lasts.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) token: Token,
    /// `None` where it never expires.
    pub(crate) lease: Option<Duration>,
}

/// How a server is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Health {
    pub(crate) initialized: bool,
    pub(crate) sealed: bool,
    /// Seconds since 1970.
    #[serde(default)]
    pub(crate) server_time_utc: u64,
    #[serde(default)]
    pub(crate) version: String,
}

impl Ciphertext {
    /// Reads what a server or an envelope says.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (version, base64) = text.strip_prefix("vault:v")?.split_once(':')?;
        let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
        let version = version.parse().ok().filter(|version| digits && *version > 0)?;
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        let good = !base64.is_empty() && base64.len() <= MAX_TEXT && base64.bytes().all(letters);
        good.then(|| Self { text: text.to_owned(), version })
    }
}

impl TokenInfo {
    /// Returns how long it lasts, `None` for ever.
    pub(crate) fn left(&self) -> Option<Duration> {
        let ends = self.ttl > 0 || self.expire_time.is_some();
        ends.then(|| lasting(self.ttl))
    }

    /// Returns how long it lasted at first.
    pub(crate) fn granted(&self) -> Duration {
        lasting(self.creation_ttl.max(self.ttl))
    }
}

/// Returns the ciphertext in an answer.
pub(crate) fn ciphertext(body: &[u8]) -> Option<Ciphertext> {
    #[derive(Deserialize)]
    struct Data {
        ciphertext: String,
    }
    Ciphertext::parse(&data::<Data>(body)?.ciphertext)
}

/// Returns the plaintext in an answer. The only copy that it makes is the one that it returns.
pub(crate) fn plaintext(body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        plaintext: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        data: Data<'a>,
    }
    let mut text = serde_json::from_slice::<Answer<'_>>(body).ok()?.data.plaintext;
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let decoded = STANDARD.decode_vec(text.as_bytes(), &mut bytes);
    // Only where letters were written as escapes, which base64 does not need.
    if let Cow::Owned(copy) = &mut text {
        copy.zeroize();
    }
    decoded.ok()?;
    Some(bytes)
}

/// Returns the properties of a key in an answer.
pub(crate) fn key_info(body: &[u8]) -> Option<KeyInfo> {
    data(body)
}

/// Returns the properties of a token in an answer.
pub(crate) fn token_info(body: &[u8]) -> Option<TokenInfo> {
    data(body)
}

/// Returns what the answer to a login, or to a renewal, grants.
pub(crate) fn login(body: &[u8]) -> Option<Login> {
    #[derive(Deserialize)]
    struct Auth<'a> {
        #[serde(borrow)]
        client_token: Cow<'a, str>,
        lease_duration: u64,
    }
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        auth: Auth<'a>,
    }
    let Answer { auth } = serde_json::from_slice(body).ok()?;
    Some(Login {
        token: Token::new(auth.client_token.as_bytes().to_vec()),
        lease: Some(auth.lease_duration).filter(|lease| *lease > 0).map(lasting),
    })
}

/// Returns what a token may do with each path.
pub(crate) fn capabilities(body: &[u8]) -> Option<HashMap<String, Vec<String>>> {
    data(body)
}

/// Returns how a server is. Such an answer has no envelope.
pub(crate) fn health(body: &[u8]) -> Option<Health> {
    serde_json::from_slice(body).ok()
}

/// Returns what may be shown of a refusal: its status, and those of its phrases that are known.
///
/// The words themselves are not shown, of whichever server, proxy or filter they are: some repeat
/// the request with its token, its secret identifier or the sealed data key. A phrase that is known
/// is shown as it stands here, so that no byte of an answer gets into an error.
pub(crate) fn account(status: u16, body: &[u8]) -> String {
    let complaint = complaint(body);
    let known = PHRASES.iter().filter(|phrase| complaint.contains(**phrase));
    let known: Vec<&str> = known.copied().collect();
    match known.as_slice() {
        [] => format!("status {status}"),
        known => format!("status {status}: {}", known.join(", ")),
    }
}

/// Returns what a server says of a failure, in one line; empty when it says nothing. It may hold
/// secrets, and is looked at only.
fn complaint(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<String>,
    }
    let text = match serde_json::from_slice::<Answer>(body) {
        Ok(answer) => answer.errors.join("; "),
        // Proxies do not speak JSON.
        Err(_) => String::from_utf8_lossy(body.get(..MAX_COMPLAINT).unwrap_or(body)).into_owned(),
    };
    // "1 error occurred:\n\t* permission denied\n\n" is how lists of errors are written.
    let lines = text.lines().map(|line| line.trim().trim_start_matches("* "));
    let lines = lines.filter(|line| !line.is_empty() && !line.ends_with("occurred:"));
    lines.collect::<Vec<_>>().join("; ").chars().take(MAX_COMPLAINT).collect()
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) kind: ErrorKind,
    pub(crate) problem: &'static str,
    pub(crate) advice: Advice,
}

/// What to do about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Nobody knows.
    None,
    /// Look at the name of the key.
    KeyName,
    /// Look at where the engine is mounted, and at the namespace.
    Mount,
    /// Let the key decrypt older versions for a while.
    OldVersion,
    /// Take the deletion back.
    Restore,
    /// Take another key.
    OtherKey,
    /// Talk TLS.
    Https,
}

/// Returns what the refusal of a request means: by its text where that says more than the status.
pub(crate) fn judge(status: u16, body: &[u8]) -> Verdict {
    judge_text(status, &complaint(body))
}

/// Returns what a refusal with this text means.
pub(crate) fn judge_text(status: u16, complaint: &str) -> Verdict {
    let verdict = |kind, problem, advice| Verdict { kind, problem, advice };
    for (part, kind, problem, advice) in TEXTS {
        if complaint.contains(part) {
            return verdict(kind, problem, advice);
        }
    }
    match status {
        401 | 403 => verdict(ErrorKind::Denied, "permission denied", Advice::None),
        404 => verdict(ErrorKind::NotFound, "there is no such key", Advice::KeyName),
        408 | 412 | 429 | 472 | 473 | 500.. => {
            verdict(ErrorKind::Unavailable, "it does not work just now", Advice::None)
        }
        _ => verdict(ErrorKind::Misconfigured, "it does not take the request", Advice::None),
    }
}

fn data<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    #[derive(Deserialize)]
    struct Answer<T> {
        data: T,
    }
    serde_json::from_slice::<Answer<T>>(body).ok().map(|answer| answer.data)
}

/// Returns so many seconds, of which clocks still know the end.
fn lasting(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(LONGEST)
}

fn yes() -> bool {
    true
}

/// What servers say, and what it means. The texts are those of OpenBao 2 and Vault 1; some come with
/// the status 400 or with 500, depending on the release.
const TEXTS: [(&str, ErrorKind, &str, Advice); 12] = [
    (
        "encryption key not found",
        ErrorKind::NotFound,
        "there is no such key, or not any more",
        Advice::KeyName,
    ),
    (
        "soft-deleted key",
        ErrorKind::NotFound,
        "the key is deleted, though it can be restored",
        Advice::Restore,
    ),
    (
        "(too old)",
        ErrorKind::Denied,
        "the key no longer decrypts the version that has wrapped it: its min_decryption_version \
         was raised",
        Advice::OldVersion,
    ),
    (
        "version is too new",
        ErrorKind::NotFound,
        "the key has no such version (yet): it may have been restored from an older backup",
        Advice::None,
    ),
    (
        "message authentication failed",
        ErrorKind::Corrupt,
        "the envelope was altered, or wrapped by another key of this name",
        Advice::None,
    ),
    ("invalid ciphertext", ErrorKind::Corrupt, "the envelope was altered", Advice::None),
    (
        "missing 'context'",
        ErrorKind::Misconfigured,
        "the key is derived: each use would need a context",
        Advice::OtherKey,
    ),
    (
        "not supported for key type",
        ErrorKind::Misconfigured,
        "a key of this type does not encrypt",
        Advice::OtherKey,
    ),
    ("no handler for route", ErrorKind::NotFound, "nothing is mounted there", Advice::Mount),
    // With the status 500, though it will not pass.
    ("cannot renew", ErrorKind::Denied, "it cannot be renewed", Advice::None),
    ("is sealed", ErrorKind::Unavailable, "it is sealed", Advice::None),
    (
        "HTTP request to an HTTPS server",
        ErrorKind::Misconfigured,
        "it speaks TLS only",
        Advice::Https,
    ),
];

/// What servers say that helps to see what is wrong, beside [`TEXTS`].
const PHRASES: [&str; 14] = [
    "permission denied",
    "invalid token",
    "bad token",
    "invalid role or secret ID",
    "invalid role ID",
    "invalid secret ID",
    "invalid role name",
    "service account name not authorized",
    "namespace not authorized",
    "invalid audience",
    "invalid certificate or no client certificate supplied",
    "rate limit quota exceeded",
    "no leader",
    "unsupported path",
];

/// The longest time that anything lasts: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// The longest complaint in characters that is looked at.
const MAX_COMPLAINT: usize = 4096;

/// The longest ciphertext in bytes: many times what becomes of a data key.
const MAX_TEXT: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ciphertexts_and_their_versions() {
        let text = "vault:v12:voJzJ4t+36liIdDN/w==";
        let answer = format!(r#"{{"data":{{"ciphertext":"{text}","key_version":12}}}}"#);
        let expected = Ciphertext { text: text.to_owned(), version: 12 };
        assert_eq!(ciphertext(answer.as_bytes()), Some(expected));
    }

    #[test]
    fn takes_nothing_else_for_a_ciphertext() {
        for text in [
            "",
            "vault:v1:",
            "vault:v0:AA==",
            "vault:v:AA==",
            "vault:v+1:AA==",
            "vault:v1:A\nA",
            "vault:v99999999999999999999:AA==",
            "local:v1:AA==",
        ] {
            assert_eq!(Ciphertext::parse(text), None, "{text:?}");
        }
        assert!(Ciphertext::parse(&format!("vault:v1:{}", "A".repeat(MAX_TEXT + 1))).is_none());
    }

    #[test]
    fn reads_plaintexts_however_they_are_escaped() {
        for text in ["aGVsbG8/", r"aGVsbG8\/", r"aGVsbG8\u002f"] {
            let answer = format!(r#"{{"data":{{"plaintext":"{text}"}}}}"#);
            assert_eq!(plaintext(answer.as_bytes()).unwrap().as_slice(), b"hello?", "{text}");
        }
        for answer in ["", "{}", r#"{"data":null}"#, r#"{"data":{"plaintext":"*"}}"#, "[1"] {
            assert!(plaintext(answer.as_bytes()).is_none(), "{answer}");
        }
    }

    #[test]
    fn reads_logins_and_shows_no_token() {
        let answer = br#"{"data":null,"auth":{"client_token":"s.canary","lease_duration":60,
            "renewable":true,"policies":["default"]}}"#;
        let login = login(answer).unwrap();
        assert_eq!(login.token.expose_bytes(), b"s.canary");
        assert_eq!(login.lease, Some(Duration::from_secs(60)));
        assert!(!format!("{login:?}").contains("canary"));
    }

    #[test]
    fn knows_which_tokens_end() {
        let read = |data: &str| token_info(format!(r#"{{"data":{data}}}"#).as_bytes()).unwrap();
        let root = read(r#"{"ttl":0,"expire_time":null,"creation_ttl":0,"renewable":false}"#);
        assert_eq!(root.left(), None);
        let ends = read(r#"{"ttl":9,"expire_time":"2026-11-22T15:19:13Z","creation_ttl":60}"#);
        assert_eq!(ends.left(), Some(Duration::from_secs(9)));
        assert_eq!(ends.granted(), Duration::from_secs(60));
    }

    #[test]
    fn understands_refusals_by_their_text() {
        for (status, text, kind) in [
            (400, "encryption key not found", ErrorKind::NotFound),
            (400, "refusing to use soft-deleted key", ErrorKind::NotFound),
            (
                400,
                "ciphertext or signature version is disallowed by policy (too old)",
                ErrorKind::Denied,
            ),
            (400, "cipher: message authentication failed", ErrorKind::Corrupt),
            (500, "cipher: message authentication failed", ErrorKind::Corrupt),
            (400, "invalid ciphertext length", ErrorKind::Corrupt),
            (403, "permission denied", ErrorKind::Denied),
            (500, "past the max TTL, cannot renew", ErrorKind::Denied),
            (404, "", ErrorKind::NotFound),
            (
                404,
                "no handler for route \"x/encrypt/kek\". route entry not found.",
                ErrorKind::NotFound,
            ),
            (503, "Vault is sealed", ErrorKind::Unavailable),
            (429, "rate limit quota exceeded", ErrorKind::Unavailable),
            (400, "anything else", ErrorKind::Misconfigured),
            (405, "", ErrorKind::Misconfigured),
        ] {
            assert_eq!(judge_text(status, text).kind, kind, "{status} {text}");
        }
    }

    #[test]
    fn shows_what_is_known_of_a_refusal_and_nothing_that_it_repeats() {
        for body in [
            r#"{"errors":["permission denied for s.canary"]}"#,
            "permission denied\nX-Vault-Token: s.canary",
            r#"{"errors":["permission denied"],"request":{"plaintext":"canary"}}"#,
        ] {
            assert_eq!(account(403, body.as_bytes()), "status 403: permission denied");
        }
        for body in ["", "canary", r#"{"errors":["canary"]}"#, r#"{"plaintext":"canary"}"#] {
            assert_eq!(account(400, body.as_bytes()), "status 400");
        }
    }

    #[test]
    fn makes_one_line_of_complaints() {
        let listed =
            br#"{"errors":["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]}"#;
        assert_eq!(complaint(listed), "permission denied; invalid token");
        assert_eq!(complaint(br#"{"errors":[]}"#), "");
        assert_eq!(complaint(b"<html>\n  no\n</html>"), "<html>; no; </html>");
        assert_eq!(complaint(&vec![b'a'; 9000]).len(), MAX_COMPLAINT);
    }
}
