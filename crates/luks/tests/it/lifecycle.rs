//! Formatting, opening, and changing keys.

use strongroom_luks::{Error, Header, NewKeyslot, Version};

use crate::device::{apply, cheap, formatted, open, options, parse, passphrase, policy, rng};

const BOTH: [Version; 2] = [Version::Luks1, Version::Luks2];

fn cheap_keyslot(header: &Header) -> NewKeyslot {
    NewKeyslot { kdf: cheap(header.version()), ..header.default_keyslot().unwrap() }
}

#[test]
fn opens_what_it_formatted_and_nothing_else() {
    for version in BOTH {
        let (device, formatted) = formatted(&options(version));
        assert_eq!(open(&device, "old").unwrap(), formatted.volume_key);
        assert!(matches!(open(&device, "other"), Err(Error::WrongPassphrase { .. })));
    }
}

#[test]
fn adds_changes_and_removes_keys() {
    for version in BOTH {
        let (mut device, formatted) = formatted(&options(version));
        let header = formatted.header;
        let new = cheap_keyslot(&header);
        let key = formatted.volume_key;
        let (id, header, change) =
            header.add_keyslot(&key, &passphrase("new"), &new, &policy(), &mut rng(1)).unwrap();
        apply(&mut device, &change);
        assert_eq!(id, 1);
        assert_eq!(parse(&device).unwrap(), header);
        assert!(open(&device, "old").is_ok() && open(&device, "new").is_ok());
        let (_, header, change) = header
            .change_keyslot(0, &key, &passphrase("newer"), &new, &policy(), &mut rng(2))
            .unwrap();
        apply(&mut device, &change);
        assert!(open(&device, "old").is_err());
        assert!(open(&device, "new").is_ok() && open(&device, "newer").is_ok());
        let (header, change) = header.remove_keyslot(1, &mut rng(3)).unwrap();
        apply(&mut device, &change);
        assert!(open(&device, "new").is_err() && open(&device, "newer").is_ok());
        let last = header.keyslots()[0].id;
        let error = header.remove_keyslot(last, &mut rng(4)).unwrap_err();
        assert_eq!(error, Error::LastKeyslot { id: last });
    }
}

#[test]
fn sha1_makes_luks1_headers_only() {
    let sha1 = strongroom_crypto::Hash::Sha1;
    let pbkdf2 = strongroom_crypto::Kdf::Pbkdf2 { hash: sha1, iterations: 1000 };
    let format = |options: strongroom_luks::FormatOptions| {
        options.format(&passphrase("old"), &policy(), &mut rng(1)).map(|_| ())
    };
    let with = |version, kdf| strongroom_luks::FormatOptions { kdf, ..options(version) };
    for refused in [
        strongroom_luks::FormatOptions { hash: sha1, ..options(Version::Luks2) },
        with(Version::Luks2, pbkdf2),
    ] {
        let text = format(refused).unwrap_err().to_string();
        assert!(text.contains("sha1 is for opening old volumes only"), "{text}");
    }
    let luks1 = strongroom_luks::FormatOptions { hash: sha1, ..with(Version::Luks1, pbkdf2) };
    assert_eq!(format(luks1), Ok(()));
}
