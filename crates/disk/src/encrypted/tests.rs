use strongroom_crypto::{CipherSpec, IvUnit, SectorSize, VolumeKey};

use super::*;
use crate::{Access, Memory, Raw, ReadOnly, Slice, conformance};

fn cipher(spec: &str, sector_size: SectorSize, iv_unit: IvUnit) -> SectorCipher {
    let encryption = spec.parse::<CipherSpec>().unwrap().with_largest_key();
    let key = (0..encryption.key_size().bytes()).map(|i| i as u8).collect();
    SectorCipher::new(encryption, &VolumeKey::new(key), sector_size, iv_unit).unwrap()
}

fn xts(sector_size: SectorSize) -> SectorCipher {
    cipher("aes-xts-plain64", sector_size, IvUnit::Bytes512)
}

fn view<D: Disk>(inner: D, sector_size: SectorSize) -> Encrypted<D> {
    let len = inner.len();
    Encrypted::new(inner, 0..len, xts(sector_size), 0).unwrap()
}

#[test]
fn passes_the_conformance_suite_over_memory() {
    for size in [SectorSize::B512, SectorSize::B4096] {
        conformance::run(size.bytes() as u64, &|len| {
            let memory = Memory::new(len + 10_000);
            Box::new(Encrypted::new(memory, 1000..len + 1000, xts(size), 77).unwrap())
        });
    }
}

#[test]
fn passes_the_conformance_suite_over_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    for size in [SectorSize::B512, SectorSize::B4096] {
        conformance::run(size.bytes() as u64, &|len| {
            std::fs::write(&path, vec![0x55; len as usize]).unwrap();
            let raw = Raw::open(&path, Access::ReadWrite).unwrap();
            Box::new(view(raw, size).with_discards(Discards::Pass))
        });
    }
}

#[test]
fn passes_the_conformance_suite_over_another_encrypted_disk() {
    conformance::run(4096, &|len| {
        let below = view(Memory::new(len), SectorSize::B512);
        let cipher = cipher("aes-cbc-essiv:sha256", SectorSize::B4096, IvUnit::Bytes512);
        Box::new(Encrypted::new(below, 0..len, cipher, 0).unwrap())
    });
}

#[test]
fn ciphertext_is_what_the_cipher_makes_of_the_whole() {
    let plain: Vec<u8> = (0..3 << 20).map(|i: u32| (i / 7) as u8).collect();
    for (size, unit, tweak) in [
        (SectorSize::B512, IvUnit::Bytes512, 0),
        (SectorSize::B4096, IvUnit::Bytes512, 5),
        (SectorSize::B4096, IvUnit::Sector, u64::MAX - 3),
    ] {
        let memory = Memory::new(plain.len() as u64 + 4096);
        let range = 4096..4096 + plain.len() as u64;
        let cipher = || cipher("aes-xts-plain64", size, unit);
        let disk = Encrypted::new(&memory, range, cipher(), tweak).unwrap();
        let mut offset = 0;
        for piece in plain.chunks(99_991) {
            disk.write_at(piece, offset).unwrap();
            offset += piece.len() as u64;
        }
        let mut expected = plain.clone();
        cipher().encrypt(&mut expected, tweak);
        assert!(memory.to_vec()[4096..] == expected);
    }
}

#[test]
fn a_hole_below_is_data() {
    let disk = view(Memory::new(1 << 20), SectorSize::B512);
    let extent = disk.extent_at(4096).unwrap();
    assert_eq!(extent, Extent { range: 4096..1 << 20, kind: ExtentKind::Data });
    let mut bytes = [0; 512];
    disk.read_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().any(|&byte| byte != 0));
}

#[test]
fn zeros_are_written_encrypted() {
    let memory = Memory::new(1 << 20);
    view(&memory, SectorSize::B512).write_zeroes(0..1 << 20).unwrap();
    assert_eq!(memory.allocated(), 1 << 20);
    assert!(memory.to_vec().chunks(512).all(|sector| sector.iter().any(|&byte| byte != 0)));
}

#[test]
fn discards_are_refused_unless_passed_and_then_cover_whole_sectors_only() {
    let memory = Memory::from(&[1; 16384][..]);
    let error = view(&memory, SectorSize::B4096).discard(0..16384).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(memory.to_vec(), [1; 16384]);
    let passing = view(&memory, SectorSize::B4096).with_discards(Discards::Pass);
    passing.discard(4095..12289).unwrap();
    passing.discard(1..4000).unwrap();
    assert_eq!(memory.allocated(), 8192);
}

#[test]
fn refuses_a_length_that_is_no_whole_number_of_sectors() {
    let error = Encrypted::new(Memory::new(5120), 0..5120, xts(SectorSize::B4096), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unaligned);
    assert_eq!(
        error.to_string(),
        "cannot open 5120 bytes at offset 0 of memory: 5120 bytes are not a whole number of \
         4096-byte encryption sectors"
    );
    assert!(Encrypted::new(Memory::new(5120), 0..5120, xts(SectorSize::B512), 0).is_ok());
}

