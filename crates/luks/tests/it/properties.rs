//! Properties over many headers: what is written reads back, and nothing read panics.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use strongroom_crypto::{CipherSpec, Hash, Kdf, SectorSize};
use strongroom_luks::{FormatOptions, Header, Version, head_len};

use crate::device::{apply, cheap, parse, passphrase, policy, rng};
use crate::volume::{CHEAP, HDR_SIZE, Volume};

/// A spec with a key size, data of either format.
fn encryption() -> impl Strategy<Value = (&'static str, usize)> {
    select(vec![
        ("aes-xts-plain64", 256),
        ("aes-xts-plain64", 512),
        ("aes-cbc-essiv:sha256", 128),
        ("serpent-xts-plain64", 512),
        ("twofish-cbc-plain", 192),
        ("camellia-ctr-plain64be", 256),
    ])
}

fn luks2_options() -> impl Strategy<Value = FormatOptions> {
    (
        encryption(),
        select(vec![512, 1024, 2048, 4096]),
        option::of(14u32..=18),
        option::of(600u64..2000),
        any::<bool>(),
        "[ -~é€]{0,15}",
        "[a-z]{0,47}",
        any::<bool>(),
    )
        .prop_map(
            |((spec, bits), sector, size, offset, detached, label, subsystem, argon2)| {
                let spec: CipherSpec = spec.parse().unwrap();
                FormatOptions {
                    encryption: spec.with_key_bits(bits).unwrap(),
                    kdf: if argon2 { cheap(Version::Luks2) } else { CHEAP },
                    sector_size: SectorSize::from_bytes(sector).unwrap(),
                    metadata_size: size.map(|shift| 1 << shift),
                    data_offset: offset.map(|pages| pages * 4096),
                    detached,
                    label,
                    subsystem,
                    ..FormatOptions::new(Version::Luks2)
                }
            },
        )
}

fn luks1_options() -> impl Strategy<Value = FormatOptions> {
    (
        encryption(),
        select(vec![Hash::Sha1, Hash::Sha256, Hash::Sha512, Hash::Ripemd160, Hash::Whirlpool]),
        option::of(5000u64..9000),
        any::<bool>(),
    )
        .prop_map(|((spec, bits), hash, offset, detached)| {
            let spec: CipherSpec = spec.parse().unwrap();
            FormatOptions {
                encryption: spec.with_key_bits(bits).unwrap(),
                hash,
                kdf: Kdf::Pbkdf2 { hash, iterations: 1000 },
                data_offset: offset.map(|sectors| sectors * 512),
                detached,
                ..FormatOptions::new(Version::Luks1)
            }
        })
}

/// Whatever a caller does with a header that it did not make.
fn use_all(device: &[u8]) {
    let Ok(header) = parse(device) else { return };
    let _ = header.payload(device.len() as u64);
    let _ = header.keyslots_to_try();
    let len = header.backup_len();
    assert!(len <= device.len() as u64 && len <= 160 << 20);
    for keyslot in header.keyslots() {
        let Ok(area) = header.keyslot_area(keyslot.id) else { continue };
        assert!(area.end - area.start <= 17 << 20 && area.end <= device.len() as u64);
    }
    let _ = header.remove_keyslot(0, &mut rng(1));
    let _ = header.erase(&mut rng(1));
    match &header {
        Header::Luks1(header) => drop(strongroom_luks::to_luks2(header, device, &mut rng(1))),
        Header::Luks2(header) => {
            drop(strongroom_luks::to_luks1(header, device.len() as u64));
            drop(header.set_labels(Some("x"), None));
            drop(header.import_token(None, r#"{"type":"x","keyslots":[]}"#));
        }
    }
    let _ = Header::repair(
        device,
        device.len() as u64,
        strongroom_luks::RepairScope::OverwritePrimary,
        &mut rng(1),
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_written_header_reads_back(options in prop_oneof![luks1_options(), luks2_options()]) {
        let formatted = options.format(&passphrase("old"), &policy(), &mut rng(1)).unwrap();
        let mut device = vec![0; formatted.header.backup_len() as usize];
        apply(&mut device, &formatted.change);
        prop_assert_eq!(parse(&device).unwrap(), formatted.header);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_do_no_harm(
        mut bytes in vec(any::<u8>(), 0..6000),
        magic in select(vec![&b"LUKS\xba\xbe\0\x01"[..], b"LUKS\xba\xbe\0\x02", b"SKUL\xba\xbe\0\x02", b""]),
        device_len in any::<u64>(),
    ) {
        for (byte, magic) in bytes.iter_mut().zip(magic) {
            *byte = *magic;
        }
        prop_assert!(head_len(&bytes) <= 8 << 20);
        let _ = Header::parse(&bytes, device_len);
        let _ = Header::repair(&bytes, device_len, strongroom_luks::RepairScope::OverwritePrimary, &mut rng(1));
        use_all(&bytes);
    }

    #[test]
    fn arbitrary_metadata_under_a_right_checksum_do_no_harm(
        text in "\\{[ -~]{0,200}\\}",
        raw in vec(any::<u8>(), 0..300),
    ) {
        let mut volume = Volume::small(Version::Luks2, 1);
        volume.put_json(text.as_bytes());
        use_all(&volume.bytes);
        volume.put_json(&raw);
        use_all(&volume.bytes);
    }

    #[test]
    fn mutated_luks1_headers_do_no_harm(changes in vec((0usize..592, any::<u8>()), 1..6)) {
        let mut volume = Volume::small(Version::Luks1, 8);
        for (offset, byte) in changes {
            volume.bytes[offset] = byte;
        }
        use_all(&volume.bytes);
    }

    #[test]
    fn mutated_luks2_headers_do_no_harm(
        changes in vec((0usize..6000, any::<u8>()), 1..4),
        copies in select(vec![&[0][..], &[HDR_SIZE], &[0, HDR_SIZE]]),
        sum in any::<bool>(),
    ) {
        let mut volume = Volume::small(Version::Luks2, 1);
        for (offset, byte) in changes {
            for copy in copies {
                volume.bytes[copy + offset] = byte;
            }
        }
        if sum {
            volume.sum();
        }
        use_all(&volume.bytes);
    }

    #[test]
    fn mutated_metadata_do_no_harm(
        changes in vec((any::<Index>(), any::<Index>()), 1..4),
        numbers in vec(select(vec!["0", "18446744073709551615", "9223372036854775808", "2147483647", "4294967296", "32768", "-1", "\"\""]), 3),
    ) {
        let mut volume = Volume::small(Version::Luks2, 1);
        let mut json = volume.json();
        for ((at, what), number) in changes.iter().zip(&numbers) {
            let pointers = pointers(&json, "");
            let pointer = pointers[at.index(pointers.len())].clone();
            *json.pointer_mut(&pointer).unwrap() = match what.index(4) {
                0 => serde_json::json!(number),
                1 => serde_json::from_str(number).unwrap(),
                2 => serde_json::json!({}),
                _ => serde_json::json!([]),
            };
        }
        volume.put_json(json.to_string().as_bytes());
        use_all(&volume.bytes);
    }
}

/// Returns the places of all values in a document, itself left out.
fn pointers(value: &serde_json::Value, at: &str) -> Vec<String> {
    let members: Vec<(String, &serde_json::Value)> = match value {
        serde_json::Value::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        serde_json::Value::Array(items) => {
            items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (name, value) in members {
        let pointer = format!("{at}/{name}");
        found.extend(pointers(value, &pointer));
        found.push(pointer);
    }
    if at.is_empty() && found.is_empty() {
        found.push(String::new());
    }
    found
}
