//! `strongroom kms probe`

use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};
use strongroom_crypto::CostPolicy;
use strongroom_kms::{Expiry, Probe};

use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::key_arguments;
use crate::kms_arguments::{KmsArgs, Own};
use crate::passphrases::PassphraseArgs;
use crate::times::{rfc3339, span};
use crate::ui::{Output, Ui};

/// Show what the KMS says: its key, how long the credentials last, what is missing
///
/// Nothing in the KMS is changed.
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    kms: KmsArgs<Own>,

    #[command(flatten)]
    passphrase: PassphraseArgs,

    #[command(flatten)]
    output: OutputArgs,
}

/// Asks the KMS.
///
/// # Errors
///
/// When it cannot even be asked.
pub(crate) fn run(ui: &mut Ui, args: &ProbeArgs) -> Result<(), CommandError> {
    let provider =
        key_arguments::provider(args.passphrase.source(), &args.kms, &CostPolicy::default())?;
    let probe = provider.probe().map_err(strongroom::Error::from)?;
    let now = SystemTime::now();
    match args.output.output() {
        Output::Json => ui.json(&object(&provider.label(), &probe, now)),
        Output::Text => text(ui, &provider.label(), &probe, now),
    }
}

fn object(label: &str, probe: &Probe, now: SystemTime) -> Value {
    let (until, seconds) = match probe.credentials {
        Expiry::At(time) => {
            let left = time.duration_since(now).map_or(0, |left| left.as_secs());
            (Some(rfc3339(time)), Some(left))
        }
        Expiry::Never | Expiry::Unknown => (None, None),
    };
    let expiry = match probe.credentials {
        Expiry::Unknown => "unknown",
        Expiry::Never => "never",
        Expiry::At(_) => "at",
    };
    json!({
        "kms": label,
        "server": probe.server,
        "key_version": probe.key_version,
        "oldest_key_version": probe.oldest_key_version,
        "credentials": { "expiry": expiry, "until": until, "seconds_left": seconds },
        "allowed": probe.allowed,
        "findings": probe.findings,
    })
}

fn text(ui: &mut Ui, label: &str, probe: &Probe, now: SystemTime) -> Result<(), CommandError> {
    row(ui, "KMS", label)?;
    let untold = || "it does not tell".to_owned();
    row(ui, "server", &probe.server.clone().unwrap_or_else(untold))?;
    row(ui, "newest version", &probe.key_version.clone().unwrap_or_else(untold))?;
    row(ui, "oldest version", &probe.oldest_key_version.clone().unwrap_or_else(untold))?;
    row(ui, "credentials", &expiry(probe.credentials, now))?;
    let allowed = probe.allowed.join(", ");
    row(ui, "allowed", if allowed.is_empty() { "nothing, as far as it tells" } else { &allowed })?;
    for finding in &probe.findings {
        row(ui, "finding", finding)?;
    }
    Ok(())
}

/// Returns how long credentials last, in words.
fn expiry(expiry: Expiry, now: SystemTime) -> String {
    match expiry {
        Expiry::Unknown => "nobody tells how long they last".to_owned(),
        Expiry::Never => "they do not expire".to_owned(),
        Expiry::At(time) => match time.duration_since(now) {
            Ok(left) => format!("they last {}, until {}", span(left.as_secs()), rfc3339(time)),
            Err(_) => format!("they expired at {}", rfc3339(time)),
        },
    }
}

fn row(ui: &mut Ui, name: &str, value: &str) -> Result<(), CommandError> {
    ui.data(&format!("{name:<16}{}", value.replace('\n', "\\n")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_has_expired_is_said_to_have() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let past = Expiry::At(SystemTime::UNIX_EPOCH + Duration::from_secs(10));
        assert_eq!(expiry(past, now), "they expired at 1970-01-01T00:00:10Z");
        let coming = Expiry::At(now + Duration::from_secs(120));
        assert_eq!(expiry(coming, now), "they last 2 minutes, until 1970-01-01T00:18:40Z");
    }
}
