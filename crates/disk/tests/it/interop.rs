//! Images written here and read by QEMU, and the other way round.

use std::fs;
use std::path::Path;

use strongroom_crypto::{CostPolicy, Hash, Kdf, Passphrase};
use strongroom_disk::qcow2::{
    BackingName, Closed, Compression, CreateOptions, DataFile, Qcow2, RefcountWidth, Repair,
    Shrinking, Version, check, create,
};
use strongroom_disk::{Access, Disk, ErrorKind, Extents, Raw};
use strongroom_luks::{FormatOptions, Step};
use strongroom_testkit::Pattern;
use tempfile::TempDir;

use crate::tools::{Random, Within, available, open, qemu_img, qemu_io, run};

fn directory() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

fn raw_pattern(directory: &Path, name: &str, len: u64, seed: u64) -> Pattern {
    let (raw, _permit) = Raw::create_new(directory.join(name)).unwrap();
    raw.set_len(len).unwrap();
    let pattern = Pattern::sparse(seed, 40_000);
    pattern.write_to(&raw).unwrap();
    pattern
}

fn make(directory: &Path, name: &str, options: &CreateOptions) -> Qcow2<Raw> {
    let (raw, _permit) = Raw::create_new(directory.join(name)).unwrap();
    create(&raw, options).unwrap();
    Qcow2::open(raw, Access::ReadWrite, &Within(directory, Access::ReadWrite)).unwrap()
}

fn clean(directory: &Path, name: &str) {
    let output = qemu_img(directory, &format!("check -f qcow2 {name}"));
    assert!(output.contains("No errors were found"), "{output}");
    clean_to_us(directory, name);
}

fn clean_encrypted(directory: &Path, name: &str) {
    let arguments = ["check", "--object", SECRET, "--image-opts", &encrypted(name)];
    let output = run(directory, "qemu-img", &arguments);
    assert!(output.contains("No errors were found"), "{output}");
    clean_to_us(directory, name);
}

fn clean_to_us(directory: &Path, name: &str) {
    let raw = Raw::open(directory.join(name), Access::ReadOnly).unwrap();
    let report = check(&raw, Repair::Nothing).unwrap();
    assert!(report.is_clean(), "{report:#?}");
}

fn same(disk: &dyn Disk, pattern: &Pattern) {
    assert_eq!(pattern.first_difference(disk).unwrap(), None);
}

#[test]
fn reads_what_qemu_img_converts() {
    if !available("reads_what_qemu_img_converts") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    let pattern = raw_pattern(at, "source", (9 << 20) + 512, 1);
    for options in [
        "compat=0.10",
        "compat=1.1",
        "cluster_size=512",
        "cluster_size=2M",
        "compat=0.10,cluster_size=4k",
        "refcount_bits=1",
        "refcount_bits=64,cluster_size=512",
        "lazy_refcounts=on",
        "extended_l2=on",
        "extended_l2=on,cluster_size=16k",
        "preallocation=metadata",
        "preallocation=falloc",
        "data_file=DATA,data_file_raw=on",
        "data_file=DATA",
    ] {
        let data = at.join("data");
        let named = options.replace("DATA", &data.display().to_string());
        qemu_img(at, &format!("convert -f raw -O qcow2 -o {named} source image"));
        let image = open(at, "image", Access::ReadOnly);
        assert_eq!(image.len(), (9 << 20) + 512);
        same(&image, &pattern);
        let report = check(image.file(), Repair::Nothing).unwrap();
        assert!(report.is_clean(), "{options}: {report:#?}");
        fs::remove_file(at.join("image")).unwrap();
        let _ = fs::remove_file(data);
    }
    for options in ["", "-o compression_type=zstd", "-o compat=0.10", "-o cluster_size=2M"] {
        qemu_img(at, &format!("convert -c -f raw -O qcow2 {options} source image"));
        let image = open(at, "image", Access::ReadOnly);
        same(&image, &pattern);
        let report = check(image.file(), Repair::Nothing).unwrap();
        assert!(report.is_clean() && report.compressed_clusters > 0, "{options}: {report:#?}");
    }
}

