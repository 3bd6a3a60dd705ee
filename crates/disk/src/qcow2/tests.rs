use strongroom_crypto::{CipherSpec, IvUnit, SectorSize, VolumeKey};
use tempfile::TempDir;

use super::*;
use crate::{ExtentKind, Extents, Memory, Raw, conformance};

fn options(size: u64, cluster_size: u64) -> CreateOptions {
    CreateOptions { cluster_size, ..CreateOptions::new(size) }
}

fn new(options: &CreateOptions) -> Qcow2<Memory> {
    let memory = Memory::new(0);
    create(&memory, options).unwrap();
    Qcow2::open(memory, Access::ReadWrite, &Closed).unwrap()
}

fn cipher() -> SectorCipher {
    let key = VolumeKey::new((0..64).collect());
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
    SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512).unwrap()
}

fn encrypted(options: CreateOptions) -> Qcow2<Memory> {
    let mut image = new(&CreateOptions { luks_header: Some(4096), ..options });
    image.set_cipher(cipher()).unwrap();
    image
}

/// Flushes, and checks that nothing is wrong with the image.
fn is_clean<D: Resizable>(image: Qcow2<D>) -> D {
    let file = image.close().unwrap();
    let report = check(&file, Repair::Nothing).unwrap();
    assert!(report.is_clean(), "{report:#?}");
    file
}

fn read(disk: &dyn Disk, range: Range<u64>) -> Vec<u8> {
    let mut buf = vec![0xEE; (range.end - range.start) as usize];
    disk.read_at(&mut buf, range.start).unwrap();
    buf
}

struct Beside(fn() -> Memory);

impl Gate for Beside {
    fn backing(&self, named: &NamedFile<'_>) -> Result<Box<dyn Disk>> {
        assert_eq!((named.name, named.format), ("base.raw", Some("raw")));
        Ok(Box::new((self.0)()))
    }

    fn data_file(&self, named: &NamedFile<'_>) -> Result<Box<dyn Resizable>> {
        assert_eq!(named.name, "data.raw");
        Ok(Box::new((self.0)()))
    }
}

fn with_backing(options: CreateOptions, base: fn() -> Memory) -> Qcow2<Memory> {
    let memory = Memory::new(0);
    let backing = BackingName { name: "base.raw".to_owned(), format: Some("raw".to_owned()) };
    create(&memory, &CreateOptions { backing: Some(backing), ..options }).unwrap();
    Qcow2::open(memory, Access::ReadWrite, &Beside(base)).unwrap()
}

#[test]
fn passes_the_conformance_suite_with_small_clusters() {
    conformance::run(1, &|len| Box::new(new(&options(len, 512))));
}

#[test]
fn passes_the_conformance_suite_with_usual_and_large_clusters() {
    conformance::run(1, &|len| Box::new(new(&options(len, 64 << 10))));
    conformance::run(512, &|len| Box::new(new(&options(len, 2 << 20))));
}

#[test]
fn passes_the_conformance_suite_in_version_2() {
    conformance::run(512, &|len| {
        Box::new(new(&CreateOptions { version: Version::V2, ..options(len, 4096) }))
    });
}

#[test]
fn passes_the_conformance_suite_with_subclusters() {
    for cluster_size in [16 << 10, 128 << 10] {
        conformance::run(1, &|len| {
            Box::new(new(&CreateOptions { subclusters: true, ..options(len, cluster_size) }))
        });
    }
}

#[test]
fn passes_the_conformance_suite_with_luks() {
    conformance::run(1, &|len| Box::new(encrypted(options(len, 4096))));
    conformance::run(512, &|len| {
        Box::new(encrypted(CreateOptions { subclusters: true, ..options(len, 16 << 10) }))
    });
}

#[test]
fn passes_the_conformance_suite_over_a_backing_file() {
    fn base() -> Memory {
        Memory::from(&[0xBB; 70_000][..])
    }
    for (version, subclusters) in [(Version::V2, false), (Version::V3, false), (Version::V3, true)]
    {
        conformance::run(1, &|len| {
            let options = CreateOptions { version, subclusters, ..options(len, 16 << 10) };
            Box::new(with_backing(options, base))
        });
    }
}

#[test]
fn passes_the_conformance_suite_with_a_data_file() {
    for raw in [false, true] {
        conformance::run(1, &|len| {
            let memory = Memory::new(0);
            let data_file = Some(DataFile { name: "data.raw".to_owned(), raw });
            create(&memory, &CreateOptions { data_file, ..options(len, 4096) }).unwrap();
            let gate = Beside(|| Memory::new(0));
            Box::new(Qcow2::open(memory, Access::ReadWrite, &gate).unwrap())
        });
    }
}

