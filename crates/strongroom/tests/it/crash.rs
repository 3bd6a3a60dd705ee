//! A crash after every write of an encryption: what is left opens nothing, or is whole.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;

use strongroom::device::write_new_header;
use strongroom::system_rng;
use strongroom_clone::{Pass, Plan, Zeroes};
use strongroom_crypto::{CostPolicy, Hash, Kdf, Passphrase, SectorSize};
use strongroom_disk::{Disk, Encrypted, FormatPermit, Memory, NewFile, Overwrite};
use strongroom_luks::{FormatOptions, Header, Version, head_len};
use strongroom_testkit::{Change, Pattern, RecordingDisk, Tearing};

/// Returns the permit that a file created a moment ago comes with.
fn permit() -> FormatPermit {
    let directory = tempfile::tempdir().unwrap();
    NewFile::create(directory.path().join("new"), Overwrite::Refuse, &[]).unwrap().1
}

/// Encrypts a pattern onto a recording disk, in the order that the use case has: data, flush,
/// header.
fn encrypted(options: &FormatOptions) -> RecordingDisk {
    let policy = CostPolicy::default();
    let formatted = options.format(&passphrase(), &policy, &mut system_rng()).unwrap();
    let offset = options.data_offset.unwrap();
    let disk = RecordingDisk::new(Memory::new(offset + LEN));
    let payload = formatted.header.payload(disk.len()).unwrap();
    assert_eq!(payload.offset, offset);
    let cipher = payload.cipher(&formatted.volume_key).unwrap();
    let range = payload.offset..payload.offset + payload.length;
    let target = Encrypted::new(&disk, range, cipher, payload.iv_tweak).unwrap();
    let source = Memory::new(LEN);
    pattern().write_to(&source).unwrap();
    let plan = Plan::new(NonZeroUsize::MIN, Zeroes::Write)
        .with_chunk_size(NonZeroUsize::new(16 << 10).unwrap());
    let cancelled = AtomicBool::new(false);
    strongroom_clone::run(&source, &target, &Pass::new(plan, &(), &cancelled)).unwrap();
    write_new_header(&disk, &formatted, permit()).unwrap();
    disk
}

/// Returns the plaintext, when the disk bears a header that the passphrase opens.
fn opened(disk: &Memory) -> Option<Encrypted<&Memory>> {
    let policy = CostPolicy::default();
    let read = |len: usize| {
        let mut bytes = vec![0; len.min(usize::try_from(disk.len()).unwrap())];
        disk.read_at(&mut bytes, 0).unwrap();
        bytes
    };
    let head = read(head_len(&read(4096)));
    let header: Header = Header::parse(&head, disk.len()).ok()?.header;
    let key = header.keyslots_to_try().ok()?.into_iter().find_map(|id| {
        let area = header.keyslot_area(id).unwrap();
        let mut bytes = vec![0; usize::try_from(area.end - area.start).unwrap()];
        disk.read_at(&mut bytes, area.start).unwrap();
        header.open_keyslot(id, &bytes, &passphrase(), &policy).ok()
    })?;
    let payload = header.payload(disk.len()).unwrap();
    let cipher = payload.cipher(&key).unwrap();
    let range = payload.offset..payload.offset + payload.length;
    Some(Encrypted::new(disk, range, cipher, payload.iv_tweak).unwrap())
}

/// Blocks of 4 KiB, of which some are zeros: those are written too.
fn pattern() -> Pattern {
    Pattern::sparse(7, 4096)
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"passphrase".to_vec())
}

fn options(version: Version, sector_size: SectorSize) -> FormatOptions {
    FormatOptions {
        kdf: Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 },
        data_offset: Some(3 << 20),
        sector_size,
        ..FormatOptions::new(version)
    }
}

fn all_options() -> [FormatOptions; 3] {
    [
        options(Version::Luks1, SectorSize::B512),
        options(Version::Luks2, SectorSize::B512),
        options(Version::Luks2, SectorSize::B4096),
    ]
}

#[test]
fn after_a_crash_at_any_write_nothing_opens_or_all_is_whole() {
    for options in all_options() {
        let disk = encrypted(&options);
        let (mut closed, mut whole) = (0, 0);
        for (count, left) in disk.crashes(Tearing::Sectors) {
            match opened(&left) {
                Some(plain) => {
                    assert_eq!(
                        pattern().first_difference(&plain).unwrap(),
                        None,
                        "{count} changes"
                    );
                    whole += 1;
                }
                None => {
                    assert_eq!(whole, 0, "it opened before change {count}");
                    closed += 1;
                }
            }
        }
        assert!(closed > 100 && whole > 0, "{closed} closed, {whole} whole");
    }
}

#[test]
fn the_data_is_durable_before_a_byte_of_the_header_is_written() {
    for options in all_options() {
        let changes = encrypted(&options).changes();
        let offset = options.data_offset.unwrap();
        let is_header =
            |change: &Change| matches!(change, Change::Write { offset: at, .. } if *at < offset);
        let first = changes.iter().position(is_header).unwrap();
        let data = changes[..first].iter().filter(|change| **change != Change::Flush).count();
        assert!(data > 1, "{data} writes of data");
        assert_eq!(changes[first - 1], Change::Flush);
        let header = &changes[first..];
        assert!(header.iter().all(|change| is_header(change) || *change == Change::Flush));
        assert_eq!(header.last(), Some(&Change::Flush));
    }
}

#[test]
fn a_header_whose_key_material_never_came_opens_nothing() {
    for options in all_options() {
        let disk = encrypted(&options);
        let left = disk.replay(disk.changes().len());
        let area = match options.version {
            Version::Luks1 => 4096,
            Version::Luks2 => 32 << 10,
        };
        left.write_at(&vec![0; 258_048], area).unwrap();
        assert!(opened(&left).is_none(), "a volume without key material opens");
    }
}

const LEN: u64 = 96 << 10;
