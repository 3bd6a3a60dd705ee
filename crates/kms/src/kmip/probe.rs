//! How a KMIP server and a key in it are.

use std::time::{Instant, SystemTime};

use super::certificate::finding;
use super::kek::{ACTIVE, KmipKek, state_name};
use super::messages::{Answer, Attributes, Request, operation};
use super::session::list;
use crate::{ErrorKind, Expiry, Probe, Result};

/// Asks a server about itself and the key.
pub(super) fn probe(kek: &KmipKek) -> Result<Probe> {
    let deadline = kek.session.deadline();
    let agreed = kek.session.agreed(deadline)?;
    let mut probe = Probe::default();
    let (name, operations) = match kek.session.ask(Request::Query, deadline)? {
        Ok(Answer::Server { name, operations }) => (name, Some(operations)),
        Ok(_) => return Err(kek.session.unfitting()),
        Err(failure) if failure.refuses_the_client() => return Err(kek.session.refused(failure)),
        // A server need not tell.
        Err(_) => (None, None),
    };
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| "KMIP server".to_owned());
    let (version, offered) = (agreed.version, list(&agreed.offered));
    probe.server = Some(format!("{name}, KMIP {version} of {offered}"));
    let key = key(kek, deadline, &mut probe)?;
    for (operation, word, bit) in
        [(operation::ENCRYPT, "encrypt", ENCRYPT_BIT), (operation::DECRYPT, "decrypt", DECRYPT_BIT)]
    {
        if operations.as_ref().is_some_and(|known| !known.contains(&operation)) {
            probe.findings.push(format!("the server does not {word}: another one has to be used"));
            continue;
        }
        let Some(key) = &key else { continue };
        if key.usage.is_some_and(|usage| usage & bit == 0) {
            probe.findings.push(format!(
                "the key is not meant to {word}: let the KMS set that in its usage mask"
            ));
        } else if key.state.is_none_or(|state| state == ACTIVE) {
            probe.allowed.push(word.to_owned());
        }
    }
    if probe.allowed.len() == 2 {
        probe.allowed.push("rewrap".to_owned());
    }
    if key.is_some() && probe.allowed.iter().any(|it| it == "encrypt") {
        probe.findings.extend(cipher(kek, deadline));
    }
    certificates(kek, &mut probe);
    Ok(probe)
}

/// Tries the key, and returns what to say of how it encrypts.
fn cipher(kek: &KmipKek, deadline: Instant) -> Option<String> {
    let tried = kek.identifier(deadline).and_then(|id| kek.encrypt_under(&id, b"probe", deadline));
    match tried {
        Err(error) => Some(format!("it does not encrypt: {}", error.problem())),
        Ok(_) if kek.is_doubtful() => Some(
            "AES-GCM fails without a reason, so that AES-CBC is used, and alterations are told by \
             the fingerprint alone: see the log of the server, and rewrap once AES-GCM works"
                .to_owned(),
        ),
        Ok(_) => None,
    }
}

/// Returns what the server knows of the key, where there is one.
fn key(kek: &KmipKek, deadline: Instant, probe: &mut Probe) -> Result<Option<Attributes>> {
    if kek.key.is_none() {
        return Ok(None);
    }
    let id = match kek.identifier(deadline) {
        Ok(id) => id,
        Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
        Err(error) => {
            let hint = error.hint().map(|hint| format!(": {hint}")).unwrap_or_default();
            probe.findings.push(format!("{error}{hint}"));
            return Ok(None);
        }
    };
    let attributes = match kek.attributes(&id, deadline)? {
        Ok(attributes) => attributes,
        Err(failure) => {
            probe.findings.push(format!("the key {} cannot be looked at: {failure}", shown(&id)));
            return Ok(None);
        }
    };
    if let Some(state) = attributes.state.filter(|state| *state != ACTIVE) {
        probe.findings.push(format!(
            "the key {} is {}: let the KMS activate it, or name another with --kms-key-id",
            shown(&id),
            state_name(state)
        ));
    }
    if attributes.algorithm.is_some_and(|algorithm| algorithm != AES) {
        probe.findings.push(format!("the key {} is none of AES: name another", shown(&id)));
    } else if let Some(bits) = attributes.length.filter(|bits| *bits < 256) {
        probe.findings.push(format!("the key {} has {bits} bits only, not 256", shown(&id)));
    }
    if let Some(next) = &attributes.replacement {
        probe.findings.push(format!(
            "the key {} was replaced by {}: rewrap, and name that with --kms-key-id",
            shown(&id),
            shown(next)
        ));
    }
    Ok(Some(attributes))
}

fn certificates(kek: &KmipKek, probe: &mut Probe) {
    let now = SystemTime::now();
    let client = kek.session.client();
    let (own, servers) = (client.certificate_expiry(), client.server_expiry());
    probe.credentials = own.map_or(Expiry::Unknown, Expiry::At);
    let todo = "give a new one with --kms-cert-file and --kms-key-file";
    probe.findings.extend(finding("the client's certificate", own, now, todo));
    let todo = "let the server have a new one";
    probe.findings.extend(finding("the server's certificate", servers, now, todo));
    let todo = "give the one that follows it with --kms-ca-file as well";
    probe.findings.extend(finding("a CA certificate", kek.authority_expiry, now, todo));
}

/// Returns a name of the server in one line, and not too long.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

/// How many characters of a name are shown.
const MAX_SHOWN: usize = 128;

const AES: u32 = 3;

// Bits of the usage mask (KMIP 1.4, section 9.1.3.3.1).
const ENCRYPT_BIT: i32 = 4;
const DECRYPT_BIT: i32 = 8;
