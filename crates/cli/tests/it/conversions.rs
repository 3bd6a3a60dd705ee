//! From every format to every other, over sources that QEMU has made, read back by QEMU.

use serde_json::Value;
use strongroom_testkit::{Pattern, Tool};

use crate::workplace::{CHEAP, Workplace, has};

const FORMATS: [&str; 5] = ["raw", "qcow2", "qcow2-luks", "luks1", "luks2"];

/// How QEMU is told to open what `pw` and `new` open.
const SECRETS: &str = "--object secret,id=pw,file=pw --object secret,id=new,file=new";

fn is_encrypted(format: &str) -> bool {
    !matches!(format, "raw" | "qcow2")
}

/// Converts an image, over whatever stood there. What is encrypted opens with `old` before, and
/// with `new` after it.
fn convert(place: &Workplace, from: (&str, &str), to: (&str, &str), keys: [&str; 2]) -> Value {
    let ((source, source_format), (target, format)) = (from, to);
    let [old, new] = keys;
    let words = match (is_encrypted(source_format), is_encrypted(format)) {
        (false, false) => "clone".to_owned(),
        (false, true) => format!("encrypt --passphrase-file {new} {CHEAP}"),
        (true, false) => format!("decrypt --passphrase-file {old}"),
        (true, true) => {
            format!("reencrypt --passphrase-file {old} --new-passphrase-file {new} {CHEAP}")
        }
    };
    let words = format!(
        "image {words} {source} {target} --source-format {source_format} --format {format} \
         --backing-from . --force --json"
    );
    serde_json::from_str(&place.strongroom(&words).ok()).unwrap()
}

/// Returns how QEMU opens an image; `None` for what it cannot.
fn opened(name: &str, format: &str, key: &str) -> Option<String> {
    Some(match format {
        "raw" => format!("driver=raw,file.filename={name}"),
        "qcow2" => format!("driver=qcow2,file.filename={name}"),
        "qcow2-luks" => format!("driver=qcow2,encrypt.key-secret={key},file.filename={name}"),
        "luks1" => format!("driver=luks,key-secret={key},file.filename={name}"),
        _ => return None,
    })
}

/// Checks that an image is whole and holds what `expected` does, as QEMU and we see it.
fn assert_holds(place: &Workplace, (name, format): (&str, &str), key: &str, expected: &str) {
    if format.starts_with("qcow2") {
        let image = opened(name, format, key).unwrap();
        place.qemu_img(&format!("check -q {SECRETS} --image-opts {image}")).ok();
        place.strongroom(&format!("image check {name}")).ok();
    }
    let key_file =
        if is_encrypted(format) { format!("--passphrase-file {key}") } else { String::new() };
    place
        .strongroom(&format!(
            "image compare {name} {expected} --source-format {format} --other-format raw {key_file}"
        ))
        .ok();
    if let Some(image) = opened(name, format, key) {
        let expected = opened(expected, "raw", "").unwrap();
        place.qemu_img(&format!("compare -q {SECRETS} --image-opts {image} {expected}")).ok();
    }
}