#[test]
fn qemu_reads_what_is_written() {
    if !available("qemu_reads_what_is_written") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    let len = (9 << 20) + 512;
    let pattern = raw_pattern(at, "source", len, 2);
    let usual = CreateOptions::new(len);
    let width = |bits| RefcountWidth::from_bits(bits).unwrap();
    let data_file = |raw| Some(DataFile { name: at.join("data").display().to_string(), raw });
    for options in [
        usual.clone(),
        CreateOptions { version: Version::V2, ..usual.clone() },
        CreateOptions { version: Version::V2, cluster_size: 512, ..usual.clone() },
        CreateOptions { cluster_size: 512, refcount_width: width(64), ..usual.clone() },
        CreateOptions { cluster_size: 2 << 20, refcount_width: width(1), ..usual.clone() },
        CreateOptions { refcount_width: width(2), lazy_refcounts: true, ..usual.clone() },
        CreateOptions { subclusters: true, ..usual.clone() },
        CreateOptions { subclusters: true, cluster_size: 16 << 10, ..usual.clone() },
        CreateOptions { compression: Compression::Zstd, ..usual.clone() },
        CreateOptions { data_file: data_file(true), ..usual.clone() },
        CreateOptions { data_file: data_file(false), ..usual },
    ] {
        if options.data_file.is_some() {
            fs::write(at.join("data"), []).unwrap();
        }
        let image = make(at, "image", &options);
        // Something to be overwritten, zeroed and discarded.
        image.write_at(&vec![0xAA; 3 << 20], 1 << 20).unwrap();
        image.write_zeroes(2 << 20..(3 << 20) + 777).unwrap();
        image.discard(0..len).unwrap();
        pattern.write_to(&image).unwrap();
        image.close().unwrap();
        clean(at, "image");
        qemu_img(at, "compare -f raw -F qcow2 source image");
        if options.data_file == data_file(true) {
            qemu_img(at, "compare -f raw -F raw source data");
        }
        same(&open(at, "image", Access::ReadOnly), &pattern);
        let info = qemu_img(at, "info -f qcow2 image");
        assert!(info.contains("corrupt: false") || options.version == Version::V2, "{info}");
        fs::remove_file(at.join("image")).unwrap();
    }
}

#[test]
fn qemu_reads_compressed_clusters_that_are_written() {
    if !available("qemu_reads_compressed_clusters_that_are_written") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    let len: u64 = (3 << 20) + 512;
    let mut random = Random(5);
    let mut content = Vec::new();
    while (content.len() as u64) < len {
        let word = random.next().to_le_bytes();
        let times = 1 + random.below(40) as usize;
        content.extend(word.iter().cycle().take(times * 3));
    }
    content.truncate(len as usize);
    fs::write(at.join("source"), &content).unwrap();
    for compression in [Compression::Zlib, Compression::Zstd] {
        for cluster_size in [512, 4096, 64 << 10, 2 << 20] {
            let options = CreateOptions { compression, cluster_size, ..CreateOptions::new(len) };
            let image = make(at, "image", &options);
            for (index, cluster) in content.chunks(cluster_size as usize).enumerate() {
                image.write_compressed_at(cluster, index as u64 * cluster_size).unwrap();
            }
            image.write_at(&content[1000..5000], 1000).unwrap();
            image.close().unwrap();
            clean(at, "image");
            qemu_img(at, "compare -f raw -F qcow2 source image");
            fs::remove_file(at.join("image")).unwrap();
        }
    }
}

