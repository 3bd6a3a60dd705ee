//! Writes the seed corpora: `cargo run --example seeds`. The same bytes every time.

mod documents;
mod nbd;
mod qcow2;
mod ttlv;

use std::path::Path;
use std::{fs, io};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};
use strongroom_crypto::{Argon2Variant, CostPolicy, Hash, Kdf, Passphrase, SectorSize};
use strongroom_fuzz::BINARY_LEN;
use strongroom_luks::{FormatOptions, Header, Step, Version, luks1, luks2, to_luks1};

fn main() -> io::Result<()> {
    let luks1 = luks1_seeds();
    let luks2 = luks2_seeds();
    let headers = luks2.iter().flat_map(|(name, header)| damaged(name, header)).collect();
    let documents: Vec<(String, Value)> = luks2
        .iter()
        .map(|(name, header)| (name.clone(), document(header)))
        .chain(unusual_documents(&document(&luks2[0].1)))
        .collect();
    let open = luks1
        .iter()
        .map(|(name, header)| (name.clone(), header.clone()))
        .chain(documents.iter().map(|(name, json)| (name.clone(), cheap(json.clone()))))
        .map(|(name, header)| (name, [b"\x04\x05", b"pass".as_slice(), b"noise", &header].concat()))
        .collect();
    let usual = document(&luks2[0].1);
    let tokens = [TOKEN.to_owned(), deep_token(120), deep_token(125), NUMBERS_TOKEN.to_owned()];
    let json = documents
        .iter()
        .map(|(name, json)| (name.clone(), json, TOKEN.to_owned()))
        .chain((0..).zip(tokens).map(|(at, token)| (format!("new-token-{at}"), &usual, token)))
        .map(|(name, json, token)| (name, format!("{json}\0{token}").into_bytes()))
        .collect();
    write("luks1_header", luks1)?;
    write("luks2_header", headers)?;
    write("luks2_json", json)?;
    write("luks_open", open)?;
    write("qcow2_image", qcow2::seeds())?;
    write("ttlv", ttlv::seeds())?;
    write("nbd", nbd::seeds())?;
    write("cipher_spec", named(CIPHER_SPECS))?;
    let manifests = MANIFESTS.iter().map(|&(name, text)| (name.to_owned(), text.into())).collect();
    write("secret_manifest", manifests)?;
    let classes = CLASSES.iter().map(|&(name, text)| (name.to_owned(), text.into())).collect();
    write("storage_class", classes)?;
    write("documents", documents::seeds())?;
    write("libvirt", examples()?)?;
    write("envelope", envelopes()?)
}

/// Returns the documents of libvirt that stand among the examples, and what they hold.
fn examples() -> io::Result<Seeds> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/libvirt");
    let mut seeds = Seeds::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".xml")) {
            seeds.push((name.to_owned(), fs::read(&path)?));
        }
    }
    seeds.extend(XML.iter().map(|&(name, text)| (name.to_owned(), text.into())));
    Ok(seeds)
}

/// Returns the envelopes that every release must read.
fn envelopes() -> io::Result<Seeds> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/kms/tests/fixtures");
    let mut seeds = Seeds::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) {
            seeds.push((name.to_owned(), fs::read(&path)?));
        }
    }
    Ok(seeds)
}

type Seeds = Vec<(String, Vec<u8>)>;

fn write(target: &str, seeds: Seeds) -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder)?;
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn named(texts: &[&str]) -> Seeds {
    let name = |text: &str| text.replace(':', "_");
    texts.iter().map(|text| (name(text), text.as_bytes().to_vec())).collect()
}