#[test]
fn passes_the_conformance_suite_over_a_raw_file() {
    let directory = TempDir::new_in("/dev/shm").unwrap();
    let number = std::cell::Cell::new(0);
    conformance::run(512, &|len| {
        number.set(number.get() + 1);
        let (file, _permit) =
            Raw::create_new(directory.path().join(number.get().to_string())).unwrap();
        create(&file, &options(len, 4096)).unwrap();
        Box::new(Qcow2::open(file, Access::ReadWrite, &Closed).unwrap())
    });
}

#[test]
fn every_width_of_counts_grows_the_refcount_structures_as_needed() {
    for bits in [1, 2, 4, 8, 16, 32, 64] {
        let refcount_width = RefcountWidth::from_bits(bits).unwrap();
        let image = new(&CreateOptions { refcount_width, ..options(24 << 20, 512) });
        let content: Vec<u8> =
            (0..image.len()).map(|index| (index / 512 % 251) as u8 + 1).collect();
        for (index, piece) in content.chunks(100_000).enumerate() {
            image.write_at(piece, index as u64 * 100_000).unwrap();
        }
        assert!(read(&image, 0..image.len()) == content, "{bits}");
        let file = is_clean(image);
        let image = Qcow2::open(file, Access::ReadOnly, &Closed).unwrap();
        assert!(read(&image, 0..image.len()) == content, "{bits}");
    }
}

#[test]
fn zeroed_and_discarded_clusters_are_free_again() {
    for options in [
        options(8 << 20, 64 << 10),
        CreateOptions { version: Version::V2, ..options(8 << 20, 64 << 10) },
        CreateOptions { subclusters: true, ..options(8 << 20, 64 << 10) },
    ] {
        let image = encrypted(options);
        image.flush().unwrap();
        let empty = image.file().allocated();
        image.write_at(&vec![1; 8 << 20], 0).unwrap();
        image.flush().unwrap();
        let full = image.file().len();
        assert!(image.file().allocated() > 8 << 20);
        image.write_zeroes(0..4 << 20).unwrap();
        image.discard(4 << 20..8 << 20).unwrap();
        image.flush().unwrap();
        // One L2 table more than before.
        assert!(image.file().allocated() <= empty + (64 << 10));
        let extent = image.extent_at(0).unwrap();
        assert_eq!(extent, Extent { range: 0..8 << 20, kind: ExtentKind::Unallocated });
        assert!(read(&image, 0..8 << 20).iter().all(|&byte| byte == 0));
        // What was freed is used again.
        image.write_at(&vec![2; 8 << 20], 0).unwrap();
        assert!(image.file().len() <= full);
        is_clean(image);
    }
}

#[test]
fn compressed_clusters_are_packed_read_and_overwritten() {
    for compression in [Compression::Zlib, Compression::Zstd] {
        for refcount_width in [1, 16].map(|bits| RefcountWidth::from_bits(bits).unwrap()) {
            let options =
                CreateOptions { compression, refcount_width, ..options(4 << 20, 64 << 10) };
            let image = new(&options);
            let cluster: Vec<u8> = (0..65536u32).map(|index| (index / 7 % 13) as u8).collect();
            for offset in (0..image.len()).step_by(65536) {
                image.write_compressed_at(&cluster, offset).unwrap();
            }
            image.flush().unwrap();
            if refcount_width == RefcountWidth::BITS_16 {
                assert!(image.file().len() < 1 << 20);
            }
            assert_eq!(read(&image, 65_530..131_080)[6..65542], cluster);
            image.write_at(&[0xFF; 10], 100).unwrap();
            image.write_zeroes(3 << 16..4 << 16).unwrap();
            image.discard(10 << 16..64 << 16).unwrap();
            let mut expected = cluster.clone();
            expected[100..110].fill(0xFF);
            assert!(read(&image, 0..65536) == expected);
            assert!(read(&image, 65536..131_072) == cluster);
            let file = is_clean(image);
            let image = Qcow2::open(file, Access::ReadOnly, &Closed).unwrap();
            assert!(read(&image, 0..65536) == expected);
        }
    }
}

