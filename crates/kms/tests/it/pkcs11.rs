//! Keys in a security module: SoftHSM, which is one in software.
//!
//! It takes its configuration from the environment, which belongs to the whole process, and keeps
//! its state there. So each test runs in a process of its own: this program again, for one test.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use strongroom_crypto::{DataKey, Token};
use strongroom_kms::{Binding, Credentials, ErrorKind, KeyProvider, Result, conformance, open};
use strongroom_model::{KmsKind, KmsRequest};

use crate::envelope;

const PIN: &str = "canary-pin-9d2e";
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

/// In the child: the folder of the test.
const FOLDER: &str = "STRONGROOM_TEST_SOFTHSM";

/// A SoftHSM with a token named `strongroom`, which has a key `kek`.
struct Hsm {
    folder: PathBuf,
    module: &'static str,
    context: Pkcs11,
    /// Which key new providers wrap with.
    key: std::sync::Mutex<String>,
}

/// Runs a test in a process of its own. `mechanisms` is what SoftHSM is told to offer.
fn with_hsm(name: &str, mechanisms: &str, test: impl FnOnce(&Hsm)) {
    let Some(module) = MODULES.into_iter().find(|module| Path::new(module).exists()) else {
        return strongroom_testkit::skip(name, "there is no SoftHSM (Debian package softhsm2)");
    };
    if let Some(folder) = std::env::var_os(FOLDER) {
        return test(&Hsm::new(folder.into(), module));
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let config = folder.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n\
         slots.mechanisms = {mechanisms}\n",
        tokens.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("pkcs11::{name}"), "--nocapture"]);
    command.env(FOLDER, folder.path()).env("SOFTHSM2_CONF", config);
    let output = strongroom_testkit::run(command, b"").ok();
    assert!(output.contains("1 passed"), "there is no test pkcs11::{name}\n{output}");
}

impl Hsm {
    fn new(folder: PathBuf, module: &'static str) -> Self {
        let context = Pkcs11::new(module).unwrap();
        // Initialised here, so that the providers find it so and leave it alone.
        context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
        let hsm = Self { folder, module, context, key: "kek".to_owned().into() };
        hsm.add_token("strongroom");
        hsm.add_key("kek", &[]);
        hsm
    }

    fn add_token(&self, label: &str) {
        let slots = self.context.get_all_slots().unwrap();
        let is_free = |slot: &_| !self.context.get_token_info(*slot).unwrap().token_initialized();
        let slot = slots.into_iter().find(is_free).unwrap();
        let officer = AuthPin::new("officer".into());
        self.context.init_token(slot, &officer, label).unwrap();
        let session = self.context.open_rw_session(slot).unwrap();
        session.login(UserType::So, Some(&officer)).unwrap();
        session.init_pin(&AuthPin::new(PIN.into())).unwrap();
    }

    fn session(&self) -> Session {
        let slots = self.context.get_slots_with_initialized_token().unwrap();
        let ours = |slot: &_| self.context.get_token_info(*slot).unwrap().label() == "strongroom";
        let session = self.context.open_rw_session(slots.into_iter().find(ours).unwrap()).unwrap();
        // A provider may be logged in already.
        let _ = session.login(UserType::User, Some(&AuthPin::new(PIN.into())));
        session
    }

    fn add_key(&self, label: &str, more: &[Attribute]) {
        let mut template = vec![
            Attribute::Token(true),
            Attribute::Label(label.into()),
            Attribute::ValueLen(32.into()),
        ];
        let default = [
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ];
        let is_given = |attribute: &&Attribute| {
            more.iter().all(|own| own.attribute_type() != attribute.attribute_type())
        };
        template.extend(default.iter().filter(is_given).cloned());
        template.extend(more.iter().cloned());
        self.session().generate_key(&Mechanism::AesKeyGen, &template).unwrap();
    }

    fn uri(&self, attributes: &str) -> String {
        format!("pkcs11:{attributes}?module-path={}", self.module)
    }

    fn open_with(
        &self,
        uri: &str,
        key: Option<&str>,
        pin: Option<&str>,
    ) -> Result<Box<dyn KeyProvider>> {
        let request = KmsRequest {
            endpoints: vec![uri.to_owned()],
            key_id: key.map(str::to_owned),
            ..KmsRequest::new(KmsKind::Pkcs11)
        };
        let secret = pin.map(|pin| Token::new(pin.as_bytes().to_vec()));
        open(&request, Credentials { secret, ..Credentials::default() })
    }

