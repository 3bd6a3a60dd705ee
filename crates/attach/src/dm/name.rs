//! Names and UUIDs of mappings.

use strongroom_luks::Version;

use crate::{EncryptedContents, Error, ErrorKind, Result};

/// Returns the UUID of a mapping as cryptsetup makes it: `CRYPT-LUKS2-<uuid without dashes>-<name>`, cut
/// where device-mapper cuts it.
///
/// # Errors
///
/// When the name or the UUID of the header cannot be part of one.
pub(super) fn uuid(name: &str, contents: &EncryptedContents) -> Result<String> {
    check(name)?;
    let uuid = &contents.uuid;
    if uuid.is_empty() || !uuid.bytes().all(is_plain) {
        let problem =
            format!("the UUID {uuid:?} of the LUKS header cannot be given to device-mapper");
        return Err(Error::new(ErrorKind::Contents, problem)
            .hinted("give the header another one: `strongroom luks uuid`"));
    }
    let version = match contents.version {
        Version::Luks1 => "LUKS1",
        Version::Luks2 => "LUKS2",
    };
    let mut text = format!("{OURS}{version}-{}-{name}", uuid.replace('-', ""));
    text.truncate(MOST_UUID);
    Ok(text)
}

/// Checks that a mapping can have the name.
///
/// # Errors
///
/// [`ErrorKind::Request`] when it cannot.
pub(super) fn check(name: &str) -> Result<()> {
    let is_reserved = matches!(name, "" | "." | ".." | "control");
    if is_reserved || name.len() > MOST_NAME || !name.bytes().all(is_plain) {
        let shown: String = name.chars().take(MOST_NAME).collect();
        return Err(Error::new(
            ErrorKind::Request,
            format!("{shown:?} cannot be a mapping's name"),
        )
        .hinted(format!("use up to {MOST_NAME} letters, digits and any of `{PUNCTUATION}`")));
    }
    Ok(())
}

/// Whether a character needs no escape in the names of device-mapper.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || PUNCTUATION.as_bytes().contains(&byte)
}

/// Returns whether the UUID of a mapping is that of a LUKS volume.
pub(super) fn is_of_luks(uuid: &str) -> bool {
    uuid.starts_with("CRYPT-LUKS")
}

/// What the UUIDs of all mappings of dm-crypt begin with.
const OURS: &str = "CRYPT-";

/// The longest name and UUID of a mapping, in bytes.
const MOST_NAME: usize = 127;
const MOST_UUID: usize = 128;

/// What names may hold besides letters and digits. libdevmapper escapes the rest.
const PUNCTUATION: &str = "#+-.:=@_";

#[cfg(test)]
mod tests {
    use strongroom_crypto::{CipherSpec, SectorSize, VolumeKey};
    use strongroom_luks::Payload;

    use super::*;

    fn contents(uuid: &str, version: Version) -> EncryptedContents {
        let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
        let (offset, sector_size) = (16 << 20, SectorSize::B512);
        EncryptedContents {
            version,
            uuid: uuid.to_owned(),
            payload: Payload { offset, length: 512, encryption, sector_size, iv_tweak: 0 },
            key: VolumeKey::new(vec![0; 64]),
        }
    }

    const UUID: &str = "11111111-2222-3333-4444-555555555555";

    #[test]
    fn uuids_are_those_of_cryptsetup() {
        assert_eq!(
            uuid("vol", &contents(UUID, Version::Luks2)).unwrap(),
            "CRYPT-LUKS2-11111111222233334444555555555555-vol"
        );
        assert!(uuid("vol", &contents(UUID, Version::Luks1)).unwrap().starts_with("CRYPT-LUKS1-"));
        assert_eq!(uuid(&"n".repeat(127), &contents(UUID, Version::Luks2)).unwrap().len(), 128);
    }

    #[test]
    fn names_that_device_mapper_would_escape_are_refused() {
        for name in
            ["", ".", "..", "control", "a/b", "../a", "a b", "ä", "a\\x20", &"n".repeat(128)]
        {
            let error = check(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Request, "{name}");
            assert!(error.hint().unwrap().contains("127 letters"));
        }
        for name in ["vol", "pvc-1.2_3:4@5#6+7=8", &"n".repeat(127)] {
            check(name).unwrap();
        }
    }

    #[test]
    fn a_header_with_a_uuid_that_would_break_a_table_is_refused() {
        for text in ["", "a b", "1111 8 7:0", "a\nb"] {
            let error = uuid("vol", &contents(text, Version::Luks2)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Contents, "{text}");
        }
    }
}
