//! Which secret a command means.

use clap::Args;
use strongroom_model::dialect::libvirt::SecretName;

use crate::command_error::CommandError;

/// Which secret
#[derive(Debug, Args)]
#[group(id = "secret", required = true, multiple = false)]
pub(super) struct SecretArgs {
    /// Its UUID
    #[arg(value_name = "UUID")]
    uuid: Option<String>,

    /// The path of the volume that it is for
    #[arg(long, value_name = "PATH")]
    usage: Option<String>,
}

impl SecretArgs {
    /// Returns which secret is meant.
    ///
    /// # Errors
    ///
    /// When the UUID is none.
    pub(super) fn name(&self) -> Result<SecretName, CommandError> {
        match (&self.uuid, &self.usage) {
            (Some(uuid), _) => canonical(uuid).map(SecretName::Uuid).ok_or_else(|| {
                CommandError::request(format!("{uuid:?} is no UUID"))
                    .hinted("`strongroom libvirt secret-list` shows those that there are")
            }),
            (None, usage) => Ok(SecretName::Usage(usage.clone().unwrap_or_default())),
        }
    }
}

/// Returns a UUID in small letters and with dashes, as libvirt writes them and reads them more freely.
fn canonical(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|letter| !matches!(letter, '-' | ' ')).collect();
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = digits.to_ascii_lowercase();
    is_hex.then(|| {
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        parts.join("-")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_read_as_freely_as_libvirt_reads_them() {
        let canon = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f";
        for text in
            [canon, "0A81F5B284037B23C8D621CCC2F80D6F", " 0a81f5b2 8403-7b23-c8d621ccc2f80d6f"]
        {
            assert_eq!(canonical(text).as_deref(), Some(canon), "{text}");
        }
        for text in
            ["", "0a81f5b2", "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6g", "ä".repeat(16).as_str()]
        {
            assert_eq!(canonical(text), None, "{text}");
        }
    }
}
