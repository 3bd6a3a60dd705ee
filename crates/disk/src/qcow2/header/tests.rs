use super::*;
use crate::ErrorKind;
use crate::qcow2::{CreateOptions, create};
use crate::{Disk, Memory};

fn head() -> Vec<u8> {
    let memory = Memory::new(0);
    create(&memory, &CreateOptions { cluster_size: 4096, ..CreateOptions::new(1 << 20) }).unwrap();
    let mut head = vec![0; 4096];
    memory.read_at(&mut head, 0).unwrap();
    head
}

fn refused(change: impl FnOnce(&mut [u8])) -> String {
    let mut head = head();
    assert!(Header::parse(&head).is_ok());
    change(&mut head);
    Header::parse(&head).unwrap_err().reason().to_owned()
}

#[test]
fn unknown_incompatible_features_are_refused_by_name() {
    let reason = refused(|head| {
        head[74] = 1;
        // The first entry of the table of names: incompatible feature 40.
        let table = head.windows(4).position(|kind| kind == EXTENSION_FEATURE_NAMES.to_be_bytes());
        let entry = table.unwrap() + 8;
        head[entry..entry + 9].copy_from_slice(b"\0\x28turbine");
        head[entry + 9..entry + 48].fill(0);
    });
    assert_eq!(reason, "it needs what is unknown here: \"turbine\" (incompatible feature 40)");
    let reason = refused(|head| head[79] = 0x20);
    assert_eq!(reason, "it needs what is unknown here: incompatible feature 5");
}

#[test]
fn every_limit_holds() {
    for (offset, bytes, words) in [
        (0, &b"QFI\0"[..], "not a qcow2 image"),
        (4, &[0, 0, 0, 1], "version 1"),
        (20, &[0, 0, 0, 8], "2^8"),
        (20, &[0, 0, 0, 22], "2^22"),
        (20, &[0xFF; 4], "2^4294967295"),
        (24, &[0xFF; 8], "beyond all limits"),
        (24, &[0x7F, 0xFF, 0, 0, 0, 0, 0, 0], "L1 table has"),
        (32, &[0, 0, 0, 1], "old AES encryption"),
        (32, &[0, 0, 0, 3], "encryption method 3"),
        (32, &[0, 0, 0, 2], "does not say where"),
        (36, &[0xFF; 4], "more than 33554432"),
        (40, &[0, 0, 0, 0, 0, 0, 0, 1], "not at a cluster"),
        (48, &[0, 0, 0, 0, 0, 0, 0, 1], "not at a cluster"),
        (48, &[0; 8], "no refcount table"),
        (56, &[0; 4], "no refcount table"),
        (56, &[0xFF; 4], "refcount table has"),
        (60, &[0xFF; 4], "4294967295 snapshots"),
        (64, &[0, 0, 0, 0, 0, 0, 0, 1], "not at a cluster"),
        (79, &[0x10], "cannot have 32 subclusters"),
        (79, &[0x08], "contradicts"),
        (96, &[0, 0, 0, 7], "wider than 64 bits"),
        (100, &[0, 0, 0, 8], "header has 8 bytes"),
        (100, &[0xFF; 4], "header has 4294967295 bytes"),
        (104, &[2], "compression type 2"),
    ] {
        let reason = refused(|head| head[offset..offset + bytes.len()].copy_from_slice(bytes));
        assert!(reason.contains(words), "{offset}: {reason}");
    }
}

#[test]
fn names_and_extensions_lie_within_the_first_cluster() {
    let reason = refused(|head| {
        head[8..16].copy_from_slice(&4090u64.to_be_bytes());
        head[16..20].copy_from_slice(&100u32.to_be_bytes());
    });
    assert!(reason.contains("outside the header"), "{reason}");
    let reason = refused(|head| {
        head[8..16].copy_from_slice(&1024u64.to_be_bytes());
        head[16..20].copy_from_slice(&1024u32.to_be_bytes());
    });
    assert!(reason.contains("1024 bytes"), "{reason}");
    let reason = refused(|head| head[116..120].fill(0xFF));
    assert!(reason.contains("too long"), "{reason}");
}

#[test]
fn any_prefix_and_any_changed_byte_is_read_or_refused() {
    let head = head();
    for length in 0..600 {
        let _ = Header::parse(&head[..length]);
    }
    for index in 0..600 {
        for byte in [0, 1, 0x7F, 0xFF] {
            let mut head = head.clone();
            head[index] = byte;
            let _ = Header::parse(&head);
        }
    }
}

#[test]
fn unknown_extensions_are_kept() {
    let mut head = head();
    head[112..120].copy_from_slice(&[0xAB, 0xCD, 0, 1, 0, 0, 0, 3]);
    head[120..128].copy_from_slice(b"abc\0\0\0\0\0");
    head[128..136].fill(0);
    let header = Header::parse(&head).unwrap();
    assert_eq!(header.extensions, [Extension { kind: 0xABCD_0001, data: b"abc".to_vec() }]);
    assert_eq!(Malformed::invalid("x").of("disk").kind(), ErrorKind::Invalid);
}
