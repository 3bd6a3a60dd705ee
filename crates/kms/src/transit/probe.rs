//! How the server is, how long the token lasts, and what the policy lacks.

use std::time::{Duration, SystemTime};

use super::answers::{self, Health, KeyInfo, TokenInfo};
use super::requests::{self, Key};
use super::{NOTHING, TransitKek};
use crate::{Error, ErrorKind, Expiry, Probe, Result};

/// Asks everything that can be asked without changing anything.
///
/// # Errors
///
/// [`ErrorKind::Unavailable`] when the server does not answer or is sealed, and those of logging in.
pub(super) fn run(kek: &TransitKek) -> Result<Probe> {
    let mut probe = Probe::default();
    server(kek, &mut probe)?;
    token(kek, &mut probe)?;
    match kek.key() {
        Ok(key) => {
            properties(kek, &key, &mut probe)?;
            allowed(kek, &key, &mut probe)?;
        }
        Err(error) => {
            let hint = error.hint().unwrap_or("name a key");
            probe.findings.push(format!("no key was asked about: {hint}"));
        }
    }
    Ok(probe)
}

fn server(kek: &TransitKek, probe: &mut Probe) -> Result<()> {
    let answer = kek.client.call(&requests::health(), None)?;
    let health = answer.read(answers::health)?;
    let error = |problem| Error::new(ErrorKind::Unavailable, &*answer.label, problem);
    if !health.initialized {
        return Err(error("it is not initialised"));
    }
    if health.sealed {
        return Err(error("it is sealed").hinted("whoever has its keys must unseal it"));
    }
    probe.findings.extend(clock(&health, SystemTime::now()));
    probe.server = Some(format!("version {} at {}", health.version, kek.client.endpoint()));
    Ok(())
}

/// Returns what to say of two clocks.
fn clock(health: &Health, now: SystemTime) -> Option<String> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let apart = now.abs_diff(health.server_time_utc);
    let wrong = health.server_time_utc > 0 && apart > MOST_APART;
    wrong.then(|| format!("the server's clock and ours are {apart} s apart"))
}

fn token(kek: &TransitKek, probe: &mut Probe) -> Result<()> {
    let Some(info) = kek.session.token_info(&kek.client)? else {
        let finding = "the token is not valid (any more), or its policy lacks: path \
                       \"auth/token/lookup-self\" { capabilities = [\"read\"] }";
        probe.findings.push(finding.to_owned());
        return Ok(());
    };
    probe.credentials = match info.left() {
        None => Expiry::Never,
        Some(left) => Expiry::At(SystemTime::now() + left),
    };
    if info.renewable {
        probe.allowed.push("renew".to_owned());
    }
    probe.findings.extend(lifetime(&info));
    Ok(())
}

/// Returns what to say of how long a token lasts.
fn lifetime(info: &TokenInfo) -> Option<String> {
    if info.num_uses > 0 {
        return Some(format!("the token ends after {} more requests", info.num_uses));
    }
    let left = info.left()?;
    let shown = humantime::format_duration(left);
    if !info.renewable {
        return Some(format!("the token ends in {shown} and cannot be renewed"));
    }
    (left < SHORT).then(|| format!("the token ends in {shown} unless it is used before that"))
}

fn properties(kek: &TransitKek, key: &Key, probe: &mut Probe) -> Result<()> {
    let answer = kek.call(&key.read())?;
    if answer.is_denied() {
        return Ok(());
    }
    if !answer.is_success() {
        let error = kek.refused(&answer, key, "keys");
        probe.findings.push(error.problem().to_owned());
        return Ok(());
    }
    let info = answer.read(answers::key_info)?;
    probe.key_version = Some(info.latest_version.to_string());
    probe.oldest_key_version = Some(info.min_decryption_version.max(1).to_string());
    probe.findings.extend(risks(&info));
    if let Err(error) = kek.check_fits(key, &info) {
        probe.findings.push(error.problem().to_owned());
    }
    Ok(())
}

