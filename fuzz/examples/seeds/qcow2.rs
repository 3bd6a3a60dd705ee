//! Small images of every kind, with things to do.

use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::qcow2::{
    BackingName, Compression, CreateOptions, DataFile, Gate, NamedFile, Qcow2, RefcountWidth,
    Repair, Version, check, create,
};
use strongroom_disk::{Access, Disk, Memory, Resizable, Result};
use strongroom_fuzz::Input;

use super::Seeds;

/// Returns images as this house writes them, each with steps that differ from seed to seed.
pub(super) fn seeds() -> Seeds {
    let images = kinds().into_iter().map(|(name, options)| (name, image(&options)));
    let snapshot = with_snapshot(image(&small(20_000)));
    images
        .chain([("snapshot", snapshot)])
        .zip(0..)
        .map(|((name, file), number)| {
            (name.to_owned(), Input::bytes(&steps(number), &file.to_vec()))
        })
        .collect()
}

fn small(size: u64) -> CreateOptions {
    CreateOptions { cluster_size: 512, ..CreateOptions::new(size) }
}

fn kinds() -> Vec<(&'static str, CreateOptions)> {
    let backing = Some(BackingName { name: "base".to_owned(), format: Some("raw".to_owned()) });
    let data_file = |raw| Some(DataFile { name: "data".to_owned(), raw });
    let width = |bits| RefcountWidth::from_bits(bits).expect("it is a power of two");
    let version = Version::V2;
    let subclusters =
        CreateOptions { subclusters: true, cluster_size: 16 << 10, ..CreateOptions::new(300_000) };
    let compression = Compression::Zstd;
    vec![
        ("small", small(40_000)),
        ("version-2", CreateOptions { version, ..small(40_000) }),
        ("usual", CreateOptions::new(1 << 30)),
        ("huge", CreateOptions { cluster_size: 2 << 20, ..CreateOptions::new(1 << 58) }),
        ("subclusters", subclusters.clone()),
        ("zstd", CreateOptions { compression, cluster_size: 4096, ..CreateOptions::new(99_999) }),
        ("backing", CreateOptions { backing: backing.clone(), ..small(40_000) }),
        ("backing-version-2", CreateOptions { backing: backing.clone(), version, ..small(9000) }),
        ("backing-subclusters", CreateOptions { backing, ..subclusters }),
        ("luks", CreateOptions { luks_header: Some(600), ..small(30_000) }),
        ("data-file", CreateOptions { data_file: data_file(false), ..small(30_000) }),
        ("raw-data-file", CreateOptions { data_file: data_file(true), ..small(30_000) }),
        ("counts-of-1-bit", CreateOptions { refcount_width: width(1), ..small(30_000) }),
        ("counts-of-64-bits", CreateOptions { refcount_width: width(64), ..small(30_000) }),
    ]
}

/// Returns an image with data, zeros, and a compressed cluster where it may have one.
fn image(options: &CreateOptions) -> Memory {
    let file = Memory::new(0);
    create(&file, options).expect("the options fit");
    if options.cluster_size > 16 << 10 {
        // Data would make the seed large.
        return file;
    }
    let mut disk = Qcow2::open(file, Access::ReadWrite, &Beside).expect("it is an image");
    if options.luks_header.is_some() {
        let key = VolumeKey::new((0..64).collect());
        let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
        let cipher = SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512);
        disk.set_cipher(cipher.expect("the key fits")).expect("the image is encrypted");
    }
    let cluster = options.cluster_size;
    let fill = || -> Result<()> {
        disk.write_at(&vec![0x11; 700], 100)?;
        disk.write_at(&vec![0x22; 512], 5 * cluster)?;
        disk.write_zeroes(2 * cluster..3 * cluster)?;
        // Version 2 has no discards over a backing file.
        let _ = disk.discard(5 * cluster..6 * cluster);
        if options.luks_header.is_none() && options.data_file.is_none() {
            disk.write_compressed_at(&vec![0x33; cluster as usize], 4 * cluster)?;
        }
        Ok(())
    };
    fill().expect("the disk is long enough");
    disk.close().expect("memory does not fail")
}

/// Gives an image of clusters of 512 bytes a snapshot of what it holds.
fn with_snapshot(file: Memory) -> Memory {
    let end = file.len().next_multiple_of(512);
    let change = || -> Result<()> {
        let mut head = [0; 512];
        file.read_at(&mut head, 0)?;
        let l1_at = u64::from_be_bytes(head[40..48].try_into().expect("8 bytes"));
        let mut l1 = [0; 512];
        file.read_at(&mut l1, l1_at)?;
        file.set_len(end + 1024);
        file.write_at(&l1, end)?;
        let mut entry = vec![0; 40];
        entry[..8].copy_from_slice(&end.to_be_bytes());
        entry[8..12].copy_from_slice(&head[36..40]);
        entry[13] = 1;
        entry[15] = 4;
        entry[39] = 16;
        entry.extend([0; 8]);
        entry.extend(&head[24..32]);
        entry.extend(b"1snap");
        file.write_at(&entry, end + 512)?;
        file.write_at(&1u32.to_be_bytes(), 60)?;
        file.write_at(&(end + 512).to_be_bytes(), 64)?;
        // The counts, and the marks of what is referred to once.
        assert!(check(&file, Repair::Everything)?.is_clean());
        Ok(())
    };
    change().expect("memory does not fail");
    file
}

/// Returns a few of the things that can be done.
fn steps(number: u8) -> Vec<[u8; 6]> {
    let all = [
        [1, 0, 0x10, 0, 0x00, 3],
        [2, 1, 3, 0, 0x80, 2],
        [5, 1, 7, 0, 1, 0],
        [0, 0, 0, 0, 0, 0x40],
        [3, 5, 1, 0, 2, 0],
        [7, 0, 0, 0, 0, 0x10],
        [4, 0, 0x80, 0, 0, 5],
        [6, 0, 0, 0, 0, 0],
        [8, 0, 0, 0, 0, 0],
        [13, 0, 0, 0x30, 0, 0],
        [9, 0, 0, 0, 0, 0],
        [4, 0x87, 0, 0, 0xFF, 0xFF],
        [13, 0, 0, 0x70, 0, 0],
        [14, 2, 0, 2, 0, 2],
        [11, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [3, 0x87, 0, 0, 0xFF, 0xFF],
        [1, 3 | 20 << 3, 1, 0, 0, 2],
        [10, 0, 0, 0, 0, 0],
        [0, 2, 0, 0x10, 0, 0x10],
    ];
    // An odd stride begins everywhere and takes different steps together.
    (0..12).map(|at| all[(usize::from(number) * 7 + at * 3) % all.len()]).collect()
}

struct Beside;

impl Gate for Beside {
    fn backing(&self, _named: &NamedFile<'_>) -> Result<Box<dyn Disk>> {
        Ok(Box::new(Memory::from(&[0xBB; 10_000][..])))
    }

    fn data_file(&self, _named: &NamedFile<'_>) -> Result<Box<dyn Resizable>> {
        Ok(Box::new(Memory::new(0)))
    }
}