/// Returns LUKS1 headers, whole ones and some that a repair helps.
fn luks1_seeds() -> Seeds {
    let header = |cipher: &str, bits, hash, detached| {
        let options = FormatOptions {
            kdf: Kdf::Pbkdf2 { hash, iterations: 1000 },
            hash,
            detached,
            ..options(Version::Luks1, cipher, bits)
        };
        let Header::Luks1(mut header) = formatted(&options) else {
            unreachable!("LUKS1 was asked")
        };
        header.digest_iterations = 1;
        header
    };
    let xts = header("aes-xts-plain64", 512, Hash::Sha256, false);
    let cbc = header("aes-cbc-essiv:sha256", 128, Hash::Sha1, true);
    let upper_case = luks1::Header { hash_spec: "SHA256".to_owned(), ..xts.clone() };
    let ecb = luks1::Header { cipher_mode: "ecb-plain".to_owned(), ..xts.clone() };
    let mut misplaced = xts.clone();
    misplaced.keyslots[7].offset = 0;
    let mut erased = cbc.clone();
    erased.keyslots[0].active = false;
    let mut boot_signature = whole(&xts);
    boot_signature[510..512].copy_from_slice(&[0x55, 0xaa]);
    let large_device = [whole(&xts).as_slice(), &[45]].concat();
    let luks2 = luks2_header("aes-cbc-plain64", 256, pbkdf2(), SectorSize::B512);
    let converted = to_luks1(&luks2, u64::MAX);
    let (converted, _) = converted.expect("nothing stands in the way");
    [
        ("xts", whole(&xts)),
        ("cbc-detached", whole(&cbc)),
        ("twofish", whole(&header("twofish-xts-plain64", 256, Hash::Ripemd160, false))),
        ("erased", whole(&erased)),
        ("upper-case-hash", whole(&upper_case)),
        ("ecb-with-iv", whole(&ecb)),
        ("misplaced-keyslot", whole(&misplaced)),
        ("boot-signature", boot_signature),
        ("large-device", large_device),
        ("converted", whole(&converted)),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// Returns the bytes of a header that mean anything.
fn whole(header: &luks1::Header) -> Vec<u8> {
    let mut bytes = header.to_bytes();
    bytes.truncate(592);
    bytes
}

/// Returns LUKS2 headers as this house writes them.
fn luks2_seeds() -> Vec<(String, luks2::Header)> {
    let pbkdf2 = luks2_header("aes-cbc-essiv:sha256", 128, pbkdf2(), SectorSize::B512);
    let argon2 =
        Kdf::Argon2 { variant: Argon2Variant::Argon2id, time: 4, memory_kib: 32, lanes: 1 };
    let argon2 = luks2_header("aes-xts-plain64", 256, argon2, SectorSize::B4096);
    let (labelled, _) = argon2.set_labels(Some("label"), Some("subsystem")).expect("they fit");
    let (_, token, _) = pbkdf2.import_token(None, TOKEN).expect("it is a token");
    let seeds =
        [("pbkdf2", pbkdf2), ("argon2id", argon2), ("labelled", labelled), ("token", token)];
    seeds.map(|(name, header)| (name.to_owned(), header)).into()
}

fn luks2_header(cipher: &str, bits: usize, kdf: Kdf, sector_size: SectorSize) -> luks2::Header {
    let options = FormatOptions {
        kdf,
        sector_size,
        keyslots_size: Some(256 << 10),
        data_offset: Some(2 << 20),
        ..options(Version::Luks2, cipher, bits)
    };
    let Header::Luks2(header) = formatted(&options) else { unreachable!("LUKS2 was asked for") };
    header
}

fn options(version: Version, cipher: &str, bits: usize) -> FormatOptions {
    let spec: strongroom_crypto::CipherSpec = cipher.parse().expect("the cipher exists");
    let encryption = spec.with_key_bits(bits).expect("the key size exists");
    FormatOptions { encryption, ..FormatOptions::new(version) }
}

fn pbkdf2() -> Kdf {
    Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 }
}

fn formatted(options: &FormatOptions) -> Header {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    // Nobody shall find the passphrase by trying.
    let passphrase = Passphrase::random(32, rng);
    options.format(&passphrase, &CostPolicy::default(), rng).expect("the options fit").header
}

fn document(header: &luks2::Header) -> Value {
    serde_json::from_str(&header.json()).expect("a header holds JSON")
}

/// Returns a header's bytes with what the target does to it.
fn damaged(name: &str, header: &luks2::Header) -> Seeds {
    // Any change is written with the whole header.
    let (_, change) = header.set_labels(None, None).expect("nothing changes");
    let Some(Step::Write { bytes, .. }) = change.steps().first() else {
        unreachable!("a change begins with the primary copy");
    };
    let binary = &bytes[..BINARY_LEN];
    let json = header.json();
    let mut last = binary.to_vec();
    last[16..24].fill(0xff);
    [
        ("whole", [0, 0]),
        ("newer", [2, 1]),
        ("primary-damaged", [4, 0]),
        ("secondary-damaged", [8, 9]),
    ]
    .into_iter()
    .chain([("overwritten", [16, 0]), ("short", [32, 8])])
    .map(|(what, flags)| (format!("{name}-{what}"), [&flags, binary, json.as_bytes()].concat()))
    .chain([(format!("{name}-last-sequence-id"), [&[0, 0], &*last, json.as_bytes()].concat())])
    .collect()
}

/// Returns metadata that only other tools write.
fn unusual_documents(usual: &Value) -> Vec<(String, Value)> {
    let changed = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut document = usual.clone();
        change(&mut document);
        (name.to_owned(), document)
    };
    vec![
        changed("reencryption", &|document| {
            document["keyslots"]["1"] = json!({
                "type": "reencrypt", "key_size": 1, "mode": "reencrypt", "direction": "forward",
                "area": { "type": "checksum", "offset": "200704", "size": "4096",
                    "hash": "sha256", "sector_size": 512 },
            });
            document["segments"]["1"] = document["segments"]["0"].clone();
            document["segments"]["0"]["size"] = json!("1048576");
            document["segments"]["1"]["offset"] = json!("3145728");
            document["segments"]["1"]["flags"] = json!(["backup-final"]);
            document["config"]["requirements"] = json!({ "mandatory": ["online-reencrypt-v2"] });
        }),
        changed("integrity", &|document| {
            document["segments"]["0"]["integrity"] = json!({
                "type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none",
            });
        }),
        changed("fixed-size", &|document| {
            document["segments"]["0"]["size"] = json!("1048576");
            document["segments"]["0"]["iv_tweak"] = json!("8");
        }),
        changed("fixed-end", &|document| {
            document["segments"]["0"]["size"] = json!("1048576");
        }),
        changed("long-cipher-name", &|document| {
            let name = json!(format!("aes-{}", "x".repeat(1500)));
            document["segments"]["0"]["encryption"] = name.clone();
            document["keyslots"]["0"]["area"]["encryption"] = name;
        }),
        changed("unbound", &|document| {
            document["keyslots"]["7"] = document["keyslots"]["0"].clone();
            document["keyslots"]["7"]["area"]["offset"] = json!("131072");
            document["keyslots"]["7"]["priority"] = json!(2);
            document["digests"]["1"] = document["digests"]["0"].clone();
            document["digests"]["1"]["keyslots"] = json!(["7"]);
            document["digests"]["1"]["segments"] = json!([]);
        }),
        changed("unknown", &|document| {
            document["keyslots"]["31"] = json!({
                "type": "later", "key_size": 9,
                "area": { "type": "later", "offset": "200704", "size": "4096" },
            });
            document["tokens"]["0"] =
                json!({ "type": "later", "keyslots": ["31"], "x": [1.5, null] });
            document["config"]["flags"] = json!(["allow-discards"]);
            document["later"] = json!({ "deep": [{ "deeper": [] }] });
        }),
    ]
}