/// Returns what to say of a key that works.
fn risks(info: &KeyInfo) -> Vec<String> {
    let mut findings = Vec::new();
    if info.min_decryption_version > 1 {
        findings.push(format!(
            "what versions 1 to {} of the key have wrapped does not unwrap any more: its \
             min_decryption_version is {}",
            info.min_decryption_version - 1,
            info.min_decryption_version
        ));
    }
    if info.deletion_allowed {
        findings.push("deletion_allowed is on: one request destroys the key".to_owned());
    }
    findings
}

fn allowed(kek: &TransitKek, key: &Key, probe: &mut Probe) -> Result<()> {
    let paths = VERBS.map(|verb| key.path(verb));
    let answer = kek.call(&requests::capabilities(&paths))?;
    let found = if answer.is_success() {
        let capabilities = answer.read(answers::capabilities)?;
        let may = |path: &String| {
            let own = capabilities.get(path).map(Vec::as_slice).unwrap_or_default();
            own.iter().any(|it| matches!(it.as_str(), "update" | "root" | "sudo"))
        };
        [may(&paths[0]), may(&paths[1]), may(&paths[2])]
    } else {
        tried(kek, key)?
    };
    for (verb, allowed) in VERBS.into_iter().zip(found) {
        if allowed {
            probe.allowed.push(verb.to_owned());
            continue;
        }
        let line = key.policy(verb, "update");
        probe.findings.push(match verb {
            "rewrap" => format!(
                "the policy does not let it rewrap, so data keys leave the server for that: {line}"
            ),
            verb => format!("the policy does not let it {verb}, or there is no such key: {line}"),
        });
    }
    Ok(())
}

/// Tries with a value that means nothing what the policy lets us do.
fn tried(kek: &TransitKek, key: &Key) -> Result<[bool; 3]> {
    let outcome = kek.check_exists(key).and_then(|()| kek.encrypt_with(key, b"probe"));
    let wrapped = match outcome {
        Ok(wrapped) => Some(wrapped.ciphertext),
        Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
        Err(_) => None,
    };
    let text = wrapped.as_deref().unwrap_or(NOTHING);
    let decrypts = !kek.call(&key.decrypt(text))?.is_denied();
    let rewraps = !kek.call(&key.rewrap(text))?.is_denied();
    Ok([wrapped.is_some(), decrypts, rewraps])
}

const VERBS: [&str; 3] = ["encrypt", "decrypt", "rewrap"];

/// How many seconds two clocks may be apart.
const MOST_APART: u64 = 60;

/// A token that lasts shorter than this is worth a word.
const SHORT: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    fn health(server_time_utc: u64) -> Health {
        Health { initialized: true, sealed: false, server_time_utc, version: "2.7.2".to_owned() }
    }

    #[test]
    fn tells_of_clocks_that_differ() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(clock(&health(1_000_060), now), None);
        assert_eq!(clock(&health(0), now), None);
        let finding = clock(&health(999_000), now).unwrap();
        assert_eq!(finding, "the server's clock and ours are 1000 s apart");
    }

    #[test]
    fn tells_of_versions_that_no_longer_unwrap() {
        let answer = br#"{"data":{"latest_version":5,"min_decryption_version":3,
            "deletion_allowed":true}}"#;
        let findings = risks(&answers::key_info(answer).unwrap());
        assert!(findings[0].starts_with("what versions 1 to 2 of the key"), "{findings:?}");
        assert!(findings[1].starts_with("deletion_allowed is on"), "{findings:?}");
    }

    #[test]
    fn tells_of_tokens_that_end() {
        let info =
            |data: &str| answers::token_info(format!(r#"{{"data":{data}}}"#).as_bytes()).unwrap();
        assert_eq!(lifetime(&info(r#"{"ttl":0,"renewable":false}"#)), None);
        assert_eq!(lifetime(&info(r#"{"ttl":86400,"renewable":true}"#)), None);
        let ends = lifetime(&info(r#"{"ttl":86400,"renewable":false}"#)).unwrap();
        assert_eq!(ends, "the token ends in 1day and cannot be renewed");
        let soon = lifetime(&info(r#"{"ttl":90,"renewable":true}"#)).unwrap();
        assert_eq!(soon, "the token ends in 1m 30s unless it is used before that");
    }
}