    fn open_key(&self, key: &str) -> Box<dyn KeyProvider> {
        self.open_with(&self.uri("token=strongroom"), Some(key), Some(PIN)).unwrap()
    }
}

impl conformance::Harness for Hsm {
    fn provider(&self) -> Box<dyn KeyProvider> {
        self.open_key(&self.key.lock().unwrap())
    }

    fn rotate(&self) -> bool {
        self.add_key("kek-2", &[]);
        *self.key.lock().unwrap() = "kek-2".to_owned();
        true
    }
}

fn data_key() -> DataKey {
    DataKey::new(b"canary-data-key-0123456789".to_vec())
}

fn binding() -> Binding {
    Binding::volume("pvc-1")
}

/// Returns why a provider does not wrap. Nothing in it is secret.
fn refusal(provider: Result<Box<dyn KeyProvider>>) -> (ErrorKind, String) {
    let error = provider.and_then(|it| it.wrap(&data_key(), &binding())).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("canary"), "{error:?}");
    (error.kind(), format!("{error} ({})", error.hint().unwrap_or("no hint")))
}

#[test]
fn does_what_every_provider_does() {
    with_hsm("does_what_every_provider_does", "ALL", |hsm| {
        let envelope = hsm.open_key("kek").wrap(&data_key(), &binding()).unwrap();
        assert_eq!(envelope.wrapped.algorithm, "aes-gcm");
        conformance::run(hsm);
    });
}

#[test]
fn does_the_same_without_gcm() {
    with_hsm("does_the_same_without_gcm", "CKM_AES_KEY_GEN,CKM_AES_CBC_PAD", |hsm| {
        let provider = hsm.open_key("kek");
        let envelope = provider.wrap(&data_key(), &binding()).unwrap();
        assert_eq!(envelope.wrapped.algorithm, "aes-cbc-pkcs5");
        let findings = provider.probe().unwrap().findings;
        assert!(findings[0].starts_with("the token has no AES-GCM"), "{findings:?}");
        conformance::run(hsm);
    });
}

#[test]
fn without_gcm_bad_padding_cannot_be_told_from_bad_plaintext() {
    let name = "without_gcm_bad_padding_cannot_be_told_from_bad_plaintext";
    with_hsm(name, "CKM_AES_KEY_GEN,CKM_AES_CBC_PAD", |hsm| {
        let provider = hsm.open_key("kek");
        let good = provider.wrap(&data_key(), &binding()).unwrap();
        let bytes = STANDARD.decode(&good.wrapped.ciphertext).unwrap();
        let told = |at: Option<usize>, iv: Option<usize>, binding: &Binding| {
            let mut altered = good.clone();
            let mut bytes = bytes.clone();
            at.into_iter().for_each(|at| bytes[at] ^= 3);
            iv.into_iter().for_each(|at| altered.wrapped.iv.as_mut().unwrap()[at] ^= 3);
            altered.wrapped.ciphertext = STANDARD.encode(bytes);
            let error = provider.unwrap(&altered, binding).unwrap_err();
            (error.kind(), format!("{error:?}"))
        };
        // In the padding, the magic, the version, the binding, the key, and nothing.
        let padding = told(Some(bytes.len() - 17), None, &binding());
        for other in [
            told(None, Some(0), &binding()),
            told(None, Some(4), &binding()),
            told(None, Some(5), &binding()),
            told(Some(bytes.len() - 30), None, &binding()),
            told(None, None, &Binding::volume("another")),
        ] {
            assert_eq!(other, padding);
        }
        assert_eq!(padding.0, ErrorKind::Corrupt);
    });
}

#[test]
fn a_token_without_a_cipher_that_wraps_is_refused() {
    let name = "a_token_without_a_cipher_that_wraps_is_refused";
    with_hsm(name, "CKM_AES_KEY_GEN", |hsm| {
        let (kind, text) = refusal(Ok(hsm.open_key("kek")));
        assert_eq!(kind, ErrorKind::Misconfigured);
        assert!(text.contains("neither AES-GCM nor AES-CBC"), "{text}");
    });
}

