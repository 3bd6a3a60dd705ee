use proptest::prelude::*;

use super::*;
use crate::dialect::libvirt::xml;
use crate::{EncryptionRequest, LuksFormat};

const UUID: &str = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f";

fn element(document: &str) -> Element {
    xml::read(document.as_bytes()).unwrap()
}

fn read(document: &str) -> Encryption {
    Encryption::read(&element(document)).unwrap()
}

fn refusal(document: &str) -> String {
    Encryption::read(&element(document)).unwrap_err().to_string()
}

/// Returns an encryption with a cipher and, unless it is empty, an IV generator.
fn with_cipher(cipher: &str, ivgen: &str) -> String {
    let ivgen = if ivgen.is_empty() { String::new() } else { format!("<ivgen {ivgen}/>") };
    format!("<encryption format='luks'><cipher {cipher}/>{ivgen}</encryption>")
}

fn request(document: &str) -> EncryptionRequest {
    read(document).request().unwrap()
}

fn request_refusal(document: &str) -> String {
    read(document).request().unwrap_err().to_string()
}

#[test]
fn every_format_is_read_and_written() {
    for format in EncryptionFormat::ALL {
        let document = format!("<encryption format='{}'/>\n", format.name());
        assert_eq!(read(&document), Encryption::new(format));
        assert_eq!(xml::write(&read(&document).write()), document);
    }
}

#[test]
fn a_format_is_mandatory_and_one_of_those_there_are() {
    let all = "one of default, qcow, luks, luks2, luks-any";
    for (document, problem) in [
        ("<encryption/>", "line 1: <encryption> has no format: it is "),
        ("<encryption format=''/>", "line 1: <encryption> has no format: it is "),
        ("\n\n<encryption format='LUKS'/>", "line 3: format 'LUKS' of <encryption> is not "),
        ("<encryption format='aes'/>", "line 1: format 'aes' of <encryption> is not "),
    ] {
        assert_eq!(refusal(document), format!("{problem}{all}"));
    }
}

#[test]
fn an_engine_is_optional_and_one_of_two() {
    let engine = |name: &str| format!("<encryption format='luks' engine='{name}'/>\n");
    for name in ["qemu", "librbd"] {
        let encryption = read(&engine(name));
        assert_eq!(encryption.engine.unwrap().name(), name);
        assert_eq!(xml::write(&encryption.write()), engine(name));
    }
    // The daemon prints 'default' nowhere and does not read it.
    for name in ["default", "", "QEMU"] {
        let error = refusal(&engine(name));
        assert!(error.ends_with("of <encryption> is not one of qemu, librbd"), "{error}");
    }
}

#[test]
fn secrets_are_read_for_every_format_in_their_order() {
    for format in EncryptionFormat::ALL {
        let encryption = read(&format!(
            "<encryption format='{}'><secret type='passphrase' usage='child'/><secret \
             type='passphrase' uuid='{UUID}'/><secret type='passphrase' usage=''/></encryption>",
            format.name()
        ));
        let names: Vec<_> = encryption.secrets.into_iter().map(|secret| secret.name).collect();
        let usage = |usage: &str| SecretName::Usage(usage.to_owned());
        assert_eq!(names, [usage("child"), SecretName::Uuid(UUID.to_owned()), usage("")]);
    }
}

#[test]
fn a_secret_is_a_passphrase_with_either_uuid_or_usage() {
    for (secret, problem) in [
        ("", "<secret> has no type: it is 'passphrase'"),
        ("type='' usage='a'", "<secret> has no type: it is 'passphrase'"),
        ("type='key' usage='a'", "type 'key' of <secret> is not 'passphrase'"),
        ("type='passphrase'", "<secret> names none: it has a uuid or a usage"),
        (
            "type='passphrase' uuid='x' usage='a'",
            "<secret> has both uuid and usage: it has one of them",
        ),
        ("type='passphrase' uuid='x'", "uuid of <secret> is not 32 hexadecimal digits"),
    ] {
        let document = format!("<encryption format='luks'>\n<secret {secret}/></encryption>");
        assert_eq!(refusal(&document), format!("line 2: {problem}"));
    }
}