#[test]
fn every_format_becomes_every_other() {
    if !has("conversions::every_format", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    // No multiple of a cluster, and longer than a chunk.
    place.image("plain", (5 << 20) + 3 * 512);
    for format in FORMATS {
        let source = format!("source-{format}");
        convert(&place, ("plain", "raw"), (&source, format), ["pw", "pw"]);
        assert_holds(&place, (&source, format), "pw", "plain");
        for target in FORMATS {
            let report = convert(&place, (&source, format), ("target", target), ["pw", "new"]);
            assert_eq!(report["format"], target, "{format} to {target}");
            assert_eq!(report["bytes"], (5 << 20) + 3 * 512, "{format} to {target}");
            assert_holds(&place, ("target", target), "new", "plain");
            if target == "raw" {
                place.same("target", "plain").unwrap();
            }
        }
    }
}

#[test]
fn every_kind_of_qcow2_that_qemu_makes_is_converted() {
    if !has("conversions::every_kind", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    place.image("plain", (3 << 20) + 512);
    let mut kinds = Vec::new();
    for cluster in ["512", "4k", "64k", "2M"] {
        kinds.push(format!("-o compat=0.10,cluster_size={cluster}"));
        kinds.push(format!("-o cluster_size={cluster}"));
        kinds.push(format!("-c -o cluster_size={cluster}"));
        kinds.push(format!("-c -o cluster_size={cluster},compression_type=zstd"));
    }
    for more in [
        "-o extended_l2=on,cluster_size=16k",
        "-o extended_l2=on,cluster_size=2M",
        "-o refcount_bits=1",
        "-o refcount_bits=64,lazy_refcounts=on",
        "-o preallocation=metadata",
    ] {
        kinds.push(more.to_owned());
    }
    for (kind, target) in kinds.iter().zip(FORMATS.iter().cycle()) {
        place.qemu_img(&format!("convert -f raw -O qcow2 {kind} plain source")).ok();
        for target in [target, &"raw"] {
            convert(&place, ("source", "qcow2"), ("target", target), ["pw", "new"]);
            assert_holds(&place, ("target", target), "new", "plain");
        }
        place.same("target", "plain").unwrap_or_else(|problem| panic!("{kind}: {problem}"));
    }
}

#[test]
fn every_cipher_that_qemu_has_is_read_and_written_in_qcow2() {
    if !has("conversions::ciphers", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    place.image("plain", 1 << 20);
    // With keys of 192 bits QEMU 7.2 ends itself where LUKS lies in qcow2.
    for (theirs, bits, name, specs) in [
        ("aes-128", 128, "aes", &["xts-plain64", "cbc-essiv:sha256"][..]),
        ("aes-256", 256, "aes", &["xts-plain64", "cbc-plain64"]),
        ("serpent-128", 128, "serpent", &["cbc-plain64"]),
        ("serpent-256", 256, "serpent", &["xts-plain64"]),
        ("twofish-128", 128, "twofish", &["xts-plain64"]),
        ("twofish-256", 256, "twofish", &["cbc-essiv:sha256"]),
        ("cast5-128", 128, "cast5", &["cbc-plain64"]),
    ] {
        for spec in specs {
            let (mode, iv) = spec.split_once('-').unwrap();
            let iv = match iv {
                "plain64" => "ivgen-alg=plain64",
                _ => "ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha256",
            };
            let options = format!(
                "encrypt.format=luks,encrypt.key-secret=pw,encrypt.iter-time=10,\
                 encrypt.cipher-alg={theirs},encrypt.cipher-mode={mode},encrypt.{iv}"
            );
            let words = format!("convert {SECRETS} -f raw -O qcow2 -o {options} plain source");
            place.qemu_img(&words).ok();
            convert(&place, ("source", "qcow2-luks"), ("target", "raw"), ["pw", "new"]);
            place.same("target", "plain").unwrap_or_else(|problem| panic!("{options}: {problem}"));
            // What is encrypted anew keeps cipher and key size.
            convert(&place, ("source", "qcow2-luks"), ("target", "qcow2-luks"), ["pw", "new"]);
            assert_holds(&place, ("target", "qcow2-luks"), "new", "plain");
            let info = place.strongroom("image info target --source-format qcow2-luks --json");
            let info: Value = serde_json::from_str(&info.ok()).unwrap();
            let key = if mode == "xts" { 2 * bits } else { bits };
            assert_eq!(info["cipher"], format!("{name}-{spec}"), "{options}");
            assert_eq!(info["key_bits"], key, "{options}");
        }
    }
}

#[test]
fn a_chain_of_images_becomes_one() {
    if !has("conversions::chain", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    place.image("base", 1 << 20);
    place.qemu_img("create -q -f qcow2 -b base -F raw middle.qcow2 2M").ok();
    place.qemu_img("create -q -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2 3M").ok();
    place.qemu_img("convert -f qcow2 -O raw top.qcow2 expected").ok();
    for format in FORMATS {
        convert(&place, ("top.qcow2", "qcow2"), ("target", format), ["pw", "new"]);
        assert_holds(&place, ("target", format), "new", "expected");
    }
    let info = place.qemu_img("info --output json target").ok();
    assert!(!info.contains("backing"), "{info}");
    // Without a word about where they may lie, nothing that it names is read.
    let message = place.strongroom("image clone top.qcow2 out --format raw").fails(2);
    assert!(message.contains("middle.qcow2") && message.contains("--backing-from"), "{message}");
    std::fs::create_dir(place.path("other")).unwrap();
    let words = "image clone top.qcow2 out --format raw --backing-from other";
    place.strongroom(words).fails(2);
    assert!(!place.exists("out"));
}

#[test]
fn odd_lengths_are_padded_where_nothing_is_encrypted() {
    if !has("conversions::odd", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    for len in [1_u64, 511, 513, 65_537, 1_048_577, (2 << 20) + 100] {
        place.image_of("plain", len, &Pattern::dense(len));
        let mut padded = place.read("plain");
        padded.resize(padded.len().next_multiple_of(512), 0);
        place.write("padded", padded);
        convert(&place, ("plain", "raw"), ("target", "qcow2"), ["pw", "pw"]);
        assert_holds(&place, ("target", "qcow2"), "", "padded");
        convert(&place, ("plain", "raw"), ("copy", "raw"), ["pw", "pw"]);
        place.same("copy", "plain").unwrap();
        place.strongroom("image clone plain zipped --format qcow2 --compress zlib --force").ok();
        assert_holds(&place, ("zipped", "qcow2"), "", "padded");
        for format in ["luks1", "luks2", "qcow2-luks"] {
            let words = format!("image encrypt plain out --format {format} --passphrase-file pw");
            let message = place.strongroom(&format!("{words} {CHEAP}")).fails(4);
            assert!(message.contains("hint: ") && message.contains("truncate"), "{message}");
            assert!(!place.exists("out"), "{format}");
        }
    }
}

#[test]
fn nothing_at_all_stays_nothing() {
    if !has("conversions::nothing", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    place.sized("plain", 0);
    for from in ["raw", "qcow2"] {
        let source = format!("source-{from}");
        convert(&place, ("plain", "raw"), (&source, from), ["pw", "pw"]);
        for to in ["raw", "qcow2"] {
            convert(&place, (&source, from), ("target", to), ["pw", "pw"]);
            assert_holds(&place, ("target", to), "", "plain");
        }
        for format in ["luks1", "luks2", "qcow2-luks"] {
            let words = format!(
                "image encrypt {source} out --source-format {from} --format {format} \
                 --passphrase-file pw {CHEAP}"
            );
            let message = place.strongroom(&words).fails(4);
            assert!(message.contains("nothing to encrypt"), "{message}");
            assert!(!place.exists("out"), "{format}");
        }
    }
}

#[test]
fn sparse_images_stay_sparse() {
    if !has("conversions::sparse", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    place.sized("plain", 4 << 30);
    {
        let disk =
            strongroom_disk::Raw::open(place.path("plain"), strongroom_disk::Access::ReadWrite)
                .unwrap();
        let mut data = vec![0; 1 << 20];
        for number in 0..16 {
            Pattern::dense(number).fill(&mut data, 0);
            strongroom_disk::Disk::write_at(&disk, &data, number * (250 << 20)).unwrap();
        }
    }
    let allocated = place.allocated("plain");
    assert!(allocated <= 17 << 20, "{allocated}");
    place.qemu_img("convert -f raw -O qcow2 plain source").ok();
    for (source, format) in [("plain", "raw"), ("source", "qcow2")] {
        for target in ["qcow2", "qcow2-luks"] {
            convert(&place, (source, format), ("target", target), ["pw", "new"]);
            assert_sparse(&place, "target", target, allocated);
            convert(&place, ("target", target), ("back", "raw"), ["new", "pw"]);
            assert!(place.allocated("back") <= allocated * 105 / 100, "{source} {target}");
            place.qemu_img("compare -q -f raw -F raw plain back").ok();
        }
    }
    assert_holds(&place, ("target", "qcow2-luks"), "new", "plain");
    convert(&place, ("target", "qcow2-luks"), ("again", "qcow2-luks"), ["new", "pw"]);
    assert_sparse(&place, "again", "qcow2-luks", allocated);
}

/// Checks that an image takes 1.05 times what its source has, and its LUKS header, at most.
fn assert_sparse(place: &Workplace, name: &str, format: &str, allocated: u64) {
    let header = if format == "qcow2" { 0 } else { 2 << 20 };
    let found = place.allocated(name);
    let most = allocated * 105 / 100 + header;
    assert!(found <= most, "{format}: {found} bytes for {allocated}, {most} at most");
}

#[test]
fn compressed_images_are_smaller_and_right() {
    if !has("conversions::compressed", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    let text: String = (0..400_000).map(|number| format!("line {number} of a text\n")).collect();
    let mut bytes = text.into_bytes();
    // Data that does not get shorter, and holes.
    let mut noise = vec![0; 1 << 20];
    Pattern::dense(3).fill(&mut noise, 0);
    bytes.extend(noise);
    bytes.resize(12 << 20, 0);
    place.write("plain", &bytes);
    convert(&place, ("plain", "raw"), ("volume", "luks2"), ["pw", "pw"]);
    convert(&place, ("plain", "raw"), ("open.qcow2", "qcow2"), ["pw", "pw"]);
    let open = place.allocated("open.qcow2");
    for kind in ["zlib", "zstd"] {
        for words in [
            "clone plain".to_owned(),
            "clone open.qcow2".to_owned(),
            "decrypt volume --passphrase-file pw".to_owned(),
        ] {
            place.strongroom(&format!("image {words} small.qcow2 --compress {kind} --force")).ok();
            assert_holds(&place, ("small.qcow2", "qcow2"), "", "plain");
            let small = place.allocated("small.qcow2");
            assert!(small * 2 < open, "{words}, {kind}: {small} bytes for {open}");
            let info = place.qemu_img("info --output json small.qcow2").ok();
            assert!(info.contains(&format!("\"compression-type\": \"{kind}\"")), "{info}");
        }
        convert(&place, ("small.qcow2", "qcow2"), ("again", "luks1"), ["pw", "new"]);
        assert_holds(&place, ("again", "luks1"), "new", "plain");
    }
}