#[test]
fn a_wrong_pin_is_denied_and_tried_once() {
    with_hsm("a_wrong_pin_is_denied_and_tried_once", "ALL", |hsm| {
        let uri = hsm.uri("token=strongroom");
        let provider = hsm.open_with(&uri, Some("kek"), Some("canary-wrong")).unwrap();
        let tries =
            [provider.wrap(&data_key(), &binding()), provider.wrap(&data_key(), &binding())];
        let errors = tries.map(|tried| tried.unwrap_err());
        assert!(errors.iter().all(|error| error.kind() == ErrorKind::Denied), "{errors:?}");
        let texts = errors.map(|error| format!("{error} {error:?} {:?}", error.hint()));
        assert!(texts[0].contains("the token does not take the PIN"), "{texts:?}");
        assert!(texts[1].contains("it is not tried again"), "{texts:?}");
        assert!(!texts.concat().contains("canary"), "{texts:?}");
        assert!(!format!("{provider:?}").contains("canary"));
        // The right one is told that a wrong one was tried.
        let probe = hsm.open_key("kek").probe().unwrap();
        assert_eq!(probe.findings, ["somebody has tried a wrong PIN since the last login"]);
        assert_eq!(hsm.open_key("kek").probe().unwrap().findings, Vec::<String>::new());
    });
}

#[test]
fn a_pin_that_cannot_be_right_is_not_tried() {
    with_hsm("a_pin_that_cannot_be_right_is_not_tried", "ALL", |hsm| {
        let uri = hsm.uri("token=strongroom");
        for (pin, words) in [
            (Some("canary-pin-9d2e\n"), "the PIN ends with a newline"),
            (Some("123"), "a PIN of the token has from 4 to 255 bytes"),
            (None, "the token wants a PIN, and none was given"),
        ] {
            let (kind, text) = refusal(hsm.open_with(&uri, Some("kek"), pin));
            assert_eq!(kind, ErrorKind::Misconfigured);
            assert!(text.contains(words) && text.contains("--kms-token-file"), "{text}");
        }
        let probe = hsm.open_key("kek").probe().unwrap();
        assert_eq!(probe.findings, Vec::<String>::new());
    });
}

#[test]
fn the_token_is_the_one_that_was_named() {
    with_hsm("the_token_is_the_one_that_was_named", "ALL", |hsm| {
        hsm.add_token("other");
        let (kind, text) = refusal(hsm.open_with(&hsm.uri("token=absent"), Some("kek"), Some(PIN)));
        assert_eq!(kind, ErrorKind::Unavailable);
        assert!(text.contains("\"strongroom\"") && text.contains("\"other\""), "{text}");
        let (kind, text) = refusal(hsm.open_with(&hsm.uri(""), Some("kek"), Some(PIN)));
        assert_eq!(kind, ErrorKind::Misconfigured);
        assert!(text.contains("several tokens fit the URI"), "{text}");
        let uri = hsm.uri("token=strongroom;manufacturer=SoftHSM%20project;model=SoftHSM%20v2");
        assert!(hsm.open_with(&uri, Some("kek"), Some(PIN)).unwrap().probe().is_ok());
        let (kind, _) = refusal(hsm.open_with(&hsm.uri("token=other"), Some("kek"), Some(PIN)));
        assert_eq!(kind, ErrorKind::NotFound);
    });
}

#[test]
fn the_key_is_the_one_that_was_named() {
    with_hsm("the_key_is_the_one_that_was_named", "ALL", |hsm| {
        let (kind, text) = refusal(Ok(hsm.open_key("kez")));
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(text.contains("the token has no AES key kez"), "{text}");
        let (kind, text) = refusal(hsm.open_with(&hsm.uri("token=strongroom"), None, Some(PIN)));
        assert_eq!(kind, ErrorKind::Misconfigured);
        assert!(text.contains("--kms-key-id"), "{text}");
        for id in [1, 2] {
            hsm.add_key("twin", &[Attribute::Id(vec![0xfe, id])]);
        }
        let (kind, text) = refusal(Ok(hsm.open_key("twin")));
        assert_eq!(kind, ErrorKind::Misconfigured);
        assert!(text.contains("several AES keys twin"), "{text}");
        let twins = ["%fe%01", "%fe%02"].map(|id| {
            let uri = hsm.uri(&format!("token=strongroom;id={id}"));
            hsm.open_with(&uri, None, Some(PIN)).unwrap()
        });
        let envelope = twins[0].wrap(&data_key(), &binding()).unwrap();
        assert_eq!(envelope.wrapped.key_id, "id=%FE%01");
        // Which key it was stands in the envelope.
        assert_eq!(twins[1].unwrap(&envelope, &binding()).unwrap(), data_key());
        let rewrapped = twins[1].rewrap(&envelope).unwrap();
        assert_eq!(rewrapped.wrapped.key_id, "id=%FE%02");
        assert_eq!(hsm.open_key("kek").unwrap(&rewrapped, &binding()).unwrap(), data_key());
    });
}