#[test]
fn uuids_are_read_liberally_and_written_canonically() {
    let document = "<encryption format='luks'><secret type='passphrase' \
                    uuid=' 0A81F5B284037B23 C8D6-21CCC2F80D6F '/></encryption>";
    let written = xml::write(&read(document).write());
    assert!(written.contains(&format!("<secret type='passphrase' uuid='{UUID}'/>")), "{written}");
}

#[test]
fn the_type_of_the_documentation_is_read_with_a_note_and_written_as_the_daemons() {
    let document = "<encryption format='luks'>\n<secret type='volume' usage='/a'/></encryption>";
    let (encryption, notes) = Encryption::read_with_notes(&element(document)).unwrap();
    assert_eq!(notes.len(), 1);
    assert!(notes[0].starts_with("line 2: type 'volume' of <secret> is read as"), "{notes:?}");
    let written = encryption.write();
    assert_eq!(written.child("secret").unwrap().attribute("type"), Some("passphrase"));
    assert_eq!(Encryption::read_with_notes(&written).unwrap().1, [""; 0]);
}

#[test]
fn cipher_and_ivgen_are_read_in_any_order_and_written_in_the_daemons() {
    let document = "<encryption format='luks'><ivgen name='essiv' hash='sha256'/><cipher name='twofish' \
                    size=' 256' mode='cbc' hash='sha512'/><secret type='passphrase' usage='a'/>\
                    </encryption>";
    let written = "<encryption format='luks'>\n  <secret type='passphrase' usage='a'/>\n  <cipher \
                   name='twofish' size='256' mode='cbc' hash='sha512'/>\n  <ivgen name='essiv' \
                   hash='sha256'/>\n</encryption>\n";
    assert_eq!(xml::write(&read(document).write()), written);
    assert_eq!(read(written), read(document));
}

#[test]
fn mode_and_hash_of_a_cipher_go_without_each_other() {
    for cipher in [
        "name='aes' size='256'",
        "name='aes' size='256' mode='cbc'",
        "name='aes' size='256' hash='sha1'",
        "name='' size='0'",
    ] {
        let document = with_cipher(cipher, "");
        let written = xml::write(&read(&document).write());
        assert!(written.contains(&format!("<cipher {cipher}/>")), "{written}");
    }
}

#[test]
fn what_a_cipher_and_an_ivgen_need_is_named() {
    for (cipher, ivgen, problem) in [
        ("size='256'", "", "<cipher> has no name, such as 'aes'"),
        ("name='aes'", "", "<cipher> has no size, the bits of its key, such as 256"),
        ("name='aes' size='-1'", "", "size '-1' of <cipher> is not a whole number of bits"),
        ("name='aes' size=''", "", "size '' of <cipher> is not a whole number of bits"),
        ("name='aes' size='256 '", "", "size '256 ' of <cipher> is not a whole number of bits"),
        ("name='aes' size='0x100'", "", "size '0x100' of <cipher> is not a whole number"),
        ("name='aes' size='4294967296'", "", "size '4294967296' of <cipher> is not a whole"),
        ("name='aes' size='256'", "hash='md5'", "<ivgen> has no name: it is one of"),
    ] {
        let error = refusal(&with_cipher(cipher, ivgen));
        assert!(error.starts_with(&format!("line 1: {problem}")), "{error}");
    }
}

#[test]
fn an_ivgen_without_a_cipher_is_an_error() {
    let document = "<encryption format='luks'>\n<ivgen name='plain64'/></encryption>";
    assert_eq!(refusal(document), "line 2: <ivgen> needs a <cipher> beside it");
}