#[test]
fn follows_a_chain_of_backing_files_through_the_gate() {
    if !available("follows_a_chain_of_backing_files_through_the_gate") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    raw_pattern(at, "base", 4 << 20, 3);
    qemu_img(at, "create -q -f qcow2 -b base -F raw middle 6M");
    qemu_io(
        at,
        &["-f", "qcow2", "middle"],
        &["write -P 7 1000k 300k".to_owned(), "write -z 2M 256k".to_owned()],
    );
    qemu_img(at, "create -q -f qcow2 -o extended_l2=on -b middle -F qcow2 top 8M");
    qemu_io(at, &["-f", "qcow2", "top"], &["write -P 9 3M 5k".to_owned()]);
    let raw = Raw::open(at.join("top"), Access::ReadOnly).unwrap();
    let error = Qcow2::open(raw, Access::ReadOnly, &Closed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);

    qemu_img(at, "convert -f qcow2 -O raw top expected");
    let expected = fs::read(at.join("expected")).unwrap();
    let image = open(at, "top", Access::ReadWrite);
    let mut found = vec![1; expected.len()];
    image.read_at(&mut found, 0).unwrap();
    assert!(found == expected);
    for extent in Extents::new(&image, 0..image.len()) {
        let extent = extent.unwrap();
        let bytes = &expected[extent.range.start as usize..extent.range.end as usize];
        assert!(!extent.kind.reads_as_zeros() || bytes.iter().all(|&byte| byte == 0));
    }
    image.write_at(&[0x55; 100], 1_100_000).unwrap();
    image.write_zeroes(1_200_000..1_300_000).unwrap();
    image.close().unwrap();
    let mut expected = expected;
    expected[1_100_000..1_100_100].fill(0x55);
    expected[1_200_000..1_300_000].fill(0);
    fs::write(at.join("expected"), expected).unwrap();
    clean(at, "top");
    qemu_img(at, "compare -f raw -F qcow2 expected top");

    let backing = BackingName { name: "base".to_owned(), format: Some("raw".to_owned()) };
    for version in [Version::V2, Version::V3] {
        let options = CreateOptions {
            version,
            backing: Some(backing.clone()),
            ..CreateOptions::new(4 << 20)
        };
        let image = make(at, "ours", &options);
        let mut base = vec![0; 4 << 20];
        image.read_at(&mut base, 0).unwrap();
        image.write_at(&[3; 70_000], 99_999).unwrap();
        base[99_999..169_999].fill(3);
        image.write_zeroes(1 << 20..2 << 20).unwrap();
        base[1 << 20..2 << 20].fill(0);
        image.close().unwrap();
        fs::write(at.join("expected"), base).unwrap();
        clean(at, "ours");
        qemu_img(at, "compare -f raw -F qcow2 expected ours");
        fs::remove_file(at.join("ours")).unwrap();
    }
}

#[test]
fn snapshots_stay_what_they_are_while_the_disk_changes() {
    if !available("snapshots_stay_what_they_are_while_the_disk_changes") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    let first = raw_pattern(at, "source", 4 << 20, 4);
    for options in
        ["compat=1.1", "compat=0.10,cluster_size=4k", "extended_l2=on", "cluster_size=512"]
    {
        qemu_img(at, &format!("convert -f raw -O qcow2 -o {options} source image"));
        qemu_img(at, "snapshot -c first image");
        let second = Pattern::sparse(40, 30_000);
        let image = open(at, "image", Access::ReadWrite);
        image.write_zeroes(0..image.len()).unwrap();
        second.write_to(&image).unwrap();
        same(&image, &second);
        assert_eq!(image.snapshots().len(), 1);
        assert_eq!(image.snapshots()[0].name, "first");
        same(&image.snapshot("1").unwrap(), &first);
        image.close().unwrap();
        clean(at, "image");
        qemu_img(at, "snapshot -c second image");
        let third = Pattern::dense(41);
        let image = open(at, "image", Access::ReadWrite);
        third.write_to(&image).unwrap();
        image.discard(1 << 20..2 << 20).unwrap();
        same(&image.snapshot("1").unwrap(), &first);
        same(&image.snapshot("2").unwrap(), &second);
        assert_eq!(image.snapshot("3").err().map(|error| error.kind()), Some(ErrorKind::NotFound));
        image.close().unwrap();
        clean(at, "image");
        qemu_img(at, "convert -f qcow2 -l snapshot.name=second -O raw image again");
        same(&Raw::open(at.join("again"), Access::ReadOnly).unwrap(), &second);
        qemu_img(at, "snapshot -a first image");
        clean(at, "image");
        same(&open(at, "image", Access::ReadOnly), &first);
        qemu_img(at, "snapshot -d first image");
        qemu_img(at, "snapshot -d second image");
        clean(at, "image");
        fs::remove_file(at.join("image")).unwrap();
        fs::remove_file(at.join("again")).unwrap();
    }
}

const SECRET: &str = "secret,id=key,data=open sesame";

fn encrypted(name: &str) -> String {
    format!("driver=qcow2,encrypt.key-secret=key,file.filename={name}")
}

fn passphrase() -> Passphrase {
    Passphrase::new(b"open sesame".to_vec())
}