#[test]
fn an_extent_goes_on_as_far_as_its_kind_however_long_it_is() {
    const KIB: u64 = 1 << 10;
    for clusters in [1, 15, 16, 17, 47, 48, 49, 127] {
        let image = new(&options(512 * KIB, KIB));
        image.write_at(&vec![1; (clusters * KIB) as usize], 0).unwrap();
        let data = image.extent_at(0).unwrap();
        assert_eq!(data, Extent { range: 0..clusters * KIB, kind: ExtentKind::Data });
        let hole = image.extent_at(clusters * KIB).unwrap();
        assert_eq!(hole.kind, ExtentKind::Unallocated);
        // An extent goes on to the end of an L2 table at least.
        assert!(hole.range.end >= 128 * KIB, "{hole:?}");
    }
}

#[test]
fn extents_tell_data_zeros_and_nothing_apart_through_the_backing_file() {
    fn base() -> Memory {
        let base = Memory::new(3 << 20);
        base.write_at(&[1; 1 << 20], 1 << 20).unwrap();
        base
    }
    let image = with_backing(options(4 << 20, 64 << 10), base);
    image.write_zeroes(1 << 20..(1 << 20) + 65536).unwrap();
    image.write_at(&[2; 65536], 3 << 20).unwrap();
    let extents: Vec<_> = Extents::new(&image, 0..image.len())
        .map(|extent| extent.map(|extent| (extent.range.start, extent.kind)).unwrap())
        .collect();
    let (data, zero, none) = (ExtentKind::Data, ExtentKind::Zero, ExtentKind::Unallocated);
    assert_eq!(
        extents,
        [
            (0, none),
            (1 << 20, zero),
            ((1 << 20) + 65536, data),
            (2 << 20, none),
            (3 << 20, data),
            ((3 << 20) + 65536, none)
        ]
    );
    is_clean(image);
}