#[test]
fn the_first_cipher_and_ivgen_win_and_the_others_are_told() {
    let document = "<encryption format='luks'><cipher name='aes' size='256'/>\n<cipher name='des' \
                    size='56'/><ivgen name='plain'/>\n<ivgen/></encryption>";
    let (encryption, notes) = Encryption::read_with_notes(&element(document)).unwrap();
    assert_eq!(encryption.cipher.as_ref().unwrap().name, "aes");
    assert_eq!(
        notes,
        [
            "line 2: a further <cipher> in <encryption> is not read and left out",
            "line 3: a further <ivgen> in <encryption> is not read and left out",
        ]
    );
    assert_eq!(Encryption::read(&encryption.write()), Ok(encryption));
}

#[test]
fn a_cipher_of_a_format_that_has_none_is_kept_without_effect() {
    for format in ["default", "qcow", "luks-any"] {
        let document = format!(
            "<encryption format='{format}'><cipher size='x'/><ivgen name='plain'/></encryption>"
        );
        let (encryption, notes) = Encryption::read_with_notes(&element(&document)).unwrap();
        assert_eq!((encryption.cipher.as_ref(), encryption.ivgen.as_ref()), (None, None));
        assert_eq!((encryption.unknown.len(), notes.len()), (2, 2), "{format}");
        assert_eq!(Encryption::read(&encryption.write()), Ok(encryption));
    }
    // Ours, which a daemon cannot create.
    let document = with_cipher("name='serpent' size='256'", "").replace("'luks'", "'luks2'");
    assert!(read(&document).cipher.is_some());
}

#[test]
fn unknown_elements_and_attributes_are_kept_and_told() {
    let document = "<encryption format='luks' x:later='1' xmlns:x='urn:x'>\n<x:key id='2'>text<b/></x:key>\
                    <secret type='passphrase' usage='a' later='3'/></encryption>";
    let (encryption, notes) = Encryption::read_with_notes(&element(document)).unwrap();
    assert_eq!(
        notes,
        [
            "line 2: attribute later of <secret> is not read and left out",
            "line 1: attribute x:later of <encryption> is not read, but kept",
            "line 2: <x:key> in <encryption> is not read, but kept",
        ]
    );
    let written = encryption.write();
    assert_eq!(written.attribute("xmlns:x"), Some("urn:x"));
    assert_eq!(written.child("x:key").unwrap().children.len(), 2);
    assert_eq!(Encryption::read(&written), Ok(encryption));
}

#[test]
fn what_is_not_said_is_as_the_daemon_chooses() {
    let daemon = EncryptionRequest {
        format: LuksFormat::Luks1,
        cipher: Some("aes-xts-plain64".to_owned()),
        key_size_bits: Some(512),
        hash: Some("sha256".to_owned()),
        ..EncryptionRequest::default()
    };
    assert_eq!(request("<encryption format='luks'/>"), daemon);
    assert_eq!(Encryption::preset(Preset::Daemon).request(), Ok(daemon.clone()));
    let luks2 = EncryptionRequest { format: LuksFormat::Luks2, ..daemon };
    assert_eq!(request("<encryption format='luks2'/>"), luks2);
}

#[test]
fn the_documented_default_is_a_preset() {
    let request = Encryption::preset(Preset::Documented).request().unwrap();
    assert_eq!(request.cipher.as_deref(), Some("aes-cbc-essiv:sha256"));
    assert_eq!((request.key_size_bits, request.hash.as_deref()), (Some(256), Some("sha256")));
}

#[test]
fn the_preset_for_librbd_begins_where_librbd_wants_it() {
    let request = Encryption::preset(Preset::Librbd).request().unwrap();
    assert_eq!(request.cipher.as_deref(), Some("aes-xts-plain64"));
    assert_eq!((request.key_size_bits, request.data_offset), (Some(512), Some(4 << 20)));
    for preset in Preset::ALL {
        let encryption = Encryption::preset(preset);
        assert_eq!(Encryption::read(&encryption.write()), Ok(encryption), "{}", preset.name());
    }
}

#[test]
fn the_engine_librbd_makes_nothing_that_librbd_cannot_open() {
    for (cipher, ivgen) in [
        ("name='serpent' size='256'", ""),
        ("name='aes' size='256' mode='cbc'", ""),
        ("name='aes' size='256'", "name='plain'"),
    ] {
        let document = with_cipher(cipher, ivgen).replace("'luks'", "'luks' engine='librbd'");
        assert!(request_refusal(&document).contains("the engine librbd opens aes"), "{document}");
    }
}