#[test]
fn a_probe_tells_what_the_key_may_and_may_not() {
    with_hsm("a_probe_tells_what_the_key_may_and_may_not", "ALL", |hsm| {
        let probe = hsm.open_key("kek").probe().unwrap();
        assert_eq!(probe.allowed, ["encrypt", "decrypt", "rewrap"]);
        assert_eq!(probe.findings, Vec::<String>::new());
        assert!(probe.server.unwrap().starts_with("SoftHSM project SoftHSM v2, token strongroom"));
        hsm.add_key("open", &[Attribute::Sensitive(false), Attribute::Extractable(true)]);
        let findings = hsm.open_key("open").probe().unwrap().findings.join("\n");
        assert!(findings.contains("CKA_SENSITIVE"), "{findings}");
        assert!(findings.contains("CKA_EXTRACTABLE"), "{findings}");
        hsm.add_key("sealed", &[Attribute::Encrypt(false)]);
        let probe = hsm.open_key("sealed").probe().unwrap();
        assert_eq!(probe.allowed, ["decrypt"]);
        assert_eq!(probe.findings, ["the key may not wrap: it lacks CKA_ENCRYPT"]);
        let (kind, text) = refusal(Ok(hsm.open_key("sealed")));
        assert_eq!(kind, ErrorKind::Denied);
        assert!(text.contains("CKA_ENCRYPT"), "{text}");
    });
}

#[test]
fn providers_of_one_token_do_not_disturb_each_other() {
    with_hsm("providers_of_one_token_do_not_disturb_each_other", "ALL", |hsm| {
        hsm.context.clone().finalize().unwrap();
        let (one, other) = (hsm.open_key("kek"), hsm.open_key("kek"));
        let envelope = one.wrap(&data_key(), &binding()).unwrap();
        drop(one);
        assert_eq!(other.unwrap(&envelope, &binding()).unwrap(), data_key());
        drop(other);
        // The last one has finalised the module, so that it can be initialised again.
        let again = hsm.open_key("kek");
        assert_eq!(again.unwrap(&envelope, &binding()).unwrap(), data_key());
        let locking = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        assert!(hsm.context.initialize(locking).is_err());
        drop(again);
        assert!(hsm.context.initialize(locking).is_ok());
    });
}

#[test]
fn a_session_that_was_closed_is_opened_again() {
    with_hsm("a_session_that_was_closed_is_opened_again", "ALL", |hsm| {
        let provider = hsm.open_key("kek");
        let envelope = provider.wrap(&data_key(), &binding()).unwrap();
        // As when the token was taken out and put back: all sessions and the login are gone.
        hsm.context.clone().finalize().unwrap();
        let locking = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        hsm.context.initialize(locking).unwrap();
        assert_eq!(provider.unwrap(&envelope, &binding()).unwrap(), data_key());
    });
}

#[test]
fn what_is_no_module_is_refused() {
    with_hsm("what_is_no_module_is_refused", "ALL", |hsm| {
        let file = hsm.folder.join("module.so");
        std::fs::write(&file, "not a library").unwrap();
        for (path, words) in [
            ("/does/not/exist.so", "cannot be read"),
            (hsm.folder.to_str().unwrap(), "is no file"),
            (file.to_str().unwrap(), "cannot be loaded"),
        ] {
            let uri = format!("pkcs11:token=strongroom?module-path={path}");
            let (kind, text) = refusal(hsm.open_with(&uri, Some("kek"), Some(PIN)));
            assert_eq!(kind, ErrorKind::Misconfigured);
            assert!(text.contains(words), "{text}");
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).unwrap();
        let uri = format!("pkcs11:?module-path={}", file.display());
        let (_, text) = refusal(hsm.open_with(&uri, Some("kek"), Some(PIN)));
        assert!(text.contains("everybody may write the module"), "{text}");
        let (_, text) = refusal(hsm.open_with("pkcs11:token=strongroom", Some("kek"), Some(PIN)));
        assert!(text.contains("does not name the module"), "{text}");
    });
}

#[test]
fn opens_the_envelopes_of_earlier_releases() {
    with_hsm("opens_the_envelopes_of_earlier_releases", "ALL", |hsm| {
        let key = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Label("fixture-kek".into()),
            Attribute::Value(envelope::KEK.to_vec()),
            Attribute::Decrypt(true),
            Attribute::Encrypt(true),
        ];
        hsm.session().create_object(&key).unwrap();
        let provider = hsm.open_key("fixture-kek");
        for name in ["pkcs11-gcm", "pkcs11-cbc"] {
            let unwrapped = provider.unwrap(&envelope::fixture(name), &envelope::binding());
            assert_eq!(unwrapped.unwrap(), envelope::data_key());
        }
    });
}