/// Returns metadata as text, the digests so cheap that a tight policy takes them.
fn cheap(mut document: Value) -> Vec<u8> {
    for (_, digest) in document["digests"].as_object_mut().expect("there are digests") {
        digest["iterations"] = json!(1);
    }
    document.to_string().into_bytes()
}

/// Returns a token of many arrays in one another.
fn deep_token(depth: usize) -> String {
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    format!(r#"{{"type":"deep","keyslots":[],"deep":{open}{close}}}"#)
}

const TOKEN: &str = r#"{"type":"strongroom-kms","keyslots":["0"],"key":"AAECAw=="}"#;

/// Numbers that are easily read as their neighbours.
const NUMBERS_TOKEN: &str =
    r#"{"type":"n","keyslots":[],"n":[4.1617993889434615e+268,1.2088995980580639e+39]}"#;

const CIPHER_SPECS: &[&str] = &[
    "aes",
    "aes-plain",
    "aes-xts-plain64",
    "aes-cbc-essiv:sha256",
    "serpent-xts-plain64be",
    "twofish-ctr-plain",
    "camellia-cbc-null",
    "cast5-cbc-plain64",
    "des3_ede-ecb",
    "aes-ecb-null",
    "aes-xts-plain64:sha256",
    "capi:xts(aes)-plain64",
];

/// XML that nobody should write, and what the examples do not have.
const XML: &[(&str, &str)] = &[
    (
        "encryption",
        "<?xml version='1.0' encoding='UTF-8'?>\n<encryption format='luks' engine='qemu'><ivgen name='plain' \
         hash='md5'/><cipher name='serpent' size=' 192' mode='ctr' hash='ripemd160'/><secret \
         type='passphrase' usage='&quot;&#9;&#xe4;'/></encryption>",
    ),
    ("mixed", "<a> x <!-- y --><b/>&amp;<![CDATA[<z>]]> <?pi x?></a>"),
    ("document-type", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"),
    (
        "everything",
        "<volume type='block' x='1'><name>a</name><key>k</key><source/><capacity unit='kb'>7</capacity>\
         <physical>8</physical><target><path>/p</path><permissions><mode>0644</mode><owner>-1</owner>\
         <group>7</group><label>l</label></permissions><timestamps><mtime>1.2</mtime></timestamps>\
         <encryption format='qcow'><secret type='volume' uuid='0a81f5b284037b23c8d621ccc2f80d6f'/><cipher/>\
         </encryption><nocow/><later/></target><backingStore><path>b</path></backingStore></volume>",
    ),
];

/// Manifests of StorageClasses and of Secrets with credentials.
const CLASSES: &[(&str, &str)] = &[
    (
        "transit",
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: fast\nparameters:\n  \
         type: fast\n  encryptionEnabled: \"true\"\n  encryptionKMSType: transit\n  \
         encryptionKMSEndpoint: https://openbao.example:8200\n  encryptionKMSKeyID: pvc-kek\n  \
         encryptionKMSMount: transit\n  encryptionKMSNamespace: team-a\n---\napiVersion: v1\n\
         kind: Secret\nmetadata:\n  name: a\n  namespace: b\nstringData:\n  token: hvs.x\n  ca.crt: c\n",
    ),
    (
        "kmip",
        r#"{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "a"},
            "parameters": {"encryptionEnabled": "true", "encryptionKMSType": "kmip",
            "encryptionKMSEndpoint": "[2001:db8::1]:5696", "encryptionKMSKeyID": "17"}}"#,
    ),
    (
        "longhorn",
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: a}\n\
         parameters: {encrypted: \"true\"}\n",
    ),
    (
        "bare-true",
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nparameters: {encryptionEnabled: true}\n",
    ),
    (
        "certificates",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {ca.crt: YQ==, tls.crt: Yg==, \
         tls.key: Yw==}\n",
    ),
];

/// Manifests by name: as people write them, and as nobody should.
const MANIFESTS: &[(&str, &str)] = &[
    (
        "string-data",
        "apiVersion: v1
kind: Secret
metadata:
  name: crypto
  namespace: longhorn-system
stringData:
  CRYPTO_KEY_VALUE: correct horse battery staple
  CRYPTO_KEY_PROVIDER: secret
  CRYPTO_KEY_CIPHER: aes-xts-plain64
  CRYPTO_KEY_HASH: sha256
  CRYPTO_KEY_SIZE: \"256\"
  CRYPTO_PBKDF: argon2i
  CRYPTO_PBKDF_FORCE_ITERATIONS: \"4\"
  CRYPTO_PBKDF_MEMORY: \"65536\"
",
    ),
    (
        "data",
        "apiVersion: v1
kind: Secret
metadata: {name: crypto}
type: Opaque
data:
  CRYPTO_KEY_VALUE: Y29ycmVjdCBob3JzZQo=
  CRYPTO_KEY_SIZE: MjU2
  CRYPTO_PBKDF: null
",
    ),
    (
        "json",
        r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"crypto"},
        "stringData":{"CRYPTO_KEY_VALUE":"\u00e9\u0000\n","CRYPTO_PBKDF":"pbkdf2"}}"#,
    ),
    (
        "several-documents",
        "---
kind: ConfigMap
data: {a: b}
---
apiVersion: v1
kind: Secret
metadata: {name: other}
data: {a: Yg==}
---
apiVersion: v1
kind: Secret
metadata: {name: crypto}
stringData:
  CRYPTO_KEY_VALUE: |
    two
    lines
",
    ),
    (
        "aliases",
        "apiVersion: v1
kind: Secret
metadata: &m {name: crypto, labels: {a: &a [1, 2], b: [*a, *a]}}
stringData: &s
  CRYPTO_KEY_VALUE: &v value
  CRYPTO_KEY_CIPHER: *v
data: {<<: *m}
",
    ),
    (
        "bare-number",
        "apiVersion: v1
kind: Secret
metadata: {name: crypto}
data: {CRYPTO_KEY_VALUE: not base64, CRYPTO_KEY_SIZE: 256}
",
    ),
    (
        "unknown-key",
        "apiVersion: v1
kind: Secret
metadata: {name: crypto}
stringData: {CRYPTO_KEY_VALUE: a, CRYPTO_KEY_SISE: \"256\", ? [x] : !!binary eA==}
",
    ),
];