#[test]
fn reads_and_changes_what_qemu_encrypted() {
    if !available("reads_and_changes_what_qemu_encrypted") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    for options in [
        "cluster_size=64k",
        "cluster_size=512,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256",
        "compat=0.10,encrypt.cipher-alg=serpent-256",
        "extended_l2=on,encrypt.cipher-alg=twofish-256",
    ] {
        let create =
            format!("encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10,{options}");
        // Where its measurement of the key derivation fails, on a busy machine, it is repeated.
        let arguments =
            ["create", "-q", "--object", SECRET, "-f", "qcow2", "-o", &create, "image", "3M"];
        let made = (0..20).any(|_| {
            let mut qemu = std::process::Command::new("qemu-img");
            qemu.args(arguments).current_dir(at).output().unwrap().status.success()
        });
        assert!(made, "{arguments:?}");
        let io = |commands: &[&str]| {
            let commands: Vec<_> = commands.iter().map(|&command| command.to_owned()).collect();
            qemu_io(at, &["--object", SECRET, "--image-opts", &encrypted("image")], &commands)
        };
        io(&["write -P 17 100k 900k", "write -z 512k 64k"]);
        let mut image = open(at, "image", Access::ReadWrite);
        let wrong = image.unlock(&Passphrase::new(b"wrong".to_vec()), &CostPolicy::default());
        assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Locked);
        image.unlock(&passphrase(), &CostPolicy::default()).unwrap();
        let mut found = vec![0; 1 << 20];
        image.read_at(&mut found, 0).unwrap();
        let expected: Vec<u8> = (0..1 << 20u32)
            .map(|at| {
                let at = at >> 10;
                if (100..1000).contains(&at) && !(512..576).contains(&at) { 17 } else { 0 }
            })
            .collect();
        assert!(found == expected, "{options}");
        image.write_at(&[18; 1000], 700_001).unwrap();
        image.write_at(&[19; 70_000], 2_000_000).unwrap();
        image.write_zeroes(200 << 10..300 << 10).unwrap();
        image.close().unwrap();
        io(&[
            "read -P 17 600k 50k",
            "read -P 18 700001 1000",
            "read -P 17 701001 1000",
            "read -P 19 2000000 70000",
            "read -P 0 200k 100k",
            "read -P 0 512k 64k",
        ]);
        clean_encrypted(at, "image");
        fs::remove_file(at.join("image")).unwrap();
    }
}

#[test]
fn qemu_opens_what_is_encrypted_here() {
    if !available("qemu_opens_what_is_encrypted_here") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    let mut rng =
        <rand_chacha::ChaCha20Rng as rand_chacha::rand_core::SeedableRng>::seed_from_u64(7);
    for cluster_size in [512, 64 << 10, 2 << 20] {
        let mut format = FormatOptions::new(strongroom_luks::Version::Luks1);
        format.kdf = Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 };
        let formatted = format.format(&passphrase(), &CostPolicy::default(), &mut rng).unwrap();
        let length = formatted.header.payload(u64::MAX >> 1 & !511).unwrap().offset;
        let options = CreateOptions {
            cluster_size,
            luks_header: Some(length),
            ..CreateOptions::new(3 << 20)
        };
        let mut image = make(at, "image", &options);
        let cipher = formatted.header.payload(length).unwrap().cipher(&formatted.volume_key);
        image.set_cipher(cipher.unwrap()).unwrap();
        image.write_at(&vec![23; 1 << 20], 777).unwrap();
        image.flush().unwrap();
        let area = image.luks_area().unwrap().unwrap();
        for step in formatted.change.steps() {
            match step {
                Step::Flush => area.flush().unwrap(),
                Step::Write { offset, bytes } => area.write_at(bytes, *offset).unwrap(),
            }
        }
        image.close().unwrap();
        let commands = ["read -P 0 0 777", "read -P 23 777 1048576", "read -P 0 1049353 1000000"];
        let commands = commands.map(str::to_owned);
        qemu_io(at, &["--object", SECRET, "--image-opts", &encrypted("image")], &commands);
        clean_encrypted(at, "image");
        let mut image = open(at, "image", Access::ReadOnly);
        image.unlock(&passphrase(), &CostPolicy::default()).unwrap();
        let mut found = [0; 100];
        image.read_at(&mut found, 777).unwrap();
        assert_eq!(found, [23; 100]);
        fs::remove_file(at.join("image")).unwrap();
    }
}

#[test]
fn the_old_aes_encryption_is_refused_with_the_reason() {
    if !available("the_old_aes_encryption_is_refused_with_the_reason") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    run(
        at,
        "qemu-img",
        &[
            "create",
            "-q",
            "--object",
            SECRET,
            "-f",
            "qcow2",
            "-o",
            "encrypt.format=aes,encrypt.key-secret=key",
            "image",
            "1M",
        ],
    );
    let raw = Raw::open(at.join("image"), Access::ReadOnly).unwrap();
    let error = Qcow2::open(raw, Access::ReadOnly, &Closed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("old AES encryption"), "{error}");
}

