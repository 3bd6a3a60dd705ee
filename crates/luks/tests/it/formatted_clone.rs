//! Clones whose magic librbd has changed, made here by changing that of ordinary volumes.

use strongroom_luks::{
    Error, Header, RepairScope, Version, formatted_clone_head_len, head_len, is_formatted_clone,
};

use crate::device::rng;
use crate::volume::Volume;

/// Returns a volume's bytes as librbd leaves those of a clone.
fn clone_of(volume: &Volume) -> Vec<u8> {
    let mut bytes = volume.bytes.clone();
    bytes[..6].copy_from_slice(b"RBDL\xba\xbe");
    if let Some((offset, _)) = volume.header().second_magic() {
        bytes[offset as usize..][..6].copy_from_slice(b"LDBR\xba\xbe");
    }
    bytes
}

#[test]
fn a_clone_is_read_as_the_header_that_it_is_but_for_its_magic() {
    for version in [Version::Luks1, Version::Luks2] {
        let volume = Volume::small(version, 2);
        let bytes = clone_of(&volume);
        assert!(is_formatted_clone(&bytes) && !is_formatted_clone(&volume.bytes));
        let needed = formatted_clone_head_len(&bytes[..4096]);
        assert_eq!(needed, head_len(&volume.bytes[..4096]));
        let head = &bytes[..needed.min(bytes.len())];
        let found = Header::parse_formatted_clone(head, bytes.len() as u64).unwrap();
        assert_eq!(found.header, volume.header());
        assert!(found.recovery.is_none(), "{:?}", found.recovery);
    }
}

#[test]
fn nobody_else_takes_a_clone_for_an_ordinary_volume() {
    for version in [Version::Luks1, Version::Luks2] {
        let mut bytes = clone_of(&Volume::small(version, 2));
        let len = bytes.len() as u64;
        let error = Header::parse(&bytes, len).unwrap_err();
        assert_eq!(error, Error::FormattedClone);
        assert!(error.to_string().contains("RBD clone"), "{error}");
        let repaired = Header::repair(&bytes, len, RepairScope::OverwritePrimary, &mut rng(1));
        assert_eq!(repaired.unwrap_err(), Error::FormattedClone);
        // Not even while an ordinary second copy is left.
        if version == Version::Luks2 {
            let at = bytes.windows(6).position(|six| six == b"LDBR\xba\xbe").unwrap();
            bytes[at..at + 6].copy_from_slice(b"SKUL\xba\xbe");
            assert_eq!(Header::parse(&bytes, len).unwrap_err(), Error::FormattedClone);
        }
    }
}

#[test]
fn an_ordinary_volume_is_no_clone() {
    for version in [Version::Luks1, Version::Luks2] {
        let volume = Volume::small(version, 2);
        let read = Header::parse_formatted_clone(&volume.bytes, volume.bytes.len() as u64);
        assert_eq!(read.unwrap_err(), Error::NotLuks);
    }
    assert_eq!(Header::parse_formatted_clone(b"", 0).unwrap_err(), Error::NotLuks);
    assert!(Header::parse_formatted_clone(b"RBDL\xba\xbe\0\x01", 8).is_err());
    assert!(Header::parse_formatted_clone(b"RBDL\xba\xbe", 6).is_err());
}