#[test]
fn files_that_an_image_names_are_not_opened_unasked() {
    let memory = Memory::new(0);
    let backing = BackingName { name: "/etc/shadow".to_owned(), format: Some("raw".to_owned()) };
    create(&memory, &CreateOptions { backing: Some(backing), ..options(1 << 20, 4096) }).unwrap();
    let error = Qcow2::open(&memory, Access::ReadOnly, &Closed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(
        error.to_string(),
        "cannot open memory: it names the backing file \"/etc/shadow\", and files that an image \
         names are not opened unasked"
    );
    let memory = Memory::new(0);
    let data_file = Some(DataFile { name: "json:{}".to_owned(), raw: true });
    create(&memory, &CreateOptions { data_file, ..options(1 << 20, 4096) }).unwrap();
    let error = Qcow2::open(&memory, Access::ReadOnly, &Closed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains("\"json:{}\""), "{error}");
}

#[test]
fn a_disk_grows_and_shrinks_and_its_new_end_is_zero() {
    for cluster_size in [512, 64 << 10] {
        let mut image = new(&options(1 << 20, cluster_size));
        image.write_at(&vec![7; 1 << 20], 0).unwrap();
        image.resize(256 << 20, Shrinking::Refuse).unwrap();
        assert_eq!(image.len(), 256 << 20);
        image.write_at(&[8; 1000], (256 << 20) - 1000).unwrap();
        assert!(image.resize(1000 * 512, Shrinking::Refuse).is_err());
        image.resize(1001 * 512, Shrinking::Allow).unwrap();
        image.resize(1 << 20, Shrinking::Refuse).unwrap();
        let file = is_clean(image);
        let image = Qcow2::open(file, Access::ReadOnly, &Closed).unwrap();
        let content = read(&image, 0..1 << 20);
        assert!(content[..1001 * 512].iter().all(|&byte| byte == 7));
        assert!(content[1001 * 512..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn growing_shows_nothing_that_tables_name_behind_the_end() {
    let image = new(&options(512 << 10, 4096));
    image.write_at(&vec![7; 512 << 10], 0).unwrap();
    let file = is_clean(image);
    // As if somebody had made the disk shorter and left everything else.
    file.write_at(&(64u64 << 10).to_be_bytes(), 24).unwrap();
    let mut image = Qcow2::open(file, Access::ReadWrite, &Closed).unwrap();
    image.resize(1 << 20, Shrinking::Refuse).unwrap();
    assert!(read(&image, 0..64 << 10).iter().all(|&byte| byte == 7));
    assert!(read(&image, 64 << 10..1 << 20).iter().all(|&byte| byte == 0));
    is_clean(image);
}

#[test]
fn a_snapshot_of_any_length_is_mapped_in_one_step() {
    let file = is_clean(new(&options(1 << 20, 512)));
    let at = file.len().next_multiple_of(512);
    file.set_len(at + 1024);
    let mut entry = [0; 57];
    entry[..8].copy_from_slice(&at.to_be_bytes());
    (entry[11], entry[13], entry[39], entry[56]) = (1, 1, 16, b'1');
    entry[48..56].fill(0xFF);
    file.write_at(&entry, at + 512).unwrap();
    file.write_at(&1u32.to_be_bytes(), 60).unwrap();
    file.write_at(&(at + 512).to_be_bytes(), 64).unwrap();
    let image = Qcow2::open(file, Access::ReadOnly, &Closed).unwrap();
    let extent = image.snapshot("1").unwrap().extent_at(0).unwrap();
    assert_eq!(extent, Extent { range: 0..u64::MAX, kind: ExtentKind::Unallocated });
}

#[test]
fn a_check_finds_compressed_data_past_the_end() {
    let image = new(&options(1 << 20, 4096));
    image.write_compressed_at(&[7; 4096], 0).unwrap();
    let (l1, _) = image.lock().l1_place();
    let file = is_clean(image);
    let l2 = u64::from_be_bytes(read(&file, l1..l1 + 8).try_into().unwrap()) & entry::OFFSET;
    file.write_at(&(1u64 << 62 | 1 << 40).to_be_bytes(), l2).unwrap();
    let report = check(&file, Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (1, 1), "{report:#?}");
}

#[test]
fn data_elsewhere_than_at_its_own_offset_of_a_data_file_is_refused() {
    let memory = Memory::new(0);
    let data_file = Some(DataFile { name: "data.raw".to_owned(), raw: false });
    create(&memory, &CreateOptions { data_file, ..options(1 << 20, 4096) }).unwrap();
    let gate = Beside(|| Memory::new(1 << 20));
    let image = Qcow2::open(memory, Access::ReadWrite, &gate).unwrap();
    image.write_at(&[1; 8192], 0).unwrap();
    let (l1, _) = image.lock().l1_place();
    let file = image.close().unwrap();
    let l2 = u64::from_be_bytes(read(&file, l1..l1 + 8).try_into().unwrap()) & entry::OFFSET;
    // The second cluster would share the place of the first.
    file.write_at(&(1u64 << 63).to_be_bytes(), l2 + 8).unwrap();
    let image = Qcow2::open(file, Access::ReadWrite, &gate).unwrap();
    image.read_at(&mut [0; 4096], 0).unwrap();
    let error = image.write_at(&[2; 4096], 4096).unwrap_err();
    assert!(error.to_string().contains("not at the same offset"), "{error}");
}

#[test]
fn growing_shows_nothing_more_of_a_longer_backing_file() {
    fn base() -> Memory {
        Memory::from(&[5; 1 << 20][..])
    }
    let mut image = with_backing(options(65536 + 512, 65536), base);
    image.resize(1 << 20, Shrinking::Refuse).unwrap();
    assert_eq!(read(&image, 0..65536 + 512), [5; 65536 + 512]);
    assert!(read(&image, 65536 + 512..1 << 20).iter().all(|&byte| byte == 0));
    is_clean(image);
}

#[test]
fn data_is_encrypted_by_its_place_in_the_file() {
    let image = encrypted(options(1 << 20, 64 << 10));
    image.write_at(&[0x5A; 65536], 5 << 16).unwrap();
    let runs = image.lock().resolve(&image.file, None, 5 << 16..6 << 16).unwrap();
    let metadata::Origin::Data { host, .. } = runs[0].origin else { panic!("it is data") };
    let mut expected = vec![0x5A; 65536];
    cipher().encrypt(&mut expected, host / 512);
    assert!(read(&image.file, host..host + 65536) == expected);
    let file = is_clean(image);
    let image = Qcow2::open(file, Access::ReadOnly, &Closed).unwrap();
    let error = image.read_at(&mut [0; 5], 5 << 16).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    // Zeros need no key.
    assert_eq!(read(&image, 0..5), [0; 5]);
}

#[test]
fn leaks_and_wrong_counts_are_found_and_repaired_on_request_only() {
    let image = new(&options(1 << 20, 4096));
    image.write_at(&vec![9; 1 << 20], 0).unwrap();
    image.write_zeroes(8192..16384).unwrap();
    let file = is_clean(image);
    let header = read_header(&file).unwrap();
    let table = read(&file, header.refcount_table_offset..header.refcount_table_offset + 8);
    let block = u64::from_be_bytes(table.try_into().unwrap());
    let content =
        |file: &Memory| read(&Qcow2::open(file, Access::ReadOnly, &Closed).unwrap(), 0..1 << 20);
    let before = content(&file);

    // A cluster far behind is counted though nobody uses it.
    file.write_at(&[0, 1], block + 2 * 1000).unwrap();
    let report = check(&file, Repair::Nothing).unwrap();
    assert_eq!((report.leaks, report.corruptions), (1, 0), "{report:?}");
    let report = check(&file, Repair::Leaks).unwrap();
    assert_eq!((report.leaks_fixed, report.leaks), (1, 0));
    assert!(check(&file, Repair::Nothing).unwrap().is_clean());

    // Clusters in use count as free, and the image is marked.
    file.write_at(&[0; 64], block + 2 * 20).unwrap();
    file.write_at(&[3], 79).unwrap();
    assert!(Qcow2::open(&file, Access::ReadWrite, &Closed).is_err());
    let report = check(&file, Repair::Leaks).unwrap();
    assert!(report.corruptions > 30 && report.corruptions_fixed == 0, "{report:?}");
    let report = check(&file, Repair::Everything).unwrap();
    assert!(report.is_clean() && report.corruptions_fixed > 30, "{report:?}");
    assert!(check(&file, Repair::Nothing).unwrap().is_clean());
    let image = Qcow2::open(&file, Access::ReadWrite, &Closed).unwrap();
    assert!(!image.header().is_dirty() && !image.header().is_corrupt());
    image.write_at(&[1; 4096], 8192).unwrap();
    image.write_zeroes(8192..12288).unwrap();
    is_clean(image);
    assert!(content(&file) == before);
}

#[test]
fn data_that_would_overwrite_metadata_is_refused() {
    for target in [0u64, 1, 2, 3] {
        let image = new(&options(1 << 20, 4096));
        image.write_at(&[1; 4096], 0).unwrap();
        let (l1, _) = image.lock().l1_place();
        let file = is_clean(image);
        let l2 = u64::from_be_bytes(read(&file, l1..l1 + 8).try_into().unwrap()) & entry::OFFSET;
        let hostile = (1 << 63 | target << 12) + u64::from(target == 0) * l1;
        file.write_at(&hostile.to_be_bytes(), l2).unwrap();
        let before = file.to_vec();
        let image = Qcow2::open(&file, Access::ReadWrite, &Closed).unwrap();
        let error = image.write_at(&[2; 4096], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        image.flush().unwrap();
        assert!(file.to_vec() == before);
        assert!(check(&file, Repair::Nothing).unwrap().corruptions > 0);
    }
}

#[test]
fn a_table_that_is_named_twice_or_lies_nowhere_is_refused() {
    let image = new(&options(8 << 20, 4096));
    image.write_at(&[1; 4096], 0).unwrap();
    let (l1, _) = image.lock().l1_place();
    let file = is_clean(image);
    let entry = read(&file, l1..l1 + 8);
    file.write_at(&entry, l1 + 8).unwrap();
    let error = Qcow2::open(&file, Access::ReadWrite, &Closed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(check(&file, Repair::Everything).unwrap().corruptions > 0);

    file.write_at(&(1u64 << 63 | 1 << 40).to_be_bytes(), l1 + 8).unwrap();
    let image = Qcow2::open(&file, Access::ReadOnly, &Closed).unwrap();
    let error = image.read_at(&mut [0; 1], 2 << 20).unwrap_err();
    assert!(error.to_string().contains("past the end of the file"), "{error}");
    assert!(check(&file, Repair::Everything).unwrap().corruptions > 0);
}

#[test]
fn autoclear_features_are_cleared_before_the_first_change() {
    let memory = Memory::new(0);
    create(&memory, &options(1 << 20, 4096)).unwrap();
    memory.write_at(&[0xFD], 95).unwrap();
    drop(Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap());
    assert_eq!(read(&memory, 95..96), [0xFD]);
    let image = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
    image.write_at(&[1], 0).unwrap();
    assert_eq!(read(&memory, 95..96), [0]);
}

#[test]
fn an_image_is_never_made_over_something_else() {
    let memory = Memory::new(512);
    let error = create(&memory, &options(1 << 20, 4096)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_disk_of_eight_exbibytes_costs_what_its_tables_cost() {
    let image = new(&options(1 << 60, 2 << 20));
    let last = image.len() - 4096;
    image.write_at(&[1; 4096], last).unwrap();
    let kinds: Vec<_> =
        Extents::new(&image, 0..image.len()).map(|extent| extent.unwrap().kind).collect();
    assert_eq!(kinds, [ExtentKind::Unallocated, ExtentKind::Data]);
    is_clean(image);
    let error = create(&Memory::new(0), &options(u64::MAX, 2 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(create(&Memory::new(0), &options(1 << 60, 4096)).is_err());
}