#[test]
fn every_cipher_that_is_supported_becomes_a_specification() {
    for (cipher, ivgen, spec, bits) in [
        ("name='aes' size='128'", "", "aes-xts-plain64", 256),
        ("name='aes' size='256' mode='xts'", "name='plain'", "aes-xts-plain", 512),
        ("name='aes' size='128' mode='cbc'", "name='essiv'", "aes-cbc-essiv:sha256", 128),
        ("name='aes' size='192' mode='cbc'", "name='plain64'", "aes-cbc-plain64", 192),
        ("name='aes' size='192' mode='ctr'", "", "aes-ctr-plain64", 192),
        ("name='aes' size='256' mode='ctr'", "name='plain'", "aes-ctr-plain", 256),
        ("name='serpent' size='192'", "", "serpent-xts-plain64", 384),
        ("name='serpent' size='192' mode='cbc'", "", "serpent-cbc-plain64", 192),
        ("name='serpent' size='128'", "name='essiv'", "serpent-xts-essiv:sha256", 256),
        (
            "name='twofish' size='256' mode='cbc' hash='sha256'",
            "name='plain64' hash='sha256'",
            "twofish-cbc-plain64",
            256,
        ),
        ("name='twofish' size='192'", "name='plain64' hash='md5'", "twofish-xts-plain64", 384),
        ("name='cast5' size='128' mode='cbc'", "", "cast5-cbc-plain64", 128),
        ("name='cast5' size='128' mode='ctr'", "name='plain'", "cast5-ctr-plain", 128),
    ] {
        let request = request(&with_cipher(cipher, ivgen));
        assert_eq!(request.cipher.as_deref(), Some(spec), "{cipher} {ivgen}");
        assert_eq!(request.key_size_bits, Some(bits), "{cipher} {ivgen}");
    }
}

#[test]
fn every_hash_that_is_supported_is_passed_on() {
    for hash in ["sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160"] {
        let document = with_cipher(&format!("name='aes' size='256' hash='{hash}'"), "");
        assert_eq!(request(&document).hash.as_deref(), Some(hash));
    }
    let document = with_cipher("name='aes' size='256' hash='sha1'", "");
    let error = request_refusal(&document.replace("'luks'", "'luks2'"));
    assert_eq!(
        error,
        "line 1: hash 'sha1' of <cipher> is not one of sha224, sha256, sha384, sha512, ripemd160"
    );
}