#[test]
fn refuses_a_range_past_the_end_of_the_disk_below() {
    let error = Encrypted::new(Memory::new(4096), 512..4608, xts(SectorSize::B512), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PastEnd);
}

#[test]
fn whole_sectors_written_while_parts_of_others_are_changed_survive() {
    let disk = view(Memory::new(1 << 20), SectorSize::B4096);
    let disk = Slice::new(&disk, 0..1 << 20).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let disk = &disk;
            scope.spawn(move || {
                // Each thread owns a run of bytes that begins and ends within sectors and holds
                // whole ones too.
                let start = thread * 20_000 + 1;
                for round in 0..100u8 {
                    disk.write_at(&[round; 19_990], start).unwrap();
                    let mut found = [0; 19_990];
                    disk.read_at(&mut found, start).unwrap();
                    assert!(found.iter().all(|&byte| byte == round));
                }
            });
        }
    });
}

#[test]
fn a_longer_disk_ends_with_zeros_and_a_shorter_one_is_cut_below() {
    for size in [SectorSize::B512, SectorSize::B4096] {
        let memory = Memory::new(4096 + 8192);
        let disk = Encrypted::new(&memory, 4096..4096 + 8192, xts(size), 3).unwrap();
        disk.write_at(&[7; 8192], 0).unwrap();
        disk.set_len(300 << 10).unwrap();
        assert_eq!((disk.len(), memory.len()), (300 << 10, 4096 + (300 << 10)));
        let mut bytes = vec![1; 300 << 10];
        disk.read_at(&mut bytes, 0).unwrap();
        assert!(bytes[..8192] == [7; 8192] && bytes[8192..].iter().all(|&byte| byte == 0));

        disk.set_len(4096).unwrap();
        assert_eq!((disk.len(), memory.len()), (4096, 8192));
        assert_eq!(disk.write_at(&[1], 4096).unwrap_err().kind(), ErrorKind::PastEnd);
        let disk = disk.with_new_ends(NewEnds::Noise);
        disk.set_len(8192).unwrap();
        disk.read_at(&mut bytes[..8192], 0).unwrap();
        assert!(bytes[..4096] == [7; 4096] && bytes[4096..8192] != [0; 4096]);
    }
}

#[test]
fn a_length_that_does_not_fit_changes_nothing() {
    let memory = Memory::new(16_384);
    let disk = Encrypted::new(&memory, 4096..16_384, xts(SectorSize::B4096), 0).unwrap();
    for (len, kind) in [(4095, ErrorKind::Unaligned), (u64::MAX / 4096 * 4096, ErrorKind::PastEnd)]
    {
        assert_eq!(disk.set_len(len).unwrap_err().kind(), kind);
    }
    let middle = Encrypted::new(&memory, 4096..8192, xts(SectorSize::B512), 0).unwrap();
    for len in [0, 4096, 12_288] {
        assert_eq!(middle.set_len(len).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert_eq!((disk.len(), middle.len(), memory.len()), (12_288, 4096, 16_384));
    let fixed = Encrypted::new(ReadOnly(&memory), 0..16_384, xts(SectorSize::B512), 0).unwrap();
    for len in [0, 32_768] {
        assert_eq!(fixed.set_len(len).unwrap_err().kind(), ErrorKind::ReadOnly);
        assert_eq!(fixed.len(), 16_384);
    }
}

#[test]
fn others_write_below_while_the_end_moves() {
    let memory = Memory::new(64 << 10);
    let disk = view(&memory, SectorSize::B512);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let disk = &disk;
            scope.spawn(move || {
                for at in (u64::from(thread) * 100..64 << 10).step_by(400) {
                    disk.write_at(&vec![thread + 1; 100.min((64 << 10) - at as usize)], at)
                        .unwrap();
                }
            });
        }
        for step in 1..50 {
            disk.set_len((64 << 10) + step % 7 * 4096).unwrap();
        }
    });
    disk.set_len(64 << 10).unwrap();
    let mut bytes = vec![0; 64 << 10];
    disk.read_at(&mut bytes, 0).unwrap();
    assert!(bytes.iter().enumerate().all(|(at, &byte)| u64::from(byte) == at as u64 / 100 % 4 + 1));
}

#[test]
fn shows_what_others_have_added_below() {
    let memory = Memory::new(12_288);
    let disk = Encrypted::new(&memory, 4096..12_288, xts(SectorSize::B4096), 0).unwrap();
    assert_eq!(disk.extend(12_288).unwrap_err().kind(), ErrorKind::PastEnd);
    memory.set_len(20_000);
    disk.extend(20_000 - 4096).unwrap();
    assert_eq!(disk.len(), 12_288, "whole sectors");
    disk.extend(4096).unwrap();
    assert_eq!(disk.len(), 12_288, "never less");
    disk.write_at(&[7; 4096], 8192).unwrap();
    let mut bytes = [0; 4096];
    disk.read_at(&mut bytes, 8192).unwrap();
    assert_eq!(bytes, [7; 4096]);
}