#[test]
fn finds_what_qemu_img_finds_and_repairs_it() {
    if !available("finds_what_qemu_img_finds_and_repairs_it") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    let pattern = raw_pattern(at, "source", 4 << 20, 6);
    qemu_img(at, "convert -f raw -O qcow2 -o lazy_refcounts=on,cluster_size=4k source image");
    qemu_img(at, "snapshot -c one image");
    // A writer that dies leaves the image dirty, and counts that were never written.
    let commands = ["write -P 1 0 700k", "abort"].map(str::to_owned);
    let mut qemu = std::process::Command::new("qemu-io");
    for command in &commands {
        qemu.args(["-c", command]);
    }
    qemu.args(["-f", "qcow2", "image"]).current_dir(at).output().unwrap();
    let raw = Raw::open(at.join("image"), Access::ReadWrite).unwrap();
    let error = Qcow2::open(&raw, Access::ReadWrite, &Closed).unwrap_err();
    assert!(error.to_string().contains("not closed"), "{error}");
    let theirs = std::process::Command::new("qemu-img")
        .args(["check", "--output=json", "-f", "qcow2", "image"])
        .current_dir(at)
        .output()
        .unwrap();
    let theirs = String::from_utf8(theirs.stdout).unwrap();
    let ours = check(&raw, Repair::Nothing).unwrap();
    assert!(ours.corruptions > 0 && ours.corruptions_fixed == 0);
    let number = |field: &str| {
        let found = theirs.lines().find_map(|line| line.trim().strip_prefix(field)).unwrap_or("0");
        found.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap_or(0)
    };
    assert_eq!(number("\"leaks\":"), ours.leaks, "{theirs}");
    // QEMU counts a wrong count once more for the reference that says that it is the only one.
    assert_eq!(number("\"corruptions\":"), 2 * ours.corruptions, "{theirs}");
    let fixed = check(&raw, Repair::Everything).unwrap();
    assert!(fixed.is_clean(), "{fixed:#?}");
    clean(at, "image");
    let image = open(at, "image", Access::ReadWrite);
    same(&image.snapshot("1").unwrap(), &pattern);
    image.write_at(&[5; 100_000], 1_000_000).unwrap();
    image.close().unwrap();
    clean(at, "image");
}

#[test]
fn bitmaps_are_neither_lost_nor_leaked_by_a_check() {
    if !available("bitmaps_are_neither_lost_nor_leaked_by_a_check") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    raw_pattern(at, "source", 4 << 20, 6);
    qemu_img(at, "convert -f raw -O qcow2 source image");
    qemu_img(at, "bitmap --add -f qcow2 image dirty");
    qemu_io(at, &["-f", "qcow2", "image"], &["write -P 1 0 700k".to_owned()]);
    let raw = Raw::open(at.join("image"), Access::ReadWrite).unwrap();
    assert!(check(&raw, Repair::Everything).unwrap().is_clean());
    clean(at, "image");
}

#[test]
fn qemu_agrees_with_a_resized_disk() {
    if !available("qemu_agrees_with_a_resized_disk") {
        return;
    }
    let directory = directory();
    let at = directory.path();
    for cluster in ["512", "4k", "64k"] {
        qemu_img(at, &format!("create -q -f qcow2 -o cluster_size={cluster} image 1M"));
        qemu_io(at, &["-f", "qcow2", "image"], &["write -P 4 0 1M".to_owned()]);
        let mut image = open(at, "image", Access::ReadWrite);
        image.resize(300 << 20, Shrinking::Refuse).unwrap();
        image.write_at(&[5; 4096], 299 << 20).unwrap();
        image.close().unwrap();
        clean(at, "image");
        let commands =
            ["read -P 4 0 1M", "read -P 0 1M 298M", "read -P 5 299M 4k"].map(str::to_owned);
        qemu_io(at, &["-f", "qcow2", "image"], &commands);
        let mut image = open(at, "image", Access::ReadWrite);
        image.resize(512 << 10, Shrinking::Allow).unwrap();
        image.close().unwrap();
        clean(at, "image");
        qemu_img(at, "resize -q -f qcow2 image 2M");
        let commands = ["read -P 4 0 512k", "read -P 0 512k 1536k"].map(str::to_owned);
        qemu_io(at, &["-f", "qcow2", "image"], &commands);
        fs::remove_file(at.join("image")).unwrap();
    }
}