#[test]
fn what_is_not_supported_is_refused_with_what_is() {
    let ciphers =
        "there are aes, serpent and twofish with 128, 192 or 256 bits, and cast5 with 128";
    for (name, size) in [
        ("des", 56),
        ("3des", 192),
        ("sm4", 128),
        ("camellia", 256),
        ("cast6", 256),
        ("blowfish", 128),
        ("AES", 256),
        ("aes-256", 256),
        ("", 256),
        ("aes", 512),
        ("aes", 0),
        ("aes", u32::MAX),
        ("cast5", 256),
        ("serpent", 64),
    ] {
        let error = request_refusal(&with_cipher(&format!("name='{name}' size='{size}'"), ""));
        let expected =
            format!("line 1: cipher '{name}' with {size} bits is not supported: {ciphers}");
        assert_eq!(error, expected);
    }
    let hashes = "is not one of sha1, sha224, sha256, sha384, sha512, ripemd160";
    for (cipher, ivgen, problem) in [
        ("name='aes' size='256' mode='ecb'", "", "for a new volume there are xts, cbc, ctr"),
        ("name='aes' size='256' mode='gcm'", "", "mode 'gcm' of <cipher> is not one of xts, cbc"),
        ("name='aes' size='256' mode='XTS'", "", "mode 'XTS' of <cipher> is not one of xts, cbc"),
        ("name='aes' size='256' mode=''", "", "mode '' of <cipher> is not one of xts, cbc, ctr"),
        ("name='aes' size='192'", "", "mode xts of aes has no 192 bits"),
        ("name='cast5' size='128'", "", "mode xts needs blocks of 128 bits, cast5 has 64"),
        ("name='cast5' size='128' mode='cbc'", "name='essiv'", "ivgen essiv has keys of 256 bits"),
        ("name='aes' size='256' hash='md5'", "", hashes),
        ("name='aes' size='256' hash='sm3'", "", hashes),
        ("name='aes' size='256' hash='whirlpool'", "", hashes),
        ("name='aes' size='256' hash='blake2b'", "", hashes),
        ("name='aes' size='256'", "name='plain64be'", "is not one of plain, plain64, essiv"),
        ("name='aes' size='256'", "name='null'", "is not one of plain, plain64, essiv"),
        ("name='aes' size='256'", "name=''", "ivgen '' is not one of plain, plain64, essiv"),
        ("name='aes' size='256'", "name='plain' hash='x'", "hash 'x' of <ivgen> is not one of md5"),
    ] {
        let error = request_refusal(&with_cipher(cipher, ivgen));
        assert!(error.starts_with("line 1: ") && error.contains(problem), "{error}");
    }
    for hash in ["md5", "sha1", "sha224", "sha384", "sha512", "ripemd160", "sm3"] {
        let ivgen = format!("name='essiv' hash='{hash}'");
        let error = request_refusal(&with_cipher("name='aes' size='256'", &ivgen));
        assert!(error.contains(&format!("hash '{hash}' of <ivgen> is not 'sha256'")), "{error}");
    }
}

#[test]
fn the_old_formats_are_opened_and_not_made() {
    for format in ["default", "qcow"] {
        let error = request_refusal(&format!("\n<encryption format='{format}'/>"));
        let begin = format!("line 2: format '{format}' of <encryption> can only be opened: since");
        assert!(error.starts_with(&begin) && error.contains("libvirt 4.5.0"), "{error}");
    }
}

#[test]
fn luks_any_is_no_choice_for_what_is_made() {
    let error = request_refusal("<encryption format='luks-any'/>");
    assert!(error.contains("write format='luks', or format='luks2'"), "{error}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(encryption in encryptions()) {
        let written = xml::write(&encryption.write());
        prop_assert_eq!(Encryption::read(&element(&written)), Ok(encryption), "{}", written);
    }
}

/// Returns any encryption that a document can hold.
pub(crate) fn encryptions() -> impl Strategy<Value = Encryption> {
    let text = || "[ -~\u{e4}\n]{0,9}";
    let secret =
        prop_oneof![Just(SecretName::Uuid(UUID.to_owned())), text().prop_map(SecretName::Usage)];
    let secrets = proptest::collection::vec(secret.prop_map(|name| SecretReference { name }), 0..4);
    let option = || proptest::option::of(text());
    let cipher = (text(), any::<u32>(), option(), option())
        .prop_map(|(name, size, mode, hash)| CipherChoice { name, size, mode, hash });
    let ivgen = (text(), option()).prop_map(|(name, hash)| IvGenerator { name, hash });
    let ciphers = proptest::option::of((cipher, proptest::option::of(ivgen)));
    let unknown = proptest::collection::vec("x:[a-z]{1,3}", 0..3);
    let format = proptest::sample::select(EncryptionFormat::ALL.to_vec());
    let engine = proptest::sample::select(vec![None, Some(Engine::Qemu), Some(Engine::Librbd)]);
    (format, engine, secrets, ciphers, unknown).prop_map(
        |(format, engine, secrets, ciphers, unknown)| {
            let luks = matches!(format, EncryptionFormat::Luks | EncryptionFormat::Luks2);
            let (cipher, ivgen) = ciphers.filter(|_| luks).unzip();
            Encryption {
                engine,
                secrets,
                cipher,
                ivgen: ivgen.flatten(),
                unknown: unknown.iter().map(|name| Element::new(name)).collect(),
                ..Encryption::new(format)
            }
        },
    )
}
